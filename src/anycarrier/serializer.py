"""Between a carrier's media frames and our media events. Pure: no socket, no clock, no log."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.events import MediaEvent

Frame = bytes | str
"""One WebSocket message: ``str`` is a text frame, ``bytes`` a binary one. A datagram, where there is no WebSocket, is
``bytes``."""


def fits_json(base64_audio: str) -> bool:
    """False for text that could close the JSON string it is put into, or is no base64 at all: never wrapped unseen."""
    return bool(base64_audio) and base64_audio.isascii() and '"' not in base64_audio and "\\" not in base64_audio


class MediaSerializer(ABC):
    """One per stream: it may keep the stream's id, its chunk counter and an unsent tail.

    A frame is ``str`` where the carrier's WebSocket message is text and ``bytes`` where it is binary, both ways.
    Everything outbound returns a sequence, since a carrier may want a small tail kept back or a long piece cut.
    """

    __slots__ = ()

    audio_out: AudioFormat = PCMU_8K
    """The format :meth:`encode_audio` takes, that is, what the carrier expects from us."""

    marks: bool = True
    """False where the carrier has no playback marks: positions then go by the clock, and say so."""

    buffer_seconds: float | None = None
    """Seconds of audio that may be sent ahead of what is played, where the carrier drops more; the session then waits.
    None: more than an agent says at once."""

    stop_frame: bool = True
    """False where the carrier ends a stream by closing its socket, without a frame that says so."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.marks and cls.encode_mark is MediaSerializer.encode_mark:
            raise TypeError(
                f"{cls.__name__} has no encode_mark: write it, or set marks = False if the carrier has no marks"
            )

    @abstractmethod
    def decode(self, frame: Frame) -> list[MediaEvent]:
        """The events in one frame, in order; an unknown kind is an ``UnknownEvent``.

        Raises ``MalformedMessage`` for what is no frame at all.
        """

    @abstractmethod
    def encode_audio(self, payload: bytes) -> Sequence[Frame]:
        """Frames for ``payload`` in :attr:`audio_out`, any length. ``StreamNotOpen`` before start and after stop."""

    @abstractmethod
    def encode_clear(self) -> Sequence[Frame]:
        """Frames that make the carrier drop what it has not played yet; a kept tail is dropped too."""

    def encode_mark(self, name: str) -> Sequence[Frame]:
        """Frames that make the carrier answer ``MarkReached(name)`` once all audio before it was played.

        Required unless :attr:`marks` is False; then it is never called.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode_mark")

    def encode_digits(self, digits: str) -> Sequence[Frame] | None:
        """Frames that send DTMF digits to the far end (0-9 A-D * #, ``w`` waits half a second, ``W`` a second).

        Override it where the carrier takes digits on the media socket. None, the default, for digits that it does not
        take there: then they are sent by :meth:`Provider.send_digits`, or as tones in the audio. ``StreamNotOpen``
        before start and after stop.
        """
        return None

    def flush(self) -> Sequence[Frame]:
        """Frames for a tail kept back so far; called when an utterance is over. Default: none."""
        return []

    def relay(self, frame: Frame) -> str | None:
        """The untouched base64 audio of a plain media frame, None for every other frame.

        For bridges that pass audio on without looking at it. A frame answered with None must then go through
        :meth:`decode`; overriding this is an optimisation and changes nothing a caller can see.
        """
        return None

    def encode_relayed(self, base64_audio: str) -> Frame | None:
        """One frame around audio that is base64 already and at least 20 ms long; None: use :meth:`encode_audio`."""
        return None
