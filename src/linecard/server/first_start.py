"""What the first start of a store makes: a workspace, and the key to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from linecard.server.store.models import Workspace

if TYPE_CHECKING:
    from linecard.server.service import Service

CLAIM = "first start"


async def prepare(service: Service) -> str | None:
    """Make sure there is a workspace and an admin key; the key's text when it was made now and is nobody's yet.

    Of several processes starting together one makes them; the others wait for it.
    """
    store = service.store
    while not await store.claims.take(CLAIM, 20):  # noqa: ASYNC110
        await asyncio.sleep(0.1)  # the claim is another process's, and it tells nobody
    try:
        workspace = await store.workspaces.first() or await store.workspaces.create("default")
        fixed = service.settings.admin_key
        if fixed is not None:
            await store.keys.ensure_admin(workspace.id, fixed.get_secret_value())
            return None
        if any(key.admin and key.revoked_at is None for key in await store.keys.list(workspace.id)):
            return None
        _, secret = await store.keys.create(workspace.id, "first admin key", created_by="first start")
        return secret
    finally:
        await store.claims.drop(CLAIM)


async def workspace_of(service: Service) -> Workspace:
    """The first workspace, which is there after :func:`prepare`."""
    workspace = await service.store.workspaces.first()
    assert workspace is not None
    return workspace
