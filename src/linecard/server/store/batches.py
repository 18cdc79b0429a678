"""One batch of hot writes as rows: segments get their number and place here, in the transaction that keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, insert, select

from linecard.server.store.models import CallEventRow, CallRow, Segment
from linecard.server.store.statements import Statement, table_of
from linecard.server.store.transactions import Transaction

CALL, SEGMENT = table_of(CallRow), table_of(Segment)

PLACE = Statement(
    select(
        CALL.c.workspace_id,
        CALL.c.line_id,
        CALL.c.agent_id,
        select(func.max(SEGMENT.c.seq)).where(SEGMENT.c.call_id == CALL.c.id).scalar_subquery().label("last"),
    ).where(CALL.c.id == bindparam("id"))
)
SAY = Statement(
    insert(SEGMENT),
    columns=["call_id", "workspace_id", "line_id", "agent_id", "seq", "ts_ms", "party", "text", "created_at"],
)
NOTE = Statement(insert(table_of(CallEventRow)), columns=["call_id", "kind", "at", "payload"])


@dataclass(frozen=True, slots=True)
class CallPlace:
    """What every segment of a call repeats, and the number the next one gets."""

    workspace_id: UUID | None
    line_id: UUID | None
    agent_id: UUID | None
    next_seq: int


async def write_rows(
    tx: Transaction,
    rows: Sequence[tuple[type[Segment] | type[CallEventRow], dict[str, Any]]],
    known: Mapping[UUID, CallPlace],
) -> dict[UUID, CallPlace]:
    """Insert ``rows`` in order; the calls' counters as they are once this is committed.

    A segment of an unknown call is inserted without a workspace, which the database refuses: the caller finds out.
    """
    places: dict[UUID, CallPlace] = {}
    segments: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for table, values in rows:
        if table is CallEventRow:
            events.append(values)
            continue
        call_id: UUID = values["call_id"]
        place = places.get(call_id) or known.get(call_id) or await _place(tx, call_id)
        places[call_id] = replace(place, next_seq=place.next_seq + 1)
        segments.append(
            {
                **values,
                "workspace_id": place.workspace_id,
                "line_id": place.line_id,
                "agent_id": place.agent_id,
                "seq": place.next_seq,
            }
        )
    await tx.each(SAY, segments)
    await tx.each(NOTE, events)
    return places


async def _place(tx: Transaction, call_id: UUID) -> CallPlace:
    row = await tx.row(PLACE, id=call_id)
    if row is None:
        return CallPlace(None, None, None, 0)
    return CallPlace(row.workspace_id, row.line_id, row.agent_id, 0 if row.last is None else row.last + 1)
