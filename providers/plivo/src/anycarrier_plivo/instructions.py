"""Plivo XML: what we answer to a webhook that asks what to do with a call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from anycarrier.calls import StreamTarget
from anycarrier.errors import UnsupportedOperation
from anycarrier.markup import Markup, document, element
from anycarrier.sip import destination, is_sip
from anycarrier.webhooks import WebhookReply
from anycarrier_plivo.frames import CONTENT_TYPES

MOST_CUSTOM = 512


def respond(*elements: Markup) -> WebhookReply:
    return WebhookReply(body=document(element("Response", {}, *elements)).encode(), content_type="application/xml")


def hang_up(reason: str | None = None) -> Markup:
    return element("Hangup", {"reason": reason})  # busy, rejected: declines, as the first element


def stream(operation: str, target: StreamTarget, status_url: str | None) -> Markup:
    """Connect the call's audio both ways. ``keepCallAlive``: without it the call ends at once."""
    custom, kind = pairs(target.custom), CONTENT_TYPES.get(target.format)
    if kind is None or len(custom) > MOST_CUSTOM:
        able = f"its streams are PCMU at 8 kHz or L16 at 8, 16 or 24, with {MOST_CUSTOM} bytes of custom values"
        raise UnsupportedOperation("plivo", operation, able)
    options = {"bidirectional": True, "keepCallAlive": True, "streamTimeout": 86_400, "statusCallbackUrl": status_url}
    options |= {"contentType": f"{kind};rate={target.format.rate}", "extraHeaders": custom or None}
    return element("Stream", options, target.url)


def dial(to: str, caller_id: str | None, status_url: str | None, headers: str | None = None) -> Markup:
    """Ring ``to`` and connect it; ``status_url`` is told when it answers, and asked how to go on when it is over."""
    to = destination(to)
    party = element("User", {"sipHeaders": headers}, to) if is_sip(to) else element("Number", {}, to)
    return element("Dial", {"callerId": caller_id, "action": status_url, "callbackUrl": status_url}, party)


def pairs(values: Mapping[str, str]) -> str:
    """``k=v,k=v``, each part percent-encoded: Plivo gives them back with another separator."""
    return ",".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in values.items())


def sip_headers(operation: str, headers: Mapping[str, str] | None) -> str:
    """Of headers named ``X-PH-Name``: Plivo puts X-PH- before all that it sends."""
    if not all(re.fullmatch(r"(?i:X-PH-)[A-Za-z0-9]{1,24}", name) for name in headers or {}):
        raise UnsupportedOperation("plivo", operation, "its headers are named X-PH- and letters or digits")
    return pairs({name[5:]: value for name, value in (headers or {}).items()})
