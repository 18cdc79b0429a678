"""``/phone/incoming-call-action``: what becomes of an identity's incoming calls, on all of its lines."""

from __future__ import annotations

from linecard.server.auth import Caller
from linecard.server.domain.callers import agent_of
from linecard.server.domain.refusals import Invalid
from linecard.server.endpoints import Asked, Endpoint
from linecard.server.inkbox import call_handling
from linecard.server.inkbox.call_handling import Handling
from linecard.server.inkbox.errors import NotConfigured
from linecard.server.inkbox.number_shape import action_of
from linecard.server.inkbox.shapes import PHONE, Action, Given, Id, Shown, Uuid
from linecard.server.store.models import Agent

ROOT = f"{PHONE}/incoming-call-action"


class ActionSent(Handling):
    """What to do with calls. Absent keys keep their value, null clears."""

    agent_identity_id: Id | None = None
    incoming_call_action: Action


class Whose(Given):
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


def action_shown(agent: Agent) -> ActionShown:
    """The agent's setting."""
    return ActionShown(
        agent_identity_id=agent.id,
        incoming_call_action=action_of(agent),
        client_websocket_url=agent.websocket_url,
        incoming_call_webhook_url=agent.incoming_call_webhook_url,
        forwarding_target_type=agent.forwarding_target_type,
        forwarding_phone_number=agent.forwarding_phone_number,
        forwarding_sip_uri=agent.forwarding_sip_uri,
    )


def _need_identity(caller: Caller, agent_id: str | None, where: str) -> None:
    if agent_id is None and caller.admin:
        raise Invalid.field("agent_identity_id", "is required under an admin key", where=where, type="missing")


async def get(asked: Asked[None, Whose]) -> ActionShown:
    """The setting; 404 while nobody has made one."""
    _need_identity(asked.caller, asked.query.agent_identity_id, "query")
    agent = await agent_of(asked.service.store, asked.caller, asked.query.agent_identity_id)
    if agent.incoming_call_action is None:
        raise NotConfigured("nobody has set this identity's incoming-call action yet: PUT it here")
    return action_shown(agent)


async def put(asked: Asked[ActionSent, None]) -> ActionShown:
    """Make the setting."""
    _need_identity(asked.caller, asked.body.agent_identity_id, "body")
    agent = await agent_of(asked.service.store, asked.caller, asked.body.agent_identity_id)
    return action_shown(await call_handling.apply(asked.service, asked.caller, agent, asked.body))


ENDPOINTS = [
    Endpoint("GET", ROOT, get, "What becomes of incoming calls", query=Whose, answer=ActionShown, refusals=(403, 404)),
    Endpoint("PUT", ROOT, put, "Say what becomes of incoming calls", ActionSent, answer=ActionShown,
             refusals=(403, 404, 413)),
]  # fmt: skip
