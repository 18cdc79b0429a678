"""How an identity takes incoming calls, set in three places: at ``/phone/incoming-call-action``, at its numbers, and
when it is created.

The contract has one setting for an identity and its number. Here an identity may have several numbers: what is set at a
number is that number's alone, and what is set at the identity applies to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from anycarrier.errors import AnycarrierError
from anycarrier_server.domain import manage_agents, manage_numbers
from anycarrier_server.domain.access import Caller, agent_of
from anycarrier_server.domain.agent_overrides import CALL_HANDLING, CallHandling, call_handling
from anycarrier_server.domain.resources import Resources
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.error_details import NotConfigured
from anycarrier_server.inkbox.fields import PHONE, Action, Given, Id, Number, Sent, Shown, Target, Url, Uuid
from anycarrier_server.refusals import Invalid
from anycarrier_server.store import Store
from anycarrier_server.store.models import Agent, LineRow

Sip = Field(default=None, max_length=512, pattern=r"^sips?:[!-~]+$", examples=["sip:desk@pbx.example.com"])


class Handling(Sent):
    """The settings a client may send; absent keys keep their value, null clears."""

    incoming_call_action: Action | None = None
    client_websocket_url: Url | None = None
    incoming_call_webhook_url: Url | None = None
    forwarding_target_type: Target | None = None
    forwarding_phone_number: Number | None = None
    forwarding_sip_uri: str | None = Sip


def changes(body: Handling) -> dict[str, Any]:
    """What ``body`` changes, in the agent's own field names."""
    sent = body.given(*Handling.model_fields)
    if "client_websocket_url" in sent:
        sent["websocket_url"] = sent.pop("client_websocket_url")
    if sent.get("incoming_call_action", "") is None:
        sent["incoming_call_action"] = "auto_reject"
    return manage_agents.one_target(sent)


def handling_for(agent: Agent, lines: Sequence[LineRow]) -> CallHandling:
    """The identity's setting. With one number the two are one, as the contract has it."""
    return call_handling(agent, lines[0] if len(lines) == 1 else None)


async def apply_handling(resources: Resources, caller: Caller, agent: Agent, body: Handling) -> Agent:
    """Change the identity and all its numbers; ``Invalid`` when an action lacks what it needs."""
    lines = await resources.store.lines.list(agent.workspace_id, agent_id=agent.id)
    fields = changes(body)
    kept = {name: value for name, value in _held(handling_for(agent, lines)).items() if name not in fields}
    _need_socket(agent, kept | fields)
    changed = await manage_agents.change_agent(resources, caller, agent, **fields)
    for line in lines:
        if own := {name: value for name, value in line.call_handling.items() if name not in fields}:
            if own == line.call_handling:
                continue
        if line.call_handling:
            await resources.store.lines.change(line.id, call_handling=own)
    return changed


async def apply_to_number(resources: Resources, agent: Agent, line: LineRow, fields: dict[str, Any]) -> LineRow:
    """Change how this number's calls are taken, and no other's; ``fields`` as from :func:`changes`."""
    theirs = call_handling(agent)
    # An agent that answers without a socket of its own, by the service's speech, may be given its number back.
    if theirs.incoming_call_action not in (None, "auto_accept") or theirs.websocket_url:
        _need_socket(agent, {**_held(call_handling(agent, line)), **fields})
    own = await manage_numbers.handled(resources, agent, line.call_handling, fields)
    return await resources.store.lines.change(line.id, call_handling=own)


def _held(handling: CallHandling) -> dict[str, Any]:
    return {name: getattr(handling, name) for name in CALL_HANDLING}


def _need_socket(agent: Agent, now: Mapping[str, Any]) -> None:
    """The contract's condition, where no Python handler takes the calls."""
    if now["incoming_call_action"] == "auto_accept" and not now["websocket_url"] and not agent.handler:
        raise Invalid.field("client_websocket_url", "auto_accept needs a WebSocket URL: the identity has no handler")


