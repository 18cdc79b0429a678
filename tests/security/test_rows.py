"""Every known hole has a test here, by its number."""

from __future__ import annotations

import re
from pathlib import Path


def test_each_of_s1_to_s15_has_a_test_named_after_it() -> None:
    found = {
        int(number)
        for path in Path(__file__).parent.glob("test_*.py")
        for number in re.findall(r"^(?:async )?def test_s(\d+)_", path.read_text(), re.MULTILINE)
    }
    assert found == set(range(1, 16))
