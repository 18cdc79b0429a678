"""What a carrier's socket meets is the same by the portable path and by the fast one."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
from base64 import b64encode

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from anycarrier import AudioReceived, DigitPressed, EndReason, MediaSession
from anycarrier.events import UnknownEvent
from anycarrier.provider import TicketPlace
from fake_carriers import InlineProvider
from media_sockets import Media, listen


async def refusal(url: str, **options: object) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, **options):  # type: ignore[arg-type]
            pass
    return refused.value.response.status_code


@pytest.mark.parametrize(("path", "status"), [("/media", 401), ("/media/", 401), ("/media/forged", 403)])
async def test_no_ticket_is_401_and_a_forged_one_403_and_nothing_starts(media: Media, path: str, status: int) -> None:
    assert await refusal(media.base + path) == status
    assert not media.exchange.switchboard.sessions


async def test_a_ticket_opens_one_socket_only(media: Media) -> None:
    url = await media.ticket()
    async with connect(url):
        assert await refusal(url) == 403
    assert await refusal(url) == 403


@pytest.mark.parametrize("place", TicketPlace)
@pytest.mark.parametrize("way", ["path", "path with a query behind it", "query", "bearer", "basic"])
async def test_a_ticket_is_taken_where_its_carrier_brings_it_and_nowhere_else(
    media: Media, monkeypatch: pytest.MonkeyPatch, place: TicketPlace, way: str
) -> None:
    base, _, ticket = (await media.ticket()).rpartition("/")
    url, headers, brought = {
        "path": (f"{base}/{ticket}", {}, "path"),
        "path with a query behind it": (f"{base}/{ticket}?ticket=forged", {}, "path"),
        "query": (f"{base}?a=b&ticket={ticket}", {}, "query"),
        "bearer": (base, {"Authorization": f"Bearer {ticket}"}, "header"),
        "basic": (f"{base}/", {"Authorization": "Basic " + b64encode(f"us:{ticket}".encode()).decode()}, "header"),
    }[way]
    monkeypatch.setattr(InlineProvider, "ticket_place", place)
    if brought == place:
        async with connect(url, additional_headers=headers):
            pass
    assert await refusal(url, additional_headers=headers) == 403, "it was used, or is of no use here"


@pytest.mark.parametrize("offered", [["media"], ["media", "other"], None])
async def test_the_first_protocol_that_is_offered_is_named(media: Media, offered: list[str] | None) -> None:
    """Some clients close where the answer names none."""
    async with connect(await media.ticket(), subprotocols=offered) as socket:  # type: ignore[arg-type]
        assert socket.subprotocol == ("media" if offered else None)
        assert "sec-websocket-protocol" not in socket.response.headers or offered  # type: ignore[union-attr]


async def test_a_ticket_for_a_call_that_is_over_is_refused(media: Media) -> None:
    url = await media.ticket()
    call = await media.exchange.switchboard.calls.get(f"{1:032x}")
    assert call is not None
    await media.exchange.switchboard.end_locally(call, EndReason.USER_HANGUP)
    assert await refusal(url) == 403


async def test_a_bad_handshake_is_refused_and_leaves_the_ticket_good(media: Media) -> None:
    url = await media.ticket()
    async with httpx.AsyncClient() as client:
        headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        answer = await client.get(url.replace("ws:", "http:"), headers=headers)
    assert answer.status_code == 400
    async with connect(url):
        pass


async def test_other_websockets_and_http_reach_the_application_on_the_same_port(media: Media) -> None:
    origin = media.base.removesuffix("/phone")
    async with connect(f"{origin}/shout/media", max_size=None) as socket:
        await socket.send("x" * 100_000)
        assert await asyncio.wait_for(socket.recv(), 30) == "X" * 100_000
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"http{media.base[2:]}/inline/main", json={})).status_code == 403
    assert await refusal(f"{origin}/media/forged") == 403  # not below our mount: the application has no such place


async def test_sound_and_keys_arrive_in_order_and_sound_goes_back_as_text(media: Media) -> None:
    seen: list[object] = []

    async def talk(session: MediaSession) -> None:
        async for event in session:
            seen.append(event)
            if isinstance(event, AudioReceived):
                await session.send_audio(event.payload)

    media.answer_with(talk)
    socket = await media.join()
    for number in range(200):
        await socket.send(json.dumps({"event": "media", "audio": str(number)}))
    await socket.send(json.dumps({"event": "dtmf", "digit": "5"}))
    back = [json.loads(await asyncio.wait_for(socket.recv(), 30)) for _ in range(200)]
    assert [frame["audio"] for frame in back] == [str(number) for number in range(200)]
    await socket.send(json.dumps({"event": "stop"}))
    await asyncio.wait_for(media.sessions[0].wait_stopped(), 30)
    assert [event.payload for event in seen if isinstance(event, AudioReceived)] == [b"%d" % n for n in range(200)]
    assert seen[-1] == DigitPressed("5")
    await socket.wait_closed()
    assert socket.close_code == 1000


async def test_frames_that_come_with_the_upgrade_are_not_lost(media: Media) -> None:
    seen: list[bytes] = []

    async def talk(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, AudioReceived):
                seen.append(event.payload)

    media.answer_with(talk)
    admit = media.exchange.serve_media

    async def slowly(ticket: object, transport: object) -> None:
        await asyncio.sleep(0.05)  # the session comes up while the carrier is talking already
        await admit(ticket, transport)  # type: ignore[arg-type]

    media.exchange.serve_media = slowly  # type: ignore[method-assign]
    socket = await media.join()
    for number in range(500):
        await socket.send(json.dumps({"event": "media", "audio": str(number)}))
    await socket.send(json.dumps({"event": "stop"}))
    await socket.wait_closed()
    assert seen == [b"%d" % number for number in range(500)]


@pytest.mark.parametrize("frame", ["", "nonsense", "[]", "\x00", '{"event":'])
async def test_a_malformed_frame_is_an_event_and_the_call_goes_on(media: Media, frame: str) -> None:
    seen: list[object] = []

    async def talk(session: MediaSession) -> None:
        async for event in session:
            seen.append(event)

    media.answer_with(talk)
    socket = await media.join()
    await socket.send(frame)
    await socket.send(json.dumps({"event": "media", "audio": "after"}))
    await socket.send(json.dumps({"event": "stop"}))
    await socket.wait_closed()
    assert [type(event) for event in seen] == [UnknownEvent, AudioReceived]
    assert media.sessions[0].malformed_frames == 1


async def test_a_message_in_pieces_with_a_ping_between_them_is_one_frame(media: Media) -> None:
    seen: list[bytes] = []

    async def talk(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, AudioReceived):
                seen.append(event.payload)

    media.answer_with(talk)
    socket = await media.join()
    text = json.dumps({"event": "media", "audio": "in pieces"})

    async def pieces() -> object:
        yield text[:5]
        await asyncio.wait_for(await socket.ping(), 30)
        yield ""
        yield text[5:]

    await socket.send(pieces())  # type: ignore[arg-type]
    await socket.send(json.dumps({"event": "stop"}))
    await socket.wait_closed()
    assert seen == [b"in pieces"]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([Frame(Opcode.TEXT, b"x" * 600_000)], 1009),
        ([Frame(Opcode.TEXT, b"x" * 300_000, fin=False), Frame(Opcode.CONT, b"x" * 300_000)], 1009),
        ([Frame(Opcode.TEXT, b'{"event": "\xff\xfe"}')], 1007),
        ([Frame(Opcode.CONT, b"of nothing")], 1002),
        ([Frame(Opcode.TEXT, b"a", fin=False), Frame(Opcode.TEXT, b"b")], 1002),
    ],
    ids=["too big", "too big in pieces", "no utf-8", "a piece of nothing", "a message inside a message"],
)
async def test_what_breaks_the_protocol_is_closed_with_its_code(media: Media, frames: list[Frame], code: int) -> None:
    socket = await media.join()
    session = await media.live()
    for frame in frames:
        socket.transport.write(frame.serialize(mask=True))
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 30)
    assert socket.close_code == code
    await asyncio.wait_for(session.wait_stopped(), 30)


async def test_a_binary_frame_is_read_like_a_text_one(media: Media) -> None:
    seen: list[bytes] = []

    async def talk(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, AudioReceived):
                seen.append(event.payload)

    media.answer_with(talk)
    socket = await media.join()
    await socket.send(json.dumps({"event": "media", "audio": "binary"}).encode())
    await socket.send(json.dumps({"event": "stop"}))
    await socket.wait_closed()
    assert seen == [b"binary"]


async def test_the_far_side_closing_ends_the_stream_and_is_answered_in_kind(media: Media) -> None:
    socket = await media.join()
    session = await media.live()
    await socket.close(1001)
    assert socket.close_code == 1001
    await asyncio.wait_for(session.wait_stopped(), 30)
    assert session.stop_reason == "connection lost"


async def test_a_far_side_that_vanishes_ends_the_stream(media: Media) -> None:
    socket = await media.join()
    session = await media.live()
    socket.transport.abort()
    await asyncio.wait_for(session.wait_stopped(), 30)


async def test_our_hanging_up_closes_the_socket_with_1000(media: Media) -> None:
    async def talk(session: MediaSession) -> None:
        await session.send_audio(b"bye")

    media.answer_with(talk)
    socket = await media.join()
    assert json.loads(await asyncio.wait_for(socket.recv(), 30))["audio"] == "bye"
    async for text in socket:
        frame = json.loads(text)
        assert frame["event"] == "mark"
        await socket.send(json.dumps(frame))
    assert socket.close_code == 1000


async def test_a_socket_that_never_says_whose_call_it_is_is_closed(
    media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycarrier.media.START_TIMEOUT", 0.05)
    async with connect(await media.ticket()) as socket:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 30)
    assert not media.exchange.switchboard.sessions


async def test_a_peer_that_does_not_read_makes_the_speaker_wait_in_bounded_memory(media: Media) -> None:
    sent = 0
    stuck = asyncio.Event()

    async def talk(session: MediaSession) -> None:
        nonlocal sent
        try:
            while sent < 64_000_000:
                await asyncio.wait_for(session.send_audio(b"x" * 10_000), 0.3)
                sent += 10_000
        except TimeoutError:
            stuck.set()
        await listen(session)

    media.answer_with(talk)
    socket = await media.join(max_queue=1, compression=None)
    kernel = socket.transport.get_extra_info("socket")
    kernel.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    socket.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.wait_for(stuck.wait(), 60)
    assert sent < 16_000_000  # what the kernel's buffers on loopback hold, and one of ours: not all there is to say
    session = media.sessions[0]
    socket.transport.abort()
    await asyncio.wait_for(session.wait_stopped(), 30)


async def test_the_server_going_down_ends_the_stream(media: Media) -> None:
    socket = await media.join()
    session = await media.live()
    await media.exchange.stop()
    await asyncio.wait_for(session.wait_stopped(), 30)
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 30)
    assert socket.close_code == 1001
