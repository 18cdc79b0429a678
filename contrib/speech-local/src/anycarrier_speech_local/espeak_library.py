"""libespeak-ng by ctypes: one library, one state, one voice at a time in a process.

The library keeps its voice, rate and callback in globals, so everything happens under one lock, and it is initialised
once. SYNCHRONOUS mode gives the samples to a callback while ``espeak_Synth`` runs (first sound in a fraction of a
millisecond); RETRIEVAL mode polls in steps of 20 ms. ctypes lets go of the GIL meanwhile.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any

from anycarrier.errors import SpeechFailed

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
                "espeak", "speak", f"the library cannot be loaded: {failure}", next_step="pip install espeakng-loader"
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
