"""Workspaces: the tenants."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Workspace


class Workspaces:
    """All workspaces."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def first(self) -> Workspace | None:
        """The oldest workspace; None before the first start."""
        async with self._db.read() as session:
            return await session.scalar(select(Workspace).order_by(Workspace.created_at, Workspace.id).limit(1))

    async def create(self, name: str) -> Workspace:
        """A new workspace."""
        async with self._db.write() as session:
            made = Workspace(name=name)
            session.add(made)
        return made

    async def get(self, workspace_id: UUID) -> Workspace | None:
        """The workspace, None when there is none."""
        async with self._db.read() as session:
            return await session.get(Workspace, workspace_id)
