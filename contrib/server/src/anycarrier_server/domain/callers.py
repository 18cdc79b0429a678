"""Who is asking, and what they may touch: an admin the whole workspace, an agent's key that agent."""

from __future__ import annotations

from uuid import UUID

from anycarrier_server.auth import Caller
from anycarrier_server.refusals import Forbidden, Unknown
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.models import Agent


def need_admin(caller: Caller, what: str = "this") -> None:
    """Return for an admin key, else :class:`Forbidden`."""
    if not caller.admin:
        raise Forbidden(f"{what} needs an admin key: the key given is an agent's own")


def need_scope(caller: Caller, agent_id: UUID | None, what: str = "that agent") -> None:
    """Return when the caller may act for the agent, else :class:`Forbidden`."""
    if not caller.may_act_for(agent_id):
        raise Forbidden(f"this key may not act for {what}: use that agent's key, or an admin key")


async def agent_of(store: Store, caller: Caller, text: str | UUID | None) -> Agent:
    """The agent a client names, by id; ``Unknown`` or ``Forbidden``. None is the caller's own agent."""
    agent_id = parse_id("agent", text) if text is not None else caller.agent_id
    agent = await store.agents.get(caller.workspace_id, agent_id)
    if agent is None:
        raise Unknown("agent")
    need_scope(caller, agent.id)
    return agent
