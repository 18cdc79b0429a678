"""What the first start makes: the folders, a workspace, and the key to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from linecard.errors import ConfigurationError
from linecard.server.store.models import Workspace

if TYPE_CHECKING:
    from linecard.server.service import Service
    from linecard.server.settings import Settings

CLAIM = "first start"


def make_folders(settings: Settings) -> None:
    """Make what is missing, for this user alone: what was said on calls is kept there."""
    for folder, setting in ((settings.data_dir, "LINECARD_DATA_DIR"), (settings.recordings, "LINECARD_RECORDINGS_DIR")):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise ConfigurationError(
                f"the folder {folder} cannot be made ({problem.strerror}): name another in {setting}"
            ) from problem
    file = settings.database.removeprefix("sqlite:///")
    if file != settings.database and not Path(file).parent.is_dir():
        raise ConfigurationError(f"there is no folder {Path(file).parent} for the database: make it or correct its URL")


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
