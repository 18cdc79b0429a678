"""The engine hibari passes the conformance kit that every speech engine passes."""

from __future__ import annotations

import pytest

from anycarrier.testing.conformance import EngineConformance

pytest.importorskip("anycarrier_speech_hibari")
from anycarrier_speech_hibari import HibariEngine


class TestHibari(EngineConformance):
    engine = HibariEngine
    broken_settings = {"voice": "nobody"}
    voice = "heart"
