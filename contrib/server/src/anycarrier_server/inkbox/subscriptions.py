"""``/webhooks/subscriptions``: who hears of calls that ended. Lists are wrapped here, unlike elsewhere.

Of the contract's events only ``call.ended`` ever happens on this service; those of text messages may be subscribed to,
because the oldest clients can subscribe to nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from anycarrier_server.domain import subscriptions
from anycarrier_server.domain.refusals import Invalid
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.access import organization
from anycarrier_server.inkbox.shapes import API, Given, Id, Moment, Sent, Shown, Url, Uuid
from anycarrier_server.store.models import Subscription

ROOT = f"{API}/webhooks/subscriptions"
ONE = ROOT + "/{subscription_id}"

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
    token = asked.service.store.webhooks.auth_token(row)
    return {
        "id": row.id,
        "organization_id": organization(row.workspace_id),
        "phone_number_id": row.line_id,
        "agent_identity_id": row.agent_id,
        "owner_identity_id": await subscriptions.owner(asked.service, row),
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


async def create(asked: Asked[SubscriptionSent, None]) -> SubscriptionMade:
    """Subscribe. An identity that has no signing key gets its first one, told here."""
    service, caller, body = asked.service, asked.caller, asked.body
    if body.mailbox_id is not None:
        raise Invalid.field("mailbox_id", "there are no mailboxes here")
    if (body.agent_identity_id is None) == (body.phone_number_id is None):
        raise Invalid.field("agent_identity_id", "give exactly one of agent_identity_id and phone_number_id")
    row = await subscriptions.create(
        service,
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
    if (owner := await subscriptions.owner(service, row)) is not None:
        text, fresh = await service.store.webhooks.ensure_signing_key(caller.workspace_id, owner)
        key = text if fresh else None
    return SubscriptionMade(**await _fields(asked, row), signing_key=key)


async def every(asked: Asked[None, SubscriptionsAsked]) -> SubscriptionList:
    """Those the key may see."""
    query = asked.query
    rows = await subscriptions.every(asked.service, asked.caller, face="inkbox", url=query.url)
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
    return await subscriptions.get(asked.service, asked.caller, asked.path["subscription_id"], face="inkbox")


async def get(asked: Asked[None, None]) -> SubscriptionShown:
    """One."""
    return SubscriptionShown(**await _fields(asked, await _found(asked)))


async def change(asked: Asked[SubscriptionChange, None]) -> SubscriptionShown:
    """Move it, or have it hear other things."""
    row, body = await _found(asked), asked.body
    fields = body.given("url", "auth_token")
    if "event_types" in body.model_fields_set:
        fields["events"] = _distinct(body.event_types)
    if "context_config" in body.model_fields_set:
        fields["context"] = body.context_config.model_dump() if body.context_config is not None else None
    row = await subscriptions.change(asked.service, asked.caller, row, **fields)
    return SubscriptionShown(**await _fields(asked, row))


async def delete(asked: Asked[None, None]) -> None:
    """Unsubscribe."""
    await subscriptions.delete(asked.service, asked.caller, await _found(asked))


async def catalog(asked: Asked[None, None]) -> Catalog:
    """What can be subscribed to, and that identities can own subscriptions."""
    return Catalog()


ENDPOINTS = [
    Endpoint("POST", ROOT, create, "Hear of calls", SubscriptionSent, answer=SubscriptionMade, status=201,
             refusals=(403, 404, 409, 413)),
    Endpoint("GET", ROOT, every, "List subscriptions", query=SubscriptionsAsked, answer=SubscriptionList),
    Endpoint("GET", ONE, get, "Look at a subscription", answer=SubscriptionShown, refusals=(403, 404)),
    Endpoint("PATCH", ONE, change, "Change a subscription", SubscriptionChange, answer=SubscriptionShown,
             refusals=(403, 404, 413)),
    Endpoint("DELETE", ONE, delete, "Unsubscribe", status=204, refusals=(403, 404)),
    Endpoint("GET", f"{API}/webhooks/catalog", catalog, "What can be subscribed to", answer=Catalog),
]  # fmt: skip
