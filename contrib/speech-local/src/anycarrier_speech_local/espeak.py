"""espeak-ng as a speech engine: robotic, in a hundred languages, and quicker than anything else.

The library is GPL-3.0-or-later; see the README before shipping it to others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from pydantic import Field

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import EngineSettings, SpeakingStyle, SpeechEngine, Synthesizer
from anycarrier_speech_local.espeak_library import EspeakLibrary, espeak_library
from anycarrier_speech_local.spoken_text import sentences

OTHER_NAMES = {"no": "nb", "zh": "cmn"}
"""Languages that espeak has under another code."""


def named_like(language: str) -> list[str]:
    """What espeak may call a language, the closest first: it has ``pt-br`` and ``pt``, but of ``de-DE`` only ``de``."""
    whole = language.lower().replace("_", "-")
    alone = whole.split("-")[0]
    return list(dict.fromkeys([whole, alone, OTHER_NAMES.get(alone, alone)]))


class EspeakSettings(EngineSettings):
    """``voice`` is what an agent without a voice of its own gets, e.g. ``en-us+m3``; empty: its language's default."""

    voice: str = ""
    speed: float = Field(default=1.0, ge=0.5, le=3.0, description="multiplies every agent's own speed")


class EspeakEngine(SpeechEngine):
    """One thread for the process's one library; a sentence keeps it for milliseconds."""

    name = "espeak"
    settings_type = EspeakSettings

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(settings)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="espeak")

    async def start(self) -> None:
        """Load the library and let it say a word, so that no call waits for either."""
        voice = await self.synthesizer()
        async for _ in voice.speak("hello"):
            pass

    async def aclose(self) -> None:
        """The library stays loaded: it cannot be initialised twice."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        """A voice for one call; ``UnknownVoice`` when espeak has no such voice, or no such language."""
        style = style or SpeakingStyle()
        assert isinstance(self.settings, EspeakSettings)
        voice = style.voice or self.settings.voice
        loop = asyncio.get_running_loop()
        library = await loop.run_in_executor(self._thread, espeak_library)
        wanted = [voice.lower()] if voice else named_like(style.language)
        name = await loop.run_in_executor(self._thread, library.first_known, wanted)
        if name is None:
            advice = "Use a language such as en-us, de or fr, with a variant if you like: en-us+f2"
            raise UnknownVoice("espeak", voice or style.language, advice)
        # The first one for a rate works out its filter, a tenth of a second that other calls must not wait for.
        await loop.run_in_executor(self._thread, Transcoder, AudioFormat("PCM16", library.rate), style.format)
        return EspeakSynthesizer(self._thread, library, name, style.speed * self.settings.speed, style.format)


class EspeakSynthesizer:
    """One call's voice. Sentences are made one by one, each only when the one before was taken."""

    def __init__(
        self, thread: ThreadPoolExecutor, library: EspeakLibrary, voice: str, speed: float, format: AudioFormat
    ) -> None:
        self.format = format
        self._thread = thread
        self._library = library
        self._voice = voice
        self._speed = speed
        self._speaking: set[threading.Event] = set()

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` in :attr:`format`; closing the generator stops the library at its next 40 ms of sound."""
        for sentence in sentences(text):
            stop = threading.Event()
            self._speaking.add(stop)
            try:
                async with aclosing(self._sentence(sentence, stop)) as pieces:
                    async for piece in pieces:
                        yield piece
                if stop.is_set():
                    return
            finally:
                stop.set()
                self._speaking.discard(stop)

    async def _sentence(self, sentence: str, stop: threading.Event) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        transcoder = Transcoder(AudioFormat("PCM16", self._library.rate), self.format)

        def put(piece: bytes | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def sink(samples: bytes) -> bool:
            if not stop.is_set():
                put(transcoder.convert(samples))
            return not stop.is_set()

        def work() -> None:
            try:
                if not stop.is_set():
                    self._library.synthesize(sentence, self._voice, self._speed, sink)
                    put(transcoder.flush())
            finally:
                put(None)

        try:
            done = loop.run_in_executor(self._thread, work)
        except RuntimeError as failure:
            raise SpeechFailed("espeak", "speak", "the engine is closed") from failure
        try:
            while (piece := await pieces.get()) is not None:
                if piece:
                    yield piece
            await done
        finally:
            stop.set()

    async def aclose(self) -> None:
        """Stop whatever is being said."""
        for stop in self._speaking:
            stop.set()
