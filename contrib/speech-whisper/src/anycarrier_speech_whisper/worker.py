"""The worker process, ``python -m anycarrier_speech_whisper.worker OPTIONS``: one model, one thread that decodes.

CTranslate2 releases the GIL while it decodes, so messages are read meanwhile: an answer that is known already does not
wait for another call's decoding.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol

import msgspec
import numpy as np
import soxr

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.speech import workers as w
from anycarrier_speech_whisper.scheduling import Kind, Scheduler, Vocabulary

NICENESS = 5
"""How far decoding yields to other processes on the core: the one that carries the calls' audio goes first."""
RATE = 16000
"""Samples per second that the models are for."""
NOTIFYING = w.Begin | w.Pause | w.Resume | w.Finish
"""Messages after which there may be something to decode."""


class Model(Protocol):
    """What the worker needs of a :class:`~anycarrier_speech_whisper.transcription.Transcriber`."""

    def prompt(self, phrases: Sequence[str], language: str) -> list[int]: ...

    def transcribe(
        self, samples: Any, *, phrases: Sequence[str] = (), language: str = "en", retry: bool = True
    ) -> str: ...


class Decoding:
    """Streams whose utterances are decoded by one model, one after the other."""

    def __init__(
        self,
        send: w.Send,
        model: Model,
        *,
        interims: bool = True,
        clock: Callable[[], float] = time.monotonic,
        crash: Callable[[int], Any] = os._exit,
    ) -> None:
        self._send = send
        self._model = model
        self._clock = clock
        self._crash = crash
        self._scheduler = Scheduler(interims=interims)
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="decoding", daemon=True).start()

    def take(self, message: w.ToWorker) -> None:
        """Note a message, and answer at once what can be."""
        if isinstance(message, w.Open) and not self._opens(message):
            return
        with self._changed:  # held while sending too, so that answers leave in their order
            for answer in self._scheduler.take(message, self._clock()):
                self._send(answer)
            if isinstance(message, NOTIFYING):
                self._changed.notify()

    def _opens(self, message: w.Open) -> bool:
        vocabulary = msgspec.convert(message.configuration, Vocabulary)
        try:
            self._model.prompt(vocabulary.phrases, vocabulary.language)
        except ValueError as failure:
            self._send(w.Refused(message.stream, str(failure)))
            return False
        self._send(w.Opened(message.stream))
        return True

    def _run(self) -> None:
        try:
            while True:
                self._decode_next()
        except BrokenPipeError:
            self._crash(0)  # nobody is left to tell
        except BaseException:  # noqa: BLE001 - the engine sees the worker end and starts another
            traceback.print_exc()
            self._crash(1)

    def _decode_next(self) -> None:
        with self._changed:
            while (job := self._scheduler.next(self._clock())) is None:
                due = self._scheduler.wake()
                self._changed.wait(None if due is None else max(0.001, due - self._clock()))
        vocabulary = job.stream.vocabulary
        text = self._model.transcribe(
            samples(job.audio, job.stream.format),
            phrases=vocabulary.phrases,
            language=vocabulary.language,
            retry=job.kind is not Kind.INTERIM,
        )
        with self._changed:
            for answer in self._scheduler.done(job, text, self._clock()):
                self._send(answer)


def samples(audio: bytes, format: AudioFormat) -> Any:
    """``audio`` as the model takes it: 16 kHz, float32 from -1 to 1."""
    linear = Transcoder(format, AudioFormat("PCM16", format.rate))
    pcm = linear.convert(audio) + linear.flush()
    found = np.frombuffer(pcm, "<i2").astype("f4") / 32768.0
    return found if format.rate == RATE else soxr.resample(found, format.rate, RATE)


def main(arguments: str) -> None:
    """Serve until the input ends. ``arguments``: ``{"options": ..., "interims": ...}`` as JSON."""
    given = msgspec.json.decode(arguments)

    def load(send: w.Send) -> Decoding:
        transcription: Any = import_module("anycarrier_speech_whisper.transcription")
        model = transcription.Transcriber(transcription.Options(**given["options"]))
        return Decoding(send, model, interims=given["interims"])

    w.serve(load, niceness=NICENESS)


if __name__ == "__main__":
    main(sys.argv[1])
