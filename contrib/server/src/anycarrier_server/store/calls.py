"""Calls as the faces see them: created with their options, looked up, listed, annotated; and their recordings.

The call book (``callbook.py``) moves a call on; nothing here changes a status. Recordings are rows here: the files
themselves are elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, func, insert, select, tuple_, update

from anycarrier_server.store import call_state, new_calls
from anycarrier_server.store.columns import Page, new_id, parse_id, read_cursor, utc_now, word, write_cursor
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Agent, CallEventRow, CallRow, LineRow, Recording, SigningKey
from anycarrier_server.store.models.call_tables import PLAYABLE
from anycarrier_server.store.new_calls import NewCall
from anycarrier_server.store.statements import Statement, Transaction, as_stored, table_of

TABLE = table_of(CallRow)
BY_ID = Statement(select(TABLE).where(TABLE.c.id == bindparam("id")), into=[CallRow])
BY_CARRIER = Statement(select(TABLE).where(TABLE.c.carrier_id == bindparam("key")).limit(1), into=[CallRow])
DUE = Statement(
    select(TABLE.c.id)
    .where(
        TABLE.c.status == word("queued"), TABLE.c.scheduled_at <= bindparam("now"), TABLE.c.dial_claimed_at.is_(None)
    )
    .limit(1)
)
FOR_BLOCKING = Statement(select(TABLE).where(TABLE.c.id == bindparam("id")).with_for_update(), into=[CallRow])


def _routed() -> Any:
    line, agent, key = table_of(LineRow), table_of(Agent), table_of(SigningKey)
    return (
        select(TABLE, line, agent, key)
        .outerjoin(line, line.c.id == TABLE.c.line_id)
        .outerjoin(agent, agent.c.id == TABLE.c.agent_id)
        .outerjoin(key, key.c.agent_id == agent.c.id)
        .where(TABLE.c.id == bindparam("id"))
    )


ROUTED = Statement(_routed(), into=[CallRow, LineRow, Agent, SigningKey])


@cache
def noting(names: tuple[str, ...]) -> Statement:
    """Sets these columns of the call ``row_id``, and gives the row as it is then."""
    changed = update(TABLE).where(TABLE.c.id == bindparam("row_id")).returning(*TABLE.c)
    return Statement(changed, columns=names, into=[CallRow])


NOTES = frozenset(
    {
        "outcome", "summary", "analysis", "latency", "error", "cost_cents", "use_tts", "use_stt", "websocket_url",
        "details", "options", "answered_by", "variables", "overrides",
    }
)  # fmt: skip
"""Columns that :meth:`Calls.note` may set: all that is not the call's course."""

MATCHES = 1000
"""Calls, of all workspaces, of which a beginning of an id is looked up."""

EVENTS = 5_000
"""Of a call's log this many are read."""

COLUMN_OF = {"details": "metadata"}
"""Columns that have another name in the table: SQLAlchemy keeps this one for itself."""


