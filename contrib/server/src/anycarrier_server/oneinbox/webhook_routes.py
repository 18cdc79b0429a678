"""``/v1/webhooks``: who hears of calls, what they were sent, and sending it again."""

from __future__ import annotations

import json
from typing import Any, Literal
from uuid import uuid4

from pydantic import Field

from anycarrier_server.domain import manage_subscriptions
from anycarrier_server.encryption import new_signing_key
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.call_bodies import stamp
from anycarrier_server.oneinbox.shapes import Listing, Moment, Name, Sent, Shown, Slice, Url, cut
from anycarrier_server.refusals import Unknown
from anycarrier_server.store import parse_id, public_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Subscription
from anycarrier_server.store.webhooks import Logged

FACE = "oneinbox"

Event = Literal[
    "call.started",
    "call.ended",
    "call.analyzed",
    "call.failed",
    "call.recording.available",
    "transcript.partial",
    "transcript.final",
]


class WebhookSent(Sent):
    """Where to send which events."""

    name: Name
    url: Url
    events: list[Event] = Field(min_length=1, max_length=20)


class WebhookChange(Sent):
    """What to change; keys not given (or null) stay. ``paused`` webhooks are sent nothing."""

    name: Name | None = None
    url: Url | None = None
    events: list[Event] | None = Field(default=None, min_length=1, max_length=20)
    status: Literal["active", "paused"] | None = None


class WebhookShown(Shown):
    """A webhook. ``secret`` signs what it is sent, and is shown once, when the webhook is made."""

    id: str
    name: str
    url: str
    events: list[str]
    secret: str | None
    status: str
    created_at: Moment
    updated_at: Moment


class DeliveryShown(Shown):
    """One POST we made, and what came of it. ``payload`` is the body as it was sent."""

    id: str
    webhook_id: str | None
    call_id: str | None
    event: str
    event_id: str
    url: str
    success: bool
    status_code: int | None
    response_body: str | None
    error: str | None
    duration_ms: int | None
    is_replay: bool
    payload: str
    created_at: Moment


class DeliveriesShown(Shown):
    """POSTs, newest first."""

    items: list[DeliveryShown]
    has_more: bool
    limit: int
    offset: int


class TestShown(Shown):
    """What the receiver answered."""

    ok: bool
    event_id: str
    status_code: int | None
    response_body: str | None
    error: str | None
    duration_ms: int | None


