"""Work at once of which the first to end ends the rest."""

from __future__ import annotations

import asyncio

import pytest

from anycarrier.agent import first_done
from anycarrier.testing.session import open_session


class Work:
    """Sleeps, then returns or fails; when cancelled it takes a second to end."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def last(self, name: str, seconds: float, failure: Exception | None = None) -> None:
        try:
            await asyncio.sleep(seconds)
            if failure is not None:
                raise failure
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            self.ended.append(name)
            raise


async def test_the_first_to_end_ends_the_rest_and_they_are_waited_for() -> None:
    work = Work()
    before = asyncio.all_tasks()
    await first_done(work.last("a", 3600), work.last("b", 1), work.last("c", 3600, ValueError("never")))
    assert work.ended == ["a", "c"]
    assert asyncio.all_tasks() == before


async def test_what_the_first_fails_with_is_raised_once_the_rest_has_ended() -> None:
    work = Work()
    with pytest.raises(ValueError, match="first"):
        await first_done(work.last("a", 3600), work.last("b", 1, ValueError("first")))
    assert work.ended == ["a"]


async def test_of_two_that_end_at_once_a_failure_is_raised() -> None:
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(ValueError("as well"))
    with pytest.raises(ValueError, match="as well"):
        await first_done(done, failed)


@pytest.mark.parametrize("hung_up", [False, True])
async def test_what_fails_once_the_call_is_over_is_not_raised(hung_up: bool) -> None:
    work = Work()
    async with open_session() as (session, far_end):
        running = asyncio.ensure_future(first_done(work.last("a", 2, ValueError("late")), during=session))
        await asyncio.sleep(1)
        if hung_up:
            await far_end.hang_up()
            await running
        else:
            with pytest.raises(ValueError, match="late"):
                await running


async def test_cancelled_it_cancels_all() -> None:
    work = Work()
    running = asyncio.ensure_future(first_done(work.last("a", 3600), work.last("b", 3600)))
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.ended == ["a", "b"]
