"""pocketsphinx as a speech engine: commands and forms in English, by phrases or a grammar. Not dictation.

Decoders run in worker processes. The engine keeps what a worker has not answered yet, so a worker that dies only delays
an utterance.
"""

from __future__ import annotations

import os

from pydantic import Field

from anycarrier.errors import ConfigurationError
from anycarrier.speech import EngineSettings, Hearing, Recognizer, SpeechEngine, primary_language
from anycarrier.speech.workers import WorkerPool, WorkerRecognizer
from anycarrier_speech_local.decoder import DecoderConfig


class PocketsphinxSettings(EngineSettings):
    """``workers``: processes, by default one for each core but one. ``pronunciations``: word -> ARPABET phones, for
    names the dictionary lacks. ``second_pass``: search again at the end, which costs a final some 50 ms and gains next
    to nothing with phrases or a grammar; worth it without them.
    """

    workers: int | None = Field(default=None, ge=1, le=64)
    pronunciations: dict[str, str] = Field(default_factory=dict)
    second_pass: bool = False


class PocketsphinxEngine(SpeechEngine):
    """A pool of worker processes, started by the first call or by ``start``."""

    name = "pocketsphinx"
    settings_type = PocketsphinxSettings
    free_speech = False
    obeys_grammar = True

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(settings)
        assert isinstance(self.settings, PocketsphinxSettings)
        size = self.settings.workers or max(1, (os.cpu_count() or 2) - 1)
        self.pool = WorkerPool(self.name, "listen", "anycarrier_speech_local.worker", ["listen"], size=size)

    async def start(self) -> None:
        """Have the processes running."""
        await self.pool.start()

    async def aclose(self) -> None:
        """End the processes."""
        await self.pool.aclose()

    def knows_language(self, ability: str, language: str) -> bool:
        """English only."""
        return primary_language(language) == "en"

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        """A recognizer for one call, its decoder built. ``ConfigurationError`` for words or a grammar it cannot use."""
        hearing = hearing or Hearing()
        assert isinstance(self.settings, PocketsphinxSettings)
        if not self.knows_language("listen", hearing.language):
            raise ConfigurationError(
                f"pocketsphinx listens to English only, not {hearing.language!r}. Choose another engine for this agent"
            )
        config = DecoderConfig(
            hearing.phrases, hearing.grammar, dict(self.settings.pronunciations), self.settings.second_pass
        )
        return await WorkerRecognizer.open(self.pool, hearing, config)
