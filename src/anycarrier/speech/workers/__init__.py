"""Worker processes for speech engines that would block the event loop: pool, messages, recognizer, worker main loop.

An engine holds a :class:`WorkerPool` of one module, which runs :func:`serve`. What a stream needs beyond its audio
format is the engine's own and travels as ``Open.configuration``. Not imported by :mod:`anycarrier.speech`, so that
engines without workers do not load it.
"""

from anycarrier.speech.workers.journal import Journal, RecentAudio
from anycarrier.speech.workers.messages import (
    Begin,
    Close,
    Examined,
    Feed,
    Finish,
    FromWorker,
    Open,
    Opened,
    Pause,
    Ready,
    Recognized,
    Refused,
    Resume,
    ToWorker,
    Unusable,
    VoiceReport,
)
from anycarrier.speech.workers.pool import WorkerPool, WorkerStream
from anycarrier.speech.workers.process import Handler, Send, serve
from anycarrier.speech.workers.recognizer import WorkerRecognizer

__all__ = [
    "Begin",
    "Close",
    "Examined",
    "Feed",
    "Finish",
    "FromWorker",
    "Handler",
    "Journal",
    "Open",
    "Opened",
    "Pause",
    "Ready",
    "RecentAudio",
    "Recognized",
    "Refused",
    "Resume",
    "Send",
    "ToWorker",
    "Unusable",
    "VoiceReport",
    "WorkerPool",
    "WorkerRecognizer",
    "WorkerStream",
    "serve",
]
