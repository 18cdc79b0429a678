"""A call as the exchange knows it, from its row and to it: the statements, and both translations."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ColumnClause, and_, bindparam, literal_column, or_, select, update

from anycarrier.calls import Call, CallStatus, Direction, EndReason, TransferStatus
from anycarrier_server.store.columns import public_id, word
from anycarrier_server.store.models import CallRow
from anycarrier_server.store.stages import stage_of
from anycarrier_server.store.statements import Statement, table_of

TABLE = table_of(CallRow)

SNAPSHOT = select(
    *(
        TABLE.c[name]
        for name in (
            "id", "workspace_id", "provider", "credential_id", "agent_id", "carrier_id", "direction", "from_number",
            "to_number", "status", "stage", "reason", "intent", "transfer", "carrier_status", "carrier_reason",
            "sip_code", "answered_by", "time_limit", "is_blocked", "created_at", "answered_at", "ended_at", "raw",
            "owner",
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
        "answered_at": call.answered_at,
        "ended_at": call.ended_at,
        "raw": dict(call.raw),
        "owner": call.owner or None,
    }
