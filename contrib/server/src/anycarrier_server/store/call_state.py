"""A call in the database: its row as the exchange's :class:`Call` and back, and all that a change of it writes.

A change writes the row, the call's log, the count of calls by kind, and what subscribers will be told. A *stage* is how
far a call has come, in the one word that both faces list and filter by.

Counts: opening a call or moving it on adds rows of +1 and -1, whose sum is the count. Nothing is updated, so no writer
waits for another. A reader that had to add up many rows folds them into one for each kind.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnClause, and_, bindparam, delete, func, literal_column, or_, select, update

from anycarrier.calls import Call, CallStatus, Direction, EndReason, Price, TransferStatus
from anycarrier_server.store.columns import id_among, public_id, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallEventRow, CallRow, CallTally
from anycarrier_server.store.statements import Act, Rows, Statement, Transaction, table_of

TABLE = table_of(CallRow)

SNAPSHOT = select(
    *(
        TABLE.c[name]
        for name in (
            "id", "workspace_id", "provider", "credential_id", "agent_id", "carrier_id", "direction", "from_number",
            "to_number", "status", "stage", "reason", "intent", "transfer", "carrier_status", "carrier_reason",
            "sip_code", "answered_by", "time_limit", "is_blocked", "created_at", "answered_at", "ended_at", "raw",
            "owner", "price", "facts",
        )
    )
)  # fmt: skip
BY_ID = SNAPSHOT.where(TABLE.c.id == bindparam("id"))
BY_CARRIER = SNAPSHOT.where(TABLE.c.carrier_id == bindparam("key")).order_by(TABLE.c.created_at.desc()).limit(1)
READ = (Statement(BY_ID), Statement(BY_CARRIER))
# PostgreSQL's own mark of who wrote a row last: a row that has it still is the row that was read.
VERSION: ColumnClause[str] = literal_column("calls.xmin::text")
READ_VERSION = tuple(Statement(query.add_columns(VERSION.label("version"))) for query in (BY_ID, BY_CARRIER))
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

ENDING = Statement(
    SNAPSHOT.where(
        id_among(TABLE.c.id, bindparam("ids")), or_(TABLE.c.intent.is_not(None), TABLE.c.status == word("ended"))
    )
)


@cache
def changing(names: tuple[str, ...]) -> Statement:
    """Sets these columns of the call ``row_id``."""
    return Statement(update(TABLE).where(TABLE.c.id == bindparam("row_id")), columns=names)


@cache
def changing_version(names: tuple[str, ...]) -> Statement:
    """The same, unless somebody else has changed the row since."""
    unchanged = update(TABLE).where(TABLE.c.id == bindparam("row_id"), bindparam("version") == VERSION)
    return Statement(unchanged.returning(TABLE.c.id), columns=names)


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
        owner=row.owner or "",
        reason=EndReason(row.reason) if row.reason else None,
        intent=EndReason(row.intent) if row.intent else None,
        transfer=TransferStatus(row.transfer) if row.transfer else None,
        carrier_status=row.carrier_status,
        carrier_reason=EndReason(row.carrier_reason) if row.carrier_reason else None,
        sip_code=row.sip_code,
        answered_by=row.answered_by,
        time_limit=row.time_limit,
        price=Price.model_validate(row.price) if row.price else None,
        facts=row.facts or {},
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
        "stage": stage_of(call),
        "reason": call.reason and call.reason.value,
        "intent": call.intent and call.intent.value,
        "transfer": call.transfer and call.transfer.value,
        "carrier_status": call.carrier_status,
        "carrier_reason": call.carrier_reason and call.carrier_reason.value,
        "sip_code": call.sip_code,
        "answered_by": call.answered_by,
        "time_limit": call.time_limit,
        "price": call.price and call.price.model_dump(mode="json"),
        "facts": dict(call.facts) or None,
        "answered_at": call.answered_at,
        "ended_at": call.ended_at,
        "raw": dict(call.raw),
        "owner": call.owner or None,
    }


def stage_of(call: Call) -> str:
    """``completed`` is over after somebody answered; ``failed`` is over before, or because our agent failed."""
    if call.status is CallStatus.ENDED:
        return "failed" if call.answered_at is None or call.reason is EndReason.AGENT_ERROR else "completed"
    if call.status is CallStatus.ANSWERED:
        return "in_progress"
    return "queued" if call.status is CallStatus.QUEUED else "initiated"


TRANSFER_EVENTS = {
    TransferStatus.REQUESTED: "call.transfer_requested",
    TransferStatus.ANSWERED: "call.transferred",
    None: "call.transfer_failed",
}

Happening = tuple[str, datetime, dict[str, Any]]
"""Kind, when, details."""


def call_events(before: Call, after: Call, now: datetime) -> list[Happening]:
    """What happened between two snapshots of a call, for its log."""
    found: list[Happening] = []
    if after.intent is not before.intent and after.intent is not None:
        found.append(("call.end_requested", now, {"reason": after.intent.value}))
    if after.transfer is not before.transfer:
        found.append((TRANSFER_EVENTS[after.transfer], now, {}))
    if after.answered_by != before.answered_by and after.answered_by is not None:
        found.append(("call.answered_by", now, {"answered_by": after.answered_by}))
    if after.status is not before.status:
        at = {CallStatus.ANSWERED: after.answered_at, CallStatus.ENDED: after.ended_at}.get(after.status) or now
        details: dict[str, Any] = {"carrier_status": after.carrier_status}
        if after.ended:
            details |= {"reason": after.reason and after.reason.value, "sip_code": after.sip_code}
        found.append((f"call.{after.status.value}", at, details))
    elif after.ended and (after.reason, after.answered_at) != (before.reason, before.answered_at):
        answered_at = after.answered_at and after.answered_at.isoformat()
        reason = after.reason and after.reason.value
        corrected = {"reason": reason, "answered_at": answered_at, "duration_seconds": after.duration}
        found.append(("call.corrected", now, corrected))
    return found


def announcements(before: Call, after: Call, now: datetime) -> list[Happening]:
    """What subscribers hear of it: ``call.started`` once, and one of ``call.ended`` / ``call.failed`` once.

    What was told of an end stands: when a later word of the carrier's corrects it, the call shows that, and its log.
    """
    found: list[Happening] = []
    if after.answered_at is not None and before.answered_at is None and not before.ended:
        found.append(("call.started", after.answered_at, {}))
    if after.ended and not before.ended:
        stage = stage_of(after)
        kind = "call.failed" if stage == "failed" else "call.ended"
        details = {
            "stage": stage,
            "reason": after.reason and after.reason.value,
            "duration_seconds": after.duration,
            "carrier_status": after.carrier_status,
            "sip_code": after.sip_code,
        }
        found.append((kind, after.ended_at or now, details))
    return found


def once_key(reference: str, kind: str) -> str:
    """The key under which an announcement can be made only once; ended and failed share theirs."""
    return f"{reference}:{'over' if kind in ('call.ended', 'call.failed') else kind}"


FOLD_ABOVE = 500
FOLD_AT_ONCE = 20_000

Sort = tuple[UUID, UUID | None, str, str, bool]
"""Workspace, agent, direction, stage, blocked."""

TALLY = table_of(CallTally)
SORT_COLUMNS = ("workspace_id", "agent_id", "direction", "stage", "is_blocked")
ADD_TO_TALLY = Rows(CallTally, [*SORT_COLUMNS, "delta"])
# Only rows already visible are taken, so a change that commits meanwhile stays as it is.
TAKE_FROM_TALLY = Statement(
    delete(TALLY)
    .where(
        TALLY.c.id.in_(
            select(TALLY.c.id)
            .where(TALLY.c.workspace_id == bindparam("workspace_id"))
            .limit(FOLD_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
    )
    .returning(*(TALLY.c[name] for name in SORT_COLUMNS), TALLY.c.delta)
)


def counting(*changes: tuple[Sort, int]) -> Act:
    """What adds changes to the tally, in the caller's transaction."""
    return ADD_TO_TALLY.of([{**dict(zip(SORT_COLUMNS, sort, strict=True)), "delta": delta} for sort, delta in changes])


