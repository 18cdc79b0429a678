"""``/phone/incoming-call-action``: what becomes of an identity's incoming calls, on all of its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anycarrier_server.auth import Caller
from anycarrier_server.domain.callers import agent_of
from anycarrier_server.domain.refusals import Invalid
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.inkbox import call_handling
from anycarrier_server.inkbox.call_handling import Handling, shown_for
from anycarrier_server.inkbox.errors import NotConfigured
from anycarrier_server.inkbox.shapes import PHONE, Action, Given, Id, Shown, Uuid
from anycarrier_server.store.models import Agent

if TYPE_CHECKING:
    from anycarrier_server.service import Service

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


async def action_shown(service: Service, agent: Agent) -> ActionShown:
    """The identity's setting; :class:`NotConfigured` while nobody has made one."""
    handling = shown_for(agent, await service.store.lines.list(agent.workspace_id, agent_id=agent.id))
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


async def get(asked: Asked[None, Whose]) -> ActionShown:
    """The setting; 404 while nobody has made one."""
    _need_identity(asked.caller, asked.query.agent_identity_id, "query")
    agent = await agent_of(asked.service.store, asked.caller, asked.query.agent_identity_id)
    return await action_shown(asked.service, agent)


async def put(asked: Asked[ActionSent, None]) -> ActionShown:
    """Make the setting."""
    _need_identity(asked.caller, asked.body.agent_identity_id, "body")
    agent = await agent_of(asked.service.store, asked.caller, asked.body.agent_identity_id)
    changed = await call_handling.apply(asked.service, asked.caller, agent, asked.body)
    return await action_shown(asked.service, changed)


ENDPOINTS = [
    Endpoint("GET", ROOT, get, "What becomes of incoming calls", query=Whose, answer=ActionShown, refusals=(403, 404)),
    Endpoint("PUT", ROOT, put, "Say what becomes of incoming calls", ActionSent, answer=ActionShown,
             refusals=(403, 404, 413)),
]  # fmt: skip
