"""A connection to an agent's WebSocket: opened with the call's context, closed with the call. We are the client.

Two implementations: :class:`PortableAgentSocket` on ``websockets``, and :class:`FastAgentSocket` on picows, which also
takes callbacks and sends without waiting. :func:`open_socket` opens either.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from anycarrier.agent import protocol
from anycarrier.agent.protocol import Mode
from anycarrier.errors import AgentUnreachable
from anycarrier.serializer import Frame

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from anycarrier.fast.websocket import FastWebSocket

OPEN_TIMEOUT = 10.0
"""Seconds an agent has to accept a call."""

SLOW = 160 * 1024
"""Unread bytes after which audio for a slow agent is dropped: about ten seconds of it."""

STALLED = 10.0
"""Seconds an agent may read nothing before it counts as gone."""

CLOSING = 2.0
"""Seconds for the closing handshake."""

PING_EVERY = 20.0
"""Seconds between pings on the fast path, and for their answer: a dead agent is noticed within two of them."""

Address = tuple[str, int]
"""An IP address and a port."""

Guard = Callable[[str], Awaitable[Address | None]]
"""Checks a URL before it is connected to; raises ``AgentUnreachable`` (or any error of ours) to forbid it.

We connect to the address it returns, so the name is not resolved again; None: resolve the URL's name.
"""


class AgentSocket(Protocol):
    """An open connection to an agent.

    Sending never waits for a slow agent: audio it does not take is dropped once :data:`SLOW` bytes are waiting, all
    other messages are kept; after :data:`STALLED` seconds of that, or with twice as much waiting, it counts as gone.
    """

    mode: Mode
    """What the agent chose in its handshake reply."""
    dropped_frames: int
    """Audio messages dropped because the agent was slow."""

    @property
    def closed(self) -> bool:
        """True once it cannot be written to any more."""
        ...

    @property
    def post(self) -> Callable[[bytes], Awaitable[object] | None]:
        """Sends audio, which is dropped when late. Await what it returns, if anything."""
        ...

    async def send(self, message: bytes) -> bool:
        """Send one JSON message; False when the agent is gone."""
        ...

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Text messages as they come, until either side closes; binary ones are dropped."""
        ...

    async def close(self, code: int = 1000) -> None:
        """Close; an agent that does not answer the closing handshake is dropped."""
        ...


@runtime_checkable
class PushAgentSocket(AgentSocket, Protocol):
    """One that calls back with each message; its ``post`` never has to be awaited."""

    def look_first(self, look: Callable[[Frame], object] | None) -> None:
        """Show ``look`` each message as it comes; one for which it returns False is delivered as usual.

        It is not called while an earlier message is still being handled.
        """
        ...

    def hold(self, held: bool) -> None:
        """Stop reading from the agent, or resume."""
        ...


class PortableAgentSocket:
    """An :class:`AgentSocket` on ``websockets``."""

    def __init__(self, connection: ClientConnection) -> None:
        response = connection.response
        self.mode = Mode.from_headers(dict(response.headers.raw_items()) if response is not None else {})
        self.dropped_frames = 0
        self._connection = connection
        self._slow_since: float | None = None

    @property
    def closed(self) -> bool:
        return self._connection.close_code is not None

    async def post(self, message: bytes) -> bool:
        return await self.send(message, droppable=True)

    async def send(self, message: bytes, *, droppable: bool = False) -> bool:
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
        from websockets.exceptions import ConnectionClosed

        try:
            async for message in self._connection:
                if isinstance(message, str):
                    yield message
        except ConnectionClosed:
            return

    async def close(self, code: int = 1000) -> None:
        try:
            async with asyncio.timeout(CLOSING):
                await self._connection.close(code)
        except TimeoutError:
            self._connection.transport.abort()


class FastAgentSocket:
    """A :class:`PushAgentSocket` on picows: the WebSocket counts as paused with :data:`SLOW` bytes waiting."""

    def __init__(self, websocket: FastWebSocket) -> None:
        self.mode = Mode.from_headers(websocket.headers)
        self.dropped_frames = 0
        self._websocket = websocket
        websocket.limit_writing(SLOW)
        websocket.late = self._late

    @property
    def closed(self) -> bool:
        return self._websocket.closed

    @property
    def post(self) -> Callable[[bytes], None]:
        """The WebSocket's own method: nothing in between."""
        return self._websocket.post

    async def send(self, message: bytes) -> bool:
        websocket = self._websocket
        if websocket.paused and not websocket.closed:
            if time.monotonic() - websocket.paused_at > STALLED or websocket.behind > 2 * SLOW:
                websocket.abort()
        if websocket.closed:
            return False
        websocket.write_text(message)
        return True

    def look_first(self, look: Callable[[Frame], object] | None) -> None:
        self._websocket.look_first(look)

    def hold(self, held: bool) -> None:
        self._websocket.hold("caller", held)

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return aiter(self._websocket)

    async def close(self, code: int = 1000) -> None:
        await self._websocket.close(code)
        if not await self._websocket.wait_over(CLOSING):
            self._websocket.abort()

    def _late(self) -> None:
        """Audio came while the agent was behind."""
        if time.monotonic() - self._websocket.paused_at > STALLED:
            self._websocket.abort()
        else:
            self.dropped_frames += 1


