"""What the REST API says of a call. Pure. It tells neither a status nor the numbers, so those are ours or absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anycarrier.calls import Call, CallStatus, DialRequest, Direction
from anycarrier_telnyx.client_state import read_client_state
from anycarrier_telnyx.envelope import moment


def dialled_call(record: Mapping[str, Any], request: DialRequest) -> Call:
    """The answer to a dial, which Telnyx has taken and not yet begun."""
    return Call(
        id=record["call_control_id"],
        provider="telnyx",
        direction=Direction.OUTBOUND,
        from_=request.from_,
        to=request.to,
        status=CallStatus.INITIATED,
        reference=request.reference,
        time_limit=request.time_limit,
        created_at=moment(record.get("start_time")),
        raw=dict(record),
    )


def fetched_call(record: Mapping[str, Any], call_id: str) -> Call:
    """The call's record. ``INITIATED`` stands for "not over": whether somebody answered is not told."""
    state = read_client_state(record.get("client_state"))
    ended_at = moment(record.get("end_time"))
    return Call(
        id=str(record.get("call_control_id") or call_id),
        provider="telnyx",
        direction=state.direction or Direction.OUTBOUND,
        from_="",
        to="",
        status=CallStatus.ENDED if ended_at else CallStatus.INITIATED,
        reference=state.reference,
        created_at=moment(record.get("start_time")),
        ended_at=ended_at,
        raw=dict(record),
    )
