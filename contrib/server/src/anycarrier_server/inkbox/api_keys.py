"""``/api/whoami`` (without ``v1``), and the API keys an admin key may make: keys of one identity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anycarrier_server.domain import access
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.error_details import ContractRefusal
from anycarrier_server.inkbox.fields import API, Id, Moment, Sent, Shown, Uuid
from anycarrier_server.store import parse_id
from anycarrier_server.store.models import ApiKey


class WhoamiShown(Shown):
    """The key that asks."""

    auth_type: Literal["api_key"] = "api_key"
    auth_subtype: str
    scope: str | None = None
    organization_id: str
    created_by: str
    creator_type: str
    key_id: str
    label: str
    description: str | None
    created_at: Moment
    last_used_at: Moment | None
    expires_at: Moment | None
    agent_identity_id: Uuid | None


class KeySent(Sent):
    """A key for one identity."""

    label: str = Field(min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=1000)
    scoped_identity_id: Id | None = None


class KeyShown(Shown):
    """A key without its secret."""

    id: str
    organization_id: str
    created_by: str
    creator_type: str
    scoped_identity_id: Uuid | None
    label: str
    description: str | None
    status: Literal["active", "revoked"]
    last4: str
    display_prefix: str
    last_used_at: Moment | None
    expires_at: Moment | None
    revoked_at: Moment | None
    created_at: Moment
    updated_at: Moment


class KeyMade(Shown):
    """``api_key`` is shown here and never again."""

    api_key: str
    record: KeyShown


def organization(workspace_id: Uuid) -> str:
    """The workspace as this contract names it."""
    return f"org_{workspace_id.hex}"


def key_shown(row: ApiKey) -> KeyShown:
    """The row as this face shows it."""
    return KeyShown(
        id=f"ApiKey_{row.id}",
        organization_id=organization(row.workspace_id),
        created_by=row.created_by,
        creator_type=row.creator_type,
        scoped_identity_id=row.agent_id,
        label=row.label,
        description=row.description,
        status="revoked" if row.revoked_at is not None else "active",
        last4=row.last4,
        display_prefix=row.display_prefix,
        last_used_at=row.last_used_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def whoami(asked: Asked[None, None]) -> WhoamiShown:
    """Which key this is and what it may do."""
    key = asked.caller.key
    return WhoamiShown(
        auth_subtype="api_key.admin_scoped" if key.agent_id is None else "api_key.agent_scoped.claimed",
        organization_id=organization(key.workspace_id),
        created_by=key.created_by,
        creator_type=key.creator_type,
        key_id=f"ApiKey_{key.id}",
        label=key.label,
        description=key.description,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        agent_identity_id=key.agent_id,
    )


async def create_key(asked: Asked[KeySent, None]) -> KeyMade:
    """Make a key for one identity; without ``scoped_identity_id`` 403, admin keys are made by the command line."""
    body = asked.body
    row, secret = await access.create_key(
        asked.store, asked.caller, label=body.label, description=body.description, agent_id=body.scoped_identity_id
    )
    return KeyMade(api_key=secret, record=key_shown(row))


async def list_keys(asked: Asked[None, None]) -> list[KeyShown]:
    """All keys, revoked ones too."""
    return [key_shown(row) for row in await access.list_keys(asked.store, asked.caller)]


async def revoke_key(asked: Asked[None, None]) -> None:
    """End a key at once; not the one that asks, so that nobody locks themselves out."""
    key_id = asked.path["key_id"].removeprefix("ApiKey_")
    if parse_id("key", key_id) == asked.caller.key.id:
        raise ContractRefusal(409, "own_key", "this is the key you are asking with: end it with another one")
    await access.revoke_key(asked.store, asked.caller, key_id)


ENDPOINTS = [
    Endpoint("GET", "/api/whoami", whoami, "Which key is this", answer=WhoamiShown),
    Endpoint("POST", f"{API}/api-keys", create_key, "Make a key for an identity", KeySent, answer=KeyMade, status=201,
             refusals=(403, 404, 413)),
    Endpoint("GET", f"{API}/api-keys", list_keys, "List keys", answer=list[KeyShown], refusals=(403,)),
    Endpoint("DELETE", f"{API}/api-keys/{{key_id}}", revoke_key, "End a key", status=204, refusals=(403, 404, 409)),
]  # fmt: skip
