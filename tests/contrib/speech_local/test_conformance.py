"""The local engines pass the conformance kit that every speech engine passes."""

from __future__ import annotations

import pytest

from anycarrier.speech import Hearing
from anycarrier.testing.conformance import EngineConformance

pytest.importorskip("anycarrier_speech_local")
from anycarrier_speech_local import EspeakEngine, PocketsphinxEngine, SileroEngine


class TestEspeak(EngineConformance):
    engine = EspeakEngine
    voice = "en-us+f2"


class TestPocketsphinx(EngineConformance):
    engine = PocketsphinxEngine
    settings = {"workers": 1}
    hearing = Hearing(phrases=("hello", "an appointment", "tomorrow morning"))


class TestSilero(EngineConformance):
    engine = SileroEngine
