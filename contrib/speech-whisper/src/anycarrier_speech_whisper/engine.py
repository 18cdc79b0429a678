"""Whisper as a speech engine: free speech in worker processes on this machine; nothing is sent anywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from anycarrier.errors import ConfigurationError
from anycarrier.speech import EngineSettings, Hearing, Recognizer, SpeechEngine, primary_language
from anycarrier.speech.workers import WorkerPool, WorkerRecognizer
from anycarrier_speech_whisper.models import PACKAGED, ModelUnusable, languages
from anycarrier_speech_whisper.scheduling import KEPT, Vocabulary

MOST_WORKERS = 8
"""Worker processes at most unless the settings say more: each holds a model in memory, and serves a dozen callers."""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",  # a heap for each thread kept 60 MB more after a long utterance, and was no faster
}


class WhisperSettings(EngineSettings):
    """Which model, where it runs, and how. The README of the distribution has the figures behind the defaults."""

    model: str = Field(default="tiny.en", description="tiny.en, base, a CTranslate2 folder, or owner/name on the hub")
    device: Literal["cpu", "cuda"] = "cpu"
    compute_type: str | None = Field(default=None, description="CTranslate2's; default int8, on cuda float16")
    beam: int | None = Field(default=None, ge=1, le=16, description="default 1 for tiny models, else 5")
    context: float = Field(default=12.0, ge=6.0, le=30.0, description="seconds that the model hears at least")
    no_speech: float = Field(default=0.7, gt=0.0, le=1.0, description="probability of no speech: above, no words")
    interims: bool = Field(default=True, description="words while the caller speaks, at most once a second")
    workers: int | None = Field(default=None, ge=1, le=64, description="processes; default cores - 1, on cuda 1")
    decode_limit: float = Field(default=8.0, ge=1.0, description="seconds after which a silent worker is replaced")
    downloads: bool = Field(default=False, description="whether a model of the hub may be downloaded")
    cache: str | None = Field(default=None, description="folder in which a model in parts is joined")


class WhisperEngine(SpeechEngine):
    """A pool of worker processes with a model each, started by the first call or by ``start``."""

    name = "whisper"
    settings_type = WhisperSettings
    rank = 10
    punctuates = True
    needs_detector = True

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(settings)
        assert isinstance(self.settings, WhisperSettings)
        self._model = self.settings.model
        self._cache = self.settings.cache
        self._languages: frozenset[str] | None = None
        self.pool = WorkerPool(
            self.name,
            "listen",
            "anycarrier_speech_whisper.worker",
            [_arguments(self.settings)],
            size=self.settings.workers or _workers(self.settings.device),
            environment=ENVIRONMENT,
            answer_limit=self.settings.decode_limit,
            start_limit=60.0 if self._model in PACKAGED else 600.0,  # large models load slowly, and may be downloaded
            moves_limit=1,
        )

    async def start(self) -> None:
        """Have the processes running and the model loaded; ``SpeechFailed`` says which file is missing or damaged."""
        await self.pool.start()

    async def aclose(self) -> None:
        """End the processes."""
        await self.pool.aclose()

    def knows_language(self, ability: str, language: str) -> bool:
        """English for a model such as tiny.en, some hundred languages for others."""
        if self._languages is None and (self._model in PACKAGED or Path(self._model).expanduser().is_dir()):
            try:
                self._languages = languages(self._model, cache=self._cache)
            except (ModelUnusable, OSError):
                return True  # the start says what is wrong with the model
        return self._languages is None or primary_language(language) in self._languages

    def language_advice(self, ability: str, language: str) -> str:
        """A multilingual model, where this one knows English only."""
        if self._languages != frozenset({"en"}):
            return ""
        return (
            "whisper hears some hundred languages with the model base. Run: pip install "
            "'anycarrier-speech-whisper[base]', then set the engine's model to base"
        )

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        """A recognizer for one call; ``ConfigurationError`` for a language that the model does not know."""
        hearing = hearing or Hearing()
        language = primary_language(hearing.language)
        if not self.knows_language("listen", hearing.language):
            only = "knows English only" if self._languages == frozenset({"en"}) else "does not know it"
            raise ConfigurationError(
                f"whisper cannot listen to {hearing.language!r}: its model {self._model!r} {only}. Set the engine's "
                "model to base (pip install 'anycarrier-speech-whisper[base]') or to another multilingual one, or the "
                "agent's language or recognizer to another"
            )
        return await WorkerRecognizer.open(self.pool, hearing, Vocabulary(language, hearing.phrases), kept=KEPT)


def _workers(device: str) -> int:
    """On a GPU one process, since each would load the model into its memory again."""
    return 1 if device == "cuda" else max(1, min(MOST_WORKERS, (os.cpu_count() or 2) - 1))


def _arguments(settings: WhisperSettings) -> str:
    names = ("model", "device", "compute_type", "beam", "context", "no_speech", "downloads", "cache")
    return json.dumps({"options": {name: getattr(settings, name) for name in names}, "interims": settings.interims})
