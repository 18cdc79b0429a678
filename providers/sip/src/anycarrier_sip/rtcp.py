"""RTCP (RFC 3550, 6): what both sides say of each other's packets. Pure: bytes and times in and out."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from anycarrier_sip.jitter import JitterBuffer
from anycarrier_sip.rtp import RATE, SAMPLES

_BLOCK = struct.Struct("!IIIIII")
_SENDER = struct.Struct("!IIIII")
_NTP_EPOCH = 2_208_988_800
"""Seconds from 1900, where NTP's time begins, to 1970."""
_SENDER_REPORT, _RECEIVER_REPORT, _DESCRIPTION, _BYE = 200, 201, 202, 203
_CNAME = b"\x01\x0aanycarrier"
"""The same for all: it would tell who else we talk to."""


@dataclass(slots=True)
class Report:
    """What a far end says of what it gets from us. ``jitter`` in seconds."""

    ssrc: int
    lost_fraction: float = 0.0
    lost: int = 0
    jitter: float = 0.0
    goodbye: bool = False
    sent_at: int = 0
    """The middle 32 bits of the NTP time in a sender report; 0 without one."""


def read(packet: bytes, ours: int) -> Report | None:
    """What a compound packet says of the stream with SSRC ``ours``; None for what is no RTCP."""
    at, report = 0, None
    while at < len(packet):
        if len(packet) - at < 4 or packet[at] & 0xC0 != 0x80:
            return None
        count, kind = packet[at] & 0x1F, packet[at + 1]
        end = at + 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
        if end > len(packet) or (report is None and kind not in (_SENDER_REPORT, _RECEIVER_REPORT)):
            return None
        body = packet[at + 4 : end]
        if kind in (_SENDER_REPORT, _RECEIVER_REPORT):
            blocks = 4 if kind == _RECEIVER_REPORT else 24
            if len(body) < blocks + 24 * count:
                return None
            report = report or Report(int.from_bytes(body[:4], "big"))
            if kind == _SENDER_REPORT:
                report.sent_at = int.from_bytes(body[6:10], "big")
            for start in range(blocks, blocks + 24 * count, 24):
                ssrc, lost, _, jitter, _, _ = _BLOCK.unpack_from(body, start)
                if ssrc == ours:
                    report.lost_fraction = (lost >> 24) / 256
                    report.lost = (lost & 0xFFFFFF) - ((lost & 0x800000) << 1)
                    report.jitter = jitter / RATE
        elif kind == _BYE and report is not None:
            report.goodbye = True
        at = end
    return report


class Reports:
    """One stream's: those that come, and ours."""

    def __init__(self) -> None:
        self.last: Report | None = None
        self.count = 0
        self._came_at = 0.0
        self._before = (0, 0)
        """Packets expected and lost, as reported last."""

    def receive(self, packet: bytes, ours: int, now: float) -> bool:
        """Take one in; False for what is no RTCP."""
        if (report := read(packet, ours)) is None:
            return False
        self.last, self._came_at = report, now
        self.count += 1
        return True

    def block(self, ssrc: int, jitter: JitterBuffer, now: float) -> bytes:
        """What we say of the packets of ``ssrc``."""
        lost, expected = jitter.lost, jitter.received + jitter.lost
        lost_now, expected_now = lost - self._before[1], expected - self._before[0]
        self._before = expected, lost
        fraction = min(255, 256 * max(0, lost_now) // max(1, expected_now))
        sent_at = self.last.sent_at if self.last else 0
        delay = int(65536 * (now - self._came_at)) if sent_at else 0
        total = max(-0x800000, min(lost, 0x7FFFFF)) & 0xFFFFFF
        highest, jitter_now = jitter.highest & 0xFFFFFFFF, int(jitter.jitter) & 0xFFFFFFFF
        return _BLOCK.pack(ssrc, fraction << 24 | total, highest, jitter_now, sent_at, delay & 0xFFFFFFFF)


def write(
    ssrc: int, block: bytes = b"", *, time: float, timestamp: int, packets: int, goodbye: bool = False
) -> bytes:  # fmt: skip
    """A compound packet: sender report (a receiver report before the first packet), CNAME, and BYE. ``time`` is Unix,
    and that of ``timestamp``."""
    me = ssrc.to_bytes(4, "big")
    count = len(block) // _BLOCK.size
    if packets:
        seconds = time + _NTP_EPOCH
        ntp = (int(seconds) & 0xFFFFFFFF, int(seconds % 1 * 2**32))
        sender = _SENDER.pack(*ntp, timestamp, packets & 0xFFFFFFFF, packets * SAMPLES & 0xFFFFFFFF)
        made = _packet(_SENDER_REPORT, count, me + sender + block)
    else:
        made = _packet(_RECEIVER_REPORT, count, me + block)
    made += _packet(_DESCRIPTION, 1, me + _CNAME + bytes(4 - len(_CNAME) % 4))
    return made + _packet(_BYE, 1, me) if goodbye else made


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return bytes((0x80 | count, kind)) + (len(body) // 4).to_bytes(2, "big") + body
