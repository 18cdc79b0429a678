"""RTP and RTCP packets (RFC 3550). Pure: bytes in and out."""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = struct.Struct("!BBHII")
"""V P X CC, M PT, sequence number, timestamp, SSRC."""
PLAIN = 0x80
"""The first byte of a packet without padding, extension and contributing sources, which nearly all are."""
RATE = 8000
SAMPLES = 160
"""Samples, and bytes, of the 20 ms that we send in a packet."""
SILENCE = {"PCMU": b"\xff" * SAMPLES, "PCMA": b"\xd5" * SAMPLES}
MAX_PACKET = 1452
"""Bytes; more is no audio of ours, and more than pylibsrtp takes."""

_REPORT = struct.Struct("!IIIIII")
_SENDER = struct.Struct("!IIIII")
_NTP_EPOCH = 2_208_988_800
"""Seconds from 1900, where NTP's time begins, to 1970."""


def payload(packet: bytes) -> bytes | None:
    """What is left of a packet of version 2 without header, extension and padding; None where that cannot be."""
    if len(packet) < 12 or packet[0] & 0xC0 != 0x80:
        return None
    start = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:  # an extension
        if len(packet) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    end = len(packet)
    if packet[0] & 0x20:  # padding, whose last byte counts it
        if not 0 < packet[-1] <= end - start:
            return None
        end -= packet[-1]
    return packet[start:end] if start <= end else None


def is_rtcp(packet: bytes) -> bool:
    """Whether a packet on a port that both share is RTCP (RFC 5761)."""
    return len(packet) >= 8 and packet[0] & 0xC0 == 0x80 and 192 <= packet[1] <= 223


@dataclass(slots=True)
class Report:
    """What a far end said of what it gets from us."""

    ssrc: int
    lost_fraction: float = 0.0
    lost: int = 0
    jitter: float = 0.0
    """Seconds."""
    goodbye: bool = False
    sent_at: int = 0
    """The middle 32 bits of the NTP time in a sender report; 0 without one."""


def read_rtcp(packet: bytes, ours: int) -> Report | None:
    """What a compound packet says of the stream with SSRC ``ours``; None for what is no RTCP."""
    at, report = 0, None
    while at < len(packet):
        if len(packet) - at < 4 or packet[at] & 0xC0 != 0x80:
            return None
        count, kind = packet[at] & 0x1F, packet[at + 1]
        end = at + 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
        if end > len(packet) or (report is None and kind not in (200, 201)):
            return None
        body = packet[at + 4 : end]
        if kind in (200, 201):
            blocks = 4 if kind == 201 else 24
            if len(body) < blocks + 24 * count:
                return None
            report = report or Report(int.from_bytes(body[:4], "big"))
            if kind == 200:
                report.sent_at = int.from_bytes(body[6:10], "big")
            for start in range(blocks, blocks + 24 * count, 24):
                ssrc, lost, _, jitter, _, _ = _REPORT.unpack_from(body, start)
                if ssrc == ours:
                    report.lost_fraction = (lost >> 24) / 256
                    report.lost = (lost & 0xFFFFFF) - ((lost & 0x800000) << 1)
                    report.jitter = jitter / RATE
        elif kind == 203 and report is not None:
            report.goodbye = True
        at = end
    return report


@dataclass(slots=True)
class Received:
    """A report block: what we say of the far end's packets."""

    ssrc: int
    lost_fraction: float
    lost: int
    highest: int
    """The highest sequence number, with its cycles in the upper 16 bits."""
    jitter: int
    """In units of the timestamp."""
    last_report: int = 0
    delay: float = 0.0
    """Seconds since that report."""


def write_rtcp(
    ssrc: int, cname: str, *, now: float, timestamp: int, packets: int, octets: int, received: Received | None,
    goodbye: bool = False,
) -> bytes:  # fmt: skip
    """A compound packet: sender report (a receiver report before the first packet), CNAME, and BYE. ``now`` is Unix."""
    blocks = b""
    if received is not None:
        lost = max(-0x800000, min(received.lost, 0x7FFFFF)) & 0xFFFFFF
        lost |= min(int(received.lost_fraction * 256), 255) << 24
        blocks = _REPORT.pack(
            received.ssrc, lost, received.highest & 0xFFFFFFFF, min(received.jitter, 0xFFFFFFFF), received.last_report,
            min(int(received.delay * 65536), 0xFFFFFFFF),
        )  # fmt: skip
    count = len(blocks) // 24
    if packets:
        seconds = now + _NTP_EPOCH
        ntp = (int(seconds) & 0xFFFFFFFF, int(seconds % 1 * 2**32))
        sender = _SENDER.pack(*ntp, timestamp & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
        packet = _rtcp(count, 200, ssrc.to_bytes(4, "big") + sender + blocks)
    else:
        packet = _rtcp(count, 201, ssrc.to_bytes(4, "big") + blocks)
    name = cname.encode()
    item = bytes((1, len(name))) + name
    packet += _rtcp(1, 202, ssrc.to_bytes(4, "big") + item + bytes(4 - len(item) % 4))
    return packet + _rtcp(1, 203, ssrc.to_bytes(4, "big")) if goodbye else packet


def _rtcp(count: int, kind: int, body: bytes) -> bytes:
    return bytes((0x80 | count, kind)) + (len(body) // 4).to_bytes(2, "big") + body
