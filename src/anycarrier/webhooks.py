"""HTTP without a framework: what a carrier posted to us, and what we answer."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from anycarrier.errors import MalformedMessage, SignatureInvalid


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One request from a carrier.

    ``url`` is the *public* URL the carrier was given (configured origin + path + query as sent), never one built
    from a Host header: carriers sign it. ``headers`` has lower-case names.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The header's value by lower-case name, None when it was not sent."""
        return self.headers.get(name.lower())

    def basic_login(self) -> tuple[str, str]:
        """User and password of ``Authorization: Basic``; both "" when there is none."""
        return basic_login(self.header("authorization") or "")

    def bearer(self) -> str:
        """The token of ``Authorization: Bearer``; "" when there is none."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def form(self) -> dict[str, str]:
        """The posted form, or the query of a GET. Blank values are kept; of a repeated key the last wins."""
        return dict(self.form_items())

    def form_items(self) -> list[tuple[str, str]]:
        """Every pair of the form, blanks and repeats kept: signatures cover them."""
        text: str
        if self.method.upper() == "GET":
            text = urlsplit(self.url).query
        else:
            try:
                text = self.body.decode("utf-8")
            except UnicodeDecodeError:
                raise MalformedMessage("form body is not UTF-8", self.body) from None
        return list(_pairs(text))

    def query(self) -> dict[str, str]:
        """The URL's query, blanks kept."""
        return dict(_pairs(urlsplit(self.url).query))

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; anything else is a :class:`MalformedMessage`."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            raise MalformedMessage("body is not JSON", self.body) from None
        if not isinstance(value, dict):
            raise MalformedMessage("body is not a JSON object", self.body)
        return value

    def fields(self) -> dict[str, Any]:
        """What a webhook in JSON says: the object that was posted, or the query of a GET."""
        return dict(self.form()) if self.method.upper() == "GET" else self.json()


def with_query(url: str, more: Mapping[str, str | None]) -> str:
    """A URL of ours that a carrier is given, with ``more`` in its query: it comes back with the webhook.

    What is None or "" is left out; no URL stays none.
    """
    query = urlencode({name: value for name, value in more.items() if value})
    return f"{url}{'&' if '?' in url else '?'}{query}" if url and query else url


def basic_login(authorization: str) -> tuple[str, str]:
    """User and password of an ``Authorization`` header; both "" for what is no basic one."""
    scheme, _, given = authorization.partition(" ")
    try:
        user, _, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except ValueError:  # no base64, no ASCII, no UTF-8
        return "", ""
    return (user, password) if scheme.lower() == "basic" else ("", "")


def require_login(request: WebhookRequest, user: str | None, password: str | None) -> None:
    """For a carrier that signs nothing: return if ``request`` has this basic login, else raise ``SignatureInvalid``.

    Both are compared in constant time, and without one of them configured all requests are refused. The login vouches
    for the sender only: it covers neither body nor URL, so who learns it can say anything.
    """
    if not user or not password:
        raise SignatureInvalid("no login to check the webhook with: set it in the credential")
    given = request.basic_login()
    fits = [hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(given, (user, password), strict=True)]
    if not all(fits):
        raise SignatureInvalid("the webhook's login is missing or wrong: the carrier must be given the credential's")


@lru_cache(maxsize=8)  # one form is read by the signature check, by the parser, and by whoever else looks
def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(parse_qsl(text, keep_blank_values=True, max_num_fields=1000))
    except ValueError:
        raise MalformedMessage("more than 1,000 form fields", text[:200]) from None


@dataclass(frozen=True, slots=True)
class WebhookReply:
    """What the carrier gets back."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"
