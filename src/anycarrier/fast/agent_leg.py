"""The agent's side of a call on picows: dial its WebSocket, get a :class:`Leg`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from picows import WSAutoPingStrategy, WSError, WSFrame, WSHandshakeError, WSTransport, ws_connect

from anycarrier.fast.leg import MAX_MESSAGE, Leg
from anycarrier.fast.sockets import READ_BUFFER, picows_log
from anycarrier.fast.wire import TEXT

PING_EVERY = 20.0
"""Seconds between pings, and for their answer: a little less than two of them, and a dead agent is known as such."""


class Refused(ConnectionError):
    """The agent's server did not take the call; ``status`` is its HTTP answer, None when there was none."""

    def __init__(self, why: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(why)


class AgentLeg(Leg):
    """An agent's messages are text: its binary ones are dropped, whatever is in them."""

    __slots__ = ()

    takes_binary = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.payload_size > 125 and frame.fin and not self._in_parts and frame.msg_type is TEXT:
            message = frame.get_payload_as_bytes()
            if message.isascii():
                if self._take(message) is False:
                    self._rest(message)
                return
        self._unusual(frame)


async def connect(
    url: str, headers: Mapping[str, str], *, max_message: int = MAX_MESSAGE, address: tuple[str, int] | None = None
) -> Leg:
    """The agent's socket, open; its handshake reply is in ``leg.headers``. Redirects are not followed.

    ``address`` (an IP address and port) is connected to in place of the URL's name, for which TLS still checks.
    Raises :class:`Refused` for whatever stands in the way. It has no time limit of its own.
    """
    try:
        _, leg = await ws_connect(
            lambda: AgentLeg(max_message=max_message),
            url,
            extra_headers=dict(headers),
            websocket_handshake_timeout=None,
            max_redirects=0,
            socket_factory=None if address is None else lambda _: _connected(address),
            logger_name=picows_log,
            max_frame_size=max_message,
            read_buffer_init_size=READ_BUFFER,
            use_aiofastnet=False,  # no cheaper here, and five kilobytes more for each call
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_EVERY,
            auto_ping_reply_timeout=PING_EVERY,
            auto_ping_strategy=WSAutoPingStrategy.PING_PERIODICALLY,
        )
    except WSHandshakeError as refused:
        status = None if refused.response is None else int(refused.response.status)
        raise Refused(f"answered HTTP {status}" if status else str(refused), status) from refused
    except (WSError, OSError, ValueError) as failed:
        raise Refused(str(failed) or type(failed).__name__) from failed
    assert isinstance(leg, Leg)
    return leg


async def _connected(address: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
