"""The sandbox has the traps of Asterisk, as captures show them: another platform meets them on a socket of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from anycarrier.testing.live_server import serve_sandbox
from anycarrier_asterisk.sandbox import AsteriskSandbox


class Platform:
    """A media server that names the protocol, and is somebody else's ARI client."""

    def __init__(self, server: AsteriskSandbox, http: httpx.AsyncClient) -> None:
        self.server, self.http = server, http
        self.sockets: list[ServerConnection] = []
        self.came: asyncio.Queue[Any] = asyncio.Queue()

    async def took(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        with contextlib.suppress(Exception):
            async for message in socket:
                if isinstance(message, str):
                    self.came.put_nowait(json.loads(message) if message.startswith("{") else message)
        self.came.put_nowait("closed")

    async def media(self, name: str, transport_data: str = "f(json)v(ticket=a)", **fields: str) -> ServerConnection:
        asked = {"app": "app", "channelId": name, "external_host": "anycarrier", "transport": "websocket",
                 "format": "ulaw", "transport_data": transport_data, **fields}  # fmt: skip
        answer = await self.http.post("/ari/channels/externalMedia", params=asked)
        assert answer.status_code == 200
        start = await asyncio.wait_for(self.came.get(), 10)
        assert "MEDIA_START" in str(start) and name in str(start)
        return self.sockets[-1]

    async def next(self) -> Any:
        return await asyncio.wait_for(self.came.get(), 10)


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with contextlib.AsyncExitStack() as held:
        server = await held.enter_async_context(serve_sandbox(AsteriskSandbox))
        http = await held.enter_async_context(httpx.AsyncClient(base_url=server.base_url, auth=("us", "any")))
        made = Platform(server, http)
        listening = await held.enter_async_context(serve(made.took, "127.0.0.1", 0, subprotocols=["media"]))  # type: ignore[list-item]
        port = next(iter(listening.sockets)).getsockname()[1]
        server.clients["anycarrier"].uri = f"ws://127.0.0.1:{port}/media"
        url = f"{server.base_url.replace('http', 'ws')}/ari/events?app=app&api_key=us:any"
        await held.enter_async_context(connect(url, proxy=None))
        yield made


def say(command: str, **fields: str) -> str:
    return json.dumps({"command": command, **fields})


async def test_a_flush_swallows_marks_and_an_empty_queue_returns_them_at_once(platform: Platform) -> None:
    socket = await platform.media("one")
    await socket.send(say("MARK_MEDIA", correlation_id="empty"))
    await socket.send(b"\xff" * 4000)
    await socket.send(say("MARK_MEDIA", correlation_id="swallowed"))
    await socket.send(say("FLUSH_MEDIA"))
    await socket.send(say("MARK_MEDIA", correlation_id="after"))
    assert [(await platform.next())["correlation_id"] for _ in range(2)] == ["empty", "after"]


async def test_long_texts_and_unknown_commands_are_dropped_without_a_word(platform: Platform) -> None:
    socket = await platform.media("one")
    for dropped in (say("MARK_MEDIA", correlation_id="n" * 128), say("mark_media"), say("NO_SUCH")):
        await socket.send(dropped)
    await socket.send("no json")
    assert (await platform.next())["error_text"] == "Unable to parse JSON command"
    await socket.send(say("GET_STATUS"))
    assert (await platform.next())["queue_length"] == 0


async def test_what_is_no_whole_frame_is_dropped_outside_of_buffering(platform: Platform) -> None:
    socket = await platform.media("one")
    await socket.send(b"\xff" * 170)
    await socket.send(say("GET_STATUS"))
    await platform.next()
    [media] = [channel.media for channel in platform.server.channels.values() if channel.media is not None]
    assert media.dropped == 10
    for text in (say("START_MEDIA_BUFFERING"), b"\xff" * 170, say("STOP_MEDIA_BUFFERING", correlation_id="b")):
        await socket.send(text)
    assert (await platform.next())["correlation_id"] == "b" and media.dropped == 10


async def test_the_queue_holds_a_thousand_frames_and_says_when_to_pause(platform: Platform) -> None:
    socket = await platform.media("one")
    await socket.send(b"\xff" * 64_000)
    await socket.send(b"\xff" * 64_000)
    await socket.send(b"\xff" * 64_000)
    await socket.send(b"\xff" * 64_000)
    assert (await platform.next())["event"] == "MEDIA_XOFF"
    await socket.send(say("FLUSH_MEDIA"))
    assert (await platform.next())["event"] == "MEDIA_XON"
    [media] = [channel.media for channel in platform.server.channels.values() if channel.media is not None]
    assert media.dropped >= 64_000


async def test_a_large_message_ends_the_channel(platform: Platform) -> None:
    socket = await platform.media("one")
    await socket.send(b"\xff" * 65_500)
    await asyncio.wait_for(socket.wait_closed(), 10)
    [end] = [each for each in platform.server.told if each["type"] == "ChannelDestroyed"]
    assert (end["cause"], end["tech_cause"], platform.server.channels) == (38, 1009, {})


async def test_parameters_stick_to_the_client(platform: Platform) -> None:
    await platform.media("one", "f(json)v(ticket=first,call=c1)")
    assert platform.sockets[-1].request.path == "/media?ticket=first&call=c1"  # type: ignore[union-attr]
    await platform.media("two", "f(json)")
    assert platform.sockets[-1].request.path == "/media?ticket=first&call=c1"  # type: ignore[union-attr]


async def test_plain_text_is_what_is_spoken_where_json_is_not_asked_for(platform: Platform) -> None:
    socket = await platform.media("one", "v(ticket=a)", format="slin16")
    await socket.send("MARK_MEDIA mk1")
    assert await platform.next() == "MEDIA_MARK_PROCESSED mk1"
    await socket.send("HANGUP")
    assert await platform.next() == "closed" and not platform.server.channels


async def test_a_platform_that_names_no_protocol_is_not_streamed_to(platform: Platform) -> None:
    async with serve(platform.took, "127.0.0.1", 0) as other:
        port = next(iter(other.sockets)).getsockname()[1]
        platform.server.clients["anycarrier"].uri = f"ws://127.0.0.1:{port}/media"
        asked = {"app": "app", "external_host": "anycarrier", "transport": "websocket", "format": "ulaw"}
        assert (await platform.http.post("/ari/channels/externalMedia", params=asked)).status_code == 200
        while not (ends := [each for each in platform.server.told if each["type"] == "ChannelDestroyed"]):
            await asyncio.sleep(0.005)
    assert ends[0]["cause"] == 3 and "StasisStart" not in [each["type"] for each in platform.server.told]


async def test_an_application_has_one_socket_and_a_login(platform: Platform) -> None:
    url = f"{platform.server.base_url.replace('http', 'ws')}/ari/events?app=second&api_key=us:any"
    async with connect(url, proxy=None) as first, connect(url, proxy=None):
        assert json.loads(await asyncio.wait_for(first.recv(), 10))["type"] == "ApplicationReplaced"
    for wrong, status in ((url.replace("us:any", "us:wrong"), 401), (url.replace("app=second", ""), 400)):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(wrong, proxy=None):
                pass
        assert refused.value.response.status_code == status


async def test_a_channel_in_a_bridge_is_recorded_by_a_promise_only(platform: Platform) -> None:
    platform.server.numbers["+14155550101"] = "app"
    far_end = await platform.server.ring("+14155550101", "+12125550110")
    await platform.http.post("/ari/bridges", json={"bridgeId": "b", "type": "mixing"})
    assert (await platform.http.post("/ari/bridges", json={"bridgeId": "b"})).status_code == 409
    joined = await platform.http.post("/ari/bridges/b/addChannel", params={"channel": far_end.call_id})
    assert joined.status_code == 204
    asked = {"name": "r", "format": "wav"}
    answer = await platform.http.post(f"/ari/channels/{far_end.call_id}/record", params=asked)
    assert (answer.status_code, answer.json()["state"]) == (201, "queued")
    while platform.server.told[-1]["type"] != "RecordingFailed":
        await asyncio.sleep(0.005)
    assert platform.server.told[-1]["recording"]["cause"] == "Cannot record channel while in bridge"
