"""The engine passes the conformance kit that every speech engine passes."""

from __future__ import annotations

import pytest

from anycarrier.speech import Hearing
from anycarrier.testing.conformance import EngineConformance

pytest.importorskip("anycarrier_speech_whisper")
from anycarrier_speech_whisper import WhisperEngine


class TestWhisper(EngineConformance):
    engine = WhisperEngine
    settings = {"workers": 1}
    broken_settings = {"model": "/no/such/folder"}
    hearing = Hearing(phrases=("an appointment",))
