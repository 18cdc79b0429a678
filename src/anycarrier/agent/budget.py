"""Rate limits for the messages of a WebSocket agent.

All agents share one event loop and one database. An agent's messages are handled in slices, so that others get their
turn, and counted against a rate for their kind: the call's steady rate, and above that a burst that the calls of a
workspace share. The figures follow from what the protocol allows (300 s of audio ahead, 20,000 characters waiting) and
from what agents do: 50 frames a second, a model's tokens, speech made faster than it is heard.

A message counts as one, plus one for each :data:`BYTES` bytes; a ``dtmf`` message counts one for each digit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from weakref import WeakValueDictionary

BACKLOG = 20_000
"""Characters an agent may have queued to be spoken: about twenty minutes."""

TURNS = 1_000
"""Turns an agent may have queued: as many sentences as the backlog holds."""

BUFFER = 300.0
"""Seconds of audio an agent may send before it is heard; audio beyond that is dropped."""

BYTES = 512
"""Bytes that count as one more message; a frame of 20 ms is smaller than this."""


class Rate(NamedTuple):
    """``per_second`` at any time, and ``burst`` more at once, refilled over a minute."""

    per_second: float
    burst: float


MESSAGES: Mapping[str, Rate] = {
    "media": Rate(500, 30_000),  # 300 s as frames of 10 ms, sent at once; ten streams of 20 ms at any time
    "audio_done": Rate(500, 15_000),
    "mark": Rate(500, 15_000),  # one after each frame of those 300 s
    "text": Rate(500, 20_000),  # the backlog, a character at a time
    "transcript": Rate(100, 2_000),  # interims of both parties; finals count as rows as well
    "clear": Rate(20, 200),
    "dtmf": Rate(10, 100),
    "transfer": Rate(1, 20),
    "other": Rate(100, 5_000),
}
"""An agent's messages, by kind."""

ROWS = Rate(10, 500)
"""Final transcripts that an agent reports; a person speaks a sentence in one or two seconds."""

CHARACTERS = Rate(1_000, 100_000)
"""Characters in the final transcripts that an agent reports."""

DROPPED = Rate(50, 20_000)
"""Messages over budget that are dropped before the agent's socket is closed."""

WORKSPACE_BURSTS = 4
"""How many full bursts the calls of a workspace may use at once."""

TELL_EVERY = 10.0
"""Seconds between two ``error`` messages about the same kind of message."""

SLICE = 32
"""Messages of one agent handled before others get a turn."""

REST = 7.0
"""How long a workspace's flooding agents then pause, as a multiple of the time the slice took, which leaves them an
eighth of the event loop's time. Without the pause, each step of another call would wait for one of their slices."""


class Allowance:
    """A token bucket; full at first."""

    __slots__ = ("_at", "_most", "_per_second", "left")

    def __init__(self, most: float, per_second: float, now: float) -> None:
        self.left = self._most = most
        self._per_second = per_second
        self._at = now

    def refill(self, now: float) -> float:
        """Refill it up to ``now``; returns what may be taken."""
        self.left = min(self._most, self.left + (now - self._at) * self._per_second)
        self._at = now
        return self.left


class WorkspaceBudget:
    """What the calls of one workspace share in a process: their bursts, and one turn in the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.turn = asyncio.Lock()
        self._bursts: dict[str, Allowance] = {}

    def burst(self, kind: str, rate: Rate) -> Allowance:
        """The shared burst for messages of that kind."""
        if kind not in self._bursts:
            most = WORKSPACE_BURSTS * rate.burst
            self._bursts[kind] = Allowance(most, most / 60, self.clock())
        return self._bursts[kind]


class CallBudget:
    """The budget of one call."""

    def __init__(self, workspace: WorkspaceBudget | None = None) -> None:
        self._workspace = workspace or WorkspaceBudget()
        self._clock = self._workspace.clock
        self._used: dict[str, tuple[Allowance, Allowance, Allowance]] = {}
        self._sliced = 0
        self._began: float | None = None

    def take(self, kind: str, count: float, rate: Rate | None = None) -> bool:
        """Count ``count`` of ``kind`` if that is within budget; returns whether it was.

        ``rate`` is for kinds other than messages.
        """
        now = self._clock()
        if (used := self._used.get(kind)) is None:
            rate = rate or MESSAGES[kind]
            steady = Allowance(max(rate.per_second, 1.0), rate.per_second, now)
            burst = Allowance(rate.burst, rate.burst / 60, now)
            used = self._used[kind] = (steady, burst, self._workspace.burst(kind, rate))
        steady, burst, shared = used
        above = count - steady.refill(now)
        if above <= 0:
            steady.left -= count
            return True
        if burst.refill(now) < above or shared.refill(now) < above:
            return False
        steady.left = 0.0
        burst.left -= above
        shared.left -= above
        return True

    async def pace(self, count: int = 1) -> None:
        """Await this after each message. After a slice without a break it pauses, in turn with the other flooding calls
        of the workspace."""
        if self._began is None:
            self._began = self._clock()
            asyncio.get_running_loop().call_soon(self._paused)
        self._sliced += count
        if self._sliced >= SLICE:
            rest = REST * (self._clock() - self._began)
            async with self._workspace.turn:
                await asyncio.sleep(rest)

    def _paused(self) -> None:
        self._began, self._sliced = None, 0


class Budgets:
    """The budgets of the workspaces that have calls in this process."""

    def __init__(self) -> None:
        self._workspaces: WeakValueDictionary[str, WorkspaceBudget] = WeakValueDictionary()

    def of_call(self, workspace: str | None) -> CallBudget:
        """The budget of a call; ``workspace`` None for a call that shares with no other."""
        if workspace is None:
            return CallBudget()
        shared = self._workspaces.get(workspace)
        if shared is None:
            shared = self._workspaces[workspace] = WorkspaceBudget()
        return CallBudget(shared)


def units(size: int) -> int:
    """How much a message of that many bytes counts."""
    return 1 + size // BYTES