async def total(
    db: Database,
    workspace_id: UUID,
    *,
    agent_id: UUID | None = None,
    stages: tuple[str, ...] = (),
    direction: str | None = None,
    is_blocked: bool | None = None,
) -> int:
    """The number of calls of a sort; None and empty mean any."""
    query = select(func.coalesce(func.sum(CallTally.delta), 0), func.count()).where(
        CallTally.workspace_id == workspace_id
    )
    if agent_id is not None:
        query = query.where(CallTally.agent_id == agent_id)
    if stages:
        query = query.where(CallTally.stage.in_(stages))
    if direction is not None:
        query = query.where(CallTally.direction == direction)
    if is_blocked is not None:
        query = query.where(CallTally.is_blocked == is_blocked)
    async with db.read() as session:
        found, rows = (await session.execute(query)).one()
    if rows > FOLD_ABOVE:
        await fold(db, workspace_id)
    return int(found)


async def fold(db: Database, workspace_id: UUID) -> None:
    """Replace many small changes by their sums; what somebody else is folding is left to them."""

    async def work(tx: Transaction) -> None:
        sums: dict[Sort, int] = {}
        for *sort, delta in await tx.rows(TAKE_FROM_TALLY, workspace_id=workspace_id):
            key: Sort = tuple(sort)  # the columns are SORT_COLUMNS's
            sums[key] = sums.get(key, 0) + delta
        if changes := [(sort, delta) for sort, delta in sums.items() if delta]:
            await tx.run_joined(counting(*changes))

    await db.transact(work)


LOG = Rows(CallEventRow, ["call_id", "kind", "at", "payload"])
