"""API keys: handed out, listed, revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from anycarrier_server.auth import Caller
from anycarrier_server.domain.callers import agent_of, need_admin
from anycarrier_server.refusals import Forbidden, Unknown
from anycarrier_server.store import parse_id
from anycarrier_server.store.models import ApiKey

if TYPE_CHECKING:
    from anycarrier_server.service import Service


async def create(
    service: Service,
    caller: Caller,
    *,
    label: str,
    description: str | None = None,
    agent_id: str | UUID | None,
    style: str = "ApiKey",
) -> tuple[ApiKey, str]:
    """A key for one agent, and its secret, shown only here. A key does not make keys as mighty as itself."""
    need_admin(caller, "making keys")
    if agent_id is None:
        raise Forbidden("a key makes keys for agents only: name the agent. Admin keys are made by `anycarrier keys`")
    agent = await agent_of(service.store, caller, agent_id)
    return await service.store.keys.create(
        caller.workspace_id,
        label,
        agent_id=agent.id,
        description=description,
        created_by=str(caller.key.id),
        style=style,
    )


async def every(service: Service, caller: Caller) -> list[ApiKey]:
    """All keys, revoked ones too."""
    need_admin(caller, "listing keys")
    return await service.store.keys.list(caller.workspace_id)


async def revoke(service: Service, caller: Caller, key_id: str | UUID) -> ApiKey:
    """End a key, at once and in every process."""
    need_admin(caller, "revoking keys")
    key = await service.store.keys.revoke(caller.workspace_id, parse_id("key", key_id))
    if key is None:
        raise Unknown("key")
    return key
