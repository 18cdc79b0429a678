"""An event loop whose clock jumps over waiting: hours of it take milliseconds.

Time stands still while anything is ready or a thread is at work, then goes straight to the next timer. For code without
sockets: a network's answer is not waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    _ready: Any
    _scheduled: Any

    def __init__(self) -> None:
        self._ahead = 0.0
        self._at_work = 0
        super().__init__()

    def time(self) -> float:
        return super().time() + self._ahead

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        self._at_work += 1
        work = super().run_in_executor(executor, func, *args)
        work.add_done_callback(self._worked)
        return work

    def _worked(self, work: object) -> None:
        self._at_work -= 1

    def _run_once(self) -> None:
        if not self._ready and not self._at_work:
            waiting = [timer.when() for timer in self._scheduled if not timer.cancelled()]
            self._ahead += max(0.0, min(waiting, default=0.0) - self.time())
        super()._run_once()  # type: ignore[misc]


class ExactLoop(VirtualLoop):
    """Begins at 0 and counts nothing but waiting, so that a test can say to the second when something is done."""

    def time(self) -> float:
        return self._ahead


def virtually(work: Coroutine[Any, Any, T], loop: type[VirtualLoop] = VirtualLoop) -> T:
    """Run ``work`` to its end in virtual time."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work)
