"""JSON Web Tokens both ways: ours for the REST API (RS256), Vonage's on webhooks (HS256)."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from base64 import b64decode, urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest
from anycarrier_vonage.credential import VonageCredential, load_key

LIFETIME, REUSED = 900, 600
"""Seconds that a token of ours is good for, and is used: signing one takes a millisecond."""

TOLERANCE = 300
"""Seconds that a webhook's token may be old, or our clock behind."""


class ApplicationToken:
    def __init__(self, credential: VonageCredential) -> None:
        self.credential, self.kept, self.made = credential, "", 0

    def current(self) -> str:
        now = int(time.time())
        if not 0 <= now - self.made < REUSED:
            times = {"iat": now, "exp": now + LIFETIME, "jti": str(uuid.uuid4())}
            claims = {"application_id": self.credential.application_id, **times}
            signed = ".".join(urlsafe(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
            signature = load_key(self.credential.private_key).sign(signed.encode(), PKCS1v15(), SHA256())
            self.kept, self.made = f"Bearer {signed}.{urlsafe(signature)}", now
        return self.kept


def check(request: WebhookRequest, credential: VonageCredential, now: float | None = None) -> None:
    """Return if ``request`` has a token of Vonage's for this application and this body, else raise.

    Of a GET the query would be hashed, in a form that two documents describe in two ways: our webhooks are POSTs.
    """
    claims = verified(request.bearer(), credential.signature_secret.get_secret_value())
    if claims.get("iss") != "Vonage" or claims.get("api_key") != credential.api_key.get_secret_value():
        raise SignatureInvalid("vonage webhook: the token is of another account or issuer")
    if claims.get("application_id", credential.application_id) != credential.application_id:
        raise SignatureInvalid("vonage webhook: the token is of another application")
    issued = claims.get("iat")
    if not isinstance(issued, int | float) or not abs((time.time() if now is None else now) - issued) <= TOLERANCE:
        raise SignatureInvalid("vonage webhook: the token is too old, or our clock is wrong")
    expected = hashlib.sha256(request.body).hexdigest().encode()
    if not hmac.compare_digest(expected, str(claims.get("payload_hash")).lower().encode()):
        raise SignatureInvalid("vonage webhook: the token was made for another body; webhooks must be sent by POST")


def verified(token: str, secret: str) -> dict[str, Any]:
    """The claims of a token that was signed with HS256 and nothing else."""
    try:
        head, claims, signature = token.split(".")
        mac = hmac.digest(secret.encode(), f"{head}.{claims}".encode(), "sha256")
        if hmac.compare_digest(mac, decoded(signature)) and json.loads(decoded(head))["alg"] == "HS256":
            return dict(json.loads(decoded(claims)))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise SignatureInvalid("vonage webhook: no token signed with signature_secret; are signed webhooks switched on?")


def decoded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def urlsafe(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
