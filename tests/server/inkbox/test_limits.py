"""The rolling day's limits: exact when many ask at once, and told as the contract tells them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from desk import CALLEE, CALLER, Desk, open_desk
from inkbox import InkboxAPIError

LIMIT = 5


async def test_of_many_calls_at_once_exactly_as_many_as_allowed_are_made(tmp_path: Path, database: str) -> None:
    async with open_desk(tmp_path, "twilio", database=database, calls_per_day=LIMIT, minutes_per_day=50) as desk:
        identity = await desk.identity()
        body = {"to_number": CALLEE, "from_number": identity.phone_number.number}
        answers = await asyncio.gather(
            *(desk.http.post("/api/v1/phone/place-call", json=body) for _ in range(4 * LIMIT))
        )
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] * LIMIT + [429] * (3 * LIMIT)
        good = [answer.json()["rate_limit"] for answer in answers if answer.status_code == 200]
        assert all(isinstance(one["minutes_limit"], int) and one["minutes_limit"] == 50 for one in good)
        assert sorted(one["calls_used"] for one in good) == list(range(1, LIMIT + 1))
        assert all(one["calls_used"] + one["calls_remaining"] == one["calls_limit"] == LIMIT for one in good)
        over = next(answer for answer in answers if answer.status_code == 429)
        check_refusal(over.headers, over.json(), limit=LIMIT)
        assert len(desk.sandbox.far_ends) == LIMIT
        with pytest.raises(InkboxAPIError) as caught:
            await desk.do(identity.place_call, to_number=CALLEE)
        assert caught.value.status_code == 429
        assert 86_000 < (caught.value.retry_after_seconds or 0) <= 86_400


def check_refusal(headers: Any, body: Any, limit: int) -> None:
    """All four headers, and all six keys."""
    wait = int(headers["retry-after"])
    assert 86_000 < wait <= 86_400
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == (str(limit), "0")
    assert abs(int(headers["x-ratelimit-reset"]) - time.time() - wait) < 60
    assert body["detail"]["error"] == "rate_limited"
    assert set(body["detail"]["rate_limit"]) == {
        "calls_used", "calls_remaining", "calls_limit", "minutes_used", "minutes_remaining", "minutes_limit",
    }  # fmt: skip
    whole = ("calls_used", "calls_remaining", "calls_limit", "minutes_limit")
    assert all(isinstance(body["detail"]["rate_limit"][name], int) for name in whole)


async def test_minutes_that_are_used_up_refuse_too(tmp_path: Path) -> None:
    async with open_desk(tmp_path, "twilio", calls_per_day=100, minutes_per_day=0.01) as desk:
        identity = await desk.identity()
        call = await desk.do(identity.place_call, to_number=CALLEE)
        await desk.until(call.id, "completed")  # by itself, when the minutes are over
        body = {"to_number": CALLEE, "from_number": identity.phone_number.number}
        answer = await desk.http.post("/api/v1/phone/place-call", json=body)
        assert answer.status_code == 429
        used = answer.json()["detail"]["rate_limit"]
        assert (used["minutes_remaining"], used["calls_remaining"], used["calls_used"]) == (0.0, 99, 1)
        check_refusal(answer.headers, answer.json(), limit=1)  # whole minutes


async def test_incoming_calls_count_and_are_declined_when_the_day_is_used_up(tmp_path: Path) -> None:
    async with open_desk(tmp_path, "twilio", calls_per_day=1) as desk:
        identity = await desk.identity()
        first = await desk.ring(identity, CALLER)
        await first.wait_for("answered")
        second = await desk.ring(identity, CALLER)
        await second.wait_for("ended")
        await desk.until((await desk.call_of(second)).id, "failed")
        assert await _refused(desk, identity) == 429


async def _refused(desk: Desk, identity: Any) -> int:
    with pytest.raises(InkboxAPIError) as caught:
        await desk.do(identity.place_call, to_number=CALLEE)
    return caught.value.status_code
