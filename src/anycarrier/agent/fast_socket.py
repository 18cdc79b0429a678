"""An agent's connection on picows: an :class:`AgentSocket` that can also be listened and written to without waiting."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import urlsplit

from anycarrier.agent import protocol
from anycarrier.agent.protocol import Mode
from anycarrier.agent.socket import CLOSING, OPEN_TIMEOUT, SLOW, STALLED, AgentSocket, Guard
from anycarrier.errors import AgentUnreachable
from anycarrier.fast.agent_leg import Refused, connect
from anycarrier.fast.leg import Leg


class FastSocket(AgentSocket):
    """Slow, stalled and gone mean what they mean there: the leg counts as paused with :data:`SLOW` bytes waiting."""

    def __init__(self, leg: Leg) -> None:
        self.headers = leg.headers
        self.mode = Mode.from_headers(leg.headers)
        self.dropped_frames = 0
        self.leg = leg
        leg.limit_writing(SLOW)
        leg.late = self._late

    @property
    def closed(self) -> bool:
        return self.leg.closed

    async def send(self, message: bytes, *, droppable: bool = False) -> bool:
        leg = self.leg
        if leg.paused and not leg.closed:
            if time.monotonic() - leg.paused_at > STALLED or leg.behind > 2 * SLOW:
                leg.abort()
            elif droppable:
                self.dropped_frames += 1
                return True
        if leg.closed:
            return False
        leg.write(message)
        return True

    @property
    def poster(self) -> Leg:
        """The leg: it drops sound while the agent is behind, and tells us."""
        return self.leg

    def look_first(self, look: Callable[[bytes], bool] | None) -> None:
        """See :meth:`Leg.look_first`."""
        self.leg.look_first(look)

    def _late(self) -> None:
        """Sound came while the agent was behind."""
        if time.monotonic() - self.leg.paused_at > STALLED:
            self.leg.abort()
        else:
            self.dropped_frames += 1

    def hold(self, held: bool) -> None:
        """Leave the agent unread, while the caller's side takes nothing."""
        self.leg.hold("caller", held)

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return aiter(self.leg)

    async def close(self, code: int = 1000) -> None:
        await self.leg.close(code)
        if not await self.leg.wait_over(CLOSING):
            self.leg.abort()


async def open_socket(
    url: str,
    *,
    agent_id: str,
    context: str,
    signing_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = OPEN_TIMEOUT,
    guard: Guard | None = None,
) -> AgentSocket:
    """What :func:`anycarrier.agent.socket.open_socket` does."""
    host = urlsplit(url).hostname or ""
    if urlsplit(url).scheme not in ("ws", "wss") or not host:
        raise AgentUnreachable(agent_id, host or "?", "its address must be a wss:// URL")
    signed = protocol.handshake_headers(context, signing_key, str(uuid.uuid4()), int(time.time()))
    sent = {"User-Agent": "anycarrier", **(headers or {}), **signed}
    try:
        async with asyncio.timeout(timeout):
            address = await guard(url) if guard is not None else None
            return FastSocket(await connect(url, sent, max_message=protocol.MAX_MESSAGE, address=address))
    except TimeoutError as late:
        raise AgentUnreachable(agent_id, host, f"no answer within {timeout:g} s") from late
    except Refused as refused:
        why = f"it answered {refused.status}" if refused.status else str(refused)
        raise AgentUnreachable(agent_id, host, why, status=refused.status) from refused
