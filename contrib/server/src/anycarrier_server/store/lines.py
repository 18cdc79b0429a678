"""Lines: the numbers in service; and the exchange's door to them, :class:`anycarrier.routing.NumberRegistry`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from anycarrier.errors import NumberAlreadyAssigned, NumberNotAssigned, UnknownCredential
from anycarrier.numbers import SyncResult
from anycarrier.routing import Line
from anycarrier_server.refusals import Taken
from anycarrier_server.store.columns import parse_id, public_id, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CredentialRow, LineRow
from anycarrier_server.store.statements import Statement, table_of

TABLE = table_of(LineRow)
BY_ID = Statement(select(TABLE).where(TABLE.c.id == bindparam("id")), into=[LineRow])
ACTIVE = Statement(
    select(TABLE).where(TABLE.c.number == bindparam("number"), TABLE.c.status == word("active")), into=[LineRow]
)
HELD = Statement(  # "active" sorts before "inactive"
    select(TABLE)
    .where(TABLE.c.number == bindparam("number"), TABLE.c.status != word("released"))
    .order_by(TABLE.c.status, TABLE.c.created_at),
    into=[LineRow],
)

CHANGEABLE = frozenset(
    {
        "friendly_name", "agent_id", "type", "country", "state", "status", "carrier_number_id", "bought", "routing",
        "inbound_webhook_url", "call_handling", "sync",
    }
)  # fmt: skip


def as_line(row: LineRow) -> Line:
    """The exchange's view. A line without an agent has ``agent_id`` "": it may dial, nobody answers it."""
    return Line(
        number=row.number,
        agent_id=public_id("agent", row.agent_id) if row.agent_id else "",
        credential_id=public_id("credential", row.credential_id),
        provider=row.provider,
        sync=SyncResult.model_validate(row.sync) if row.sync else None,
    )


