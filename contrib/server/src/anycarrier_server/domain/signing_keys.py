"""The keys that sign what an agent's receivers get: made, replaced, and when that was."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select

from anycarrier_server.auth import Caller
from anycarrier_server.domain.callers import need_scope
from anycarrier_server.store.models import Agent, SigningKey

if TYPE_CHECKING:
    from anycarrier_server.service import Service


async def rotate(service: Service, caller: Caller, agent: Agent) -> tuple[str, SigningKey]:
    """A new key for the agent, and its text, shown only here; the old one signs nothing from now on."""
    need_scope(caller, agent.id)
    return await service.store.webhooks.rotate_signing_key(agent.workspace_id, agent.id)


async def made_at(service: Service, workspace_id: UUID) -> dict[UUID, datetime]:
    """Of every agent that has a key, when it was made."""
    query = select(SigningKey.agent_id, SigningKey.created_at).where(SigningKey.workspace_id == workspace_id)
    async with service.store.db.read() as session:
        return {agent_id: at for agent_id, at in await session.execute(query) if agent_id is not None}
