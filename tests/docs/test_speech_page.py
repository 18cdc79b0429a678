"""docs/speech.md: the engine that is written there passes the kit as the page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from docs.blocks import blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "speech.md"
REGISTERED = """
import sys
from anycarrier import plugins

plugins._host = plugins.PluginHost()
plugins._host.register(sys.modules[__name__], "this page", "beeps")
"""


def test_the_engine_passes_the_kit(tmp_path: Path) -> None:
    texts = [block.text for block in blocks(PAGE) if block.language == "python"]
    engine = next(text for text in texts if "class BeepEngine" in text)
    test = next(text for text in texts if "EngineConformance" in text)
    (tmp_path / "test_beeps.py").write_text(f"{engine}\n{REGISTERED}\n{test}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "failed" not in run.stdout and "passed" in run.stdout
