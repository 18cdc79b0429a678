"""One batch of hot rows into a transaction: numbers the segments, and inserts each table's rows at one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, insert, select

from linecard.server.store.models import CallEventRow, CallRow, Segment


@dataclass(frozen=True, slots=True)
class CallPlace:
    """What every segment of a call repeats, and the number the next one gets."""

    workspace_id: UUID | None
    line_id: UUID | None
    agent_id: UUID | None
    next_seq: int


def write_rows(
    connection: Connection,
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
        place = places.get(call_id) or known.get(call_id) or _place(connection, call_id)
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
    if segments:
        connection.execute(insert(Segment), segments)
    if events:
        connection.execute(insert(CallEventRow), events)
    return places


def _place(connection: Connection, call_id: UUID) -> CallPlace:
    last = select(func.max(Segment.seq)).where(Segment.call_id == call_id).scalar_subquery()
    query = select(CallRow.workspace_id, CallRow.line_id, CallRow.agent_id, last).where(CallRow.id == call_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return CallPlace(None, None, None, 0)
    return CallPlace(row[0], row[1], row[2], 0 if row[3] is None else row[3] + 1)
