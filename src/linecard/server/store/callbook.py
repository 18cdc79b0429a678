"""The exchange's call book on the database: calls in progress, seen and changed by every process.

A change is one transaction: the row is locked, read, changed and written, and with it go the call's log, the tally,
the minutes used, and what subscribers will be told. Either all of it happened or none of it did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from linecard.calls import Call, CallStatus, Direction, EndReason
from linecard.errors import UnknownCall, UnknownCredential
from linecard.server.store import tallies
from linecard.server.store.columns import utc_now, word
from linecard.server.store.database import Database
from linecard.server.store.ids import new_id, parse_id, public_id
from linecard.server.store.limits import settle
from linecard.server.store.models import Agent, CallEventRow, CallRow, CredentialRow, LineRow, OutboxEvent
from linecard.server.store.stages import announcements, call_events, once_key, stage_of

COLUMNS = (
    CallRow.id,
    CallRow.workspace_id,
    CallRow.provider,
    CallRow.credential_id,
    CallRow.agent_id,
    CallRow.carrier_id,
    CallRow.direction,
    CallRow.from_number,
    CallRow.to_number,
    CallRow.status,
    CallRow.stage,
    CallRow.reason,
    CallRow.intent,
    CallRow.carrier_status,
    CallRow.sip_code,
    CallRow.answered_by,
    CallRow.time_limit,
    CallRow.is_blocked,
    CallRow.created_at,
    CallRow.answered_at,
    CallRow.ended_at,
    CallRow.raw,
)


def as_call(row: Row[Any] | CallRow) -> Call:
    """The exchange's view of a stored call."""
    return Call(
        id=row.carrier_id or "",
        provider=row.provider,
        direction=Direction(row.direction),
        from_=row.from_number,
        to=row.to_number,
        status=CallStatus(row.status),
        reference=row.id.hex,
        credential_id=public_id("credential", row.credential_id) if row.credential_id else "",
        agent_id=public_id("agent", row.agent_id) if row.agent_id else None,
        reason=EndReason(row.reason) if row.reason else None,
        intent=EndReason(row.intent) if row.intent else None,
        carrier_status=row.carrier_status,
        sip_code=row.sip_code,
        answered_by=row.answered_by,
        time_limit=row.time_limit,
        created_at=row.created_at,
        answered_at=row.answered_at,
        ended_at=row.ended_at,
        raw=row.raw,
    )


def as_columns(call: Call) -> dict[str, Any]:
    """The columns that follow from a snapshot."""
    return {
        "provider": call.provider,
        "carrier_id": call.id or None,
        "direction": call.direction.value,
        "from_number": call.from_,
        "to_number": call.to,
        "status": call.status.value,
        "stage": stage_of(call.status, call.answered_at),
        "reason": call.reason and call.reason.value,
        "intent": call.intent and call.intent.value,
        "carrier_status": call.carrier_status,
        "sip_code": call.sip_code,
        "answered_by": call.answered_by,
        "time_limit": call.time_limit,
        "answered_at": call.answered_at,
        "ended_at": call.ended_at,
        "raw": dict(call.raw),
    }


