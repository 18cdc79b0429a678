"""One UDP socket on loopback, open from when it is made, which can double and disorder what it sends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

HELD_BACK = 0.03
"""Seconds a datagram waits to be overtaken: longer than the 20 ms between two frames of sound."""


class Datagrams:
    """Calls ``received`` with each datagram and its source. Quirks: ``duplicate``, ``reorder`` (every third waits)."""

    def __init__(self, received: Callable[[bytes, tuple[str, int]], None], quirks: set[str], port: int = 0) -> None:
        self._received, self.quirks = received, quirks
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", port))
        self.address: tuple[str, int] = self._socket.getsockname()
        self._loop.add_reader(self._socket, self._read)
        self._sent = 0

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        """Send, if the socket is still open."""
        self._sent += 1
        if "reorder" in self.quirks and self._sent % 3 == 0:
            self._loop.call_later(HELD_BACK, self._write, data, to)
            return
        for _ in range(2 if "duplicate" in self.quirks else 1):
            self._write(data, to)

    def close(self) -> None:
        """Closing twice is harmless."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _write(self, data: bytes, to: tuple[str, int]) -> None:
        try:
            if self._socket.fileno() >= 0:
                self._socket.sendto(data, to)
        except OSError:
            pass  # nobody there, or no room: as on any network, it is lost

    def _read(self) -> None:
        while self._socket.fileno() >= 0:
            try:
                data, source = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError:
                continue  # what was sent before did not arrive
            self._received(data, source)
