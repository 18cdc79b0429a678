"""The two routes over real sockets: what the carrier signed, what the upgrade is refused with, where it is mounted."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import websockets
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from anycarrier import AudioReceived, Exchange, MediaSession, MemoryNumberRegistry, Policy
from anycarrier.asgi import WebSocketTransport, create_app, lifespan
from anycarrier.errors import ConfigurationError
from anycarrier.testing.live_server import serve
from fake_carriers import FakeCredential, InlineProvider

OURS, CALLER = "+14155550101", "+12125550102"


async def echo(session: MediaSession) -> None:
    async for event in session:
        if isinstance(event, AudioReceived):
            await session.send_audio(event.payload)


@pytest.fixture
async def served(fake_plugins: None) -> AsyncIterator[tuple[Exchange, str]]:
    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"main": FakeCredential()},
        public_url="https://voice.example.com/phone",
        secret="x" * 32,
        policy=Policy(),
        settle=0.2,
    )

    async def setup() -> None:
        await exchange.assign(OURS, agent_id="a", credential_id="main")

    inner = create_app(exchange, echo, on_startup=setup)
    async with inner.router.lifespan_context(inner), serve(Starlette(routes=[Mount("/phone", inner)])) as base:
        yield exchange, base + "/phone"


def ringing(event_id: str = "e1") -> dict[str, str]:
    return {"event": "ringing", "id": "in-1", "from": CALLER, "to": OURS, "event_id": event_id}


@pytest.mark.parametrize("serve_it", [create_app, lifespan])
def test_what_cannot_be_served_or_run_at_startup_is_refused_when_it_is_given(
    served: tuple[Exchange, str], serve_it: Callable[..., object]
) -> None:
    for wrong in (None, echo, "exchange"):
        with pytest.raises(ConfigurationError, match=r"is no Exchange\. Give the exchange first"):
            serve_it(wrong)
    with pytest.raises(ConfigurationError, match=r"on_startup is of type list.*Give the function, not what it returns"):
        serve_it(served[0], on_startup=[echo])


async def post(base: str, body: object, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(f"{base}/inline/main?a=%2F&b=", json=body, headers={"x-signed": "yes", **headers})


async def test_the_url_to_verify_is_the_public_one_whatever_host_the_request_claims(
    served: tuple[Exchange, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(InlineProvider, "verify", lambda self, request: seen.append(request.url))
    await post(served[1], ringing(), host="evil.example.com")
    assert seen == ["https://voice.example.com/phone/inline/main?a=%2F&b="]


def shifted(app: ASGIApp, **hands: Callable[[str], str]) -> ASGIApp:
    """``app`` mounted at /phone as a framework would that hands ``path`` and ``root_path`` over in its own way."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope = {**scope, **{name: hand(scope["path"]) for name, hand in hands.items()}}
        await app(scope, receive, send)

    return outer


MOUNTS: dict[str, dict[str, Callable[[str], str]]] = {
    "whole path, and a root path": {"root_path": lambda path: "/phone"},
    "the rest of the path": {"path": lambda path: path.removeprefix("/phone")},
    "the rest of the path, and a slash": {"path": lambda path: path.removeprefix("/phone") + "/"},
    "the rest of the path, and a root path": {
        "path": lambda path: path.removeprefix("/phone"),
        "root_path": lambda path: "/phone",
    },
    "without raw_path": {
        "path": lambda path: path.removeprefix("/phone") + "/",
        "raw_path": lambda path: "",
    },
}


