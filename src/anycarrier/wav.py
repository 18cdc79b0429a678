"""WAV files: a writer whose file is whole to the last second even when the process dies, and a tolerant reader."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from anycarrier.audio import AudioFormat

HEADER_SIZE = 44
LARGEST = 0xFFFFFFFF - HEADER_SIZE
_TAGS = {1: "PCM16", 6: "PCMA", 7: "PCMU"}
_EXTENSIBLE = 0xFFFE


class WavWriter:
    """Streams PCM16 to ``path``: memory holds at most one second, and each full second is written with its header.

    So a process that dies leaves a file any player opens, valid to the last second; :func:`repair_wav` gains what
    was written after that. Frames are interleaved (left, right); ``write`` takes whole frames.

    >>> with WavWriter("call.wav", rate=8000, channels=2) as wav:
    ...     wav.write(bytes(4 * 8000))
    """

    def __init__(self, path: str | os.PathLike[str], *, rate: int = 8000, channels: int = 1) -> None:
        if channels not in (1, 2):
            raise ValueError("a call's WAV has one channel or two")
        self.path = Path(path)
        self.format = AudioFormat("PCM16", rate, channels)
        self._pending = bytearray()
        self._size = 0
        self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115  (closed by close)
        self._file.write(_header(self.format, 0))

    @property
    def seconds(self) -> float:
        """How much was given to ``write``."""
        return self.format.seconds(self._size + len(self._pending))

    def write(self, frames: bytes) -> None:
        """More audio. ``ValueError`` when it is cut inside a frame, or past the 4 GB a WAV can hold."""
        if len(frames) % (2 * self.format.channels):
            raise ValueError("WAV audio is written in whole frames: two bytes for each channel")
        if self._size + len(self._pending) + len(frames) > LARGEST:
            raise ValueError("a WAV file holds 4 GB; begin another one")
        self._pending += frames
        if len(self._pending) >= self.format.bytes_per_second:
            self.flush()

    def flush(self) -> None:
        """Put all of it in the file, and the header right. Not an fsync: it survives the process, not the power."""
        if not self._pending:
            return
        # The audio first: a header that promises too little still plays, one that promises too much does not.
        rest = memoryview(bytes(self._pending))
        while rest:
            rest = rest[self._file.write(rest) :]  # on a disk that is nearly full, some of it
        self._size += len(self._pending)
        self._pending.clear()
        self._file.seek(0)
        self._file.write(_header(self.format, self._size))
        self._file.seek(HEADER_SIZE + self._size)

    def close(self) -> None:
        """Flush and let go of the file; closing twice is no error. The file is let go of whatever the flush raises."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _header(format: AudioFormat, size: int) -> bytes:
    frame = 2 * format.channels
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        size + HEADER_SIZE - 8,
        b"WAVE",
        b"fmt ",
        16,
        1,
        format.channels,
        format.rate,
        format.rate * frame,
        frame,
        16,
        b"data",
        size,
    )


def repair_wav(path: str | os.PathLike[str]) -> float:
    """Make the header of a file that :class:`WavWriter` left behind match its length; the seconds it holds.

    ``ValueError`` when the file is not one of its own.
    """
    with open(path, "r+b") as file:
        header = file.read(HEADER_SIZE)
        if len(header) < HEADER_SIZE or header[:4] != b"RIFF" or header[36:40] != b"data":
            raise ValueError("not a WAV file written here: it has no plain 44-byte header")
        channels, rate = struct.unpack_from("<HI", header, 22)
        format = AudioFormat("PCM16", rate, channels)
        size = os.fstat(file.fileno()).st_size - HEADER_SIZE
        size -= size % (2 * channels)
        file.truncate(HEADER_SIZE + size)
        file.seek(0)
        file.write(_header(format, size))
    return format.seconds(size)


def wav_bytes(audio: bytes, format: AudioFormat) -> bytes:
    """A whole WAV file in memory around PCM16 ``audio``."""
    if format.encoding != "PCM16":
        raise ValueError("convert to PCM16 first, for example with Transcoder")
    return _header(format, len(audio)) + audio


def read_wav(source: str | os.PathLike[str] | bytes) -> tuple[AudioFormat, bytes]:
    """Format and audio of a WAV file (or its bytes): PCM16, mu-law or A-law, any chunks before the audio.

    A file cut short, or whose header was never finished, gives what is there. ``ValueError`` for anything else.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("not a WAV file")
    format: AudioFormat | None = None
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if kind == b"fmt " and size >= 16 and body + 16 <= len(data):
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, body)
            if tag == _EXTENSIBLE and size >= 26 and body + 26 <= len(data):
                tag = struct.unpack_from("<H", data, body + 24)[0]
            if tag not in _TAGS or bits != (16 if tag == 1 else 8) or not channels or not rate:
                raise ValueError(f"WAV with format {tag} and {bits} bits: only 16-bit PCM, mu-law and A-law are read")
            format = AudioFormat(_TAGS[tag], rate, channels)
        elif kind == b"data":
            if format is None:
                raise ValueError("WAV with audio before its format")
            audio = data[body : body + size] if size else data[body:]
            return format, audio[: len(audio) - len(audio) % (format.sample_width * format.channels)]
        at = body + size + size % 2
    raise ValueError("WAV without audio")
