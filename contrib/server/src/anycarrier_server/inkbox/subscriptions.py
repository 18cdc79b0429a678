"""``/webhooks/subscriptions``: who is told of calls that ended; ``/webhooks/deliveries``: every POST made to a
receiver, and making one again. Lists are wrapped here, unlike elsewhere.

Of the contract's events only ``call.ended`` ever happens on this service; those of text messages may be subscribed to,
because the oldest clients can subscribe to nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from anycarrier_server.domain import manage_subscriptions
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.api_keys import organization
from anycarrier_server.inkbox.fields import API, Given, Id, Moment, Sent, Shown, Url, Uuid, YesOrNo
from anycarrier_server.refusals import CallOver, Invalid
from anycarrier_server.store import parse_id
from anycarrier_server.store.models import Subscription
from anycarrier_server.store.webhooks import Logged

SUBSCRIPTIONS = f"{API}/webhooks/subscriptions"
SUBSCRIPTION = SUBSCRIPTIONS + "/{subscription_id}"

Event = Literal[
    "call.ended", "text.received", "text.sent", "text.delivered", "text.delivery_failed", "text.delivery_unconfirmed"
]
Events = Annotated[list[Event], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
Token = Field(default=None, min_length=1, max_length=2048, pattern=r"^[!-~]+$")


class CountContext(Sent):
    """The last few of a kind."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["count"]
    count: int = Field(ge=1, le=50)


class WindowContext(Sent):
    """Those of the last hours."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["window"]
    hours: int = Field(ge=1, le=168)


Class = Annotated[CountContext | WindowContext, Field(discriminator="mode")] | None


class Context(Sent):
    """What a delivery should say of the past. Kept, and shown again; there is nothing to say of it here."""

    model_config = ConfigDict(extra="forbid")

    email: Class = None
    texts: Class = None
    calls: Class = None


class SubscriptionSent(Sent):
    """A URL and what it wants to hear; of exactly one owner."""

    url: Url
    event_types: Events
    agent_identity_id: Id | None = None
    phone_number_id: Id | None = None
    mailbox_id: Id | None = None
    context_config: Context | None = None
    auth_token: str | None = Token


class SubscriptionChange(Sent):
    """What to change; null clears the last two."""

    url: Url = ""
    event_types: Events = []
    context_config: Context | None = None
    auth_token: str | None = Token


class SubscriptionsAsked(Given):
    """Which subscriptions."""

    agent_identity_id: Id | None = None
    phone_number_id: Id | None = None
    mailbox_id: Id | None = None
    url: str | None = Field(default=None, max_length=2048)
    event_type: str | None = Field(default=None, max_length=64)
    scope: Literal["identity"] | None = None


class SubscriptionShown(Shown):
    """A subscription."""

    id: Uuid
    organization_id: str
    mailbox_id: None = None
    phone_number_id: Uuid | None
    agent_identity_id: Uuid | None
    owner_identity_id: Uuid | None
    url: str
    event_types: list[str]
    status: Literal["active"] = "active"
    context_config: dict[str, Any] | None
    has_auth_token: bool
    auth_token: str | None
    created_at: Moment
    updated_at: Moment


class SubscriptionMade(SubscriptionShown):
    """``signing_key`` is there when this made the identity's first one, and never again."""

    signing_key: str | None


class SubscriptionList(Shown):
    """All of them."""

    subscriptions: list[SubscriptionShown]


class Catalog(Shown):
    """What can be subscribed to."""

    supports_identity_subscriptions: bool = True
    event_types: list[str] = ["call.ended"]


