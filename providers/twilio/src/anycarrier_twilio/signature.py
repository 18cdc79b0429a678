"""Twilio's signatures: HMAC-SHA1 over the public URL and the form, keyed with the account's auth token.

:func:`check` says whether a webhook is Twilio's; :func:`sign` signs as Twilio does, in the sandbox or in a program that
is Twilio to somebody else's. https://www.twilio.com/docs/usage/security

Twilio signs the URL as it was configured, but is not consistent about a port: the URL is tried as given, and with its
port dropped or spelled out. There is no timestamp, so a replay carries a good signature: the exchange keeps those out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit, urlunsplit

from anycarrier.errors import MalformedMessage, SignatureInvalid
from anycarrier.webhooks import WebhookRequest

__all__ = ["check", "sign"]


def check(request: WebhookRequest, *auth_tokens: str) -> None:
    """Return if ``request`` was signed with one of ``auth_tokens``, else raise ``SignatureInvalid``."""
    if not auth_tokens or not all(auth_tokens):
        raise SignatureInvalid("no auth token to check the webhook with: set auth_token in the credential")
    given = request.header("x-twilio-signature")
    if not given:
        raise SignatureInvalid("the request carries no X-Twilio-Signature")
    try:
        pairs, urls = _signed_pairs(request), _urls(request.url)
    except (MalformedMessage, ValueError):  # whose texts may quote what was sent
        raise SignatureInvalid("the form or the URL that was signed cannot be read") from None
    expected = [sign(url, pairs, auth_token).encode() for url in urls for auth_token in auth_tokens]
    # No early exit: every candidate is compared, each in constant time.
    fits = [hmac.compare_digest(each, given.encode("utf-8", "replace")) for each in expected]
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
    kind = (request.header("content-type") or "").split(";")[0].strip().lower()
    if kind in ("", "application/x-www-form-urlencoded"):
        return request.form_items()
    if request.body:
        promised = parse_qs(urlsplit(request.url).query).get("bodySHA256", [""])[0]
        if not hmac.compare_digest(hashlib.sha256(request.body).hexdigest().encode(), promised.lower().encode()):
            raise SignatureInvalid("the body is not the one the URL's bodySHA256 vouches for")
    return []


def _urls(url: str) -> tuple[str, str]:
    url = url.split("#", 1)[0]  # connection overrides in the fragment are not part of the request
    parts = urlsplit(url)
    if parts.port is None:
        usual = 443 if parts.scheme in ("https", "wss") else 80
        return url, urlunsplit(parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:{usual}"))
    return url, urlunsplit(parts._replace(netloc=parts.netloc.rpartition(":")[0]))
