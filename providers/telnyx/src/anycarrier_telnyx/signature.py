"""Is this webhook from Telnyx? Ed25519 over the timestamp and the raw body, and not older than five minutes."""

from __future__ import annotations

import base64
import binascii
import re

from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest

TOLERANCE = 300.0
"""Seconds a timestamp may be off, in the past or the future: what Telnyx's own libraries allow."""

_SECONDS = re.compile(r"[0-9]{1,15}")


def verify_signature(request: WebhookRequest, public_key: str | None, now: float) -> None:
    """Return if the account's key signed ``request``, else ``SignatureInvalid``. ``now`` in Unix seconds."""
    if not public_key:
        raise SignatureInvalid(
            "telnyx webhook refused: the credential has no public_key to verify it with. "
            "Copy it from the portal (Keys & Credentials, Public Key)"
        )
    signature = _decoded(request.header("telnyx-signature-ed25519"), 64, "header telnyx-signature-ed25519")
    timestamp = request.header("telnyx-timestamp") or ""
    if not _SECONDS.fullmatch(timestamp):
        raise SignatureInvalid("telnyx webhook refused: header telnyx-timestamp is missing or not a number of seconds")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise SignatureInvalid(
            f"telnyx webhook refused: its timestamp is more than {TOLERANCE:.0f} s off. Check this machine's clock"
        )
    key = _decoded(public_key.strip(), 32, "the credential's public_key")
    try:
        from nacl.exceptions import BadSignatureError, CryptoError
        from nacl.signing import VerifyKey
    except ImportError as missing:
        raise SignatureInvalid("telnyx webhook refused: PyNaCl is not installed. pip install PyNaCl") from missing
    try:
        VerifyKey(key).verify(timestamp.encode() + b"|" + request.body, signature)
    except BadSignatureError:
        raise SignatureInvalid("telnyx webhook refused: the signature does not match") from None
    except (CryptoError, ValueError, TypeError) as problem:
        raise SignatureInvalid("telnyx webhook refused: the signature cannot be checked") from problem


def _decoded(text: str | None, size: int, what: str) -> bytes:
    try:
        value = base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != size:
        raise SignatureInvalid(f"telnyx webhook refused: {what} is missing or not {size} bytes in base64")
    return value
