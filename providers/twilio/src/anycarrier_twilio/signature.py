"""Twilio's signatures: HMAC-SHA1 over the public URL and the form, keyed with the account's auth token.

:func:`check` says whether a webhook is Twilio's; :func:`sign` signs as Twilio does, in the sandbox or in a program that
is Twilio to somebody else's. https://www.twilio.com/docs/usage/security

Twilio signs the URL as it was configured, host case and query untouched, but is not consistent about a port: the URL
is tried as given, without its port, and with the port of its scheme spelled out. There is no timestamp in the
signature, so a replay carries a good one: keeping those out is the exchange's work.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qs, urlsplit, urlunsplit

from anycarrier.errors import MalformedMessage, SignatureInvalid
from anycarrier.webhooks import WebhookRequest

__all__ = ["check", "sign"]

HEADER = "x-twilio-signature"
FORM = "application/x-www-form-urlencoded"


def check(request: WebhookRequest, *auth_tokens: str) -> None:
    """Return if ``request`` was signed with one of ``auth_tokens``, else raise ``SignatureInvalid``."""
    if not auth_tokens or not all(auth_tokens):
        raise SignatureInvalid("no auth token to check the webhook with: set auth_token in the credential")
    given = request.header(HEADER)
    if not given:
        raise SignatureInvalid("the request carries no X-Twilio-Signature")
    pairs = _signed_pairs(request)
    sent = given.encode("utf-8", "replace")
    # No early exit: every candidate is compared, each in constant time.
    fits = [
        hmac.compare_digest(sign(url, pairs, auth_token).encode(), sent)
        for url in _urls(request.url)
        for auth_token in auth_tokens
    ]
    if not any(fits):
        raise SignatureInvalid(
            "X-Twilio-Signature does not fit. Check auth_token, and that public_url is exactly what Twilio was given"
        )


def sign(url: str, pairs: Iterable[tuple[str, str]], auth_token: str) -> str:
    """The ``X-Twilio-Signature`` of a request to ``url``, as its receiver knows it, whose form has these ``pairs``.

    No pairs for a GET and for a WebSocket's handshake; of a key that is repeated, each value counts once.
    """
    text = url + "".join(key + value for key, value in sorted(set(pairs)))
    return base64.b64encode(hmac.digest(auth_token.encode(), text.encode("utf-8", "replace"), hashlib.sha1)).decode()


def _signed_pairs(request: WebhookRequest) -> list[tuple[str, str]]:
    """The form of a form post; nothing for the rest, whose body must then be vouched for by the URL's bodySHA256."""
    if request.method.upper() == "GET":
        return []
    kind = (request.header("content-type") or FORM).split(";")[0].strip().lower()
    if kind == FORM:
        try:
            return request.form_items()
        except (MalformedMessage, ValueError) as problem:
            raise SignatureInvalid(f"the signed form cannot be read: {problem}") from None
    if request.body:
        try:
            promised = parse_qs(urlsplit(request.url).query).get("bodySHA256", [""])[0]
        except ValueError:
            raise SignatureInvalid("the URL cannot be read") from None
        if not hmac.compare_digest(hashlib.sha256(request.body).hexdigest(), promised.lower()):
            raise SignatureInvalid("the body is not the one the URL's bodySHA256 vouches for")
    return []


def _urls(url: str) -> Iterator[str]:
    url = url.split("#", 1)[0]  # connection overrides in the fragment are not part of the request
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SignatureInvalid("the URL cannot be read") from None
    yield url
    usual = 443 if parts.scheme in ("https", "wss") else 80
    if port is None:
        yield urlunsplit(parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:{usual}"))
    else:
        yield urlunsplit(parts._replace(netloc=parts.netloc.rpartition(":")[0]))
