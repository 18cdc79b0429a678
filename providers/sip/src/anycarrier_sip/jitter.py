"""Audio in order and in time, from packets that are lost, late, doubled or swapped. Pure.

A packet that is the next one is given out as it arrives: nothing is held back for a jitter that is not there. One that
comes before its turn waits for those that are missing. What is missing when its time has come is filled: the last
packet again, fading to silence in 60 ms. What comes later than that is dropped. So the audio given out is as long as
the time that has passed, however the packets came.

A packet's time has come when the slowest packet of the last seconds would have been here, within 40 to 100 ms of the
fastest: the depth. Times are seconds of any monotonic clock; timestamps count samples, 8,000 a second.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

from anycarrier.audio import SILENCE, pcm16_to_pcma, pcm16_to_pcmu, pcma_to_pcm16, pcmu_to_pcm16
from anycarrier_sip.rtp import RATE

SHALLOWEST, DEEPEST = 320.0, 800.0
"""The depth in samples: 40 and 100 ms."""
SPARE = 80.0
"""How much deeper than the slowest packet, in samples."""
WINDOW = 128
"""Packets of which the fastest and the slowest count, and as many before them."""
FAR_AHEAD = 8000
"""Samples: a timestamp this far ahead is of another clock."""
LATE_FOR = 0.2
"""Seconds for which all packets have to be late until that is taken for the new time."""
MOST_WAITING = 50
"""Packets that wait for one missing."""
FILL = 160
"""Samples that are filled at once."""
_NOTHING: tuple[bytes, ...] = ()


class JitterBuffer:
    """One source's audio, in ``codec``; ``now`` is when its first packet may come."""

    __slots__ = (
        "_codec", "_expected", "_filling", "_first", "_last", "_late_since", "_least", "_least_before", "_lost_before",
        "_most", "_most_before", "_next", "_transit", "_until_window", "_waiting", "depth", "due_after", "filled",
        "highest", "jitter", "late", "position", "received",
    )  # fmt: skip

    def __init__(self, codec: str, now: float) -> None:
        self._codec = codec
        self.position = 0
        """Samples given out. The timestamp of the next one is :attr:`_next`; the two go on together."""
        self.due_after = now * RATE + DEEPEST
        """The next packet's time has come when the clock, in samples, is this far ahead of :attr:`position`."""
        self.depth = DEEPEST
        self.received = 0
        self.filled = 0
        """Samples that were filled."""
        self.late = 0
        """Packets dropped: late, or doubled."""
        self.jitter = 0.0
        """In samples (RFC 3550, 6.4.1)."""
        self.highest = -1
        """The highest sequence number of this source so far, its cycles in the upper bits."""
        self._first = self._lost_before = 0
        self._next = -1
        self._expected = -1
        """The sequence number after that of the last packet given out."""
        self._waiting: dict[int, tuple[int, bytes]] = {}
        """Sequence number and payload by position."""
        self._last = b""
        self._filling = 0
        """Samples filled since it."""
        self._late_since = 0.0
        self._transit = 0.0
        self._until_window = WINDOW
        self._least = self._most = self._least_before = self._most_before = 0.0

    @property
    def lost(self) -> int:
        """Packets that never came, less those that came twice; of all sources, as :attr:`received`."""
        return self.highest - self._first + 1 - self.received if self.highest >= 0 else self._lost_before

    def receive(self, sequence: int, timestamp: int, payload: bytes, now: float) -> Sequence[bytes]:
        """What can be given out now that this packet is here, in order."""
        if timestamp != self._next or sequence != self._expected or self._waiting:
            return self._unexpected(sequence, timestamp, payload, now)
        # Fifty times a second and call.
        self.received += 1
        self.highest += 1
        self._expected = (sequence + 1) & 0xFFFF
        position = self.position
        transit = now * RATE - position
        size = len(payload)
        self.position = position + size
        self._next = (timestamp + size) & 0xFFFFFFFF
        self._last = payload
        self._filling = 0
        self._late_since = 0.0
        self._until_window -= 1
        if self._least <= transit <= self._most and self._until_window > 0:  # _note, without another call
            change = transit - self._transit
            self._transit = transit
            self.jitter += ((change if change > 0.0 else -change) - self.jitter) / 16
        else:
            self._note(transit)
        return (payload,)

    def pass_by(self, sequence: int) -> None:
        """Count a packet that has no audio."""
        self._count(sequence)
        if sequence == self._expected:
            self._expected = (sequence + 1) & 0xFFFF

    def new_source(self) -> None:
        """The next packet is of another source: its numbers and its clock are its own, and the audio goes on."""
        self._lost_before = self.lost
        self._next = self._expected = self.highest = -1
        self._waiting.clear()

    def fill(self, now: float) -> Sequence[bytes]:
        """What the time has come for by ``now``: packets that wait, and fillings for those that are missing."""
        given: list[bytes] = []
        waiting = self._waiting
        clock = now * RATE
        while waiting:
            first = min(waiting)
            if first > self.position:
                if clock - self.position <= self.due_after and len(waiting) <= MOST_WAITING:
                    break
                self._fill(given, min(first, self.position + (len(self._last) or FILL)))
            else:
                self._give(given, *waiting.pop(first))
        while not waiting and clock - self.position > self.due_after:
            self._fill(given, self.position + (len(self._last) or FILL))
        return given

    # --- the rest: one packet in a hundred, on a good network ---------------------------------------------------------

    def _unexpected(self, sequence: int, timestamp: int, payload: bytes, now: float) -> Sequence[bytes]:
        self._count(sequence)
        if not payload:
            return _NOTHING
        ahead = ((timestamp - self._next + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        if self._next < 0 or ahead > FAR_AHEAD:
            return self._begin(sequence, timestamp, payload, now)
        position = self.position + ahead
        self._until_window -= 1
        self._note(now * RATE - position)
        if ahead < 0:
            self.late += 1
            if self._late_since and now - self._late_since > LATE_FOR:
                return self._begin(sequence, timestamp, payload, now)
            self._late_since = self._late_since or now
            return _NOTHING
        self._late_since = 0.0
        if position in self._waiting:
            self.late += 1
            return _NOTHING
        given: list[bytes] = []
        if sequence == self._expected:  # nothing is missing: the far end was silent, or the last packet was a key's
            self._fill(given, position)
        self._waiting[position] = sequence, payload
        given += self.fill(now)
        return given

    def _begin(self, sequence: int, timestamp: int, payload: bytes, now: float) -> Sequence[bytes]:
        """The timeline goes on with this packet, whatever was before it."""
        given: list[bytes] = []
        for position in sorted(self._waiting):
            self._give(given, *self._waiting.pop(position))
        self._next = timestamp
        self._late_since = 0.0
        self._transit = now * RATE - self.position
        self._least = self._most = self._least_before = self._most_before = self._transit
        self._adapt()
        self._give(given, sequence, payload)
        return given

    def _give(self, given: list[bytes], sequence: int, payload: bytes) -> None:
        given.append(payload)
        self.position += len(payload)
        self._next = (self._next + len(payload)) & 0xFFFFFFFF
        self._expected = (sequence + 1) & 0xFFFF
        self._last = payload
        self._filling = 0

    def _fill(self, given: list[bytes], until: int) -> None:
        """Up to a position, in pieces of 20 ms, each half as loud as the one before."""
        last = self._last
        while (size := min(FILL, until - self.position)) > 0:
            filling = bytes((SILENCE[self._codec],)) * size
            if self._filling < 3 * FILL and last:
                start = self._filling % len(last)
                filling = (last * (size // len(last) + 2))[start : start + size]
                for _ in range(self._filling // FILL):
                    filling = filling.translate(quieter(self._codec))
            given.append(filling)
            self._filling += size
            self.filled += size
            self.position += size
            if self._next >= 0:
                self._next = (self._next + size) & 0xFFFFFFFF

    def _count(self, sequence: int) -> None:
        if self.highest < 0:
            self._first, self.highest = sequence - self.received - self._lost_before, sequence
        self.received += 1
        ahead = ((sequence - self.highest + 0x8000) & 0xFFFF) - 0x8000
        if ahead > 0:
            self.highest += ahead

    # --- time ---------------------------------------------------------------------------------------------------------

    def _note(self, transit: float) -> None:
        """How long a packet took, but for a constant."""
        change = transit - self._transit
        self._transit = transit
        self.jitter += ((change if change > 0.0 else -change) - self.jitter) / 16
        if self._until_window <= 0:
            self._until_window = WINDOW
            self._least_before, self._most_before = self._least, self._most
            self._least = self._most = transit
        elif transit < self._least:
            self._least = transit
        elif transit > self._most:
            self._most = transit
        else:
            return
        self._adapt()

    def _adapt(self) -> None:
        least = min(self._least, self._least_before)
        self.depth = min(max(max(self._most, self._most_before) - least + SPARE, SHALLOWEST), DEEPEST)
        self.due_after = least + self.depth


@cache
def quieter(codec: str) -> bytes:
    """For ``bytes.translate``: each sample of the codec, 6 dB quieter."""
    decode, encode = (pcmu_to_pcm16, pcm16_to_pcmu) if codec == "PCMU" else (pcma_to_pcm16, pcm16_to_pcma)
    samples = struct.unpack("<256h", decode(bytes(range(256))))
    return encode(struct.pack("<256h", *(int(sample / 2) for sample in samples)))
