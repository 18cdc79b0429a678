"""A voice platform in one object, for testing the Telnyx sandbox: a webhook address, a media address, the vendor's SDK.

Nothing of anycarrier's own adapter is used here: the vendor's SDK sends the commands and checks the signatures.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import urllib.parse
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from telnyx import AsyncTelnyx
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from anycarrier.testing.live_server import serve, serve_sandbox
from anycarrier_telnyx.sandbox import API_KEY, TelnyxSandbox
from anycarrier_telnyx.sandbox.account import public_key
from openapi import Spec

OURS = "+14155550123"
THEIRS = "+12125550111"
STATE = base64.b64encode(b'{"ref":"abc"}').decode()


@dataclass
class Posted:
    """One webhook as it came in."""

    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.body)
        return message

    @property
    def kind(self) -> str:
        return str(self.message.get("data", self.message)["event_type"])

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = self.message["data"]["payload"]
        return payload


class Told:
    """A list that can be waited on."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = asyncio.Condition()

    async def add(self, item: Any) -> None:
        async with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    async def until(self, wanted: Callable[[Any], bool], count: int = 1, timeout: float = 30) -> Any:
        """The ``count``-th item that is ``wanted``."""

        def found() -> list[Any]:
            return [item for item in self.items if wanted(item)]

        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
        return found()[count - 1]


@dataclass
class Platform:
    """What the carrier talks to. ``reply`` is the status webhooks are answered with, called once per webhook."""

    url: str = ""
    media_url: str = ""
    posted: Told = field(default_factory=Told)
    frames: Told = field(default_factory=Told)
    socket: ServerConnection | None = None
    upgrade_headers: dict[str, str] = field(default_factory=dict)
    reply: Callable[[Posted], int] = lambda posted: 200

    async def webhook(self, request: Request) -> Response:
        posted = Posted(dict(request.headers), await request.body())
        await self.posted.add(posted)
        return Response(status_code=self.reply(posted))

    async def media(self, socket: ServerConnection) -> None:
        self.socket = socket
        if socket.request is not None:
            self.upgrade_headers = {name.lower(): value for name, value in socket.request.headers.raw_items()}
        async for message in socket:
            await self.frames.add(json.loads(message))
        await self.frames.add({"event": "closed"})

    async def event(self, kind: str, count: int = 1, timeout: float = 30) -> dict[str, Any]:
        """The payload of the ``count``-th webhook of that kind."""
        posted: Posted = await self.posted.until(lambda item: item.kind == kind, count, timeout)
        return posted.payload

    async def frame(self, event: str, count: int = 1, timeout: float = 30) -> dict[str, Any]:
        """The ``count``-th media frame of that kind."""
        frame: dict[str, Any] = await self.frames.until(lambda item: item["event"] == event, count, timeout)
        return frame

    async def send(self, **frame: Any) -> None:
        """A frame to the carrier."""
        assert self.socket is not None
        await self.socket.send(json.dumps(frame))

    async def send_audio(self, audio: bytes) -> None:
        """A media frame to the carrier."""
        await self.send(event="media", media={"payload": base64.b64encode(audio).decode()})

    def kinds(self) -> list[str]:
        """All webhooks so far, by name."""
        return [posted.kind for posted in self.posted.items]


@dataclass
class Line:
    """A sandbox, a platform it calls, and the SDK's client; ``connection`` is an application with webhooks set."""

    sandbox: TelnyxSandbox
    platform: Platform
    client: AsyncTelnyx
    http: httpx.AsyncClient
    connection: str

    def stream(self, **more: Any) -> dict[str, Any]:
        """What makes a stream one can speak into."""
        return {"stream_url": self.platform.media_url, "stream_bidirectional_mode": "rtp", **more}

    async def dial(self, to: str = THEIRS, **more: Any) -> str:
        """Dial from our number by the SDK; the new call's id."""
        made = await self.client.calls.dial(connection_id=self.connection, to=to, from_=OURS, **more)
        assert made.data is not None
        return made.data.call_control_id

    async def command(self, call_id: str, name: str, **body: Any) -> httpx.Response:
        """A command without the SDK, for what the SDK would not send or would turn into an exception."""
        quoted = urllib.parse.quote(call_id, safe="")
        return await self.http.post(f"/calls/{quoted}/actions/{name}", json=body)


def codes(response: httpx.Response) -> list[str]:
    """The error codes of an answer."""
    return [entry["code"] for entry in response.json()["errors"]]


@contextlib.asynccontextmanager
async def open_line(spec: Spec | None = None) -> AsyncIterator[Line]:
    """Everything up, wired and owning :data:`OURS`. With ``spec`` each answer must keep to the OpenAPI document."""

    async def check(response: httpx.Response) -> None:
        await response.aread()
        if spec is not None:
            request = response.request
            body = response.json() if response.content else None
            problems = spec.response_problems(request.method, request.url.path, response.status_code, body)
            if "number_orders" in request.url.path:
                # The document calls these texts; a captured order has null for each that was not given.
                problems = [problem for problem in problems if not problem.endswith("None is not of type 'string'")]
            assert not problems, f"answer to {request.method} {request.url.path}: {problems}"

    platform = Platform()
    app = Starlette(routes=[Route("/hook", platform.webhook, methods=["POST"])])
    async with contextlib.AsyncExitStack() as stack:
        root = await stack.enter_async_context(serve(app))
        platform.url = f"{root}/hook"
        server: Server = await stack.enter_async_context(serve_websocket(platform.media, "127.0.0.1", 0))
        port = next(iter(server.sockets)).getsockname()[1]
        platform.media_url = f"ws://127.0.0.1:{port}/media/ticket"
        sandbox = await stack.enter_async_context(serve_sandbox(TelnyxSandbox))
        base = f"{sandbox.base_url}/v2"
        hooks: dict[str, list[Callable[..., Any]]] = {"response": [check]}
        client = await stack.enter_async_context(
            AsyncTelnyx(
                api_key=API_KEY,
                public_key=public_key(API_KEY),
                base_url=base,
                max_retries=0,
                http_client=httpx.AsyncClient(trust_env=False, event_hooks=hooks),
            )
        )
        headers = {"authorization": f"Bearer {API_KEY}"}
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=base, headers=headers, trust_env=False))
        profiles = await client.outbound_voice_profiles.list()
        application = await client.call_control_applications.create(
            application_name="Voice",
            webhook_event_url=platform.url,
            webhook_api_version="2",
            webhook_timeout_secs=30,  # after two seconds, as by default, a webhook would be sent once more
            outbound={"outbound_voice_profile_id": profiles.data[0].id or ""},
        )
        assert application.data is not None and application.data.id is not None
        sandbox.add_number(OURS)
        number = (await client.phone_numbers.list(filter={"phone_number": OURS})).data[0]
        await client.phone_numbers.update(number.id, connection_id=application.data.id)
        yield Line(sandbox, platform, client, http, application.data.id)
