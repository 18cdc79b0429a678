"""A whole service on a real loopback port with the carriers' sandboxes in it, an agent of one's own, a receiver of
webhooks, and a client who speaks this contract.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as Upgrade
from websockets.http11 import Response as Upgraded

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier.testing.sandbox import Sandbox
from anycarrier_server.app import create_service
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings

ADMIN = "oi_sk_an_admin_key_of_these_tests_only"
OURS = "+14155550100"
CALLEE = "+12125550142"
CALLER = "+12125550143"
API_KEYS = {
    "twilio": "AC00000000000000000000000000000001:a-token-of-twenty-letters",
    "telnyx": "KEY0123456789-of-nobody",
    "sip": "a-password",
}
DETAILS = {"sip": {"preset": "pbx", "username": "201"}}
"""What a carrier's credential needs beside the key."""


class Line:
    """An agent's server that brings its own speech: it greets, and writes down what was said on both sides."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.contexts: list[dict[str, Any]] = []
        self.open: list[ServerConnection] = []
        self.arrived = asyncio.Event()

    async def talk(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        context = json.loads(socket.request.headers["X-Call-Context"])
        self.contexts.append(context)
        start = json.loads(await socket.recv())
        who = context.get("variables", {}).get("customer_name", "there")
        for party, text in (("local", f"Hi {who}! This is Aria from Acme."), ("remote", "Oh hi, book me in please.")):
            await self._send(socket, event="transcript", party=party, text=text, is_final=True)
        await self._send(socket, event="transcript", party="local", text="You are booked for Thursday.", is_final=True)
        media = {"payload": "/////w==" * 40, "track": "outbound"}
        await self._send(socket, event="media", stream_id=start["stream_id"], media=media)
        self.open.append(socket)
        self.arrived.set()
        with contextlib.suppress(ConnectionClosed):
            async for _ in socket:
                pass

    async def _send(self, socket: ServerConnection, **message: Any) -> None:
        await socket.send(json.dumps(message))

    async def calls(self, count: int = 1) -> None:
        """Wait until ``count`` calls have come."""
        async with asyncio.timeout(30):
            while len(self.open) < count:
                self.arrived.clear()
                await self.arrived.wait()


@contextlib.asynccontextmanager
async def agent_server() -> AsyncIterator[Line]:
    def own_speech(socket: ServerConnection, request: Upgrade, response: Upgraded) -> Upgraded:
        response.headers["X-Use-Inkbox-Text-To-Speech"] = "false"
        response.headers["X-Use-Inkbox-Speech-To-Text"] = "false"
        return response

    made = Line("")
    async with serve_websocket(made.talk, "127.0.0.1", 0, process_response=own_speech) as server:
        made.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/aria"
        yield made


@dataclass
class Receiver:
    """Takes webhooks: every one is checked for its signature, and kept."""

    url: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    """Path to the secret its sender signs with."""
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """Statuses to answer with first; 200 after that."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: Request) -> Response:
        body = await request.body()
        secret = self.secrets.get(request.url.path)
        if secret is not None:
            signed = f"{request.headers['x-oneinbox-timestamp']}.".encode() + body
            good = "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
            assert hmac.compare_digest(good, request.headers["x-oneinbox-signature"]), "a signature that does not fit"
        status = self.answers.pop(0) if self.answers else 200
        self.headers.append(dict(request.headers))
        self.got.append((request.url.path, json.loads(body)))
        self.news.set()
        return Response(status_code=status)

    def kinds(self, path: str | None = None) -> list[str]:
        """Events received, in order."""
        return [body["event"] for where, body in self.got if path in (None, where)]

    async def until(self, met: Callable[[], bool], timeout: float = 30) -> None:
        """Wait until what was received satisfies ``met``."""
        async with asyncio.timeout(timeout):
            while not met():
                self.news.clear()
                await self.news.wait()


@contextlib.asynccontextmanager
async def webhook_receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = Starlette(routes=[Route("/{path:path}", made.take, methods=["POST"])])
    async with serve(app) as url:
        made.url = url
        yield made


