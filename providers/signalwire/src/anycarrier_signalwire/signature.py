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
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit, urlunsplit

from anycarrier.errors import MalformedMessage, SignatureInvalid
from anycarrier.webhooks import WebhookRequest

HEADERS = ("x-signalwire-signature", "x-twilio-signature", "x-signalwire-sha256-signature")
FORM = "application/x-www-form-urlencoded"
SHAPE = re.compile(r"[A-Za-z0-9+/]{27}=|[0-9a-f]{40}|[0-9a-f]{64}")
LONGEST = 65_536
"""Bytes of a body. Webhooks have two thousand."""


def check(request: WebhookRequest, *keys: str) -> None:
    """Return if ``request`` was signed with one of ``keys``, else raise ``SignatureInvalid``."""
    if not keys or not all(keys):
        raise SignatureInvalid("no key to check the webhook with: set signing_key in the credential")
    given = [value.encode() for name in HEADERS if SHAPE.fullmatch(value := request.header(name) or "")]
    if not given or len(request.body) > LONGEST:  # before a stranger's body costs anything
        raise SignatureInvalid("the request carries no X-SignalWire-Signature, or more than any webhook holds")
    try:
        texts = list(_signed(request))
    except (MalformedMessage, ValueError):
        raise SignatureInvalid("what was signed cannot be read: the URL, or the form") from None
    made = [sign(text, key, scheme) for text, scheme in texts for key in keys]
    # No early exit: every candidate is compared, each in constant time.
    if not sum(hmac.compare_digest(each, value) for each in made for value in given):
        raise SignatureInvalid(
            "X-SignalWire-Signature does not fit. Check signing_key, and that public_url is exactly what SignalWire "
            "was given"
        )


def sign(text: bytes, key: str, scheme: str) -> bytes:
    """The signature of ``text`` by ``scheme``: ``form`` (base64), ``sha1`` or ``sha256`` (both hexadecimal)."""
    made = hmac.digest(key.encode(), text, "sha1" if scheme == "form" else scheme)
    return base64.b64encode(made) if scheme == "form" else made.hex().encode()


def _signed(request: WebhookRequest) -> Iterator[tuple[bytes, str]]:
    """What may have been signed, each with the scheme."""
    for url in _urls(request.url):
        here = url.encode("utf-8", "replace")
        yield here + request.body, "sha1"
        yield here + request.body, "sha256"
        if request.method.upper() == "GET":
            yield here, "form"
        elif (request.header("content-type") or FORM).split(";")[0].strip().lower() == FORM:
            pairs = request.form_items()
            # The vendor's validator keeps the order of a repeated key's values; its older one sorts and drops repeats.
            for ordered in (sorted(pairs, key=lambda pair: pair[0]), sorted(set(pairs))):
                yield here + "".join(name + value for name, value in ordered).encode("utf-8", "replace"), "form"
        elif hashlib.sha256(request.body).hexdigest() in parse_qs(urlsplit(url).query).get("bodySHA256", []):
            yield here, "form"  # a body that the URL does not vouch for is not signed by this scheme at all


def _urls(url: str) -> Iterator[str]:
    """The URL as given, and with or without its scheme's port; each without a login in it, too."""
    parts = urlsplit(url.split("#", 1)[0])
    host, usual = parts.netloc.removesuffix(":"), 443 if parts.scheme in ("https", "wss") else 80
    other = f"{host}:{usual}" if parts.port is None else host.rpartition(":")[0]
    for name in dict.fromkeys(each for named in (parts.netloc, other) for each in (named, named.rpartition("@")[2])):
        yield urlunsplit(parts._replace(netloc=name))
