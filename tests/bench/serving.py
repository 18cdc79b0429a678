"""What answers calls in a bench, a process of its own: the server, calls that ring already, and its commands.

Also run in environments without anycarrier (``media_pipecat.py``), so that is imported only where it is needed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

HOST = "127.0.0.1"


class RingingCalls:
    """Calls of an exchange that ring already, so that only media is left to do. ``agents`` has one of the id ``bench``,
    or is a handler.
    """

    def __init__(self, port: int, agents: Any, **exchange_options: Any) -> None:
        from anycarrier import Exchange, MemoryNumberRegistry
        from anycarrier.plugins import get_provider

        carrier = get_provider("twilio")
        # Nobody is at this address: not a call of a bench is known to a carrier, and none is asked about.
        secrets = {"account_sid": "AC" + "0" * 32, "auth_token": "0" * 32, "base_url": f"http://{HOST}:9"}
        self.exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": carrier.credential_type.model_validate(secrets)},
            public_url=f"http://{HOST}:{port}",
            secret="b" * 32,
            agents=agents,
            settle=600,
            **exchange_options,
        )
        self.server: Any = None  # who serves them may put theirs here
        self._open: list[Any] = []
        self._count = 0

    async def open(self, count: int) -> list[tuple[str, str]]:
        """The path of each one's stream, and its id."""
        from anycarrier import Call, CallStatus, Direction

        lines = []
        for _ in range(count):
            self._count += 1
            call = await self.exchange.switchboard.calls.open(
                Call(
                    id=f"CA{self._count:032d}",
                    provider="twilio",
                    direction=Direction.OUTBOUND,
                    from_="+14155550100",
                    to="+12125550123",
                    status=CallStatus.RINGING,
                    reference=f"{self._count:032x}",
                    credential_id="main",
                    agent_id="bench",
                )
            )
            self._open.append(call)
            url = self.exchange.switchboard.stream_target(call, {}, ttl=600).url
            lines.append(("/media/" + url.rpartition("/")[2], call.id))
        return lines

    async def end(self) -> None:
        from anycarrier import EndReason

        for call in self._open:
            await self.exchange.switchboard.end_locally(call, EndReason.USER_HANGUP)
        self._open.clear()


class UnknownCalls:
    """Calls of an app that knows no tickets: one path for all, and nothing is left of them."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def open(self, count: int) -> list[tuple[str, str]]:
        return [(self._path, f"CA{number:032d}") for number in range(count)]

    async def end(self) -> None:
        return None


async def serve_app(app: Any, port: int, **options: Any) -> Any:
    """The server, serving in the background, as people run it: no deflate, no access log."""
    import uvicorn

    settings: dict[str, Any] = {"ws": "websockets-sansio", "ws_per_message_deflate": False, **options}
    config = uvicorn.Config(app, host=HOST, port=port, log_level="warning", access_log=False, **settings)
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve())
    while not server.started:
        if running.done():
            raise SystemExit(f"it did not start: {running}")
        await asyncio.sleep(0.01)
    return server


async def commands() -> AsyncIterator[list[str]]:
    """The words of each line on standard input, until it ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while words := (await lines.readline()).decode().split():
        yield words


def uvloop_or_none() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
