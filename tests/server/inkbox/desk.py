"""A whole service on a loopback port, one carrier's sandbox behind it, the real ``inkbox`` package in front, an agent's
server of plain ``websockets``, and a receiver of webhooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx
from inkbox import Inkbox
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier.testing.sandbox import Sandbox
from anycarrier_server.app import create_service
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings

ADMIN = "ApiKey_00000000-0000-4000-8000-000000000001_an-admin-key-of-these-tests"
CALLER = "+12125550123"
CALLEE = "+12125550142"
FRAME = "/" * 213 + "w=="
"""20 ms of mu-law silence, base64."""

Result = TypeVar("Result")


@dataclass
class AgentServer:
    """An agent on loopback that brings its own speech unless ``headers`` say otherwise. It keeps what it is sent."""

    url: str = ""
    headers: dict[str, str] = field(
        default_factory=lambda: {
            "X-Use-Inkbox-Text-To-Speech": "false",
            "X-Use-Inkbox-Speech-To-Text": "false",
        }
    )
    refuse: int | None = None
    """HTTP status with which every call is declined."""
    on_start: Callable[[ServerConnection], Awaitable[None]] | None = None
    handshakes: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    open: list[ServerConnection] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def contexts(self) -> list[dict[str, Any]]:
        return [json.loads(headers["X-Call-Context"]) for headers in self.handshakes]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    async def until(self, met: Callable[[], bool], timeout: float = 30) -> None:
        async with asyncio.timeout(timeout), self.news:
            await self.news.wait_for(met)

    async def started(self, count: int = 1) -> ServerConnection:
        """The ``count``-th call's socket, once its stream has started."""
        await self.until(lambda: len(self.of("start")) >= count)
        return self.open[count - 1]

    async def _notify(self) -> None:
        async with self.news:
            self.news.notify_all()

    def _choose(self, socket: ServerConnection, request: Any, response: Any) -> Any:
        self.handshakes.append(dict(request.headers.raw_items()))
        self.paths.append(request.path)
        for name, value in self.headers.items():
            response.headers[name] = value
        return response

    def _admit(self, socket: ServerConnection, request: Any) -> Any:
        if self.refuse is not None:
            return socket.respond(HTTPStatus(self.refuse), "no\n")
        return None

    async def _talk(self, socket: ServerConnection) -> None:
        self.open.append(socket)
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                event = json.loads(text)
                self.events.append(event)
                if event["event"] == "start" and self.on_start is not None:
                    await self.on_start(socket)
                await self._notify()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[AgentServer]:
        async with serve_websocket(
            self._talk, "127.0.0.1", 0, process_request=self._admit, process_response=self._choose
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/agent?token=t-1"
            yield self


@dataclass
class Taken:
    """One webhook as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Receiver:
    """Takes webhooks; ``answers`` say what to answer at a path: a status, a JSON object, or text that is no JSON."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    got: list[Taken] = field(default_factory=list)
    hold: asyncio.Event | None = None
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: Request) -> Response:
        self.got.append(Taken(request.url.path, dict(request.headers), await request.body()))
        async with self.news:
            self.news.notify_all()
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.get(request.url.path, 200)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else 200
        if isinstance(answer, int):
            return Response(status_code=answer)
        return Response(answer) if isinstance(answer, str) else JSONResponse(answer)

    def at(self, path: str) -> list[Taken]:
        return [one for one in self.got if one.path == path]

    async def until(self, path: str, count: int = 1, timeout: float = 30) -> list[Taken]:
        async with asyncio.timeout(timeout), self.news:
            await self.news.wait_for(lambda: len(self.at(path)) >= count)
        return self.at(path)


