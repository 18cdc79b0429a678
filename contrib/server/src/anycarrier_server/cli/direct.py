"""``--direct``: the service's own faces over the database, in this process, without a server.

No background work is started: no calls are taken or dialled, no webhooks are sent. A user who may read the database
and the master key counts as the workspace's admin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import select
from starlette.applications import Starlette

from anycarrier.errors import ConfigurationError
from anycarrier_server.app import faces, service_routes
from anycarrier_server.cli.client import TIMEOUT, Client
from anycarrier_server.cli.connection import database_troubles
from anycarrier_server.domain.access import Caller
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import ApiKey, Workspace


class DirectService(Service):
    """The service for one who stands before the database: asks for no key."""

    admin: Caller

    async def authenticate(self, headers: Mapping[str, str]) -> Caller:
        return self.admin


class DirectClient(Client):
    """A client that can also do what no key may: make an admin key."""

    def __init__(self, http: httpx.AsyncClient, service: DirectService) -> None:
        super().__init__(http, "the database", direct=True)
        self._service = service

    async def request(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """As over HTTP; but carriers are told where to post only when that is known, and not just guessed."""
        if method == "POST" and path.startswith("/v1/phone-numbers") and not self._service.settings.public_url:
            raise ConfigurationError(
                "the carrier would be told to post calls to this machine only: set ANYCARRIER_PUBLIC_URL to the "
                "server's own, or ask the server, without --direct"
            )
        return await super().request(method, path, body=body, query=query)

    async def admin_key(self, label: str, description: str | None, workspace: str | None = None) -> dict[str, Any]:
        """A new admin key in the shape in which the API shows new keys; of a ``workspace``, made when there is none."""
        store = self._service.store
        if workspace is not None:
            self._service.admin = _admin_of(await _workspace_named(store, workspace))
        mine = self._service.admin.workspace_id
        row, secret = await store.keys.create(mine, label, description=description, created_by="command line")
        listed = await self.get("/api/v1/api-keys")
        record = next(one for one in listed if one["id"].endswith(str(row.id)))
        return {"api_key": secret, "record": record}


def _admin_of(workspace: Workspace) -> Caller:
    return Caller(workspace.id, None, _nobodys_key(workspace.id))


async def _workspace_named(store: Store, name: str) -> Workspace:
    async with store.db.read() as session:
        found = (await session.scalars(select(Workspace).where(Workspace.name == name))).all()
    if len(found) > 1:
        raise ConfigurationError(f"{len(found)} workspaces are called {name!r}")
    return found[0] if found else await store.workspaces.create(name)


def _nobodys_key(workspace_id: UUID) -> ApiKey:
    """A key that is in no database: the faces say by it who asks."""
    now, who = utc_now(), "command line"
    return ApiKey(
        id=uuid4(), workspace_id=workspace_id, agent_id=None, label=who, created_by=who, creator_type="human",
        created_at=now, updated_at=now, display_prefix="", last4="",
    )  # fmt: skip


@asynccontextmanager
async def direct_client(settings: Settings) -> AsyncIterator[DirectClient]:
    """A client whose requests are answered here. The schema is brought up to date as ``serve`` would do."""
    with database_troubles(settings):
        service = await DirectService.open(settings, faces())
    assert isinstance(service, DirectService)
    try:
        workspace = await service.store.workspaces.first() or await service.store.workspaces.create("default")
        service.admin = _admin_of(workspace)
        transport = httpx.ASGITransport(Starlette(routes=service_routes(service)))
        async with httpx.AsyncClient(transport=transport, base_url="http://direct", timeout=TIMEOUT) as http:
            yield DirectClient(http, service)
    finally:
        await service.close()
