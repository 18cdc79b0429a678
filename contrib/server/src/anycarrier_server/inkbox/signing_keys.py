"""Signing keys: one per identity, its text shown when it is made and never again. Asking again replaces it.

The organization's own address is old: an identity's key acts on its identity there, an admin's is told where to go.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from anycarrier_server.domain import signing_keys
from anycarrier_server.domain.callers import agent_of
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.errors import Said
from anycarrier_server.inkbox.identities import ONE, identity
from anycarrier_server.inkbox.shapes import API, Moment, Sent, Shown
from anycarrier_server.store.models import Agent


class Nothing(Sent):
    """``{}``."""


class SigningKeyShown(Shown):
    """The key's text, this once."""

    signing_key: str
    created_at: Moment


class SigningKeyStatus(Shown):
    """Whether there is a key."""

    configured: bool
    created_at: Moment | None


async def _rotate(asked: Asked[Any, Any], agent: Agent) -> SigningKeyShown:
    text, row = await signing_keys.rotate(asked.service, asked.caller, agent)
    return SigningKeyShown(signing_key=text, created_at=row.created_at)


async def _status(asked: Asked[Any, Any], agent: Agent) -> SigningKeyStatus:
    row = await asked.service.store.webhooks.signing_key_row(agent.workspace_id, agent.id)
    return _told(row.created_at if row is not None else None)


def _told(made_at: datetime | None) -> SigningKeyStatus:
    return SigningKeyStatus(configured=made_at is not None, created_at=made_at)


async def rotate(asked: Asked[Nothing, None]) -> SigningKeyShown:
    """A new key for the identity."""
    return await _rotate(asked, await identity(asked))


async def status(asked: Asked[None, None]) -> SigningKeyStatus:
    """Whether the identity has one."""
    return await _status(asked, await identity(asked))


async def rotate_own(asked: Asked[Nothing, None]) -> SigningKeyShown:
    """A new key for the identity whose API key asks."""
    if asked.caller.admin:
        raise Said(409, "use_identity_signing_key", "keys belong to identities: POST /identities/{handle}/signing-key")
    return await _rotate(asked, await agent_of(asked.service.store, asked.caller, None))


async def status_own(asked: Asked[None, None]) -> SigningKeyStatus:
    """Whether that identity, or under an admin key any identity, has one."""
    if not asked.caller.admin:
        return await _status(asked, await agent_of(asked.service.store, asked.caller, None))
    made = await signing_keys.made_at(asked.service, asked.caller.workspace_id)
    return _told(max(made.values(), default=None))


ENDPOINTS = [
    Endpoint("POST", f"{ONE}/signing-key", rotate, "Make or replace an identity's signing key", Nothing,
             answer=SigningKeyShown, status=201, refusals=(403, 404, 413)),
    Endpoint("GET", f"{ONE}/signing-key", status, "Has it a signing key", answer=SigningKeyStatus, refusals=(403, 404)),
    Endpoint("POST", f"{API}/signing-keys", rotate_own, "Make or replace one's own signing key", Nothing,
             answer=SigningKeyShown, status=201, refusals=(404, 409, 413)),
    Endpoint("GET", f"{API}/signing-keys", status_own, "Is there a signing key", answer=SigningKeyStatus,
             refusals=(404,)),
]  # fmt: skip
