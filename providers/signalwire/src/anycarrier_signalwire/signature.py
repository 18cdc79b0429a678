"""SignalWire's signatures: HMAC over the public URL and what was posted to it, keyed with the project's signing key.

Two schemes go by one header name. Form posts are signed as base64 of SHA-1 over the URL and the sorted form; other
bodies as hexadecimal SHA-1 over the URL and the raw body, or with that URL's ``bodySHA256`` vouching for the body. A
second header has the hexadecimal SHA-256. No timestamp is signed, so a replay carries a good signature: keeping those
out is the exchange's work. Which header comes on which webhook is documented for some only, so each is taken on any.
https://developer.signalwire.com/platform/basics/security/webhook-security
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import parse_qs, urlsplit, urlunsplit

from anycarrier.errors import MalformedMessage, SignatureInvalid
from anycarrier.webhooks import WebhookRequest

__all__ = ["check", "sign", "sign_body"]

HEADERS = ("x-signalwire-signature", "x-twilio-signature")
SHA256_HEADER = "x-signalwire-sha256-signature"
FORM = "application/x-www-form-urlencoded"
Pairs = Sequence[tuple[str, str]]


def check(request: WebhookRequest, *keys: str) -> None:
    """Return if ``request`` was signed with one of ``keys``, else raise ``SignatureInvalid``."""
    if not keys or not all(keys):
        raise SignatureInvalid("no key to check the webhook with: set signing_key in the credential")
    given = [value.encode("utf-8", "replace") for name in HEADERS if (value := request.header(name))]
    given256 = [value.encode("utf-8", "replace") for value in [request.header(SHA256_HEADER)] if value]
    if not given and not given256:
        raise SignatureInvalid("the request carries no X-SignalWire-Signature")
    forms = _signed_forms(request)
    # No early exit: every candidate is compared, each in constant time.
    fits = [
        hmac.compare_digest(expected.encode(), value)
        for url in _urls(request.url)
        for key in keys
        for expected in (*(sign(url, pairs, key) for pairs in forms), sign_body(url, request.body, key))
        for value in given
    ]
    fits += [
        hmac.compare_digest(sign_body(url, request.body, key, hashlib.sha256).encode(), value)
        for url in _urls(request.url)
        for key in keys
        for value in given256
    ]
    if not any(fits):
        raise SignatureInvalid(
            "X-SignalWire-Signature does not fit. Check signing_key, and that public_url is exactly what SignalWire "
            "was given"
        )


def sign(url: str, pairs: Iterable[tuple[str, str]], key: str) -> str:
    """The signature of a form post: of a repeated key, the values in the order they were posted."""
    text = url + "".join(name + value for name, value in sorted(pairs, key=lambda pair: pair[0]))
    return base64.b64encode(hmac.digest(key.encode(), text.encode("utf-8", "replace"), hashlib.sha1)).decode()


def sign_body(url: str, body: bytes, key: str, digest: object = hashlib.sha1) -> str:
    """The signature of any other body, as it was posted."""
    return hmac.digest(key.encode(), url.encode("utf-8", "replace") + body, digest).hex()  # type: ignore[arg-type]


def _signed_forms(request: WebhookRequest) -> list[Pairs]:
    """What the form scheme may have signed besides the URL; nothing at all for a body that nobody vouches for."""
    if request.method.upper() == "GET":
        return [()]
    kind = (request.header("content-type") or FORM).split(";")[0].strip().lower()
    if kind == FORM:
        try:
            pairs = request.form_items()
        except (MalformedMessage, ValueError) as problem:
            raise SignatureInvalid(f"the signed form cannot be read: {problem}") from None
        # The order of a repeated key's values is kept by the vendor's validator; its older one sorts and drops repeats.
        return [pairs, sorted(set(pairs))]
    try:
        promised = parse_qs(urlsplit(request.url).query).get("bodySHA256", [""])[0]
    except ValueError:
        raise SignatureInvalid("the URL cannot be read") from None
    vouched = hmac.compare_digest(hashlib.sha256(request.body).hexdigest(), promised.lower())
    return [()] if vouched else []


def _urls(url: str) -> Iterator[str]:
    """The URL as given, without and with its scheme's port, and each without a login in it."""
    try:
        parts = urlsplit(url.split("#", 1)[0])
        port = parts.port
    except ValueError:
        raise SignatureInvalid("the URL cannot be read") from None
    usual = 443 if parts.scheme in ("https", "wss") else 80
    host = parts.netloc.removesuffix(":")
    other = f"{host}:{usual}" if port is None else host.rpartition(":")[0]
    hosts = [parts.netloc, other]
    hosts += [name.rpartition("@")[2] for name in hosts if "@" in name]
    for name in hosts:
        yield urlunsplit(parts._replace(netloc=name))