class Lines:
    """The lines of every workspace. Implements ``NumberRegistry`` (assign, lookup, unassign, lines)."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # --- the exchange's side ---------------------------------------------------------------------------------------

    async def assign(self, line: Line) -> None:
        """Put a line in service under its credential's workspace, or update the one there is.

        ``NumberAlreadyAssigned`` when the number is active under another credential.
        """
        credential_id = parse_id("credential", line.credential_id)
        fields = {
            "agent_id": parse_id("agent", line.agent_id),
            "status": "active",
            "sync": line.sync.model_dump(mode="json") if line.sync else None,
        }
        try:
            async with self._db.write() as session:
                other = await self._active(session, line.number)
                if other is not None and other.credential_id != credential_id:
                    raise NumberAlreadyAssigned(line.number, public_id("credential", other.credential_id))
                row = await session.scalar(
                    select(LineRow).where(
                        LineRow.credential_id == credential_id,
                        LineRow.number == line.number,
                        LineRow.status != word("released"),
                    )
                )
                if row is not None:
                    if row.agent_id != fields["agent_id"]:
                        row.call_handling = {}  # said of another agent's calls
                    for name, value in fields.items():
                        setattr(row, name, value)
                    return
                credential = await session.get(CredentialRow, credential_id) if credential_id else None
                if credential is None or credential_id is None:
                    raise UnknownCredential(line.credential_id)
                made = LineRow(
                    workspace_id=credential.workspace_id,
                    credential_id=credential_id,
                    provider=line.provider,
                    number=line.number,
                    **fields,
                )
                session.add(made)
        except IntegrityError:
            raise NumberAlreadyAssigned(line.number, "of another workspace") from None

    async def lookup(self, number: str) -> Line:
        """The number's active line, or ``NumberNotAssigned``."""
        row = await self._db.row(ACTIVE, number=number)
        if row is None:
            raise NumberNotAssigned(number)
        return as_line(row)

    async def unassign(self, number: str) -> None:
        """Take the number out of service; the row stays as history (``released``)."""
        async with self._db.write() as session:
            row = await self._active(session, number)
            if row is None:
                raise NumberNotAssigned(number)
            row.status, row.released_at = "released", utc_now()

    async def lines(self) -> list[Line]:
        """All lines in service, of every workspace, the oldest first."""
        async with self._db.read() as session:
            active = select(LineRow).where(LineRow.status == word("active"))
            rows = await session.scalars(active.order_by(LineRow.created_at, LineRow.number))
            return [as_line(row) for row in rows]

    # --- the faces' side -------------------------------------------------------------------------------------------

    async def create(self, credential: CredentialRow, number: str, **fields: Any) -> LineRow:
        """Hold a number under a credential; ``Taken`` when it is held there, or active anywhere (in any workspace).

        Give ``status="inactive"`` when the carrier could not be configured.
        """
        if unknown := set(fields) - CHANGEABLE:
            raise ValueError(f"not fields of a line: {', '.join(sorted(unknown))}")
        made = LineRow(
            workspace_id=credential.workspace_id,
            credential_id=credential.id,
            provider=credential.provider,
            number=number,
            **fields,
        )
        try:
            async with self._db.write() as session:
                session.add(made)
        except IntegrityError:
            raise Taken("number", number) from None
        return made

    async def get(self, workspace_id: UUID, line_id: UUID | None) -> LineRow | None:
        """The line; None when unknown, released or another workspace's."""
        if line_id is None:
            return None
        row: LineRow | None = await self._db.row(BY_ID, id=line_id)
        return row if row is not None and row.workspace_id == workspace_id and row.status != "released" else None

    async def exists(self, line_id: UUID | None, *, outside: UUID | None = None) -> bool:
        """True when the line is somebody's, ``outside`` that workspace: tells a foreign id (403) from an unknown one
        (404). A workspace's own line that was released is unknown to it, not foreign."""
        if line_id is None:
            return False
        query = select(LineRow.id).where(LineRow.id == line_id)
        if outside is not None:
            query = query.where(LineRow.workspace_id != outside)
        async with self._db.read() as session:
            return await session.scalar(query) is not None

    async def by_number(self, number: str, workspace_id: UUID | None = None) -> LineRow | None:
        """The number's line, an active one first; with ``workspace_id`` only that workspace's."""
        return next((row for row in await self.held(number) if workspace_id in (None, row.workspace_id)), None)

    async def held(self, number: str) -> list[LineRow]:
        """Every line of the number, in whichever workspace, an active one first."""
        rows: list[LineRow] = await self._db.rows(HELD, number=number)
        return rows

    async def list(
        self, workspace_id: UUID, *, agent_id: UUID | None = None, credential_id: UUID | None = None
    ) -> Sequence[LineRow]:
        """The lines held, oldest first."""
        query = select(LineRow).where(LineRow.workspace_id == workspace_id, LineRow.status != word("released"))
        if agent_id is not None:
            query = query.where(LineRow.agent_id == agent_id)
        if credential_id is not None:
            query = query.where(LineRow.credential_id == credential_id)
        async with self._db.read() as session:
            return (await session.scalars(query.order_by(LineRow.created_at, LineRow.id))).all()

    async def change(self, line_id: UUID, **fields: Any) -> LineRow:
        """Set fields (``CHANGEABLE``; ``routing`` is replaced whole); ``Taken`` when activating meets another."""
        if unknown := set(fields) - CHANGEABLE:
            raise ValueError(f"not fields of a line: {', '.join(sorted(unknown))}")
        try:
            async with self._db.write() as session:
                change = update(LineRow).where(LineRow.id == line_id).values(**fields, updated_at=utc_now())
                return (await session.scalars(change.returning(LineRow))).one()
        except IntegrityError:
            raise Taken("number", "") from None

    async def release(self, line_id: UUID) -> None:
        """Take a line out of service for good; what the carrier does with the number is the caller's business."""
        async with self._db.write() as session:
            gone = update(LineRow).where(LineRow.id == line_id, LineRow.status != word("released"))
            await session.execute(gone.values(status="released", released_at=utc_now()))

    async def _active(self, session: AsyncSession, number: str) -> LineRow | None:
        return await session.scalar(select(LineRow).where(LineRow.number == number, LineRow.status == word("active")))
