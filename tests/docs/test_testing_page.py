"""docs/testing.md: its blocks are a test file that passes, and its tables are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from anycarrier.testing.sandbox_numbers import OUTCOMES, Login
from docs.blocks import blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"


@pytest.mark.parametrize("with_settings", [False, True], ids=["an empty folder", "with its pytest.ini"])
def test_the_blocks_are_a_test_file_that_passes(tmp_path: Path, with_settings: bool) -> None:
    source = "\n\n".join(block.text for block in blocks(PAGE) if block.language == "python")
    (tmp_path / "test_app.py").write_text(source)
    if with_settings:
        (tmp_path / "pytest.ini").write_text(next(block.text for block in blocks(PAGE) if block.language == "ini"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    tests = len(re.findall(r"^(?:async )?def test_", source, re.MULTILINE))
    assert tests >= 5
    assert f"{tests} passed" in run.stdout, run.stdout + run.stderr
    if with_settings:
        assert "arning" not in run.stdout + run.stderr


def test_the_table_of_numbers_is_the_sandboxes(tmp_path: Path) -> None:
    assert re.findall(r"^\| `(\+\d+)` \|", PAGE.read_text(), re.MULTILINE) == list(OUTCOMES)


def test_the_secrets_that_do_not_log_in_are_named() -> None:
    named = re.search(r"a REST secret with (.*?) in it does not log in", PAGE.read_text().replace("\n", " "))
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == {login.value for login in Login} - {"good"}
