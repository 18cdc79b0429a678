"""One inbound call through the library alone enters few files: a reader can follow it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

WALK = Path(__file__).resolve().parent / "walk.py"
MOST_FILES = 23
"""Of the library. It was 20 when each adapter read times and answers by itself; the bound of both has not moved."""
MOST_OF_ALL = 28
"""With the adapter's."""


def test_a_call_enters_few_files_of_the_library() -> None:
    ran = subprocess.run([sys.executable, WALK, "library", "--json"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    files = json.loads(ran.stdout)["files"]
    ours = [path for path in files if path.startswith("src/anycarrier/")]
    seen = {Path(path).name for path in ours}
    assert {"incoming.py", "media.py", "session.py"} <= seen, "the walk did not see the call"
    assert not any("/testing/" in path or "sandbox" in path for path in files), "the carrier is not part of the walk"
    assert len(ours) <= MOST_FILES, "\n".join(ours)
    assert len(files) <= MOST_OF_ALL, "\n".join(files)