async def apply_to_all(resources: Resources, caller: Caller, agent: Agent, body: Handling | None = None) -> Agent:
    """The identity as it should be once it has a number: without a word from anybody it declines calls.

    An agent that was given a socket or a handler elsewhere has had that word.
    """
    fields = changes(body) if body is not None else {}
    silent = agent.incoming_call_action is None and not agent.websocket_url and not agent.handler
    if silent and "incoming_call_action" not in fields:
        fields["incoming_call_action"] = "auto_reject"
    if fields:
        _need_socket(agent, {**_held(call_handling(agent)), **fields})
    return await manage_agents.change_agent(resources, caller, agent, **fields) if fields else agent


async def put_back_handling(store: Store, caller: Caller, before: Agent, now: Agent) -> None:
    """Undo :func:`apply_to_all`, because the number did not come."""
    kept = {name: getattr(before, name) for name in (*CALL_HANDLING, "inbound_filter_mode", "outbound_filter_mode")}
    if all(getattr(now, name) == value for name, value in kept.items()):
        return
    try:
        await store.agents.change(now.id, **kept)
    except AnycarrierError:  # the number's own refusal is the one to tell
        return


ACTION = f"{PHONE}/incoming-call-action"


class ActionSent(Handling):
    """What to do with calls. Absent keys keep their value, null clears."""

    agent_identity_id: Id | None = None
    incoming_call_action: Action


class ActionAsked(Given):
    """Which identity's."""

    agent_identity_id: Id | None = None


class ActionShown(Shown):
    """The setting."""

    agent_identity_id: Uuid
    incoming_call_action: str
    client_websocket_url: str | None
    incoming_call_webhook_url: str | None
    forwarding_target_type: str | None
    forwarding_phone_number: str | None
    forwarding_sip_uri: str | None


async def action_shown(store: Store, agent: Agent) -> ActionShown:
    """The identity's setting; :class:`NotConfigured` while nobody has made one."""
    handling = handling_for(agent, await store.lines.list(agent.workspace_id, agent_id=agent.id))
    if handling.incoming_call_action is None:
        raise NotConfigured("nobody has set this identity's incoming-call action yet: PUT it here")
    return ActionShown(
        agent_identity_id=agent.id,
        incoming_call_action=handling.incoming_call_action,
        client_websocket_url=handling.websocket_url,
        incoming_call_webhook_url=handling.incoming_call_webhook_url,
        forwarding_target_type=handling.forwarding_target_type,
        forwarding_phone_number=handling.forwarding_phone_number,
        forwarding_sip_uri=handling.forwarding_sip_uri,
    )


def _need_identity(caller: Caller, agent_id: str | None, where: str) -> None:
    if agent_id is None and caller.admin:
        raise Invalid.field("agent_identity_id", "is required under an admin key", where=where, type="missing")


async def get_action(asked: Asked[None, ActionAsked]) -> ActionShown:
    """The setting; 404 while nobody has made one."""
    _need_identity(asked.caller, asked.query.agent_identity_id, "query")
    agent = await agent_of(asked.store, asked.caller, asked.query.agent_identity_id)
    return await action_shown(asked.store, agent)


async def put_action(asked: Asked[ActionSent, None]) -> ActionShown:
    """Make the setting."""
    _need_identity(asked.caller, asked.body.agent_identity_id, "body")
    agent = await agent_of(asked.store, asked.caller, asked.body.agent_identity_id)
    changed = await apply_handling(asked.resources, asked.caller, agent, asked.body)
    return await action_shown(asked.store, changed)


ENDPOINTS = [
    Endpoint("GET", ACTION, get_action, "What becomes of incoming calls", query=ActionAsked, answer=ActionShown,
             refusals=(403, 404)),
    Endpoint("PUT", ACTION, put_action, "Say what becomes of incoming calls", ActionSent, answer=ActionShown,
             refusals=(403, 404, 413)),
]  # fmt: skip