class SqlCallBook:
    """:class:`linecard.callbook.CallBook`. ``on_announcement`` is called after commits that put something in the
    outbox; ``owner`` names this process on the calls it opens."""

    def __init__(self, db: Database, *, owner: str = "", on_announcement: Callable[[], None] | None = None) -> None:
        self._db = db
        self._owner = owner or None
        self._announce = on_announcement or (lambda: None)

    async def open(self, call: Call) -> Call:
        """Write a new call down, or return the one already known by its reference or carrier id.

        ``UnknownCredential`` when the call's credential is not in the store: without it nobody owns the call.
        """
        async with self._db.write() as session:
            workspace_id, place = await self._place(session, call)
            insert_ = sqlite_insert if self._db.sqlite else postgresql_insert
            id_ = parse_id("call", call.reference) or new_id()
            now = utc_now()
            values = {
                **as_columns(call),
                **place,
                "workspace_id": workspace_id,
                "id": id_,
                "created_at": call.created_at or now,
                "updated_at": now,
                "owner": self._owner,
            }
            made = await session.execute(
                insert_(CallRow).values(values).on_conflict_do_nothing().returning(CallRow.id)
            )
            if made.scalar_one_or_none() is None:
                known = or_(
                    CallRow.id == id_,
                    and_(CallRow.credential_id == place["credential_id"], CallRow.carrier_id == call.id),
                )
                return as_call((await session.execute(select(*COLUMNS).where(known))).one())
            sort = (workspace_id, place["agent_id"], call.direction.value, values["stage"], False)
            await tallies.count(session, (sort, 1))
            # What a call brings with it when it is first seen (already answered, say) is told as well.
            nothing = call.model_copy(
                update={"status": CallStatus.QUEUED, "answered_at": None, "ended_at": None, "answered_by": None}
            )
            await self._record(session, id_, workspace_id, nothing, call, told=True)
        self._announce()
        return call.model_copy(update={"reference": id_.hex, "created_at": values["created_at"]})

    async def get(self, key: str) -> Call | None:
        async with self._db.read() as session:
            row = await self._find(session, key)
        return as_call(row) if row is not None else None

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        async with self._db.write() as session:
            row = await self._find(session, key, lock=True)
            if row is None:
                raise UnknownCall(key)
            before = as_call(row)
            after = change(before)
            if after is before or after == before:
                return before
            changed = {
                name: value
                for (name, value), old in zip(as_columns(after).items(), as_columns(before).values(), strict=True)
                if value != old
            }
            changed["updated_at"] = utc_now()
            if after.agent_id != before.agent_id:
                changed["agent_id"] = parse_id("agent", after.agent_id)
            await session.execute(update(CallRow).where(CallRow.id == row.id).values(**changed))
            agent_id, stage = changed.get("agent_id", row.agent_id), changed.get("stage", row.stage)
            was = (row.workspace_id, row.agent_id, row.direction, row.stage, row.is_blocked)
            now_is = (row.workspace_id, agent_id, after.direction.value, stage, row.is_blocked)
            if was != now_is:
                await tallies.count(session, (was, -1), (now_is, 1))
            await self._record(session, row.id, row.workspace_id, before, after, told=not row.is_blocked)
        self._announce()
        return after

    async def in_progress(self) -> list[Call]:
        async with self._db.read() as session:
            # A scheduled call that nobody has begun to dial is not in progress: it holds no line yet.
            begun = or_(CallRow.scheduled_at.is_(None), CallRow.dial_claimed_at.is_not(None))
            rows = await session.execute(select(*COLUMNS).where(CallRow.status != word("ended"), begun))
            return [as_call(row) for row in rows]

    async def _find(self, session: AsyncSession, key: str, *, lock: bool = False) -> Row[Any] | None:
        """By our reference first, then by the carrier's id: some carriers' ids look like uuids too."""
        if not key:
            return None
        id_ = parse_id("call", key)
        for condition in (CallRow.id == id_ if id_ else None, CallRow.carrier_id == key):
            if condition is None:
                continue
            query = select(*COLUMNS).where(condition).order_by(CallRow.created_at.desc()).limit(1)
            row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
            if row is not None:
                return row
        return None

    async def _place(self, session: AsyncSession, call: Call) -> tuple[UUID, dict[str, UUID | None]]:
        """Whose call it is: the workspace; then credential, line and agent, as far as they are ours."""
        credential_id = parse_id("credential", call.credential_id)
        line = and_(
            LineRow.credential_id == CredentialRow.id,
            LineRow.number == call.line_number,
            LineRow.status != word("released"),
        )
        agent = and_(
            Agent.id == parse_id("agent", call.agent_id), Agent.workspace_id == CredentialRow.workspace_id
        )
        query = (
            select(CredentialRow.workspace_id, LineRow.id, Agent.id)
            .select_from(CredentialRow)
            .outerjoin(LineRow, line)
            .outerjoin(Agent, agent)
            .where(CredentialRow.id == credential_id)
        )
        found = (await session.execute(query)).one_or_none() if credential_id else None
        if found is None:
            raise UnknownCredential(call.credential_id)
        workspace_id, line_id, agent_id = found
        return workspace_id, {"credential_id": credential_id, "line_id": line_id, "agent_id": agent_id}

    async def _record(
        self, session: AsyncSession, id_: UUID, workspace_id: UUID, before: Call, after: Call, *, told: bool
    ) -> None:
        now = utc_now()
        if events := call_events(before, after, now):
            rows = [{"call_id": id_, "kind": kind, "at": at, "payload": payload} for kind, at, payload in events]
            await session.execute(insert(CallEventRow), rows)
        if told and (found := announcements(before, after, now)):
            outbox = [
                {
                    "workspace_id": workspace_id,
                    "call_id": id_,
                    "kind": kind,
                    "at": at,
                    "payload": payload,
                    "dedupe": once_key(id_.hex, kind),
                }
                for kind, at, payload in found
            ]
            insert_ = sqlite_insert if self._db.sqlite else postgresql_insert
            await session.execute(insert_(OutboxEvent).on_conflict_do_nothing(), outbox)
        if after.ended and not before.ended:
            await settle(session, id_, after.duration)
