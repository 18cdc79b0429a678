"""Plivo's webhooks: what is common to all, and the signatures. Written from Plivo's documents, not from the adapter."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from anycarrier.testing.sandbox import Delivery

FORM = "application/x-www-form-urlencoded"


def webhook(kind: str, call_id: str, method: str, url: str, fields: Mapping[str, str]) -> Delivery:
    """Unsigned. By GET, Plivo merges its fields with the query of the URL and sorts them all."""
    sent, fragment = urlsplit(url), ""
    if method == "GET":
        merged = sorted([*parse_qsl(sent.query, keep_blank_values=True), *fields.items()])
        return Delivery(kind, call_id, "GET", urlunsplit(sent._replace(query=urlencode(merged), fragment=fragment)),
                        params=dict(fields))  # fmt: skip
    body = urlencode(fields).encode()
    return Delivery(kind, call_id, "POST", urlunsplit(sent._replace(fragment=fragment)),
                    {"content-type": FORM}, body, dict(fields))  # fmt: skip


def signed(delivery: Delivery, token: str, main_token: str) -> Delivery:
    nonce = str(secrets.randbelow(10**20)).rjust(20, "1")
    form = parse_qsl(delivery.body.decode(), keep_blank_values=True)
    made = {
        "x-plivo-signature-v3-nonce": nonce,
        "x-plivo-signature-v3": version_3(token, nonce, delivery.method, delivery.url, form),
        "x-plivo-signature-ma-v3": version_3(main_token, nonce, delivery.method, delivery.url, form),
        "x-plivo-signature-v2-nonce": nonce,
        "x-plivo-signature-v2": version_2(token, nonce, delivery.url),
        "x-plivo-signature-ma-v2": version_2(main_token, nonce, delivery.url),
    }
    return delivery.again(headers={**delivery.headers, **made})


def version_3(token: str, nonce: str, method: str, url: str, form: list[tuple[str, str]]) -> str:
    where = urlsplit(url)
    base = f"{where.scheme}://{where.netloc}{where.path}"
    query = _in_order(parse_qsl(where.query, keep_blank_values=True))
    if method == "GET":
        told = "&".join(f"{key}={value}" for key, value in [*query, *_in_order(form)])
        base += f"?{told}" if told else ""
    elif query or form:
        base += "?" + "&".join(f"{key}={value}" for key, value in query)
        base += ("." if query and form else "") + "".join(f"{key}{value}" for key, value in _in_order(form))
    return _mac(token, f"{base}.{nonce}")


def version_2(token: str, nonce: str, url: str) -> str:
    """Covers no parameter: sent along, as Plivo does, and to be believed by nobody."""
    where = urlsplit(url)
    return _mac(token, f"{where.scheme}://{where.netloc}{where.path}{nonce}")


def _in_order(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    values: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return [(key, value) for key in sorted(values) for value in sorted(values[key])]


def _mac(token: str, text: str) -> str:
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha256).digest()).decode()
