"""Recordings: which file holds which call's sound. The files themselves are not this module's."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, select, update

from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Recording
from anycarrier_server.store.statements import Statement, table_of

TABLE = table_of(Recording)
OF_CALL = Statement(
    select(TABLE).where(TABLE.c.call_id == bindparam("call_id")).order_by(TABLE.c.created_at), into=[Recording]
)


class Recordings:
    """The recordings of every call."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, workspace_id: UUID, call_id: UUID, path: str, *, format: str, channels: int = 2) -> Recording:
        """A recording that is being written to ``path`` (relative to the recordings folder)."""
        made = Recording(workspace_id=workspace_id, call_id=call_id, path=path, format=format, channels=channels)
        async with self._db.write() as session:
            session.add(made)
        return made

    async def finish(
        self, recording_id: UUID, *, status: str = "completed", duration: float | None = None, size: int | None = None
    ) -> None:
        """It is whole (``completed``), as much of it as the disk took (``cut``), or nothing (``failed``); duration in
        seconds, size in bytes."""
        async with self._db.write() as session:
            done = update(Recording).where(Recording.id == recording_id)
            await session.execute(done.values(status=status, duration=duration, size=size, updated_at=utc_now()))

    async def recorded(self, calls: Sequence[UUID]) -> set[UUID]:
        """Those of the calls, some hundreds at most, that have a recording."""
        async with self._db.read() as session:
            return set(await session.scalars(select(Recording.call_id).where(Recording.call_id.in_(calls))))

    async def of_call(self, call_id: UUID) -> Sequence[Recording]:
        """A call's recordings, oldest first."""
        return await self._db.rows(OF_CALL, call_id=call_id)
