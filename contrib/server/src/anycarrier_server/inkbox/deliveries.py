"""``/webhooks/deliveries``: every POST we made to a receiver, and making one again."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from anycarrier_server.domain import subscriptions
from anycarrier_server.domain.refusals import CallOver
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.access import organization
from anycarrier_server.inkbox.shapes import API, Given, Id, Moment, Shown, Uuid, YesOrNo
from anycarrier_server.store import parse_id
from anycarrier_server.store.models import Subscription
from anycarrier_server.store.webhooks import Logged

ROOT = f"{API}/webhooks/deliveries"
INCOMING = "phone.incoming_call"


class DeliveriesAsked(Given):
    """Which deliveries. ``phone_number_id`` finds a number's incoming-call webhooks."""

    subscription_id: Id | None = None
    phone_number_id: Id | None = None
    event_type: str | None = Field(default=None, max_length=64)
    success: YesOrNo | None = None
    limit: int = Field(default=50, ge=1, le=200)
    offset: int = Field(default=0, ge=0, le=10_000_000)


class DeliveryShown(Shown):
    """One POST. ``request_payload`` is what was sent, byte for byte."""

    id: Uuid
    organization_id: str
    webhook_subscription_id: Uuid | None
    phone_number_id: Uuid | None
    event_id: str
    event_type: str
    url: str
    request_payload: str
    response_status: int | None
    response_body: str | None
    error_detail: str | None
    duration_ms: int | None
    is_replay: bool
    replayable: bool
    replay_unavailable_reason: str | None
    created_at: Moment


class DeliveryList(Shown):
    """A page."""

    deliveries: list[DeliveryShown]


def delivery_shown(logged: Logged, subscription: Subscription | None) -> DeliveryShown:
    """One line of the log."""
    attempt, delivery = logged.attempt, logged.delivery
    why = None
    if delivery.subscription_id is None:
        why = "incoming_call" if delivery.event_type == INCOMING else "no_subscription"
    elif subscription is None:
        why = "subscription_deleted"
    elif delivery.event_type not in subscription.events:
        why = "event_type_unsubscribed"
    return DeliveryShown(
        id=attempt.id,
        organization_id=organization(attempt.workspace_id),
        webhook_subscription_id=delivery.subscription_id,
        phone_number_id=delivery.line_id if delivery.subscription_id is None else None,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        url=delivery.url,
        request_payload=delivery.body,
        response_status=attempt.response_status,
        response_body=attempt.response_body,
        error_detail=attempt.error_detail,
        duration_ms=attempt.duration_ms,
        is_replay=attempt.is_replay,
        replayable=why is None,
        replay_unavailable_reason=why,
        created_at=attempt.created_at,
    )


async def every(asked: Asked[None, DeliveriesAsked]) -> DeliveryList:
    """The log, newest first."""
    query, service = asked.query, asked.service
    which: dict[str, Any] = {"event_type": query.event_type, "success": query.success}
    if query.subscription_id is not None:
        which["subscription_id"] = parse_id("subscription", query.subscription_id)
    if query.phone_number_id is not None:
        which["line_id"] = parse_id("line", query.phone_number_id)
        which["event_type"] = INCOMING
    unreadable = (which.get("subscription_id", "") is None) or (which.get("line_id", "") is None)
    if unreadable or query.event_type not in (None, which["event_type"]):
        return DeliveryList(deliveries=[])
    found = await subscriptions.deliveries(
        service, asked.caller, face="inkbox", limit=query.limit, offset=query.offset, **which
    )
    live = {one.id: one for one in await service.store.webhooks.list(asked.caller.workspace_id, face="inkbox")}
    return DeliveryList(
        deliveries=[
            delivery_shown(line, live.get(line.delivery.subscription_id) if line.delivery.subscription_id else None)
            for line in found
        ]
    )


async def replay(asked: Asked[None, None]) -> DeliveryShown:
    """Send it again: same body and event id, signed anew."""
    service, workspace = asked.service, asked.caller.workspace_id
    before = await service.store.webhooks.logged(workspace, parse_id("delivery", asked.path["delivery_id"]))
    subscription = None
    if before is not None and before.delivery.subscription_id is not None:
        subscription = await service.store.webhooks.get(workspace, before.delivery.subscription_id)
        if subscription is not None and before.delivery.event_type not in subscription.events:
            raise CallOver(f"the subscription no longer hears of {before.delivery.event_type}")
    sent = await subscriptions.replay(service, asked.caller, asked.path["delivery_id"])
    return delivery_shown(sent, subscription)


ENDPOINTS = [
    Endpoint("GET", ROOT, every, "What was sent", query=DeliveriesAsked, answer=DeliveryList),
    Endpoint("POST", f"{ROOT}/{{delivery_id}}/replay", replay, "Send it again", answer=DeliveryShown,
             refusals=(403, 404, 409)),
]  # fmt: skip
