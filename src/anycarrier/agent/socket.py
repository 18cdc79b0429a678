"""A connection to an agent's WebSocket: opened with the call's context, closed with the call. We are the client."""

from __future__ import annotations

import asyncio
import importlib.util
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from anycarrier.agent import protocol
from anycarrier.agent.protocol import Mode
from anycarrier.errors import AgentUnreachable

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

OPEN_TIMEOUT = 10.0
"""Seconds an agent has to accept a call."""

SLOW = 160 * 1024
"""Bytes an agent may be behind before sound is dropped: some ten seconds of it."""

STALLED = 10.0
"""Seconds an agent may take nothing before it counts as gone."""

CLOSING = 2.0
"""Seconds for the closing handshake."""

Guard = Callable[[str], Awaitable[tuple[str, int] | None]]
"""Looks at a URL before it is connected to, and raises ``AgentUnreachable`` (or any error of ours) to forbid it.

What it returns, an IP address and port, is connected to, whatever the name says by then; None: as the URL says.
"""


class AgentSocket:
    """An open connection; ``mode`` is what the agent chose by its handshake reply.

    Sending never waits for a slow agent: sound it does not take is dropped once :data:`SLOW` bytes are waiting, all
    other messages are kept; after :data:`STALLED` seconds of that, or with twice as much waiting, it counts as gone.
    """

    def __init__(self, connection: ClientConnection, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.mode = Mode.from_headers(headers)
        self.dropped_frames = 0
        self._connection = connection
        self._slow_since: float | None = None

    @property
    def closed(self) -> bool:
        """True once it cannot be written to any more."""
        return self._connection.close_code is not None

    async def send(self, message: bytes, *, droppable: bool = False) -> bool:
        """One JSON message; False when the agent is gone. ``droppable`` is sound: worth nothing when late."""
        from websockets.exceptions import ConnectionClosed

        behind = self._connection.transport.get_write_buffer_size()
        if behind > SLOW:
            now = time.monotonic()
            self._slow_since = self._slow_since or now
            if now - self._slow_since > STALLED or behind > 2 * SLOW:
                self._connection.transport.abort()
                return False
            if droppable:
                self.dropped_frames += 1
                return True
        else:
            self._slow_since = None
        try:
            await self._connection.send(message, text=True)
        except ConnectionClosed:
            return False
        return True

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Text messages as they come, until either side closes, however it does; binary ones are dropped."""
        from websockets.exceptions import ConnectionClosed

        try:
            async for message in self._connection:
                if isinstance(message, str):
                    yield message
        except ConnectionClosed:
            return

    async def close(self, code: int = 1000) -> None:
        """Close; an agent that does not answer the closing is left."""
        try:
            async with asyncio.timeout(CLOSING):
                await self._connection.close(code)
        except TimeoutError:
            self._connection.transport.abort()


class Poster(Protocol):
    """Where sound goes at once."""

    def post(self, message: bytes) -> None:
        """:meth:`AgentSocket.send` of what is droppable, without waiting."""
        ...


@runtime_checkable
class PushSocket(Protocol):
    """What a connection can do beyond that when it calls with each message, and can be written to without waiting."""

    @property
    def poster(self) -> Poster:
        """The connection itself: for sound there is nothing between."""
        ...

    def look_first(self, look: Callable[[bytes], bool] | None) -> None:
        """Have ``look`` see each message as it comes; what it answers True to is done with. It is not asked while an
        earlier message is still being dealt with."""
        ...

    def hold(self, held: bool) -> None:
        """Leave the agent unread, or read it again."""
        ...


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
    """Connect to ``url`` as it is, query included; ``AgentUnreachable`` when that fails or the agent says no.

    Redirects are not followed and no proxy is used: the address that ``guard`` found good is the one connected to.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException

    class Straight(connect):
        def process_redirect(self, exc: Exception) -> Exception | str:
            return exc

    host = urlsplit(url).hostname or ""
    if urlsplit(url).scheme not in ("ws", "wss") or not host:
        raise AgentUnreachable(agent_id, host or "?", "its address must be a wss:// URL")
    signed = protocol.handshake_headers(context, signing_key, str(uuid.uuid4()), int(time.time()))
    try:
        async with asyncio.timeout(timeout):
            address = await guard(url) if guard is not None else None
            pinned: dict[str, Any] = {} if address is None else {"host": address[0], "port": address[1]}
            connection = await Straight(
                url,
                additional_headers={**(headers or {}), **signed},
                user_agent_header="anycarrier",
                compression=None,
                max_size=protocol.MAX_MESSAGE,
                max_queue=256,
                write_limit=16 * SLOW,  # never reached: sending must not wait, see AgentSocket
                open_timeout=None,
                proxy=None,
                **pinned,
            )
    except InvalidStatus as refused:
        status = refused.response.status_code
        raise AgentUnreachable(agent_id, host, f"it answered {status}", status=status) from refused
    except TimeoutError as late:
        raise AgentUnreachable(agent_id, host, f"no answer within {timeout:g} s") from late
    except (OSError, WebSocketException, ValueError) as failure:
        raise AgentUnreachable(agent_id, host, str(failure) or type(failure).__name__) from failure
    response = connection.response
    return AgentSocket(connection, dict(response.headers.raw_items()) if response is not None else {})


class Opener(Protocol):
    """:func:`open_socket`, or one that does the same by other means."""

    async def __call__(
        self,
        url: str,
        *,
        agent_id: str,
        context: str,
        signing_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = OPEN_TIMEOUT,
        guard: Guard | None = None,
    ) -> AgentSocket: ...


def best_opener() -> Opener:
    """The one that costs least per message: on picows where that is installed (``anycarrier[fast]``)."""
    if importlib.util.find_spec("picows") is None:
        return open_socket
    from anycarrier.agent import fast_socket

    return fast_socket.open_socket