@dataclass
class Desk:
    """The service and everybody around it."""

    url: str
    provider: str
    service: Service
    http: httpx.AsyncClient
    inkbox: Inkbox
    agent: AgentServer
    receiver: Receiver
    clients: contextlib.ExitStack

    @property
    def sandbox(self) -> Sandbox:
        assert self.service.sandboxes is not None
        return self.service.sandboxes.played[self.provider]

    async def do(self, work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """A call of the SDK, which blocks, beside our loop."""
        return await asyncio.to_thread(work, *args, **kwargs)

    def client(self, api_key: str) -> Inkbox:
        """A client with this key, closed with the desk."""
        return self.clients.enter_context(Inkbox(api_key=api_key, base_url=self.url))

    async def ask(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        """JSON of an answer that must have this status."""
        response = await self.http.request(method, path, **request)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text[:600]}"
        return response.json() if response.content else None

    async def identity(self, handle: str = "support-bot", *, answers: bool = True) -> Any:
        """An SDK identity with a number; its calls go to :attr:`agent`."""
        made = await self.do(self.inkbox.create_identity, handle)
        number = await self.do(made.provision_phone_number, type="local", state=None)
        action = "auto_accept" if answers else "auto_reject"
        await self.do(
            self.inkbox.phone_numbers.update,
            number.id,
            incoming_call_action=action,
            client_websocket_url=self.agent.url,
        )
        return await self.do(self.inkbox.get_identity, handle)

    async def agent_key(self, identity: Any) -> Inkbox:
        """A client with a key of this identity only."""
        made = await self.do(self.inkbox.api_keys.create, label="its own", scoped_identity_id=identity.id)
        return self.client(made.api_key)

    async def ring(self, identity: Any, from_: str = CALLER) -> FarEnd:
        """Somebody rings the identity's number."""
        return await self.sandbox.ring(identity.phone_number.number, from_)

    async def far_end(self, call: Any) -> FarEnd:
        """The telephone at the other end of a call."""
        row = await self.service.store.calls.find(call.id)
        assert row is not None and row.carrier_id is not None
        return await self.sandbox.far_end(row.carrier_id)

    async def call_of(self, far_end: FarEnd) -> Any:
        """Our call for a ring."""
        async with asyncio.timeout(30):
            while (row := await self.service.store.calls.find(far_end.call_id)) is None:
                await asyncio.sleep(0.01)
        return await self.do(self.inkbox.calls.get, row.id)

    async def until(self, call_id: Any, *statuses: str, timeout: float = 30) -> Any:
        """The call as the SDK shows it, once it is in one of these states."""
        call: Any = None
        try:
            async with asyncio.timeout(timeout):
                while True:
                    call = await self.do(self.inkbox.calls.get, call_id)
                    if call.status in statuses:
                        return call
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never {statuses}; last: {call}") from None


@contextlib.asynccontextmanager
async def open_desk(folder: Path, provider: str, **settings: Any) -> AsyncIterator[Desk]:
    """The service as ``anycarrier serve --sandbox`` runs it, with this carrier's credential only."""
    sock = listening()
    given = {
        "data_dir": folder,
        "port": sock.getsockname()[1],
        "sandbox": True,
        "allow": ["US"],
        "admin_key": ADMIN,
        "calls_per_day": 10_000,
        "minutes_per_day": 10_000,
        **settings,
    }
    app = create_service(Settings(**given))
    receiver = Receiver()
    hook = Starlette(routes=[Route("/{path:path}", receiver.take, methods=["POST"])])
    async with AgentServer().serving() as agent, serve(hook) as hooks, serve(app, sock):
        receiver.url = hooks
        service: Service = app.state.service
        workspace = await service.store.workspaces.first()
        assert workspace is not None
        for row in await service.store.credentials.list(workspace.id):
            if row.provider != provider:
                await service.store.credentials.delete(row)
        url = url_of(sock)
        async with httpx.AsyncClient(
            base_url=url, headers={"X-API-Key": ADMIN}, trust_env=False, timeout=30
        ) as http:
            with Inkbox(api_key=ADMIN, base_url=url) as inkbox, contextlib.ExitStack() as clients:
                yield Desk(url, provider, service, http, inkbox, agent, receiver, clients)
