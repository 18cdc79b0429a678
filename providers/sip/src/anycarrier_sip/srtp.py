"""Encryption of one stream's packets (RFC 3711) with keys from SDP. Pure but for the counters that libsrtp keeps."""

from __future__ import annotations

import pylibsrtp

from anycarrier_sip.sdp import SrtpKeys

_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


class Srtp:
    """Both directions. What a call of :meth:`rekey` leaves as it was goes on with its counters."""

    def __init__(self, keys: SrtpKeys) -> None:
        self._keys = keys
        self._out = _session(keys.suite, keys.local, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._in = _session(keys.suite, keys.remote, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self._bind()

    def rekey(self, keys: SrtpKeys) -> None:
        """Go on with ``keys``."""
        before, self._keys = self._keys, keys
        if (keys.suite, keys.local) != (before.suite, before.local):
            self._out = _session(keys.suite, keys.local, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        if (keys.suite, keys.remote) != (before.suite, before.remote):
            self._in = _session(keys.suite, keys.remote, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self._bind()

    def _bind(self) -> None:
        self.protect, self.protect_rtcp = self._out.protect, self._out.protect_rtcp
        self.unprotect, self.unprotect_rtcp = self._in.unprotect, self._in.unprotect_rtcp


Refused = pylibsrtp.Error
"""Raised for a packet that is forged, repeated or too old."""


def _session(suite: str, key: bytes, direction: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=_PROFILES[suite]))
