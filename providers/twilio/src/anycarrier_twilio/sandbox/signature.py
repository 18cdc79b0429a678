"""How the carrier signs what it sends, after its security page: HMAC-SHA1 of URL and form, in base64."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable


def signed_text(url: str, params: Iterable[tuple[str, str]]) -> str:
    """What the signature covers: the URL, then keys and values sorted by key, a repeated key's values once each."""
    values: dict[str, set[str]] = {}
    for key, value in params:
        values.setdefault(key, set()).add(value)
    return url + "".join(key + value for key in sorted(values) for value in sorted(values[key]))


def signature(token: str, url: str, params: Iterable[tuple[str, str]] = ()) -> str:
    """The ``X-Twilio-Signature`` header for a request to ``url`` with a form of ``params`` (none for GET)."""
    digest = hmac.new(token.encode(), signed_text(url, params).encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()
