"""Who is asking, and what they may touch: from a request's headers to a caller; an admin's key speaks for the whole
workspace, an agent's key for that agent. And API keys: handed out, listed, revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from anycarrier_server.refusals import Forbidden, Unknown
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.models import Agent, ApiKey


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated key. ``agent_id`` None: the whole workspace (admin)."""

    workspace_id: UUID
    agent_id: UUID | None
    key: ApiKey

    @property
    def admin(self) -> bool:
        """True when the caller speaks for the workspace."""
        return self.agent_id is None

    def may_act_for(self, agent_id: UUID | None) -> bool:
        """An admin for every agent, an agent for itself."""
        return self.admin or (agent_id is not None and agent_id == self.agent_id)


def key_in(headers: Mapping[str, str]) -> str | None:
    """The API key a request came with: ``Authorization: Bearer``, ``X-API-Key``, or the old ``X-Service-Token``."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or headers.get("x-service-token") or None


async def authenticate(store: Store, headers: Mapping[str, str]) -> Caller | None:
    """The caller, None for a missing, unknown, revoked or expired key. Header names in lower case."""
    secret = key_in(headers)
    key = await store.keys.authenticate(secret) if secret else None
    return Caller(key.workspace_id, key.agent_id, key) if key is not None else None


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


async def create_key(
    store: Store,
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
    agent = await agent_of(store, caller, agent_id)
    return await store.keys.create(
        caller.workspace_id,
        label,
        agent_id=agent.id,
        description=description,
        created_by=str(caller.key.id),
        style=style,
    )


async def list_keys(store: Store, caller: Caller) -> list[ApiKey]:
    """All keys, revoked ones too."""
    need_admin(caller, "listing keys")
    return await store.keys.list(caller.workspace_id)


async def revoke_key(store: Store, caller: Caller, key_id: str | UUID) -> ApiKey:
    """End a key, at once and in every process."""
    need_admin(caller, "revoking keys")
    key = await store.keys.revoke(caller.workspace_id, parse_id("key", key_id))
    if key is None:
        raise Unknown("key")
    return key
