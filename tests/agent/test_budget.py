"""What an agent may send: those who do what agents do are never over it, and nobody's flood is another's trouble."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from anycarrier.agent import budget
from anycarrier.agent.agent_turn import AgentTurn
from anycarrier.agent.budget import Budgets, CallBudget, WorkspaceBudget


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(call: CallBudget, kind: str, times: int) -> int:
    """How many of so many messages were within budget."""
    return sum(call.take(kind, 1) for _ in range(times))


HONEST = {
    "four streams of 20 ms frames in real time": ("media", 200, 600),
    "frames of 10 ms, each with a mark": ("mark", 100, 600),
    "a fast model's tokens for as long as the call lasts": ("text", 300, 600),
    "interims of both parties": ("transcript", 40, 600),
    "a menu's keys": ("dtmf", 2, 60),
    "clearing at each barge-in": ("clear", 2, 600),
}


@pytest.mark.parametrize("what", HONEST)
async def test_an_honest_agent_is_never_over_budget(what: str, clock: Clock) -> None:
    kind, per_second, seconds = HONEST[what]
    call = CallBudget(WorkspaceBudget(clock))
    for _ in range(seconds):
        assert taken(call, kind, per_second) == per_second
        clock.now += 1.0


async def test_all_that_may_wait_to_be_heard_may_come_at_once(clock: Clock) -> None:
    call = CallBudget(WorkspaceBudget(clock))
    frames, characters = round(budget.BUFFER / 0.01), budget.BACKLOG
    assert taken(call, "media", frames) == frames
    assert taken(call, "text", characters) == characters


async def test_beyond_its_burst_a_call_has_its_steady_rate_and_the_burst_again_after_a_minute(clock: Clock) -> None:
    call = CallBudget(WorkspaceBudget(clock))
    rate = budget.MESSAGES["dtmf"]
    assert taken(call, "dtmf", 10_000) == rate.per_second + rate.burst
    clock.now += 0.5
    assert taken(call, "dtmf", 10_000) == rate.per_second / 2
    clock.now += 60
    assert taken(call, "dtmf", 10_000) == pytest.approx(rate.per_second + rate.burst, abs=1)


async def test_what_is_refused_is_not_counted(clock: Clock) -> None:
    call = CallBudget(WorkspaceBudget(clock))
    rate = budget.MESSAGES["dtmf"]
    whole = rate.per_second + rate.burst
    assert not call.take("dtmf", whole + 1)
    assert call.take("dtmf", whole) and not call.take("dtmf", 1)


async def test_a_rate_may_be_given_and_one_below_a_second_still_lets_one_through(clock: Clock) -> None:
    call = CallBudget(WorkspaceBudget(clock))
    assert call.take("rows", budget.ROWS.per_second + budget.ROWS.burst, budget.ROWS)
    assert not call.take("rows", 1, budget.ROWS)
    slow = budget.Rate(0.5, 0)
    assert [call.take("slow", 1, slow) for _ in range(2)] == [True, False]
    clock.now += 2.0
    assert [call.take("slow", 1, slow) for _ in range(2)] == [True, False]


async def test_what_a_workspace_has_used_up_comes_back_within_a_minute(clock: Clock) -> None:
    workspace = WorkspaceBudget(clock)
    rate = budget.MESSAGES["dtmf"]
    for _ in range(budget.WORKSPACE_BURSTS):
        assert CallBudget(workspace).take("dtmf", rate.per_second + rate.burst)
    assert not CallBudget(workspace).take("dtmf", rate.per_second + 1)
    clock.now += 60
    assert workspace.burst("dtmf", rate).refill(clock.now) == budget.WORKSPACE_BURSTS * rate.burst


async def test_one_kinds_flood_leaves_the_others_alone(clock: Clock) -> None:
    call = CallBudget(WorkspaceBudget(clock))
    taken(call, "transcript", 100_000)
    assert call.take("media", 1) and call.take("text", 1)


async def test_the_calls_of_a_workspace_share_their_bursts_and_keep_their_steady_rates(clock: Clock) -> None:
    workspace = WorkspaceBudget(clock)
    rate = budget.MESSAGES["transfer"]
    calls = [CallBudget(workspace) for _ in range(20)]
    got = [taken(call, "transfer", 1_000) for call in calls]
    assert sum(got) == 20 * rate.per_second + budget.WORKSPACE_BURSTS * rate.burst
    assert min(got) == rate.per_second
    other = CallBudget(WorkspaceBudget(clock))
    assert taken(other, "transfer", 1_000) == rate.per_second + rate.burst


async def test_calls_of_one_workspace_are_counted_together_and_others_alone() -> None:
    budgets = Budgets()
    first, second = budgets.of_call("w1"), budgets.of_call("w1")
    assert first._workspace is second._workspace
    assert budgets.of_call("w2")._workspace is not first._workspace
    assert budgets.of_call(None)._workspace is not budgets.of_call(None)._workspace


async def test_a_long_message_counts_by_its_size() -> None:
    assert [budget.units(size) for size in (0, 300, 511, 512, 1024)] == [1, 1, 1, 2, 3]
    assert budget.units(1024 * 1024) > 2_000


@pytest.mark.parametrize("hurried", [1, 10])
async def test_a_workspace_gets_a_slice_for_each_turn_of_the_loop_however_many_calls_hurry(hurried: int) -> None:
    workspace, done, rounds = WorkspaceBudget(), 0, 0

    async def flood() -> None:
        nonlocal done
        call = CallBudget(workspace)
        for _ in range(50 * budget.SLICE):
            done += 1
            await call.pace()

    floods = [asyncio.ensure_future(flood()) for _ in range(hurried)]
    before: list[int] = []
    while not all(task.done() for task in floods):
        before.append(done)
        rounds += 1
        await asyncio.sleep(0)
    steps = [b - a for a, b in itertools.pairwise(before)]
    assert max(steps[hurried:]) <= 2 * budget.SLICE
    assert done == hurried * 50 * budget.SLICE


async def test_a_workspace_in_a_hurry_has_an_eighth_of_the_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        rests.append(seconds)
        await sleep(0)

    call = CallBudget(WorkspaceBudget(clock))
    monkeypatch.setattr(asyncio, "sleep", noted)
    for _ in range(4 * budget.SLICE):
        clock.now += 0.001
        await call.pace()
    # The first message of a slice is what starts the clock.
    assert rests == [pytest.approx(7 * 0.001 * (budget.SLICE - 1))] * 4


async def test_who_waits_for_each_message_is_never_held_up() -> None:
    workspace = WorkspaceBudget()
    await workspace.turn.acquire()  # another call of the workspace is in a hurry, for ever
    call = CallBudget(workspace)
    async with asyncio.timeout(5):
        for _ in range(10 * budget.SLICE):
            await asyncio.sleep(0)
            await call.pace()


async def test_a_message_that_is_a_slice_by_itself_waits_for_the_others() -> None:
    workspace = WorkspaceBudget()
    await workspace.turn.acquire()
    for counts, waits in (((budget.SLICE,), True), ((budget.SLICE - 2, 1), False), ((budget.SLICE - 1, 1), True)):
        call = CallBudget(workspace)

        async def send(call: CallBudget = call, counts: tuple[int, ...] = counts) -> None:
            for count in counts:
                await call.pace(count)

        sending = asyncio.ensure_future(send())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sending.done() is not waits
        sending.cancel()


# --- text that waits to be spoken -----------------------------------------------------------------------------------


async def test_what_waits_of_a_turn_is_counted_exactly_until_it_is_taken() -> None:
    turn = AgentTurn("a1")
    turn.add("Good morning. How are ")
    assert turn.waiting == 22
    assert turn.take() == "Good morning."
    assert turn.waiting == len("How are ") and turn.take() is None
    turn.add("you?")
    assert turn.take() is None
    turn.finish()
    assert turn.take() == "How are you?" and turn.waiting == 0 and turn.take() is None
    turn.add("never mind")
    turn.drop()
    assert turn.waiting == 0


async def test_a_megabyte_is_cut_a_little_at_a_time_and_none_of_it_is_lost() -> None:
    turn = AgentTurn("a1")
    text = "Well, this goes on. And on " * 40_000
    turn.add(text)
    turn.finish()
    fed: list[int] = []
    feed = turn.sentences.feed
    turn.sentences.feed = lambda delta: fed.append(len(delta)) or feed(delta)  # type: ignore[method-assign,func-returns-value]
    pieces = []
    while (piece := turn.take()) is not None:
        assert len(fed) <= 1
        fed.clear()
        pieces.append(str(piece))
    assert " ".join(pieces).split() == text.split() and turn.waiting == 0
