"""Keys as telephone events (RFC 4733), both ways. Pure.

A key is a run of packets with one timestamp: they count how long it has been down, and the last one comes three times.
"""

from __future__ import annotations

import struct

KEYS = "0123456789*#ABCD"
_EVENT = struct.Struct("!BBH")
_END = 0x80
_VOLUME = 10
"""dBm0 below 0."""
SHORTEST = 320
"""Samples, 40 ms: what is shorter is no key."""
LONGEST = 0xFFFF
"""Samples. A key that is down for longer goes on as another event, with the timestamp where this one ended."""
STEP = 160
"""Samples between two packets."""
PRESSED, PAUSE = 5, 3
"""Packets in the 100 ms that we press a key, and in the 60 ms after it."""
WAITS = {"w": 25, "W": 50}
"""Packets in the half second, and the second, to wait."""


class DigitReceiver:
    """Tells each key once, as soon as it has been down for 40 ms, whichever of its packets is lost, doubled or late."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[int, int] = {}
        """Timestamps of the last keys told, and which they were."""

    def receive(self, timestamp: int, payload: bytes) -> str | None:
        """The key, where this packet is the first to prove it."""
        if len(payload) < 4:
            return None
        event, _, duration = _EVENT.unpack_from(payload)
        if event >= len(KEYS) or timestamp in self._told:
            return None
        goes_on = self._told.get((timestamp - LONGEST) & 0xFFFFFFFF) == event
        if duration < SHORTEST and not goes_on:
            return None
        if len(self._told) > 7:
            del self._told[next(iter(self._told))]
        self._told[timestamp] = event
        return None if goes_on else KEYS[event]


def packets(digits: str) -> list[tuple[bool, bytes | None]]:
    """What to send, 20 ms after 20 ms, for keys and the pauses ``w`` (0.5 s) and ``W`` (1 s): (starts a key, payload).

    All packets of a key have the timestamp of its first. None is a pause. ``ValueError`` for what is no key.
    """
    made: list[tuple[bool, bytes | None]] = []
    for digit in digits:
        if digit in WAITS:
            made += [(False, None)] * WAITS[digit]
            continue
        event = KEYS.index(digit.upper())
        for count in range(1, PRESSED + PAUSE):
            ended = count >= PRESSED
            flags = _VOLUME | _END if ended else _VOLUME
            made.append((count == 1, _EVENT.pack(event, flags, STEP * min(count, PRESSED))))
        made.append((False, None))
    return made
