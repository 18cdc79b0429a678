"""The whole service on a real port, carriers' sandboxes inside it, and a client with the admin key."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed

from anycarrier.testing.live_server import listening, serve
from anycarrier_server.app import create_service
from anycarrier_server.domain import place_call
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings
from anycarrier_server.store.columns import utc_now

ADMIN = "ApiKey_0000-test-admin-key-0123456789abcdef"
SECRETS = {"twilio": "AC0123456789abcdef0123456789abcdef:secret-0123456789", "telnyx": "KEY0123456789ABCDEF_secret"}
NUMBERS = {"twilio": "+14155550100", "telnyx": "+14155550111"}
SOMEBODY = "+12125550123"


@dataclass
class Running:
    """A service that is up."""

    service: Service
    http: httpx.AsyncClient

    async def ask(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        """One request that must be answered with ``status``; the JSON of it."""
        response = await self.http.request(method, path, **request)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def equip(self, provider: str, websocket_url: str | None = None, **agent: Any) -> dict[str, Any]:
        """A credential, an agent and a number on a carrier: what a first call needs."""
        made = await self.ask(
            "POST", "/v1/credentials", 201, json={"name": "mine", "provider": provider, "api_key": SECRETS[provider]}
        )
        # Nobody speaks in most tests, and a slow machine's call must not end by itself before the test does.
        fields = {"name": "Aria", "silence_timeout_seconds": None, **agent}
        if websocket_url:
            fields["websocket_url"] = websocket_url
        answering = await self.ask("POST", "/v1/agents", 201, json=fields)
        number = {
            "phone_number": NUMBERS[provider],
            "provider": provider,
            "agent_id": answering["id"],
            "credential_id": made["id"],
        }
        line = await self.ask("POST", "/v1/phone-numbers", 201, json=number)
        assert line["status"] == "active", line
        return {"credential": made, "agent": answering, "line": line, "number": NUMBERS[provider]}

    async def ring(self, to: str, **more: Any) -> dict[str, Any]:
        """Somebody rings."""
        return await self.ask("POST", "/sandbox/calls", 201, json={"to": to, "from": SOMEBODY, **more})

    async def until(
        self, path: str, met: Callable[[Any], bool], timeout: float = 30
    ) -> Any:
        """Ask until the answer is as it should be."""
        seen: Any = None
        try:
            async with asyncio.timeout(timeout):
                while True:
                    seen = await self.ask("GET", path)
                    if met(seen):
                        return seen
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{path} never came to what was waited for; last: {seen}") from None


@contextlib.asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Running]:
    """Serve while the block runs."""
    sock = listening()
    ours = {"data_dir": folder, "port": sock.getsockname()[1], "admin_key": ADMIN}
    given = {**ours, "sandbox": True, "allow": ["US"], **settings}  # as with an account: US numbers ring the US
    app = create_service(Settings(**given))
    async with (
        serve(app, sock) as url,
        httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=20, trust_env=False
        ) as http,
    ):
        yield Running(app.state.service, http)


def never_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls may be scheduled for the next moment, though a slow machine is asked when that is over."""
    monkeypatch.setattr(place_call, "utc_now", lambda: utc_now() - timedelta(minutes=5))


@dataclass
class AgentServer:
    """An agent that is not our code: a plain WebSocket server that notes what it is sent."""

    url: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    sockets: list[ServerConnection] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    async def say_in_transcript(self, text: str) -> None:
        """Tell us what the caller said, as agents with their own speech recognition do."""
        async with asyncio.timeout(30):
            await self.arrived.wait()
        await self.sockets[-1].send(json.dumps({"event": "transcript", "party": "remote", "text": text}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.events if event["event"] == kind]


async def frames(socket: ServerConnection) -> AsyncIterator[str | bytes]:
    """What comes in, until either side is gone, by whatever way."""
    with contextlib.suppress(ConnectionClosed):
        async for frame in socket:
            yield frame


@contextlib.asynccontextmanager
async def agent_server(
    greeting: str = "", on_start: Callable[[ServerConnection], Awaitable[None]] | None = None, headers: Any = None
) -> AsyncIterator[AgentServer]:
    """An agent server on loopback; ``headers`` choose who does speech."""
    heard = AgentServer()

    async def talk(socket: ServerConnection) -> None:
        assert socket.request is not None
        heard.sockets.append(socket)
        heard.hosts.append(socket.request.headers["Host"])
        heard.calls.append(json.loads(socket.request.headers["X-Call-Context"]))
        async for frame in frames(socket):
            event = json.loads(frame)
            heard.events.append(event)
            if event["event"] == "start":
                heard.arrived.set()
                if greeting:
                    await socket.send(json.dumps({"event": "text", "delta": greeting, "done": True}))
                if on_start is not None:
                    await on_start(socket)

    def choose(connection: ServerConnection, request: Any, response: Any) -> Any:
        for name, value in (headers or {}).items():
            response.headers[name] = value
        return response

    async with serve_websocket(talk, "127.0.0.1", 0, process_response=choose) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        heard.url = f"ws://127.0.0.1:{port}/agent?token=abc"
        yield heard
