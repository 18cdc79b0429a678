"""The exchange's call book on the database: calls in progress, seen and changed by every process.

A change is one transaction: the row is locked, read, changed and written, and with it go the call's log, the tally,
the minutes used, and what subscribers will be told. Either all of it happened or none of it did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, insert, or_, select, update

from linecard.calls import Call, CallStatus, Direction, EndReason
from linecard.errors import UnknownCall, UnknownCredential
from linecard.server.store import tallies
from linecard.server.store.columns import utc_now, word
from linecard.server.store.database import Database
from linecard.server.store.ids import new_id, parse_id, public_id
from linecard.server.store.limits import settle
from linecard.server.store.models import Agent, CallEventRow, CallRow, CredentialRow, LineRow, OutboxEvent
from linecard.server.store.stages import announcements, call_events, once_key, stage_of
from linecard.server.store.statements import Statement, table_of
from linecard.server.store.transactions import Transaction

TABLE = table_of(CallRow)
CREDENTIAL, LINE, AGENT = table_of(CredentialRow), table_of(LineRow), table_of(Agent)

SNAPSHOT = select(
    *(
        TABLE.c[name]
        for name in (
            "id", "workspace_id", "provider", "credential_id", "agent_id", "carrier_id", "direction", "from_number",
            "to_number", "status", "stage", "reason", "intent", "carrier_status", "sip_code", "answered_by",
            "time_limit", "is_blocked", "created_at", "answered_at", "ended_at", "raw",
        )
    )
)  # fmt: skip
BY_ID = SNAPSHOT.where(TABLE.c.id == bindparam("id"))
BY_CARRIER = SNAPSHOT.where(TABLE.c.carrier_id == bindparam("key")).order_by(TABLE.c.created_at.desc()).limit(1)
READ = (Statement(BY_ID), Statement(BY_CARRIER))
LOCK = (Statement(BY_ID.with_for_update()), Statement(BY_CARRIER.with_for_update()))
TAKEN = Statement(
    SNAPSHOT.where(
        or_(
            TABLE.c.id == bindparam("id"),
            and_(TABLE.c.credential_id == bindparam("credential_id"), TABLE.c.carrier_id == bindparam("carrier_id")),
        )
    )
)
# A scheduled call that nobody has begun to dial is not in progress: it holds no line yet.
LIVE = Statement(
    SNAPSHOT.where(
        TABLE.c.status != word("ended"), or_(TABLE.c.scheduled_at.is_(None), TABLE.c.dial_claimed_at.is_not(None))
    )
)
PLACE = Statement(
    select(CREDENTIAL.c.workspace_id, LINE.c.id.label("line_id"), AGENT.c.id.label("agent_id"))
    .select_from(CREDENTIAL)
    .outerjoin(
        LINE,
        and_(
            LINE.c.credential_id == CREDENTIAL.c.id,
            LINE.c.number == bindparam("number"),
            LINE.c.status != word("released"),
        ),
    )
    .outerjoin(AGENT, and_(AGENT.c.id == bindparam("agent"), AGENT.c.workspace_id == CREDENTIAL.c.workspace_id))
    .where(CREDENTIAL.c.id == bindparam("credential"))
)
EMPTY: dict[str, Any] = {"variables": {}, "metadata": {}, "overrides": {}, "options": {}, "is_blocked": False}
"""What a call that nobody asked for has of these."""
OPEN = Statement(
    lambda insert: insert(TABLE).on_conflict_do_nothing().returning(TABLE.c.id),
    columns=[
        "id", "workspace_id", "provider", "credential_id", "line_id", "agent_id", "carrier_id", "direction",
        "from_number", "to_number", "status", "stage", "reason", "intent", "carrier_status", "sip_code", "answered_by",
        "time_limit", "raw", "created_at", "answered_at", "ended_at", "updated_at", "owner", *EMPTY,
    ],
)  # fmt: skip
LOG = Statement(insert(table_of(CallEventRow)), columns=["call_id", "kind", "at", "payload"])
TELL = Statement(
    lambda insert: insert(table_of(OutboxEvent)).on_conflict_do_nothing(),
    columns=["event_id", "workspace_id", "call_id", "kind", "at", "payload", "dedupe"],
)


@cache
def changing(names: tuple[str, ...]) -> Statement:
    """Sets these columns of the call ``row_id``."""
    return Statement(update(TABLE).where(TABLE.c.id == bindparam("row_id")), columns=names)


def as_call(row: Any) -> Call:
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
        id_ = parse_id("call", call.reference) or new_id()
        now = utc_now()

        async def work(tx: Transaction) -> tuple[Call, bool]:
            workspace_id, place = await self._place(tx, call)
            values = {
                **EMPTY,
                **as_columns(call),
                **place,
                "workspace_id": workspace_id,
                "id": id_,
                "created_at": call.created_at or now,
                "updated_at": now,
                "owner": self._owner,
            }
            if await tx.value(OPEN, **values) is None:
                known = {"id": id_, "credential_id": place["credential_id"], "carrier_id": call.id}
                return as_call(await tx.row(TAKEN, **known)), False
            sort = (workspace_id, place["agent_id"], call.direction.value, values["stage"], False)
            await tallies.count(tx, (sort, 1))
            # What a call brings with it when it is first seen (already answered, say) is told as well.
            nothing = call.model_copy(
                update={"status": CallStatus.QUEUED, "answered_at": None, "ended_at": None, "answered_by": None}
            )
            told = await _record(tx, id_, workspace_id, nothing, call, tell=True)
            return call.model_copy(update={"reference": id_.hex, "created_at": values["created_at"]}), told

        opened, told = await self._db.transact(work)
        if told:
            self._announce()
        return opened

    async def get(self, key: str) -> Call | None:
        row = await self._db.look(lambda tx: _find(tx, key, READ))
        return as_call(row) if row is not None else None

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        async def work(tx: Transaction) -> tuple[Call, bool]:
            row = await _find(tx, key, LOCK)
            if row is None:
                raise UnknownCall(key)
            before = as_call(row)
            after = change(before)
            if after is before or after == before:
                return before, False
            changed = {
                name: value
                for (name, value), old in zip(as_columns(after).items(), as_columns(before).values(), strict=True)
                if value != old
            }
            changed["updated_at"] = utc_now()
            if after.agent_id != before.agent_id:
                changed["agent_id"] = parse_id("agent", after.agent_id)
            await tx.run(changing(tuple(changed)), row_id=row.id, **changed)
            agent_id, stage = changed.get("agent_id", row.agent_id), changed.get("stage", row.stage)
            was = (row.workspace_id, row.agent_id, row.direction, row.stage, row.is_blocked)
            now_is = (row.workspace_id, agent_id, after.direction.value, stage, row.is_blocked)
            if was != now_is:
                await tallies.count(tx, (was, -1), (now_is, 1))
            return after, await _record(tx, row.id, row.workspace_id, before, after, tell=not row.is_blocked)

        after, told = await self._db.transact(work)
        if told:
            self._announce()
        return after

    async def in_progress(self) -> list[Call]:
        return [as_call(row) for row in await self._db.rows(LIVE)]

    async def _place(self, tx: Transaction, call: Call) -> tuple[UUID, dict[str, UUID | None]]:
        """Whose call it is: the workspace; then credential, line and agent, as far as they are ours."""
        credential_id = parse_id("credential", call.credential_id)
        agent = parse_id("agent", call.agent_id)
        found = None
        if credential_id is not None:
            found = await tx.row(PLACE, credential=credential_id, number=call.line_number, agent=agent)
        if found is None:
            raise UnknownCredential(call.credential_id)
        return found.workspace_id, {
            "credential_id": credential_id, "line_id": found.line_id, "agent_id": found.agent_id
        }  # fmt: skip


async def _find(tx: Transaction, key: str, statements: Sequence[Statement]) -> Any:
    """By our reference first, then by the carrier's id: some carriers' ids look like uuids too."""
    if not key:
        return None
    by_id, by_carrier = statements
    id_ = parse_id("call", key)
    row = await tx.row(by_id, id=id_) if id_ is not None else None
    return row if row is not None else await tx.row(by_carrier, key=key)


async def _record(
    tx: Transaction, id_: UUID, workspace_id: UUID, before: Call, after: Call, *, tell: bool
) -> bool:
    """The call's log, what subscribers will be told, the minutes used; whether there is anything to tell."""
    now = utc_now()
    if events := call_events(before, after, now):
        await tx.each(LOG, [{"call_id": id_, "kind": kind, "at": at, "payload": facts} for kind, at, facts in events])
    told = announcements(before, after, now) if tell else []
    if told:
        rows = [
            {
                "event_id": new_id(),
                "workspace_id": workspace_id,
                "call_id": id_,
                "kind": kind,
                "at": at,
                "payload": facts,
                "dedupe": once_key(id_.hex, kind),
            }
            for kind, at, facts in told
        ]
        await tx.each(TELL, rows)
    if after.ended and not before.ended:
        await settle(tx, id_, after.duration)
    return bool(told)
