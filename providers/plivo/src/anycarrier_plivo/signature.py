"""Plivo's signature of a webhook, version 3: it covers the URL, every parameter and a nonce, and no time.

Version 2 covers no parameter and is never accepted. https://www.plivo.com/docs/voice/concepts/signature-validation
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest

NONCE = "x-plivo-signature-v3-nonce"
SIGNATURES = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")
"""The second is made with the main account's token, where the number belongs to a sub-account."""


def sign(auth_token: str, nonce: str, url: str, form: Iterable[tuple[str, str]] = ()) -> str:
    """The signature of a request to ``url``, as its receiver knows it, with the pairs of a posted form."""
    parts = urlsplit(url)
    query = "&".join("=".join(pair) for pair in sorted(parse_qsl(parts.query, keep_blank_values=True)))
    posted = "".join(key + value for key, value in sorted(form))
    told = f"?{query}{'.' if query and posted else ''}{posted}" if query or posted else ""
    signed = f"{parts.scheme}://{parts.netloc}{parts.path}{told}.{nonce}"
    return base64.b64encode(hmac.digest(auth_token.encode(), signed.encode(), "sha256")).decode()


def check(request: WebhookRequest, auth_token: str) -> None:
    """Return if ``request`` was signed with ``auth_token``, else raise ``SignatureInvalid``."""
    form = request.form_items() if request.method.upper() == "POST" else ()
    expected = sign(auth_token, request.header(NONCE) or "", request.url, form).encode()
    given = [one.strip().encode() for name in SIGNATURES for one in (request.header(name) or "").split(",")]
    if not any([hmac.compare_digest(expected, one) for one in given]):  # noqa: C419  as many steps for each
        raise SignatureInvalid("plivo webhook: the V3 signature is missing or wrong; check auth_token and public_url")
