"""Event loops with clocks of their own.

``ExactLoop`` jumps over waiting: hours of it take milliseconds. Its time stands still while anything is ready or a
thread is at work, then goes straight to the next timer. For code without sockets: a network's answer is not waited for,
but by ``LoopbackLoop``.

``SteadyLoop`` keeps real time, sockets and all, but does not count what the machine stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import selectors
import termios
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from anycarrier import MediaSession, Policy
from anycarrier.agent.budget import WorkspaceBudget
from anycarrier.agent.conversation import Conversation
from anycarrier.agent.recording import Recorder
from anycarrier.agent.turn_taking import TurnTaking
from anycarrier.callbook import MemoryOnce
from anycarrier.testing.session import ScriptedFarEnd, open_session

T = TypeVar("T")

REAL = time.monotonic
"""The machine's clock, whatever :func:`follow_loop` has put in its place."""

DELIVERY = 0.005
"""Seconds in which the kernel has brought everything from one end of a loopback socket to the other."""

AT_ONCE = 0.0005
"""The same where no socket has anything under way: a datagram arrives while it is sent."""

TURN = 50e-6
"""Seconds that a turn of a :class:`LoopbackLoop` takes: who yields until it is late must not do so for ever."""


class ExactLoop(asyncio.SelectorEventLoop):
    """Begins at 0 and counts nothing but waiting, so that a test can say to the second when something is done."""

    _ready: Any
    _scheduled: Any

    def __init__(self) -> None:
        self._ahead = 0.0
        self._at_work = 0
        super().__init__()

    def time(self) -> float:
        return self._ahead

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        self._at_work += 1
        work = super().run_in_executor(executor, func, *args)
        work.add_done_callback(self._worked)
        return work

    def _worked(self, work: object) -> None:
        self._at_work -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for its threads, however long ``timeout`` is: it would be over at once on this clock."""
        self._at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._at_work -= 1

    def _quiet(self) -> bool:
        """Nothing will happen before the next timer."""
        return not self._ready and not self._at_work

    def _run_once(self) -> None:
        if self._quiet():
            waiting = [timer.when() for timer in self._scheduled if not timer.cancelled()]
            self._ahead += max(0.0, min(waiting, default=0.0) - self.time())
        super()._run_once()  # type: ignore[misc]


class LoopbackLoop(ExactLoop):
    """For code whose sockets all have both their ends in this loop: what one end has sent is there at once.

    A machine that stands still costs no time on its clock, so what is done in a second of speech is the same on any.
    Of threads it waits for those of ``run_in_executor``; with other threads or processes its clock would run away.
    """

    _selector: Any

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 1000.0  # a clock at 0 would be taken for one that was not read yet

    def _quiet(self) -> bool:
        if not super()._quiet():
            return False
        sockets = self._selector.get_map()
        if len(sockets) < 2:  # the one that is always there is for threads to wake the loop
            return True
        return not self._selector.select(DELIVERY if any(map(_under_way, sockets)) else AT_ONCE)

    def _run_once(self) -> None:
        self._ahead += TURN
        super()._run_once()


def _under_way(fd: int) -> bool:
    """Whether something that was sent there has not arrived, or is not known to have."""
    count = array("i", [0])
    with contextlib.suppress(OSError):  # a listening socket, or the one that wakes the loop
        fcntl.ioctl(fd, termios.TIOCOUTQ, count)
    return count[0] > 0


BLINK = 0.05
"""Seconds that pass at most between two looks at a steady clock."""


class SteadyLoop(asyncio.SelectorEventLoop):
    """Without its timers and deadlines noticing, the process may be stopped for seconds, between any two lines."""

    def __init__(self) -> None:
        self._stood = 0.0
        """Seconds that the machine stood still so far."""
        self._seen: float | None = None
        super().__init__(PatientSelector(self))

    def time(self) -> float:
        now = REAL()
        if self._seen is not None:
            self._stood += max(0.0, now - self._seen - BLINK)
        self._seen = now
        return now - self._stood


class PatientSelector(selectors.DefaultSelector):
    """Waits a little at a time, so that its loop sees how time passes meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        due = None if timeout is None else self._loop.time() + timeout
        while True:
            left = BLINK / 2 if due is None else min(BLINK / 2, due - self._loop.time())
            if (ready := super().select(max(0.0, left))) or left <= 0:
                return ready
            self._loop.time()


def follow_loop(patch: pytest.MonkeyPatch) -> None:
    """Until ``patch`` is undone, whoever reads the monotonic clock in an :class:`ExactLoop` or a :class:`SteadyLoop`
    reads the loop's."""

    def clock() -> float:
        loop = asyncio._get_running_loop()
        return loop.time() if isinstance(loop, ExactLoop | SteadyLoop) else REAL()

    def following(value: Any) -> Any:
        return clock if value is REAL else value

    patch.setattr(time, "monotonic", clock)
    for owner in (Conversation, MediaSession, MemoryOnce, Policy, Recorder, TurnTaking, WorkspaceBudget):
        made: Any = owner.__init__
        patch.setattr(made, "__defaults__", tuple(map(following, made.__defaults__ or ())))
        named = {name: following(value) for name, value in (made.__kwdefaults__ or {}).items()}
        patch.setattr(made, "__kwdefaults__", named)


Loops = dict[str, Callable[[], asyncio.AbstractEventLoop]]


def virtual_loops() -> Loops:
    """For a conftest: ``from virtual_time import virtual_loops as pytest_asyncio_loop_factories``."""
    return {"virtual": LoopbackLoop}


def steady_loops() -> Loops:
    """The same with a :class:`SteadyLoop`."""
    return {"steady": SteadyLoop}


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a conftest to import: all its tests' clocks follow their loops."""
    follow_loop(monkeypatch)


def virtually(work: Coroutine[Any, Any, T], loop: type[ExactLoop] = LoopbackLoop) -> T:
    """Run ``work`` to its end in virtual time."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work)


Scene = Callable[[MediaSession, ScriptedFarEnd], Awaitable[None]]


def play(scene: Scene, **options: Any) -> None:
    """Run ``scene`` in virtual time, on both kinds of transport."""

    async def run(pushes: bool) -> None:
        async with open_session(pushes=pushes, **options) as (session, far_end):
            await scene(session, far_end)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    for pushes in (True, False):
        virtually(run(pushes), ExactLoop)
