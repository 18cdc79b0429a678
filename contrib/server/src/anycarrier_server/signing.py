"""How we sign what we send, the two ways receivers expect. Pure.

* ``v1``: ``X-OneInbox-Signature: v1=<hex HMAC-SHA256(secret, timestamp.body)>``
* Inkbox: ``X-Inkbox-Signature: sha256=<hex HMAC-SHA256(key, request id.timestamp.body)>``, where the key is the key
  text without ``whsec_``, as it stands: it is not base64-decoded.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets


def oneinbox_headers(secret: str, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Headers for a delivery; ``timestamp`` in Unix seconds."""
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {
        "X-OneInbox-Event-Id": event_id,
        "X-OneInbox-Timestamp": str(timestamp),
        "X-OneInbox-Signature": f"v1={signed}",
    }


def inkbox_headers(key: str, request_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Headers for a delivery, or for an agent socket, where ``body`` is the value of ``X-Call-Context``."""
    message = f"{request_id}.{timestamp}.".encode() + body
    signed = hmac.new(key.removeprefix("whsec_").encode(), message, hashlib.sha256).hexdigest()
    return {
        "X-Inkbox-Request-ID": request_id,
        "X-Inkbox-Timestamp": str(timestamp),
        "X-Inkbox-Signature": f"sha256={signed}",
    }


def new_signing_key() -> str:
    """``whsec_...``: 256 random bits as text."""
    return f"whsec_{secrets.token_hex(32)}"
