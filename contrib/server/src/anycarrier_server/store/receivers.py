"""Who hears of an event, and what is written down to be sent to them. No database here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from anycarrier_server.store.models import CallRow, OutboxEvent


class Wanting(Protocol):
    """Of a subscription, what decides who is told."""

    id: UUID
    agent_id: UUID | None
    line_id: UUID | None
    face: str
    url: str
    events: Sequence[str]


@dataclass(frozen=True, slots=True)
class Addressed:
    """One event for one receiver, before its body is written. ``subscription`` is None for a call's own URL."""

    event: OutboxEvent
    call: CallRow | None
    subscription: Wanting | None
    url: str


def receivers(event: OutboxEvent, call: CallRow | None, subscriptions: Sequence[Wanting]) -> list[Addressed]:
    """Of the workspace's subscriptions, those an event may concern; a call's own URL last, for it need not hear what a
    subscription there does."""
    found: list[Addressed] = []
    for one in subscriptions:
        if one.agent_id is not None and (call is None or call.agent_id != one.agent_id):
            continue
        if one.line_id is not None and (call is None or call.line_id != one.line_id):
            continue
        found.append(Addressed(event, call, one, one.url))
    if call is not None and call.webhook_url:
        found.append(Addressed(event, call, None, call.webhook_url))
    return found


def delivery(receiver: Addressed, written: tuple[str, str, str], now: datetime) -> dict[str, Any]:
    face, event_type, body = written
    call, subscription, event = receiver.call, receiver.subscription, receiver.event
    return {
        "workspace_id": event.workspace_id,
        "subscription_id": subscription.id if subscription is not None else None,
        "line_id": call.line_id if call is not None else None,
        "agent_id": call.agent_id if call is not None else None,
        "call_id": event.call_id,
        "face": face,
        "lane": f"subscription:{subscription.id.hex}" if subscription is not None else f"call:{event.call_id}",
        "receiver": _slow_as_one(receiver),
        "event_id": event.public_id,
        "event_type": event_type,
        "url": receiver.url,
        "body": body,
        "status": "pending",
        "attempts": 0,
        "next_at": now,
        "created_at": now,
    }


def _slow_as_one(receiver: Addressed) -> str:
    if receiver.subscription is not None:
        return f"subscription:{receiver.subscription.id.hex}"
    # Calls bring URLs of their own, each with a path of its own perhaps: what they share is the host.
    return f"host:{receiver.event.workspace_id.hex}:{urlsplit(receiver.url).netloc.lower()}"
