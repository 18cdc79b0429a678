"""Serve an ASGI app on a real loopback port, in the running event loop: for tests, demos and load runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from anycarrier.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from anycarrier.testing.sandbox import Sandbox

SandboxT = TypeVar("SandboxT", bound="Sandbox")


def listening(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; port 0 takes a free one. Bound before the app exists, so the app can know its own URL."""
    # The protocol by name: asyncio turns Nagle's delay off only for sockets that say they are TCP, and so do those
    # accepted from this one. With it, every answer in two writes waits 40 ms for an acknowledgement.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(256)
    return sock


def url_of(sock: socket.socket) -> str:
    """``http://host:port`` of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, sock: socket.socket | None = None, **config: Any) -> AsyncIterator[str]:
    """Serve ``app`` while the block runs; gives its URL. ``config`` goes to uvicorn."""
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise ConfigurationError(
            "a sandbox is served by uvicorn, which is not installed: install anycarrier with its extra 'testing' "
            "(in a checkout: pip install '.[testing]')"
        ) from None

    ready, stopping = asyncio.Event(), asyncio.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            try:
                await super().startup(sockets)
            finally:
                ready.set()

        # uvicorn looks every 0.1 s whether it is to stop, and then waits 0.1 s at least: in a suite whose tests start
        # several servers each, that is more than the tests.
        async def main_loop(self) -> None:
            counter = 0
            while not await self.on_tick(counter):
                counter += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await stopping.wait()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for server in self.servers:
                server.close()
            for connection in list(self.server_state.connections):
                connection.shutdown()
            try:
                async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                    while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 it has no event
                        await asyncio.sleep(0.002)
            except TimeoutError:
                for task in self.server_state.tasks:
                    task.cancel()
            await self.lifespan.shutdown()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # the process's signals belong to whoever runs the loop

    sock = sock or listening()
    settings: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "lifespan": "auto",
        "ws": "websockets-sansio",
        "timeout_graceful_shutdown": 1,
        **config,
    }
    server = Server(uvicorn.Config(app, **settings))
    running = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not server.started:
            await running
            raise RuntimeError("the app did not start: see its log")
        yield url_of(sock)
    finally:
        server.should_exit = True
        stopping.set()
        await running
        sock.close()


@contextlib.asynccontextmanager
async def serve_sandbox(build: Callable[..., SandboxT], **arguments: Any) -> AsyncIterator[SandboxT]:
    """A sandbox on its own port: ``async with serve_sandbox(SomeSandbox) as sandbox``."""
    sock = listening()
    try:
        sandbox = build(base_url=url_of(sock), **arguments)
    except BaseException:
        sock.close()
        raise
    async with serve(sandbox.app, sock):
        async with sandbox:
            yield sandbox
