"""Webhook subscriptions: create, change, test; and the log of deliveries, with replay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from anycarrier_server.domain import control_call, manage_numbers
from anycarrier_server.domain.access import Caller, agent_of, need_admin, need_scope
from anycarrier_server.domain.resources import Resources
from anycarrier_server.refusals import CallOver, Invalid, Unknown
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Attempt, Subscription
from anycarrier_server.store.webhooks import Logged

AFTER_THE_CALL = timedelta(hours=1)
"""The last of a delivery's attempts is made a quarter of an hour after the first."""


async def create_subscription(
    resources: Resources,
    caller: Caller,
    *,
    face: str,
    url: str,
    events: list[str],
    name: str = "",
    agent_id: str | UUID | None = None,
    line_id: str | UUID | None = None,
    secret: str | None = None,
    auth_token: str | None = None,
    context: dict[str, Any] | None = None,
) -> Subscription:
    """Subscribe a URL to events of the whole workspace, one agent or one number. ``UrlRefused`` says why not there,
    ``TooManyWebhooks`` how many there may be."""
    agent = await agent_of(resources.store, caller, agent_id) if agent_id is not None else None
    line = await manage_numbers.get_number(resources.store, caller, line_id) if line_id is not None else None
    if agent is None and line is None:
        need_admin(caller, "hearing of all agents' calls")
    await resources.url_guard.webhook(url)
    return await resources.store.webhooks.create(
        caller.workspace_id,
        face=face,
        url=url,
        events=events,
        name=name,
        agent_id=agent.id if agent else None,
        line_id=line.id if line else None,
        secret=secret,
        auth_token=auth_token,
        context=context,
        most=resources.settings.max_webhooks,
    )


async def get_subscription(store: Store, caller: Caller, subscription_id: str | UUID, *, face: str) -> Subscription:
    """A subscription made on ``face``. An agent's key sees its own."""
    row = await store.webhooks.get(caller.workspace_id, parse_id("subscription", subscription_id))
    if row is None or row.face != face:
        raise Unknown("webhook")
    need_scope(caller, await owner_of(store, row), "that webhook")
    return row


async def owner_of(store: Store, row: Subscription) -> UUID | None:
    """The agent it concerns: its own, or its number's; None for the whole workspace."""
    if row.agent_id is not None or row.line_id is None:
        return row.agent_id
    line = await store.lines.get(row.workspace_id, row.line_id)
    return line.agent_id if line is not None else None


async def list_subscriptions(store: Store, caller: Caller, *, face: str, **which: Any) -> Sequence[Subscription]:
    """All made on ``face``; ``which`` as for the store's list (agent_id, line_id, url). An agent's key sees its own."""
    rows = await store.webhooks.list(caller.workspace_id, face=face, **which)
    return [row for row in rows if caller.may_act_for(await owner_of(store, row))]


async def change_subscription(resources: Resources, caller: Caller, row: Subscription, **fields: Any) -> Subscription:
    """``url``, ``events``, ``name``, ``status``, ``context``, ``auth_token``."""
    if fields.get("url") is not None:
        await resources.url_guard.webhook(fields["url"])
    if "events" in fields and not fields["events"]:
        raise Invalid.field("events", "name at least one event")
    return await resources.store.webhooks.change(row, **fields) if fields else row


async def delete_subscription(store: Store, caller: Caller, row: Subscription) -> None:
    """Unsubscribe."""
    await store.webhooks.delete(row)


async def test_subscription(
    resources: Resources, caller: Caller, row: Subscription, event_type: str, body: dict[str, Any]
) -> Attempt:
    """Post ``body`` there now, signed as always; what came of it."""
    return await resources.sender.test(row, f"evt_{uuid4()}", event_type, json.dumps(body))


async def list_deliveries(store: Store, caller: Caller, **which: Any) -> Sequence[Logged]:
    """The log of what was sent, newest first; ``which`` as for the store's log. An agent's key sees its own."""
    if not caller.admin:
        which["agent_id"] = caller.agent_id
    return await store.webhooks.log(caller.workspace_id, **which)


async def list_deliveries_of_call(
    store: Store, caller: Caller, call_id: str | UUID, *, face: str, limit: int, offset: int
) -> Sequence[Logged]:
    """What was sent about a call, newest first. The log is kept by time, so it is searched around the call's."""
    call = await control_call.get(store, caller, call_id)
    until = (call.ended_at or utc_now()) + AFTER_THE_CALL
    return await store.webhooks.log(
        caller.workspace_id, call_id=call.id, since=call.created_at, before=until, face=face, limit=limit, offset=offset
    )


async def replay_delivery(resources: Resources, caller: Caller, attempt_id: str | UUID) -> Logged:
    """Send a logged delivery again: same body and event id, signed anew. :class:`CallOver` (409) when the
    subscription is gone, ``Invalid`` for incoming-call webhooks, which nobody waits for any more."""
    logged = await resources.store.webhooks.logged(caller.workspace_id, parse_id("delivery", attempt_id))
    if logged is None:
        raise Unknown("delivery")
    need_scope(caller, logged.delivery.agent_id, "that delivery")
    if logged.delivery.subscription_id is None:
        why = "an incoming-call webhook cannot be replayed: its call is over"
        if "incoming" not in logged.delivery.event_type:
            why = "it went to a URL that its call brought along, and only what subscriptions get is sent again"
        raise Invalid.field("id", why, where="path")
    row = await resources.store.webhooks.get(caller.workspace_id, logged.delivery.subscription_id)
    if row is None:
        raise CallOver("the subscription is gone: nobody is there to send it to")
    return Logged(await resources.sender.replay(logged, row), logged.delivery)
