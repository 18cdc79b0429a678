"""What `anycarrier new-provider` and `new-engine` write passes the checks that our own code passes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anycarrier.cli.plugin_commands import write_engine, write_provider


@pytest.mark.parametrize("scaffold", [write_provider, write_engine])
def test_it_is_typed_strictly_and_clean(tmp_path: Path, scaffold: Callable[[str, Path], list[Path]]) -> None:
    scaffold("river-bank", tmp_path)
    for command in (
        ["mypy", "--strict", str(tmp_path / "src")],
        ["ruff", "check", "--isolated", "--line-length=120", "--select=E,F,B,UP", str(tmp_path)],
    ):
        run = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
