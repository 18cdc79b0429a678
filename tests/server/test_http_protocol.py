"""What comes before a key is looked at is bounded: headers and trailers in number and bytes, and the time they take."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from anycarrier.testing.live_server import listening, serve
from anycarrier_server import runtime
from anycarrier_server.http import http_protocol
from anycarrier_server.http.http_protocol import HEAD_BYTES, HEAD_LINES, BoundedHttp

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
UPGRADE = HEAD + (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def echo(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse({"body": len(body), "x-a": request.headers.getlist("x-a")})


async def hello(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    sock = listening()
    app = Starlette(routes=[Route("/", echo, methods=["GET", "POST"]), WebSocketRoute("/", hello)])
    async with serve(app, sock, http=BoundedHttp):
        yield sock.getsockname()[1]


async def told(port: int, *parts: bytes, endless: bytes = b"", most: int = 4 * 1024 * 1024) -> tuple[bytes, int]:
    """What is answered until the connection is closed, and how much of ``endless`` was taken before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent, answer = 0, b""
    with contextlib.suppress(ConnectionError):
        writer.writelines(parts)
        await writer.drain()
        while endless and sent < most and not reader.at_eof():
            writer.write(endless)
            sent += len(endless)
            await writer.drain()
            await asyncio.sleep(0)
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                answer += data
    writer.close()
    return answer, sent


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", b"a" * 4096),
        (HEAD, b"X-A: " + b"b" * 60 + b"\r\n"),
        (HEAD + b"X-A: ", b"b" * 4096),
        (HEAD, b"X" * 4096),
        (UPGRADE, b"X-A: bbbb\r\n" * 64),
        (CHUNKED + b"0\r\n", b"X-A: bbbb\r\n" * 64),
        (CHUNKED + b"0\r\nX-A: ", b"b" * 4096),
        (CHUNKED + b"1;", b"b" * 4096),
    ],
    ids=["target", "many", "one", "name", "handshake", "trailers", "trailer", "extension"],
)
async def test_what_does_not_end_is_refused_and_the_connection_closed(port: int, begin: bytes, more: bytes) -> None:
    answer, sent = await told(port, begin, endless=more)
    assert sent < 2 * 1024 * 1024
    assert not answer or answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


@pytest.mark.parametrize(("lines", "status"), [(HEAD_LINES - 2, b"200"), (HEAD_LINES, b"431")])
async def test_so_many_headers_are_taken_and_no_more(port: int, lines: int, status: bytes) -> None:
    answer, _ = await told(port, HEAD, b"X-A: 1\r\n" * lines + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(("size", "status"), [(HEAD_BYTES - 1024, b"200"), (HEAD_BYTES, b"431")])
async def test_so_many_bytes_of_headers_are_taken_and_no_more(port: int, size: int, status: bytes) -> None:
    answer, _ = await told(port, HEAD, b"X-A: " + b"b" * size + b"\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_a_trailer_takes_no_headers_place(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nX-A: good\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer, _ = await told(port, head, b"3\r\nabc\r\n0\r\nX-A: bad\r\n\r\n")
    assert answer.endswith(b'{"body":3,"x-a":["good"]}')


async def test_requests_on_one_connection_are_each_counted_anew(port: int) -> None:
    one = HEAD + b"X-A: " + b"b" * (HEAD_BYTES // 2) + b"\r\n"
    answer, _ = await told(port, (one + b"\r\n") * 3 + one + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 4


async def test_a_long_body_is_not_taken_for_headers(port: int) -> None:
    body = b"".join(b"400\r\n" + b"b" * 1024 + b"\r\n" for _ in range(300))
    answer, _ = await told(port, CHUNKED.replace(b"Host", b"Connection: close\r\nHost"), body + b"0\r\n\r\n")
    assert b'"body":307200' in answer


def patient(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Nobody is too late before so many bytes have come: the machine may be slower than the client."""
    came, receive, too_late = 0, BoundedHttp.data_received, BoundedHttp._too_late

    def noted(self: BoundedHttp, data: bytes) -> None:
        nonlocal came
        came += len(data)
        receive(self, data)

    def late(self: BoundedHttp) -> None:
        if came < size:
            self._give(http_protocol.HEAD_WITHIN)
        else:
            too_late(self)

    monkeypatch.setattr(BoundedHttp, "data_received", noted)
    monkeypatch.setattr(BoundedHttp, "_too_late", late)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], b""),
        ([b"\r\n"], b""),
        ([b"GET / HT"], b"HTTP/1.1 408"),
        ([HEAD], b"HTTP/1.1 408"),
        ([HEAD + b"\r\n", HEAD], b"HTTP/1.1 200"),  # of the second request; the first one is answered
        ([CHUNKED, b"3\r\nab"], b"HTTP/1.1 408"),
        ([CHUNKED, b"3\r\nabc\r\n0\r\nX-A: b"], b"HTTP/1.1 408"),
    ],
    ids=["nothing", "an empty line", "target", "headers", "a second request", "body", "trailer"],
)
async def test_who_sends_nothing_more_is_closed_in_time(
    port: int, parts: list[bytes], status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN", 0.1)
    monkeypatch.setattr(http_protocol, "BODY_WITHIN", 0.1)
    patient(monkeypatch, sum(map(len, parts)))
    answer, _ = await told(port, *parts)
    assert answer.startswith(status)
    assert bool(answer) == bool(status)


async def test_who_drips_header_by_header_is_closed_in_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD)
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():  # a header each time, never the end of them
                writer.write(b"X-A: b\r\n")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await reader.read(100)
    writer.close()


async def test_a_websocket_outlives_the_time_for_a_request(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN", 0.1)
    monkeypatch.setattr(http_protocol, "BODY_WITHIN", 0.1)
    patient(monkeypatch, len(UPGRADE) + 2)
    open_one = asyncio.Event()

    async def stay(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        open_one.set()
        await socket.close()

    sock = listening()
    async with serve(Starlette(routes=[WebSocketRoute("/", stay)]), sock, http=BoundedHttp):
        reader, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
        writer.write(UPGRADE + b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        await asyncio.sleep(0.3)
        writer.write(b"\x81\x80\0\0\0\0")  # an empty text, masked
        async with asyncio.timeout(30):
            await open_one.wait()
        writer.close()


# --- open files -----------------------------------------------------------------------------------------------------


def test_few_files_left_is_noticed_also_when_not_even_the_look_can_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 1000))
    for used, limit in ((900, None), (990, 1000)):
        monkeypatch.setattr(os, "listdir", lambda _, used=used: [str(n) for n in range(used)])
        assert runtime.few_files_left() == limit

    def full(_: Any) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "listdir", full)
    assert runtime.few_files_left() == 1000


async def test_it_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    looks = 0

    def few_left() -> int:
        nonlocal looks
        looks += 1
        return 1000

    monkeypatch.setattr(runtime, "few_files_left", few_left)
    monkeypatch.setattr(runtime, "LOOK_EVERY", 0.001)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            watching = asyncio.ensure_future(runtime.watch_open_files())
            while looks < 5:
                await asyncio.sleep(0.001)
            watching.cancel()
    assert caplog.text.count("out of files") == 1
