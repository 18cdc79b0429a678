"""The process that does the heavy work: ``python -m anycarrier_speech_local.worker listen|detect``.

It reads messages from its standard input until that ends, so it never outlives whoever started it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any, BinaryIO

from anycarrier.audio import AudioFormat
from anycarrier_speech_local import messages as m
from anycarrier_speech_local.decoding import Listener, build
from anycarrier_speech_local.detection import Detector, load

SPARE_DECODERS = 4
"""Idle decoders kept for each configuration: building one takes a fifth of a second."""

REACHED_EVERY = 0.5
"""Seconds of audio between two reports of how far a detector has come."""

POLITE = 5
"""How far decoding steps back for whoever else wants the core. An utterance begins with half a second of sound to
decode at once, in the very moment in which the detector has to say whether the caller interrupts; a final has half a
second."""

Tell = Callable[[m.FromWorker], None]


class Listening:
    """Streams through pocketsphinx decoders."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._streams: dict[int, tuple[bytes, Listener]] = {}
        self._spare: defaultdict[bytes, list[Any]] = defaultdict(list)
        self._untuned: dict[bytes, str] = {}

    def take(self, message: m.ToWorker) -> None:
        """Do what a message says."""
        if isinstance(message, m.Open):
            self._open(message)
            return
        key, listener = self._streams.get(message.stream, (b"", None))
        if listener is None:
            return
        if isinstance(message, m.Feed):
            guess = listener.feed(message.audio)
            if guess is not None:
                self._tell(m.Words(message.stream, guess, False))
        elif isinstance(message, m.Begin):
            listener.begin()
        elif isinstance(message, m.Finish):
            self._tell(m.Words(message.stream, listener.finish(), True))
        else:
            listener.begin()
            del self._streams[message.stream]
            if len(self._spare[key]) < SPARE_DECODERS:
                # The decoder has tuned itself to its call's line (cepstral means); the next call has another.
                listener.decoder.set_cmn(self._untuned[key])
                self._spare[key].append(listener.decoder)

    def _open(self, message: m.Open) -> None:
        config = message.hearing or m.HearingConfig()
        spare = self._spare[config.key]
        try:
            decoder = spare.pop() if spare else build(config)
            self._untuned.setdefault(config.key, decoder.get_cmn(False))
        except ValueError as failure:
            self._tell(m.Refused(message.stream, str(failure)))
            return
        self._streams[message.stream] = config.key, Listener(decoder, AudioFormat(message.encoding, message.rate))
        self._tell(m.Opened(message.stream))


class Detecting:
    """Streams through the voice detector."""

    def __init__(self, tell: Tell, threshold: float) -> None:
        self._tell = tell
        self._threshold = threshold
        self._session = load()
        self._streams: dict[int, Detector] = {}

    def take(self, message: m.ToWorker) -> None:
        """Do what a message says."""
        if isinstance(message, m.Open):
            format = AudioFormat(message.encoding, message.rate)
            self._streams[message.stream] = Detector(self._session, format, threshold=self._threshold)
            self._tell(m.Opened(message.stream))
        elif isinstance(message, m.Feed):
            detector = self._streams.get(message.stream)
            if detector is not None:
                before = detector.reached
                for activity in detector.feed(message.audio):
                    self._tell(m.VoiceTold(message.stream, activity.voice, activity.at))
                if int(detector.reached / REACHED_EVERY) > int(before / REACHED_EVERY):
                    self._tell(m.Reached(message.stream, detector.reached))
        elif isinstance(message, m.Close):
            self._streams.pop(message.stream, None)


def main(role: str, threshold: float = 0.5) -> None:
    """Serve until the input ends."""
    # Ctrl-C, and a stop signal sent to the whole process group, reach us too; but calls go on while our parent drains.
    # We end when it has closed the pipe, however it ends.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    if role == "listen" and hasattr(os, "nice"):
        os.nice(POLITE)
    # Libraries print to standard output; our messages must not meet theirs.
    out: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def tell(message: m.FromWorker) -> None:
        out.write(m.packed(message))

    work = Listening(tell) if role == "listen" else Detecting(tell, threshold)
    try:
        while (message := m.read_message(sys.stdin.buffer)) is not None:
            work.take(message)
    except BrokenPipeError:
        pass  # nobody is left to tell


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
