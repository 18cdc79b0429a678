"""``anycarrier demo`` as a newcomer runs it, on one carrier: with the engines for free speech, and with those for a
grammar only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from anycarrier.speech import speech_engine_names

pytestmark = pytest.mark.skipif("pocketsphinx" not in speech_engine_names(), reason="needs the local speech engines")


def demo(*plugins: str) -> tuple[dict[str, Any], str]:
    """What it told programs and people, with these plugins only."""
    run = subprocess.run(
        [sys.executable, "-m", "anycarrier", "demo", "--json"],
        env={**os.environ, "ANYCARRIER_PLUGINS": ",".join(plugins)}, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout)
    assert told["ok"] is True
    return told, run.stderr


@pytest.mark.skipif(not {"whisper", "hibari"} <= set(speech_engine_names()), reason="needs the engines for free speech")
def test_callers_speak_freely_where_the_engines_for_it_are_installed() -> None:
    told, people = demo("telnyx", "speech-local", "speech-whisper", "speech-hibari")
    free, hard = told["calls"][3:]
    assert (free["voice"], free["recognizer"], free["judged"]) == ("hibari", "whisper", True)
    assert (hard["voice"], hard["recognizer"], hard["judged"]) == ("espeak", "whisper", False)
    assert free["word_error_rate"] <= 0.1 and f"of {free['words']} wrong" in people
    heard = [said["text"] for said in free["transcript"] if said["party"] == "remote"]
    assert len(heard) == len(free["caller_said"]) == 3
    assert "grammar" not in people and "not judged" in people


def test_callers_keep_to_a_grammar_without_them_and_the_demo_says_what_to_install() -> None:
    told, people = demo("telnyx", "speech-local")
    (kept,) = told["calls"][3:]
    assert (kept["recognizer"], kept["word_errors"], kept["digits"]) == ("pocketsphinx", 0, "1984#")
    assert "docs/speech.md says what to install for free speech" in people
