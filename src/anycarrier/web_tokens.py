"""JSON Web Tokens (RFC 7519): what logs in to some carriers' APIs, and what some sign their webhooks with."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anycarrier.errors import SignatureInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


def signed_token(claims: Mapping[str, Any], key: RSAPrivateKey | bytes) -> str:
    """A token with these claims, signed with RS256, or with HS256 where ``key`` is bytes.

    RSA takes about a millisecond: use a token for as long as it is good.
    """
    head = {"alg": "HS256" if isinstance(key, bytes) else "RS256", "typ": "JWT"}
    signed = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
    if isinstance(key, bytes):
        return f"{signed}.{_encoded(hmac.digest(key, signed.encode(), 'sha256'))}"
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return f"{signed}.{_encoded(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def token_claims(token: str, key: bytes, *, now: float, tolerance: float = 300) -> dict[str, Any]:
    """The claims of a token that was signed with HS256 and nothing else, ``tolerance`` seconds ago at most.

    ``SignatureInvalid`` for any other: whatever algorithm a token names for itself, a forger may have named it. Whose
    token it is, and of which message, the caller checks (:func:`is_of`).
    """
    try:
        head, claims, signature = token.split(".")
        expected = hmac.digest(key, f"{head}.{claims}".encode(), "sha256")
        if hmac.compare_digest(expected, _decoded(signature)) and json.loads(_decoded(head))["alg"] == "HS256":
            told = dict(json.loads(_decoded(claims)))
            if abs(now - told["iat"]) <= tolerance:
                return told
            raise SignatureInvalid("the token is too old, or our clock is wrong")
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise SignatureInvalid("no token that was signed with our secret")


def is_of(payload_hash: object, body: bytes) -> bool:
    """True if a claim is the SHA-256 of ``body``, in hexadecimal digits of either case."""
    return hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), str(payload_hash).lower().encode())


def _decoded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
