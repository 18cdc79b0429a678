"""JSON Web Tokens both ways: ours for the REST API (RS256), Vonage's on webhooks (HS256)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

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
            claims = {"application_id": self.credential.application_id, "iat": now, "exp": now + LIFETIME}
            signed = encoded({"alg": "RS256", "typ": "JWT"}) + "." + encoded({**claims, "jti": str(uuid.uuid4())})
            signature = load_key(self.credential.private_key).sign(signed.encode(), PKCS1v15(), SHA256())
            self.kept, self.made = f"Bearer {signed}.{urlsafe(signature)}", now
        return self.kept


def check(request: WebhookRequest, credential: VonageCredential, now: float | None = None) -> None:
    """Return if ``request`` has a token of Vonage's for this application and these contents, else raise."""
    claims = verified(request.bearer(), credential.signature_secret.get_secret_value())
    if claims.get("iss") != "Vonage" or claims.get("api_key") != credential.api_key.get_secret_value():
        raise SignatureInvalid("vonage webhook: the token is of another account or issuer")
    if claims.get("application_id", credential.application_id) != credential.application_id:
        raise SignatureInvalid("vonage webhook: the token is of another application")
    issued = claims.get("iat")
    if not isinstance(issued, int | float) or not abs((time.time() if now is None else now) - issued) <= TOLERANCE:
        raise SignatureInvalid("vonage webhook: the token is too old, or our clock is wrong")
    given = str(claims.get("payload_hash")).lower().encode()
    if not any(hmac.compare_digest(given, hashlib.sha256(part).hexdigest().encode()) for part in hashed(request)):
        raise SignatureInvalid("vonage webhook: the token was made for other contents")


def hashed(request: WebhookRequest) -> list[bytes]:
    """What the hash may be of: the body as it came; for GET the query, as JSON or as it came."""
    if request.body or request.method != "GET":
        return [request.body]
    as_json = json.dumps(request.query(), separators=(",", ":"), ensure_ascii=False)
    return [as_json.encode(), urlsplit(request.url).query.encode()]


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
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def encoded(part: dict[str, Any]) -> str:
    return urlsafe(json.dumps(part, separators=(",", ":")).encode())


def urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
