"""Speech engines' settings that are a workspace's own: sealed, and told by the last four characters of each secret."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, select

from anycarrier_server.seal import Sealer
from anycarrier_server.store.credentials import masked
from anycarrier_server.store.database import Database
from anycarrier_server.store.ids import new_id
from anycarrier_server.store.models import EngineRow
from anycarrier_server.store.statements import Statement, table_of
from anycarrier_server.store.vault import place

TABLE = table_of(EngineRow)
OF_WORKSPACE = Statement(
    select(TABLE).where(TABLE.c.workspace_id == bindparam("workspace_id")).order_by(TABLE.c.name), into=[EngineRow]
)


class StoredEngines:
    """The engines that workspaces have set up for themselves."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        self._db = db
        self._sealer = sealer

    async def list(self, workspace_id: UUID) -> Sequence[EngineRow]:
        """The workspace's, by name."""
        rows: list[EngineRow] = await self._db.rows(OF_WORKSPACE, workspace_id=workspace_id)
        return rows

    def settings(self, row: EngineRow) -> dict[str, Any]:
        """The settings themselves, secrets in clear."""
        found: dict[str, Any] = json.loads(self._sealer.open(row.sealed, place("engines", "sealed", row.id)))
        return found

    async def put(
        self, workspace_id: UUID, name: str, settings: Mapping[str, Any], secrets: frozenset[str]
    ) -> EngineRow:
        """Keep these settings in place of what was there; those named in ``secrets`` are shown masked."""
        shown = {field: masked(str(value)) if field in secrets else value for field, value in settings.items()}
        async with self._db.write() as session:
            mine = select(EngineRow).where(EngineRow.workspace_id == workspace_id, EngineRow.name == name)
            row = await session.scalar(mine.with_for_update())
            if row is None:
                row = EngineRow(id=new_id(), workspace_id=workspace_id, name=name, version=0)
                session.add(row)
            row.sealed = self._sealer.seal(json.dumps(dict(settings)), place("engines", "sealed", row.id))
            row.shown, row.version = shown, row.version + 1
        return row

    async def delete(self, workspace_id: UUID, name: str) -> bool:
        """Forget them; False when there were none."""
        gone = delete(EngineRow).where(EngineRow.workspace_id == workspace_id, EngineRow.name == name)
        async with self._db.write() as session:
            return (await session.execute(gone.returning(EngineRow.id))).scalar_one_or_none() is not None
