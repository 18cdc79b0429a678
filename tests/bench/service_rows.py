"""A million calls and as many transcript segments, by the databases' own bulk loading."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert

from anycarrier_server.store import Store
from anycarrier_server.store.columns import new_id, utc_now
from anycarrier_server.store.models import CallRow, LineRow, Segment

BATCH = 5_000
WORDS = [f"wanted{number}" for number in range(200)]
COMMON = "yes no please thank you the appointment tomorrow morning at nine in your office would be fine".split()


async def seed(store: Store, line: LineRow, rows: int) -> list[UUID]:
    """``rows`` calls on ``line`` with a segment each. Each of ``WORDS`` is in at most 1,000 segments, the common words
    in all; gives some of the calls' ids."""
    draw = random.Random(4)
    begin = utc_now() - timedelta(days=90)
    often = max(1, min(1000, rows // len(WORDS)))
    step = rows / (len(WORDS) * often)
    some: list[UUID] = []
    rare = {int(n * step): WORDS[n % len(WORDS)] for n in range(len(WORDS) * often)}
    for start in range(0, rows, BATCH):
        calls: list[dict[str, Any]] = []
        segments: list[dict[str, Any]] = []
        for number in range(start, min(start + BATCH, rows)):
            at = begin + timedelta(seconds=number * 7)
            call_id = new_id()
            calls.append(
                {"id": call_id, "workspace_id": line.workspace_id, "credential_id": line.credential_id,
                 "line_id": line.id, "agent_id": line.agent_id, "provider": "twilio", "direction": "inbound",
                 "from_number": "+12125550142", "to_number": line.number, "status": "ended", "stage": "completed",
                 "created_at": at, "answered_at": at, "ended_at": at, "updated_at": at,
                 "carrier_id": f"CA{number:032x}"}
            )  # fmt: skip
            words = [*draw.choices(COMMON, k=10), *([rare[number]] if number in rare else [])]
            segments.append(
                {"call_id": call_id, "workspace_id": line.workspace_id, "line_id": line.id, "agent_id": line.agent_id,
                 "seq": 0, "ts_ms": 1000, "party": "remote", "text": " ".join(words), "created_at": at}
            )  # fmt: skip
        async with store.db.write() as session:
            await session.execute(insert(CallRow), calls)
            await session.execute(insert(Segment), segments)
        some += [call["id"] for call in calls[:: max(1, BATCH // 50)]]
    return some
