"""One exchange on a real port: every test that asks for ``media`` runs on the portable path and on the fast one."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute

from anycarrier import Exchange, MemoryNumberRegistry, Policy, plugins
from anycarrier.asgi import create_app
from anycarrier.fast.server import websockets
from anycarrier.testing.live_server import listening, serve
from fake_carriers import CommandProvider, FakeCredential, InlineProvider, Plugin, TrunkProvider
from media_sockets import Media, listen, ordinary


@pytest.fixture
def fake_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    for provider in (InlineProvider, CommandProvider, TrunkProvider):
        provider.log.clear()
    yield
    plugins.reset()


@pytest.fixture(params=["portable", "fast"])
async def media(request: pytest.FixtureRequest, fake_plugins: None) -> AsyncIterator[Media]:
    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"main": FakeCredential()},
        public_url="https://voice.example.com/phone",
        secret="x" * 32,
        policy=Policy(),
        settle=0.2,
    )
    fast = request.param == "fast"
    inner = create_app(exchange)
    app = Starlette(routes=[WebSocketRoute("/shout/{word}", ordinary), Mount("/phone", inner)])
    options = {"ws": websockets(exchange) if fast else "websockets-sansio", "ws_max_size": 512 * 1024}
    sock = listening()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)  # a carrier that does not read is soon felt
    async with inner.router.lifespan_context(inner), serve(app, sock, **options) as base:
        made = Media(exchange, f"ws{base.removeprefix('http')}/phone", fast)
        made.answer_with(listen)
        yield made