@dataclass
class House:
    """The service and somebody who uses it."""

    url: str
    service: Service
    client: httpx.AsyncClient
    line: Line
    agent_id: str = ""
    """The agent a test works with."""

    def sandbox(self, provider: str) -> Sandbox:
        """The carrier, played."""
        assert self.service.sandboxes is not None
        return self.service.sandboxes.played[provider]

    async def ask(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        """JSON of an answer that must have this status."""
        response = await self.client.request(method, path, **request)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response.json() if response.content else None

    async def agent(self, name: str = "Aria", **settings: Any) -> str:
        """An agent that talks through our own server; its id."""
        body = {"name": name, "websocket_url": self.line.url, **settings}
        return str((await self.ask("POST", "/v1/agents", 201, json=body))["id"])

    async def number(self, provider: str, agent_id: str, number: str = OURS, **more: Any) -> dict[str, Any]:
        """A credential and a number of it."""
        account = {"provider": provider, "api_key": API_KEYS[provider], "metadata": DETAILS.get(provider, {})}
        made = await self.ask("POST", "/v1/credentials", 201, json={"name": provider, **account})
        body = {"phone_number": number, "provider": provider, "agent_id": agent_id, "credential_id": made["id"], **more}
        found: dict[str, Any] = await self.ask("POST", "/v1/phone-numbers", 201, json=body)
        return found

    async def call(self, agent_id: str, to: str = CALLEE, status: int = 201, **more: Any) -> dict[str, Any]:
        """Ring somebody from our number."""
        body = {"agent_id": agent_id, "to_number": to, "from_number": OURS, **more}
        made: dict[str, Any] = await self.ask("POST", "/v1/calls", status, json=body)
        return made

    async def until(self, call_id: str, *stages: str, timeout: float = 30) -> dict[str, Any]:
        """The call, once it is in one of these states."""
        async with asyncio.timeout(timeout):
            while True:
                call: dict[str, Any] = await self.ask("GET", f"/v1/calls/{call_id}")
                if call["status"] in stages:
                    return call
                await asyncio.sleep(0.02)

    async def recorded(self, call_id: str, timeout: float = 30) -> dict[str, Any]:
        """The call, once its papers are done: its analysis and its recording, whichever comes last."""
        async with asyncio.timeout(timeout):
            while True:
                call: dict[str, Any] = await self.ask("GET", f"/v1/calls/{call_id}")
                if call["recording_url"] and call["analysis"] and call["analysis"]["summary"]:
                    return call
                await asyncio.sleep(0.02)

    async def said(self, call_id: str, count: int = 1) -> dict[str, Any]:
        """The call's messages, once there are so many. What an agent says is there once it was heard."""
        async with asyncio.timeout(30):
            while True:
                page: dict[str, Any] = await self.ask("GET", "/v1/calls/messages", params={"calls": call_id})
                if len(page["items"]) >= count:
                    return page
                await asyncio.sleep(0.02)

    async def far_end(self, call: dict[str, Any]) -> FarEnd:
        """The telephone at the other end."""
        row = await self.service.store.calls.find(call["id"])
        assert row is not None and row.carrier_id is not None
        return await self.sandbox(row.provider).far_end(row.carrier_id)


@contextlib.asynccontextmanager
async def open_house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    """The service, as ``anycarrier serve --sandbox`` runs it."""
    sock = listening()
    made = Settings(
        **{
            "data_dir": folder,
            "port": sock.getsockname()[1],
            "sandbox": True,
            "admin_key": ADMIN,
            "allow": ["US", "IN"],
            "calls_per_day": 10_000,
            "minutes_per_day": 10_000,
            **settings,
        }
    )
    app = create_service(made)
    async with agent_server() as line, serve(app, sock):
        url = url_of(sock)
        async with httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {ADMIN}"}, trust_env=False, timeout=30
        ) as client:
            yield House(url, app.state.service, client, line)