def webhook_shown(row: Subscription, secret: str | None = None) -> WebhookShown:
    """The row as this face shows it."""
    return WebhookShown(
        id=row.public_id,
        name=row.name,
        url=row.url,
        events=row.events,
        secret=secret,
        status=row.status,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def create_webhook(asked: Asked[WebhookSent, None]) -> WebhookShown:
    """Hear of all calls of the workspace. Keep the ``secret``: it is not shown again."""
    body, secret = asked.body, new_signing_key()
    row = await manage_subscriptions.create_subscription(
        asked.resources,
        asked.caller,
        face=FACE,
        url=body.url,
        name=body.name,
        events=list(dict.fromkeys(body.events)),
        secret=secret,
    )
    return webhook_shown(row, secret)


async def list_webhooks(asked: Asked[None, Slice]) -> Listing[WebhookShown]:
    """The workspace's webhooks, oldest first."""
    rows = await manage_subscriptions.list_subscriptions(asked.store, asked.caller, face=FACE)
    items = [webhook_shown(row) for row in cut(rows, asked.query)]
    return Listing(items=items, total=len(rows), limit=asked.query.limit, offset=asked.query.offset)


async def _webhook(asked: Asked[Any, Any]) -> Subscription:
    return await manage_subscriptions.get_subscription(asked.store, asked.caller, asked.path["webhook_id"], face=FACE)


async def get_webhook(asked: Asked[None, None]) -> WebhookShown:
    """One webhook."""
    return webhook_shown(await _webhook(asked))


async def change_webhook(asked: Asked[WebhookChange, None]) -> WebhookShown:
    """Send elsewhere, other events, or nothing for a while."""
    changes = asked.body.model_dump(exclude_none=True)
    return webhook_shown(
        await manage_subscriptions.change_subscription(asked.resources, asked.caller, await _webhook(asked), **changes)
    )


async def delete_webhook(asked: Asked[None, None]) -> None:
    """Send it nothing more."""
    await manage_subscriptions.delete_subscription(asked.store, asked.caller, await _webhook(asked))


async def test_webhook(asked: Asked[None, None]) -> TestShown:
    """Post a made-up event there now, signed as real ones are; it is in no log and is not retried."""
    row, event_id = await _webhook(asked), f"evt_{uuid4()}"
    sample = {"id": event_id, "event": "webhook.test", "webhook_id": row.public_id, "created_at": stamp(utc_now())}
    attempt = await asked.resources.sender.test(row, event_id, "webhook.test", json.dumps(sample))
    return TestShown(
        ok=attempt.success,
        event_id=event_id,
        status_code=attempt.response_status,
        response_body=attempt.response_body,
        error=attempt.error_detail,
        duration_ms=attempt.duration_ms,
    )


async def list_deliveries(asked: Asked[None, Slice]) -> DeliveriesShown:
    """What was sent there."""
    row, limit, offset = await _webhook(asked), asked.query.limit, asked.query.offset
    logged = await manage_subscriptions.list_deliveries(
        asked.store, asked.caller, subscription_id=row.id, limit=limit + 1, offset=offset
    )
    items = [_delivery(one) for one in logged[:limit]]
    return DeliveriesShown(items=items, has_more=len(logged) > limit, limit=limit, offset=offset)


async def list_deliveries_of_call(asked: Asked[None, Slice]) -> DeliveriesShown:
    """What was sent about a call, to webhooks and to its own ``webhook_url``, until an hour after its end."""
    limit, offset = asked.query.limit, asked.query.offset
    logged = await manage_subscriptions.list_deliveries_of_call(
        asked.store, asked.caller, asked.path["call_id"], face=FACE, limit=limit + 1, offset=offset
    )
    items = [_delivery(one) for one in logged[:limit]]
    return DeliveriesShown(items=items, has_more=len(logged) > limit, limit=limit, offset=offset)


async def replay_delivery(asked: Asked[None, None]) -> DeliveryShown:
    """Send it again: same body, same event id, signed anew."""
    row, wanted = await _webhook(asked), asked.path["delivery_id"]
    known = await asked.store.webhooks.logged(row.workspace_id, parse_id("delivery", wanted))
    if known is None or known.delivery.subscription_id != row.id:
        raise Unknown("delivery")
    return _delivery(await manage_subscriptions.replay_delivery(asked.resources, asked.caller, wanted))


def _delivery(logged: Logged) -> DeliveryShown:
    attempt, delivery = logged.attempt, logged.delivery
    of = delivery.subscription_id
    return DeliveryShown(
        id=public_id("delivery", attempt.id),
        webhook_id=public_id("subscription", of) if of is not None else None,
        call_id=public_id("call", delivery.call_id) if delivery.call_id is not None else None,
        event=delivery.event_type,
        event_id=delivery.event_id,
        url=delivery.url,
        success=attempt.success,
        status_code=attempt.response_status,
        response_body=attempt.response_body,
        error=attempt.error_detail,
        duration_ms=attempt.duration_ms,
        is_replay=attempt.is_replay,
        payload=delivery.body,
        created_at=attempt.created_at,
    )


WEBHOOKS = "/v1/webhooks"
WEBHOOK = WEBHOOKS + "/{webhook_id}"

ENDPOINTS = [
    Endpoint("POST", WEBHOOKS, create_webhook, "Hear of calls", WebhookSent, answer=WebhookShown, status=201,
             refusals=(403, 409, 413)),
    Endpoint("GET", WEBHOOKS, list_webhooks, "List webhooks", query=Slice, answer=Listing[WebhookShown]),
    Endpoint("GET", WEBHOOK, get_webhook, "Look at a webhook", answer=WebhookShown, refusals=(403, 404)),
    Endpoint("PATCH", WEBHOOK, change_webhook, "Change a webhook", WebhookChange, answer=WebhookShown, refusals=(403,
             404, 413)),
    Endpoint("DELETE", WEBHOOK, delete_webhook, "Remove a webhook", status=204, refusals=(403, 404)),
    Endpoint("POST", WEBHOOK + "/test", test_webhook, "Send a made-up event", answer=TestShown, refusals=(403, 404)),
    Endpoint("GET", WEBHOOK + "/deliveries", list_deliveries, "What was sent", query=Slice, answer=DeliveriesShown,
             refusals=(403, 404)),
    Endpoint("GET", "/v1/calls/{call_id}/deliveries", list_deliveries_of_call, "What was sent about a call",
             query=Slice,
             answer=DeliveriesShown, refusals=(403, 404)),
    Endpoint("POST", WEBHOOK + "/deliveries/{delivery_id}/replay", replay_delivery, "Send it again",
             answer=DeliveryShown,
             refusals=(403, 404, 409)),
]  # fmt: skip
