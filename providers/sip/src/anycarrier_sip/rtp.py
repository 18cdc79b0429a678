"""RTP packets (RFC 3550) and their encryption (RFC 3711). Pure, but for the counters that libsrtp keeps."""

from __future__ import annotations

import struct

import pylibsrtp

from anycarrier_sip.sdp import SrtpKeys

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


Refused = pylibsrtp.Error
"""Raised for a packet that is forged, repeated or too old."""
_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


class SrtpSession:
    """Both directions of one stream, with keys from SDP. What :meth:`rekey` leaves as it was keeps its counters."""

    def __init__(self, keys: SrtpKeys) -> None:
        self._keys: SrtpKeys | None = None
        self.rekey(keys)

    def rekey(self, keys: SrtpKeys) -> None:
        """Go on with ``keys``."""
        before, self._keys = self._keys, keys
        if before is None or (keys.suite, keys.local) != (before.suite, before.local):
            out = _session(keys.suite, keys.local, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
            self.protect, self.protect_rtcp = out.protect, out.protect_rtcp
        if before is None or (keys.suite, keys.remote) != (before.suite, before.remote):
            into = _session(keys.suite, keys.remote, pylibsrtp.Policy.SSRC_ANY_INBOUND)
            self.unprotect, self.unprotect_rtcp = into.unprotect, into.unprotect_rtcp


def _session(suite: str, key: bytes, direction: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=_PROFILES[suite]))