class Refused(ConnectionError):
    """The agent's server answered the handshake with an HTTP status of its own."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"it answered {status}")


Connect = Callable[[str, Mapping[str, str], Address | None], Awaitable[AgentSocket]]
"""Connects to a URL with these headers, at this address if one is given. Raises :class:`Refused`, ``OSError`` or
``ValueError``; has no time limit, follows no redirects and uses no proxy."""


async def connect_portable(url: str, headers: Mapping[str, str], address: Address | None) -> AgentSocket:
    """Connect with ``websockets``."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException

    class NoRedirects(connect):
        def process_redirect(self, exc: Exception) -> Exception | str:
            return exc

    pinned: dict[str, Any] = {} if address is None else {"host": address[0], "port": address[1]}
    try:
        connection = await NoRedirects(
            url,
            additional_headers=headers,
            user_agent_header=None,
            compression=None,
            max_size=protocol.MAX_MESSAGE,
            max_queue=256,
            write_limit=16 * SLOW,  # never reached: sending must not wait, see AgentSocket
            open_timeout=None,
            proxy=None,
            **pinned,
        )
    except InvalidStatus as refused:
        raise Refused(refused.response.status_code) from refused
    except WebSocketException as failed:
        raise ConnectionError(str(failed) or type(failed).__name__) from failed
    return PortableAgentSocket(connection)


async def connect_fast(url: str, headers: Mapping[str, str], address: Address | None) -> AgentSocket:
    """Connect with picows."""
    from picows import WSAutoPingStrategy, WSError, WSHandshakeError, ws_connect

    from anycarrier.fast.websocket import READ_BUFFER, FastWebSocket, picows_log

    try:
        _, websocket = await ws_connect(
            lambda: FastWebSocket(max_message=protocol.MAX_MESSAGE, takes_binary=False),
            url,
            extra_headers=dict(headers),
            websocket_handshake_timeout=None,
            max_redirects=0,
            socket_factory=None if address is None else lambda _: _connected(address),
            logger_name=picows_log,
            max_frame_size=protocol.MAX_MESSAGE,
            read_buffer_init_size=READ_BUFFER,
            use_aiofastnet=False,  # no cheaper here, and five kilobytes more for each call
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_EVERY,
            auto_ping_reply_timeout=PING_EVERY,
            auto_ping_strategy=WSAutoPingStrategy.PING_PERIODICALLY,
        )
    except WSHandshakeError as failed:
        if failed.response is not None:
            raise Refused(int(failed.response.status)) from failed
        raise ConnectionError(str(failed)) from failed
    except WSError as failed:
        raise ConnectionError(str(failed) or type(failed).__name__) from failed
    assert isinstance(websocket, FastWebSocket)
    return FastAgentSocket(websocket)


async def _connected(address: Address) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def best_connect() -> Connect:
    """The one that costs least per message: on picows where that is installed (``anycarrier[fast]``)."""
    return connect_portable if importlib.util.find_spec("picows") is None else connect_fast


async def open_socket(
    url: str,
    *,
    agent_id: str,
    context: str,
    signing_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = OPEN_TIMEOUT,
    guard: Guard | None = None,
    connect: Connect | None = None,
) -> AgentSocket:
    """Connect to ``url`` as it is, query included; raises ``AgentUnreachable`` if that fails or the agent refuses.

    ``connect`` (default: :func:`best_connect`) connects to the address that ``guard`` checked.
    """
    host = urlsplit(url).hostname or ""
    if urlsplit(url).scheme not in ("ws", "wss") or not host:
        raise AgentUnreachable(agent_id, host or "?", "its address must be a wss:// URL")
    signed = protocol.handshake_headers(context, signing_key, str(uuid.uuid4()), int(time.time()))
    sent = {"User-Agent": "anycarrier", **(headers or {}), **signed}
    try:
        async with asyncio.timeout(timeout):
            address = await guard(url) if guard is not None else None
            return await (connect or best_connect())(url, sent, address)
    except TimeoutError as late:
        raise AgentUnreachable(agent_id, host, f"no answer within {timeout:g} s") from late
    except Refused as refused:
        raise AgentUnreachable(agent_id, host, str(refused), status=refused.status) from refused
    except (OSError, ValueError) as failure:
        raise AgentUnreachable(agent_id, host, str(failure) or type(failure).__name__) from failure