@dataclass(frozen=True, slots=True)
class RoutedCall:
    """A call, its line, its agent and the agent's signing key: all that its setup is made of, read together.

    ``line`` is None when the number is no longer held, ``agent`` when the call has none.
    """

    call: CallRow
    line: LineRow | None
    agent: Agent | None
    signing_key: SigningKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which calls of a workspace to list; None and empty mean any. Times are on ``created_at``, end excluded."""

    agent_id: UUID | None = None
    line_id: UUID | None = None
    stages: Sequence[str] = ()
    direction: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    is_blocked: bool | None = None
    id_prefix: str = ""
    """Hex digits with which the id begins."""
    recorded: bool | None = None
    """Whether there is a finished recording."""

    def counted(self) -> bool:
        """True when the tally knows the number of these."""
        uncounted = (self.line_id, self.from_number, self.to_number, self.created_from, self.created_before)
        return not any((*uncounted, self.id_prefix)) and self.recorded is None


class Calls:
    """The calls of every workspace."""

    def __init__(self, db: Database, *, owner: str = "") -> None:
        self._db = db
        self._owner = owner or None

    async def create(self, new: NewCall) -> tuple[CallRow, bool]:
        """Write an outbound call down before it is dialled; the second value is False for an idempotent repeat.

        It is ``initiated``, or ``queued`` when scheduled. ``IdempotencyConflict`` when the key came with another
        body in the last 24 hours.
        """
        return await self._db.transact(lambda tx: new_calls.create(tx, new, self._owner, ()))

    async def get(self, workspace_id: UUID, call_id: UUID | None) -> CallRow | None:
        """The call; None when there is none or it is another workspace's."""
        row: CallRow | None = await self._db.row(BY_ID, id=call_id) if call_id is not None else None
        return row if row is not None and row.workspace_id == workspace_id else None

    async def find(self, key: UUID | str) -> CallRow | None:
        """Any workspace's call, by reference or carrier id: for our own processes, never for a client."""
        id_ = parse_id("call", key)
        row: CallRow | None = await self._db.row(BY_ID, id=id_) if id_ is not None else None
        if row is None and isinstance(key, str):
            row = await self._db.row(BY_CARRIER, key=key)
        return row

    async def routed(self, reference: str) -> RoutedCall | None:
        """Any workspace's call with what belongs to it; None when there is no such call."""
        found = await self._db.row(ROUTED, id=parse_id("call", reference))
        if found is None:
            return None
        call, line, agent, key = found
        return RoutedCall(call, line if line is not None and line.status != "released" else None, agent, key)

    async def exists(self, call_id: UUID | None) -> bool:
        """True when the call is somebody's: tells a foreign id (403) from an unknown one (404)."""
        return call_id is not None and await self._db.row(BY_ID, id=call_id) is not None

    async def seen(self, workspace_id: UUID, ids: Collection[UUID], *, agent_id: UUID | None) -> int:
        """How many of these calls the workspace has; with ``agent_id``, that agent has, and may see."""
        query = select(func.count()).where(CallRow.id.in_(ids), CallRow.workspace_id == workspace_id)
        if agent_id is not None:
            query = query.where(CallRow.agent_id == agent_id, CallRow.is_blocked.is_(False))
        async with self._db.read() as session:
            return await session.scalar(query) or 0

    async def page(
        self, workspace_id: UUID, which: CallFilter, *, limit: int = 50, offset: int = 0, cursor: str | None = None
    ) -> Page[CallRow]:
        """Calls, newest first. With ``cursor`` (of the page before) the cost does not grow with the page."""
        query = _filtered(select(CallRow), workspace_id, which)
        if cursor is not None:
            query = query.where(tuple_(CallRow.created_at, CallRow.id) < tuple_(*read_cursor(cursor)))
        query = query.order_by(CallRow.created_at.desc(), CallRow.id.desc()).limit(limit + 1).offset(offset)
        async with self._db.read() as session:
            rows = list(await session.scalars(query))
        more = len(rows) > limit
        rows = rows[:limit]
        return Page(rows, write_cursor(rows[-1].created_at, rows[-1].id) if more and rows else None)

    async def total(self, workspace_id: UUID, which: CallFilter) -> int:
        """How many calls a filter matches. From the tally where it can be, else counted."""
        if which.counted():
            return await call_state.total(
                self._db,
                workspace_id,
                agent_id=which.agent_id,
                stages=tuple(which.stages),
                direction=which.direction,
                is_blocked=which.is_blocked,
            )
        async with self._db.read() as session:
            return await session.scalar(_filtered(select(func.count()), workspace_id, which)) or 0

    async def note(self, call_id: UUID, **notes: Any) -> CallRow | None:
        """Set what is known beside the call's course (``NOTES``): outcome, summary, use_tts, options ...

        ``metadata`` is called ``details`` here. Returns the row as it is now, None when there is no such call.
        """
        if unknown := set(notes) - NOTES:
            raise ValueError(f"not notes of a call: {', '.join(sorted(unknown))}")
        named = {COLUMN_OF.get(name, name): value for name, value in notes.items()}
        row: CallRow | None = await self._db.act(
            noting((*named, "updated_at")), row_id=call_id, updated_at=utc_now(), **named
        )
        return row

    async def block(self, call_id: UUID) -> None:
        """Mark a call as refused by a contact rule: agents' keys never see it, subscribers hear nothing of it.

        To be called before the call ends: what was announced stays announced.
        """

        async def work(tx: Transaction) -> None:
            row = await tx.row(FOR_BLOCKING, id=call_id)
            if row is None or row.is_blocked:
                return
            was = (row.workspace_id, row.agent_id, row.direction, row.stage)
            blocked = {"row_id": row.id, "is_blocked": True, "updated_at": utc_now()}
            moved = call_state.counting(((*was, False), -1), ((*was, True), 1))
            await tx.run_joined((noting(("is_blocked", "updated_at")), blocked), moved)

        await self._db.transact(work)

    async def events(self, call_id: UUID, *, kind: str | None = None) -> list[CallEventRow]:
        """The call's log as things happened, the first :data:`EVENTS` of them (of one ``kind``); some are written down
        a moment later than others."""
        async with self._db.read() as session:
            query = select(CallEventRow).where(CallEventRow.call_id == call_id)
            if kind is not None:
                query = query.where(CallEventRow.kind == kind)
            query = query.order_by(CallEventRow.at, CallEventRow.id).limit(EVENTS)
            return list(await session.scalars(query))

    async def claim_due(self, owner: str, *, at: datetime | None = None, limit: int = 10) -> list[CallRow]:
        """Scheduled calls whose time has come, now ours to dial. Each is given out once, ever: a process that dies
        after this leaves a call that nobody dials again, because a person may be hearing it ring."""
        now = at or utc_now()
        if await self._db.row(DUE, now=now) is None:
            return []
        due = (
            select(CallRow.id)
            .where(CallRow.status == word("queued"), CallRow.scheduled_at <= now, CallRow.dial_claimed_at.is_(None))
            .order_by(CallRow.scheduled_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claim = update(CallRow).where(CallRow.id.in_(due)).values(dial_claimed_at=now, owner=owner).returning(CallRow)
        async with self._db.write() as session:
            return list(await session.scalars(claim))


def _filtered(query: Select[Any], workspace_id: UUID, which: CallFilter) -> Select[Any]:
    query = query.where(CallRow.workspace_id == workspace_id)
    for column, value in (
        (CallRow.agent_id, which.agent_id),
        (CallRow.line_id, which.line_id),
        (CallRow.direction, which.direction),
        (CallRow.from_number, which.from_number),
        (CallRow.to_number, which.to_number),
        (CallRow.is_blocked, which.is_blocked),
    ):
        if value is not None:
            query = query.where(column == value)
    if which.stages:
        query = query.where(CallRow.stage.in_(which.stages))
    if which.created_from is not None:
        query = query.where(CallRow.created_at >= which.created_from)
    if which.created_before is not None:
        query = query.where(CallRow.created_at < which.created_before)
    if which.id_prefix:
        first, last = (UUID(which.id_prefix.ljust(32, digit)) for digit in "0f")
        # Found by the primary key first: the index that keeps the order would be read from end to end.
        query = query.where(CallRow.id.in_(select(CallRow.id).where(CallRow.id.between(first, last)).limit(MATCHES)))
    if which.recorded is not None:
        whole = select(Recording.id).where(Recording.call_id == CallRow.id, Recording.status.in_(PLAYABLE)).exists()
        query = query.where(whole if which.recorded else ~whole)
    return query


RECORDING = table_of(Recording)
OF_CALL = Statement(
    select(RECORDING).where(RECORDING.c.call_id == bindparam("call_id")).order_by(RECORDING.c.created_at),
    into=[Recording],
)
BEGIN_RECORDING = Statement(
    insert(RECORDING),
    columns=["id", "call_id", "workspace_id", "path", "format", "channels", "status", "created_at", "updated_at"],
)
FINISH_RECORDING = Statement(
    update(RECORDING).where(RECORDING.c.id == bindparam("row_id")), columns=["status", "duration", "size", "updated_at"]
)


class Recordings:
    """The recordings of every call."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, workspace_id: UUID, call_id: UUID, path: str, *, format: str, channels: int = 2) -> Recording:
        """A recording that is being written to ``path`` (relative to the recordings folder)."""
        now = utc_now()
        values = {
            "id": new_id(), "call_id": call_id, "workspace_id": workspace_id, "path": path, "format": format,
            "channels": channels, "status": "in_progress", "created_at": now, "updated_at": now,
        }  # fmt: skip
        await self._db.act(BEGIN_RECORDING, **values)
        return as_stored(Recording, values)

    async def finish(
        self, recording_id: UUID, *, status: str = "completed", duration: float | None = None, size: int | None = None
    ) -> None:
        """It is whole (``completed``), as much of it as the disk took (``cut``), or nothing (``failed``); duration in
        seconds, size in bytes."""
        known = {"status": status, "duration": duration, "size": size, "updated_at": utc_now()}
        await self._db.act(FINISH_RECORDING, row_id=recording_id, **known)

    async def recorded(self, calls: Sequence[UUID]) -> set[UUID]:
        """Those of the calls, some hundreds at most, that have a recording."""
        async with self._db.read() as session:
            return set(await session.scalars(select(Recording.call_id).where(Recording.call_id.in_(calls))))

    async def of_call(self, call_id: UUID) -> Sequence[Recording]:
        """A call's recordings, oldest first."""
        return await self._db.rows(OF_CALL, call_id=call_id)
