"""RTP packets (RFC 3550). Pure: bytes in and out."""

from __future__ import annotations

import struct

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
