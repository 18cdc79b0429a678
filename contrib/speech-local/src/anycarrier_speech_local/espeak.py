"""espeak-ng as a speech engine: robotic, in a hundred languages, and faster than any other.

The library is GPL-3.0-or-later; see the README before you ship it to others. It keeps its voice, rate, and callback in
globals, so it is loaded once and called under one lock. SYNCHRONOUS mode passes the samples to a callback while
``espeak_Synth`` runs (first sound in a fraction of a millisecond); RETRIEVAL mode polls in steps of 20 ms. ctypes
releases the GIL meanwhile.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import Field

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import (
    EngineSettings,
    SpeakingStyle,
    SpeechEngine,
    Synthesizer,
    primary_language,
    spoken_sentences,
)

OTHER_NAMES = {"no": "nb", "zh": "cmn"}
"""Languages that espeak has under another code."""


def named_like(language: str) -> list[str]:
    """What espeak may call a language, the closest first: it has ``pt-br`` and ``pt``, but of ``de-DE`` only ``de``."""
    whole = language.lower().replace("_", "-")
    alone = primary_language(language)
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

    def knows_language(self, ability: str, language: str) -> bool:
        """By the files of espeak-ng's data folder. True if there is none, since then no language is at fault."""
        known = espeak_languages()
        return not known or any(name in known for name in named_like(language))

    def knows_voice(self, voice: str) -> bool:
        """By the files of the same folder."""
        return not espeak_languages() or spelled(voice) is not None

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
        wanted = [spelled(name) for name in ([voice] if voice else named_like(style.language))]
        name = await loop.run_in_executor(self._thread, library.first_known, [name for name in wanted if name])
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
        self._language = voice.partition("+")[0]  # a voice is named for its language: en-us+m3
        self._speed = speed
        self._speaking: set[threading.Event] = set()
        self._closed = False

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` in :attr:`format`; closing the generator stops the library at its next 40 ms of sound."""
        for sentence in spoken_sentences(text, self._language):
            if self._closed:
                return
            stop = threading.Event()
            self._speaking.add(stop)
            try:
                async with aclosing(self._sentence(sentence, stop)) as pieces:
                    async for piece in pieces:
                        yield piece
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
        """Stop what is being said; nothing is said afterwards."""
        self._closed = True
        for stop in self._speaking:
            stop.set()


# From espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_END_PAUSE = 0x1000
_RATE = 1
_OK = 0
_WORDS_PER_MINUTE = 165  # what a speed of 1.0 is; on short sentences it sounds faster than the number says
_BUFFER_MS = 40

Sink = Callable[[bytes], bool]
"""Takes samples, returns whether to go on."""

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class EspeakLibrary:
    """The loaded library. Use :func:`espeak_library`; a second one would share its state with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sink: Sink | None = None
        self._stopped = False
        self._failure: BaseException | None = None
        self._callback = _CALLBACK(self._samples)  # referenced here, or ctypes frees it under the library's hands
        try:
            loader: Any = import_module("espeakng_loader")
            self._lib: Any = ctypes.CDLL(loader.get_library_path())
            data = str(loader.get_data_path())
        except (ImportError, OSError) as failure:
            raise SpeechFailed(
                "espeak",
                "speak",
                f"the library cannot be loaded: {failure}",
                next_step="Run: pip install espeakng-loader",
            ) from failure
        self.rate: int = self._lib.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data.encode(), _DONT_EXIT)
        if self.rate <= 0:
            raise SpeechFailed("espeak", "speak", "espeak_Initialize refused its data", next_step="Reinstall it.")
        self._lib.espeak_SetSynthCallback(self._callback)

    def first_known(self, voices: Iterable[str]) -> str | None:
        """The first of these that is a voice or a language here; None when none is."""
        with self._lock:
            return next((voice for voice in voices if self._lib.espeak_SetVoiceByName(voice.encode()) == _OK), None)

    def synthesize(self, text: str, voice: str, speed: float, sink: Sink) -> bool:
        """Speak ``text``: ``sink`` gets PCM16 at :attr:`rate` and stops it by returning False. True when all was said.

        Blocks until then; at some thousand times real time that is milliseconds for a sentence.
        """
        encoded = text.encode() + b"\0"
        with self._lock:
            self._choose(voice)
            self._lib.espeak_SetParameter(_RATE, round(_WORDS_PER_MINUTE * speed), 0)
            self._sink, self._failure, self._stopped = sink, None, False
            try:
                done = self._lib.espeak_Synth(
                    encoded, ctypes.c_size_t(len(encoded)), 0, 0, 0, _CHARS_UTF8 | _END_PAUSE, None, None
                )
            finally:
                self._sink = None
            if self._failure is not None:
                raise self._failure
        if done != _OK:
            raise SpeechFailed("espeak", "speak", f"espeak_Synth answered {done}")
        return not self._stopped

    def _choose(self, voice: str) -> None:
        if self._lib.espeak_SetVoiceByName(voice.encode()) != _OK:
            raise SpeechFailed("espeak", "speak", f"the voice {voice!r} is gone")

    def _samples(self, samples: Any, count: int, events: Any) -> int:
        """Called by the library while it synthesises; 1 stops it."""
        if self._sink is None or not samples or count <= 0:
            return 0
        try:
            # The buffer is the library's and is written over next time.
            go_on = self._sink(ctypes.string_at(samples, count * 2))
        except BaseException as failure:  # noqa: BLE001 - it cannot cross C; synthesize raises it
            self._failure = failure
            return 1
        self._stopped = not go_on
        return 0 if go_on else 1


@cache
def espeak_library() -> EspeakLibrary:
    """The process's one library, loaded by the first call (some 15 ms)."""
    return EspeakLibrary()


@cache
def espeak_languages() -> frozenset[str]:
    """Names of the languages in espeak-ng's data folder (``en-us``, ``english (america)``), in lower case; empty if
    there is no such folder."""
    known: set[str] = set()
    for file in _data_files("lang"):
        known.add(file.name.lower())
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if (words := line.lower().split())[:1] == ["name"]:
                known.add(" ".join(words[1:]))
    return frozenset(known)


@cache
def espeak_variants() -> dict[str, str]:
    """Names of the variants in espeak-ng's data folder: ``andrea`` is ``Andrea``."""
    return {file.name.lower(): file.name for file in _data_files("voices/!v")}


def spelled(voice: str) -> str | None:
    """``voice``, a language or one with a variant (``en-us+andrea``), as the library takes it; None if there is none.

    Never give the library another name: it takes paths, speaks garbage for a variant without a language, ignores a
    variant that it does not have, and aborts the process for one of eighty characters.
    """
    language, plus, variant = voice.lower().partition("+")
    if language not in espeak_languages() or (plus and variant not in espeak_variants()):
        return None
    return f"{language}+{espeak_variants()[variant]}" if plus else language


def _data_files(folder: str) -> list[Path]:
    try:
        loader: Any = import_module("espeakng_loader")
    except ImportError:
        return []
    return [file for file in Path(loader.get_data_path(), folder).rglob("*") if file.is_file()]
