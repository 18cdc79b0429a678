"""What `anycarrier new-provider` writes passes the checks that our own code passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from anycarrier.testing.scaffold import new_provider


def test_it_is_typed_strictly_and_clean(tmp_path: Path) -> None:
    new_provider("river-bank", tmp_path)
    for command in (
        ["mypy", "--strict", str(tmp_path / "src")],
        ["ruff", "check", "--isolated", "--line-length=120", "--select=E,F,B,UP", str(tmp_path)],
    ):
        run = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
