"""Requests and carriers' events take turns: of each workspace so many at a time, as long as they are quick, once it is
known for whom they are.

All share one event loop. Of ten at once each would be done as late as if they had come one after the other, and every
step of somebody else's request would stand behind one of each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Hashable
from contextvars import ContextVar
from weakref import WeakValueDictionary

from anycarrier.credentials import Credential, CredentialSource

TURN = 0.05
"""Seconds after which a request no longer keeps the others waiting: it waits itself, for a receiver perhaps."""

_HELD: ContextVar[Callable[[], None]] = ContextVar("turn")


def give_way() -> None:
    """This task is about to wait for somebody else's server: its turn, if it has one, is over."""
    if (let_go := _HELD.get(None)) is not None:
        let_go()


class RequestTurns:
    """One process's. ``at_once`` is one where all they wait for is this process: more would be done no sooner."""

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._turns: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def of(self, whom: Hashable) -> AsyncIterator[None]:
        """Wait for the turn, and have it until :func:`give_way`, for ``TURN`` seconds at most."""
        turn = self._turns.setdefault(whom, asyncio.Semaphore(self._at_once))
        await turn.acquire()
        held = [turn]

        def let_go() -> None:
            if held:
                held.pop().release()

        _HELD.set(let_go)
        timer = asyncio.get_running_loop().call_later(TURN, let_go)
        try:
            yield
        finally:
            timer.cancel()
            let_go()


class YieldingCredentials:
    """A :class:`CredentialSource` for the exchange: a task that asks for a carrier is about to wait, and gives way."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    async def credential(self, credential_id: str) -> Credential:
        """The credential, after :func:`give_way`."""
        give_way()
        return await self._source.credential(credential_id)
