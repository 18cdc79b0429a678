"""Sockets of agents that have accepted a call whose audio is still on its way."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from anycarrier.agent.agent import Agent
from anycarrier.agent.socket import AgentSocket

PATIENCE = 60.0
"""Seconds from answering to the carrier's media stream; a caller who gives up meanwhile is told of sooner."""


@dataclass(slots=True)
class Accepted:
    """An agent and its open socket."""

    agent: Agent
    socket: AgentSocket


class WaitingRoom:
    """By call reference. A call whose audio lands in another process leaves its socket here, to be closed."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Accepted, asyncio.TimerHandle]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def put(self, reference: str, accepted: Accepted) -> None:
        """Keep it until it is taken, at most :data:`PATIENCE` seconds."""
        timer = asyncio.get_running_loop().call_later(PATIENCE, self.dismiss, reference)
        self._waiting[reference] = (accepted, timer)

    def take(self, reference: str) -> Accepted | None:
        """Whoever waits for this call; None when nobody does."""
        found = self._waiting.pop(reference, None)
        if found is None:
            return None
        found[1].cancel()
        return found[0]

    def dismiss(self, reference: str) -> None:
        """The call will not come: close its socket."""
        if (accepted := self.take(reference)) is not None:
            task = asyncio.ensure_future(accepted.socket.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close them all."""
        for reference in list(self._waiting):
            self.dismiss(reference)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._closing, return_exceptions=True)
