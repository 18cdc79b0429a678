"""One batch of hot writes as rows: segments get their number and place here, in the transaction that keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Text, bindparam, cast, func, insert, select

from anycarrier_server.store.columns import new_id, word
from anycarrier_server.store.models import CallEventRow, CallRow, OutboxEvent, Segment, Subscription
from anycarrier_server.store.statements import Rows, Statement, table_of
from anycarrier_server.store.transactions import Transaction

CALL, SEGMENT, WANTS = table_of(CallRow), table_of(Segment), table_of(Subscription)

PARTIAL = "transcript.partial"

PLACE = Statement(
    select(
        CALL.c.workspace_id,
        CALL.c.line_id,
        CALL.c.agent_id,
        CALL.c.is_blocked,
        CALL.c.webhook_url,
        select(WANTS.c.id)
        .where(
            WANTS.c.workspace_id == CALL.c.workspace_id,
            WANTS.c.status == word("active"),
            WANTS.c.deleted_at.is_(None),
            cast(WANTS.c.events, Text).like(f'%"{PARTIAL}"%'),
        )
        .exists()
        .label("wanted"),
        select(func.max(SEGMENT.c.seq)).where(SEGMENT.c.call_id == CALL.c.id).scalar_subquery().label("last"),
    ).where(CALL.c.id == bindparam("id"))
)
SAY = Statement(
    insert(SEGMENT),
    columns=["call_id", "workspace_id", "line_id", "agent_id", "seq", "ts_ms", "party", "text", "created_at"],
)
TELL = Rows(OutboxEvent, ["event_id", "workspace_id", "call_id", "kind", "at", "payload"])
NOTE = Statement(insert(table_of(CallEventRow)), columns=["call_id", "kind", "at", "payload"])


@dataclass(frozen=True, slots=True)
class CallPlace:
    """What every segment of a call repeats, the number the next one gets, and whether anybody is told of it at once.

    That is found out once for a call: who subscribes in the middle of one hears of the next.
    """

    workspace_id: UUID | None
    line_id: UUID | None
    agent_id: UUID | None
    next_seq: int
    told: bool


async def write_rows(
    tx: Transaction,
    rows: Sequence[tuple[type[Segment] | type[CallEventRow], dict[str, Any]]],
    known: Mapping[UUID, CallPlace],
) -> tuple[dict[UUID, CallPlace], bool]:
    """Insert ``rows`` in order; the calls' counters as they are once this is committed, and whether there is anything
    to tell subscribers.

    A segment of an unknown call is inserted without a workspace, which the database refuses: the caller finds out.
    """
    places: dict[UUID, CallPlace] = {}
    segments: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
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
        if place.told:
            told.append(
                {
                    "event_id": new_id(),
                    "workspace_id": place.workspace_id,
                    "call_id": call_id,
                    "kind": PARTIAL,
                    "at": values["created_at"],
                    "payload": {"party": values["party"], "text": values["text"]},
                }
            )
    await tx.each(SAY, segments)
    await tx.each(NOTE, events)
    if told:
        await tx.together(TELL.of(told))
    return places, bool(told)


async def _place(tx: Transaction, call_id: UUID) -> CallPlace:
    row = await tx.row(PLACE, id=call_id)
    if row is None:
        return CallPlace(None, None, None, 0, False)
    told = not row.is_blocked and (row.wanted or row.webhook_url is not None)
    return CallPlace(row.workspace_id, row.line_id, row.agent_id, 0 if row.last is None else row.last + 1, told)