@pytest.mark.parametrize("mount", MOUNTS)
async def test_whatever_a_framework_makes_of_a_mounts_path_webhooks_and_media_arrive(
    mount: str, fake_plugins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(InlineProvider, "verify", lambda self, request: seen.append(request.url))
    exchange = exchange_of(fake_plugins)
    await exchange.start()
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    async with serve(shifted(create_app(exchange, echo), **MOUNTS[mount])) as base:
        reply = await post(base + "/phone", ringing())
        assert seen == ["https://voice.example.com/phone/inline/main?a=%2F&b="]
        ticket = reply.text.rpartition("/")[2]
        async with connect(f"ws{base.removeprefix('http')}/phone/media/{ticket}") as socket:
            await socket.send(json.dumps({"event": "start", "call_id": "in-1"}))
            await socket.send(json.dumps({"event": "media", "audio": "over the wire"}))
            assert json.loads(await asyncio.wait_for(socket.recv(), 30))["audio"] == "over the wire"
    await exchange.stop()


async def test_a_slash_that_the_carrier_sent_is_part_of_the_url_to_verify(
    served: tuple[Exchange, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(InlineProvider, "verify", lambda self, request: seen.append(request.url))
    async with httpx.AsyncClient() as client:
        await client.post(f"{served[1]}/inline/main/", json=ringing())
    assert seen == ["https://voice.example.com/phone/inline/main/"]


async def test_a_call_from_ring_to_echo_over_a_real_socket(served: tuple[Exchange, str]) -> None:
    reply = await post(served[1], ringing())
    assert reply.text.startswith("wss://voice.example.com/phone/media/")
    ticket = reply.text.rpartition("/")[2]
    async with connect(f"ws{served[1].removeprefix('http')}/media/{ticket}") as socket:
        await socket.send(json.dumps({"event": "start", "call_id": "in-1"}))
        await socket.send(json.dumps({"event": "media", "audio": "over the wire"}))
        frame = await asyncio.wait_for(socket.recv(), 2)
        assert isinstance(frame, str), "carriers refuse binary frames"
        assert json.loads(frame) == {"event": "media", "audio": "over the wire"}


@pytest.mark.parametrize(("path", "status"), [("/media", 401), ("/media/", 401), ("/media/forged", 403)])
async def test_no_ticket_is_401_and_a_bad_one_403_before_the_upgrade(
    served: tuple[Exchange, str], path: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws{served[1].removeprefix('http')}{path}"):
            pass
    assert refused.value.response.status_code == status
    assert not served[0].switchboard.sessions


async def test_a_ticket_opens_one_socket_only(served: tuple[Exchange, str]) -> None:
    url = f"ws{served[1].removeprefix('http')}/media/" + (await post(served[1], ringing())).text.rpartition("/")[2]
    async with connect(url):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url):
                pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("credential_id", ["main", "b\u00fcro 1", "tenant:1", "x?y#z", "100%", "a+b;c=d", "50%25"])
@pytest.mark.parametrize("raw", [True, False], ids=["raw path", "decoded path only"])
async def test_the_url_that_a_carrier_was_given_is_the_one_that_is_verified(
    served: tuple[Exchange, str], monkeypatch: pytest.MonkeyPatch, credential_id: str, raw: bool
) -> None:
    exchange, _ = served
    seen: list[str] = []
    monkeypatch.setattr(InlineProvider, "verify", lambda self, request: seen.append(request.url))
    app = create_app(exchange)

    async def served_so(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope if raw else {**scope, "raw_path": b""}, receive, send)

    given = exchange.switchboard.webhook_url("inline", credential_id)
    exchange.switchboard.credentials.by_id[credential_id] = FakeCredential()  # type: ignore[attr-defined]
    transport = httpx.ASGITransport(served_so)
    async with httpx.AsyncClient(transport=transport, base_url="https://voice.example.com") as client:
        await client.post(given.replace("/phone", "", 1) + "?ref=1", json=ringing())
    assert seen == [f"{given}?ref=1"]


@pytest.mark.parametrize("credential_id", ["a/b", "", ".", ".."])
def test_a_credential_that_no_url_can_name_is_refused_before_a_carrier_is_given_one(
    served: tuple[Exchange, str], credential_id: str
) -> None:
    with pytest.raises(ConfigurationError, match="cannot be part of a URL"):
        served[0].switchboard.webhook_url("inline", credential_id)


async def test_a_stranger_who_hangs_up_in_the_middle_of_a_webhook_is_no_error(served: tuple[Exchange, str]) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    answers: list[Message] = []

    async def send(message: Message) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/inline/main", "query_string": b"", "headers": []}
    await create_app(served[0])(scope, receive, send)
    assert answers[0]["status"] == 400


async def test_a_huge_webhook_is_refused_unread(served: tuple[Exchange, str]) -> None:
    assert (await post(served[1], {"x": "y" * 2_000_000})).status_code == 413


async def test_a_socket_that_never_says_whose_call_it_is_is_closed(
    served: tuple[Exchange, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycarrier.media.START_TIMEOUT", 0.05)
    url = f"ws{served[1].removeprefix('http')}/media/" + (await post(served[1], ringing())).text.rpartition("/")[2]
    async with connect(url) as socket:
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 2)


# --- mounted, where nobody runs its lifespan --------------------------------------------------------------------------


def exchange_of(fake_plugins: None) -> Exchange:
    return Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"main": FakeCredential()},
        public_url="https://voice.example.com/phone",
        secret="x" * 32,
        settle=0.2,
    )


async def test_a_mounted_app_starts_at_its_first_request_and_says_so_once(
    fake_plugins: None, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = exchange_of(fake_plugins)
    asked: list[str] = []

    async def setup() -> None:
        asked.append("on_startup")
        await exchange.assign(OURS, agent_id="a", credential_id="main")

    outer = Starlette(routes=[Mount("/phone", create_app(exchange, echo, on_startup=setup))])
    async with serve(outer) as base:
        assert not exchange.started
        replies = await asyncio.gather(*(post(base + "/phone", ringing(f"e{n}")) for n in range(3)))
        assert exchange.started and asked == ["on_startup"]
    assert any(reply.text.startswith("wss://") for reply in replies), "the number was assigned before it was asked for"
    warnings = [record.getMessage() for record in caplog.records if "lifespan was not run" in record.getMessage()]
    assert len(warnings) == 1 and "anycarrier.asgi.lifespan" in warnings[0]


async def test_the_outer_apps_lifespan_starts_and_stops_the_exchange(
    fake_plugins: None, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = exchange_of(fake_plugins)

    async def setup() -> None:
        assert exchange.started
        await exchange.assign(OURS, agent_id="a", credential_id="main")

    outer = Starlette(
        routes=[Mount("/phone", create_app(exchange, echo))], lifespan=lifespan(exchange, on_startup=setup)
    )
    async with serve(outer) as base:
        assert exchange.started
        assert (await post(base + "/phone", ringing())).text.startswith("wss://")
    assert not exchange.started
    assert not [record for record in caplog.records if "lifespan" in record.getMessage()]


async def test_an_exchange_that_cannot_start_is_tried_again_at_the_next_request(
    fake_plugins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, fails = exchange_of(fake_plugins), [True]

    async def setup() -> None:
        if fails.pop() if fails else False:
            raise RuntimeError("the registry is not there yet")
        await exchange.assign(OURS, agent_id="a", credential_id="main")

    outer = Starlette(routes=[Mount("/phone", create_app(exchange, echo, on_startup=setup))])
    async with serve(outer, log_level="critical") as base:
        assert (await post(base + "/phone", ringing())).status_code == 500
        assert (await post(base + "/phone", ringing("e2"))).text.startswith("wss://")


class Server:
    """An ASGI server's side of one accepted WebSocket: what it hands in, and what it was sent."""

    def __init__(self, *messages: Message, refuses: Exception | None = None) -> None:
        self.sent: list[Message] = []
        self._messages = list(messages)
        self._refuses = refuses

    async def receive(self) -> Message:
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if self._refuses is not None:
            raise self._refuses


async def test_frames_are_text_or_bytes_both_ways_until_the_carrier_is_gone() -> None:
    server = Server(
        {"type": "websocket.receive", "text": "{}"},
        {"type": "websocket.receive", "bytes": b"\x00", "text": None},
        {"type": "websocket.disconnect", "code": 1000},
    )
    transport = WebSocketTransport(server.receive, server.send)
    assert [frame async for frame in transport] == ["{}", b"\x00"]
    for frame in ("{}", b"\x00"):
        await transport.send(frame)
    assert [(message.get("text"), message.get("bytes")) for message in server.sent] == [("{}", None), (None, b"\x00")]


async def test_a_media_socket_is_closed_once_and_not_again() -> None:
    server = Server()
    transport = WebSocketTransport(server.receive, server.send)
    await transport.close(1013)
    await transport.close()
    assert server.sent == [{"type": "websocket.close", "code": 1013, "reason": ""}]


@pytest.mark.parametrize("said", [OSError("gone"), RuntimeError("a message after the close")])
async def test_a_server_whose_peer_is_gone_is_no_error_at_the_close_and_a_lost_connection_before_it(
    said: Exception,
) -> None:
    server = Server(refuses=said)
    transport = WebSocketTransport(server.receive, server.send)
    with pytest.raises(ConnectionError):
        await transport.send("{}")
    await transport.close()


async def test_nothing_is_sent_after_our_own_close() -> None:
    """Each server says that in an error of its own, hypercorn in one that is no ``RuntimeError``."""
    server = Server()
    transport = WebSocketTransport(server.receive, server.send)
    await transport.close()
    with pytest.raises(ConnectionError):
        await transport.send("{}")
    assert len(server.sent) == 1


async def test_a_server_that_takes_no_code_of_the_protocol_closes_without() -> None:
    """daphne: "invalid close code 1013 (must be 1000 or from [3000, 4999])"."""
    server = Server()
    closed: list[int] = []

    async def autobahn(message: Message) -> None:
        if not (message["code"] == 1000 or 3000 <= message["code"] < 5000):
            raise Exception(f"invalid close code {message['code']}")
        closed.append(message["code"])

    await WebSocketTransport(server.receive, autobahn).close(1013)
    assert closed == [1000]
