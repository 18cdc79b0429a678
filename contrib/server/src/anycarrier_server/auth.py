"""Who is asking: from a request's headers to a caller. What the caller may do is the faces' business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from anycarrier_server.store import Store
from anycarrier_server.store.models import ApiKey


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