async def _fields(asked: Asked[Any, Any], row: Subscription) -> dict[str, Any]:
    token = asked.store.webhooks.auth_token(row)
    return {
        "id": row.id,
        "organization_id": organization(row.workspace_id),
        "phone_number_id": row.line_id,
        "agent_identity_id": row.agent_id,
        "owner_identity_id": await manage_subscriptions.owner_of(asked.store, row),
        "url": row.url,
        "event_types": row.events,
        "context_config": row.context,
        "has_auth_token": token is not None,
        "auth_token": token,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _distinct(events: list[Event]) -> list[str]:
    if len(set(events)) != len(events):
        raise Invalid.field("event_types", "holds one twice")
    return list(events)


async def create_subscription(asked: Asked[SubscriptionSent, None]) -> SubscriptionMade:
    """Subscribe. An identity that has no signing key gets its first one, told here."""
    resources, caller, body = asked.resources, asked.caller, asked.body
    if body.mailbox_id is not None:
        raise Invalid.field("mailbox_id", "there are no mailboxes here")
    if (body.agent_identity_id is None) == (body.phone_number_id is None):
        raise Invalid.field("agent_identity_id", "give exactly one of agent_identity_id and phone_number_id")
    row = await manage_subscriptions.create_subscription(
        resources,
        caller,
        face="inkbox",
        url=body.url,
        events=_distinct(body.event_types),
        agent_id=body.agent_identity_id,
        line_id=body.phone_number_id,
        auth_token=body.auth_token,
        context=body.context_config.model_dump() if body.context_config is not None else None,
    )
    key = None
    if (owner := await manage_subscriptions.owner_of(resources.store, row)) is not None:
        text, fresh = await resources.store.webhooks.ensure_signing_key(caller.workspace_id, owner)
        key = text if fresh else None
    return SubscriptionMade(**await _fields(asked, row), signing_key=key)


async def list_subscriptions(asked: Asked[None, SubscriptionsAsked]) -> SubscriptionList:
    """Those the key may see."""
    query = asked.query
    rows = await manage_subscriptions.list_subscriptions(asked.store, asked.caller, face="inkbox", url=query.url)
    shown = [SubscriptionShown(**await _fields(asked, row)) for row in rows]
    wanted = {
        "agent_identity_id": query.agent_identity_id,
        "phone_number_id": query.phone_number_id,
        "mailbox_id": query.mailbox_id,
    }
    return SubscriptionList(
        subscriptions=[
            one
            for one in shown
            if all(value is None or _same(getattr(one, name), value) for name, value in wanted.items())
            and (query.event_type is None or query.event_type in one.event_types)
        ]
    )


def _same(id_: Uuid | None, text: str) -> bool:
    return id_ is not None and text.lower() in (str(id_), id_.hex)


async def _found(asked: Asked[Any, Any]) -> Subscription:
    return await manage_subscriptions.get_subscription(
        asked.store, asked.caller, asked.path["subscription_id"], face="inkbox"
    )


async def get_subscription(asked: Asked[None, None]) -> SubscriptionShown:
    """One."""
    return SubscriptionShown(**await _fields(asked, await _found(asked)))


async def change_subscription(asked: Asked[SubscriptionChange, None]) -> SubscriptionShown:
    """Move it, or have it hear other things."""
    row, body = await _found(asked), asked.body
    fields = body.given("url", "auth_token")
    if "event_types" in body.model_fields_set:
        fields["events"] = _distinct(body.event_types)
    if "context_config" in body.model_fields_set:
        fields["context"] = body.context_config.model_dump() if body.context_config is not None else None
    row = await manage_subscriptions.change_subscription(asked.resources, asked.caller, row, **fields)
    return SubscriptionShown(**await _fields(asked, row))


async def delete_subscription(asked: Asked[None, None]) -> None:
    """Unsubscribe."""
    await manage_subscriptions.delete_subscription(asked.store, asked.caller, await _found(asked))


async def list_event_types(asked: Asked[None, None]) -> Catalog:
    """What can be subscribed to, and that identities can own subscriptions."""
    return Catalog()


DELIVERIES = f"{API}/webhooks/deliveries"
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


async def list_deliveries(asked: Asked[None, DeliveriesAsked]) -> DeliveryList:
    """The log, newest first."""
    query, resources = asked.query, asked.resources
    which: dict[str, Any] = {"event_type": query.event_type, "success": query.success}
    if query.subscription_id is not None:
        which["subscription_id"] = parse_id("subscription", query.subscription_id)
    if query.phone_number_id is not None:
        which["line_id"] = parse_id("line", query.phone_number_id)
        which["event_type"] = INCOMING
    unreadable = (which.get("subscription_id", "") is None) or (which.get("line_id", "") is None)
    if unreadable or query.event_type not in (None, which["event_type"]):
        return DeliveryList(deliveries=[])
    found = await manage_subscriptions.list_deliveries(
        resources.store, asked.caller, face="inkbox", limit=query.limit, offset=query.offset, **which
    )
    live = {one.id: one for one in await resources.store.webhooks.list(asked.caller.workspace_id, face="inkbox")}
    return DeliveryList(
        deliveries=[
            delivery_shown(line, live.get(line.delivery.subscription_id) if line.delivery.subscription_id else None)
            for line in found
        ]
    )


async def replay_delivery(asked: Asked[None, None]) -> DeliveryShown:
    """Send it again: same body and event id, signed anew."""
    resources, workspace = asked.resources, asked.caller.workspace_id
    before = await resources.store.webhooks.logged(workspace, parse_id("delivery", asked.path["delivery_id"]))
    subscription = None
    if before is not None and before.delivery.subscription_id is not None:
        subscription = await resources.store.webhooks.get(workspace, before.delivery.subscription_id)
        if subscription is not None and before.delivery.event_type not in subscription.events:
            raise CallOver(f"the subscription no longer hears of {before.delivery.event_type}")
    sent = await manage_subscriptions.replay_delivery(resources, asked.caller, asked.path["delivery_id"])
    return delivery_shown(sent, subscription)


ENDPOINTS = [
    Endpoint("POST", SUBSCRIPTIONS, create_subscription, "Hear of calls", SubscriptionSent, answer=SubscriptionMade,
             status=201,
             refusals=(403, 404, 409, 413)),
    Endpoint("GET", SUBSCRIPTIONS, list_subscriptions, "List subscriptions", query=SubscriptionsAsked,
             answer=SubscriptionList),
    Endpoint("GET", SUBSCRIPTION, get_subscription, "Look at a subscription", answer=SubscriptionShown,
             refusals=(403, 404)),
    Endpoint("PATCH", SUBSCRIPTION, change_subscription, "Change a subscription", SubscriptionChange,
             answer=SubscriptionShown,
             refusals=(403, 404, 413)),
    Endpoint("DELETE", SUBSCRIPTION, delete_subscription, "Unsubscribe", status=204, refusals=(403, 404)),
    Endpoint("GET", f"{API}/webhooks/catalog", list_event_types, "What can be subscribed to", answer=Catalog),
    Endpoint("GET", DELIVERIES, list_deliveries, "What was sent", query=DeliveriesAsked, answer=DeliveryList),
    Endpoint("POST", f"{DELIVERIES}/{{delivery_id}}/replay", replay_delivery, "Send it again", answer=DeliveryShown,
             refusals=(403, 404, 409)),
]  # fmt: skip
