"""The body of a speech answer as it arrives: raw PCM, or PCM behind a WAV header. Pure."""

from __future__ import annotations

import struct

from anycarrier.audio import AudioFormat

_ENOUGH = 4096
"""Bytes in which a WAV header must be over."""


class PcmBody:
    """Feed it the body; :attr:`format` is known once ``feed`` has given the first samples."""

    def __init__(self, rate: int) -> None:
        self.format = AudioFormat("PCM16", rate)
        self._head: bytearray | None = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The samples in it. ``ValueError`` for a WAV that is not 16-bit mono, or another container."""
        if self._head is None:
            return data
        self._head += data
        if len(self._head) < 12 and b"RIFF".startswith(bytes(self._head[:4])):
            return b""
        if not self._head.startswith(b"RIFF"):
            if self._head[:3] == b"ID3" or bytes(self._head[:4]) in (b"OggS", b"fLaC"):
                raise ValueError("the server answered with a compressed file instead of PCM")
            return self._rest(0)
        begins = self._after_header()
        return self._rest(begins) if begins is not None else b""

    def _after_header(self) -> int | None:
        head = bytes(self._head or b"")
        at = 12
        while at + 8 <= len(head):
            kind, size = struct.unpack_from("<4sI", head, at)
            if kind == b"data":
                return at + 8
            if kind == b"fmt " and at + 24 <= len(head):
                tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at + 8)
                if (tag, channels, bits) != (1, 1, 16):
                    raise ValueError("the server answered with a WAV that is not 16-bit mono PCM")
                self.format = AudioFormat("PCM16", rate)
            at += 8 + size + size % 2
        if len(head) > _ENOUGH:
            raise ValueError("the server answered with a WAV without audio")
        return None

    def _rest(self, begins: int) -> bytes:
        rest = bytes((self._head or b"")[begins:])
        self._head = None
        return rest
