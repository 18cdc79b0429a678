"""The media session over a socket in memory."""

import asyncio

import pytest
from fake_carriers import FakeFrames, MemoryTransport

from linecard import AudioFormat, AudioReceived, Call, CallStatus, DigitPressed, Direction, EndReason, MarkReached
from linecard.errors import StreamNotOpen
from linecard.event_queue import QUEUE_FRAMES
from linecard.events import UnknownEvent
from linecard.session import MediaSession

CALL = Call(
    id="c1",
    provider="p",
    direction=Direction.INBOUND,
    from_="+14155550101",
    to="+14155550100",
    status=CallStatus.ANSWERED,
)


class Control:
    def __init__(self) -> None:
        self.asked: list[object] = []

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        self.asked.append(reason)

    async def transfer(self, call: Call | str, to: str) -> None:
        self.asked.append(to)

    async def send_digits(self, call: Call | str, digits: str) -> None:
        self.asked.append(digits)


class Line:
    """A session with its transport, clock and reader."""

    def __init__(self, *, echo_marks: bool = True, marks: bool = True) -> None:
        self.now = 0.0
        self.transport = MemoryTransport(echo_marks=echo_marks)
        self.frames = FakeFrames()
        self.frames.marks = marks
        self.control = Control()
        self.session = MediaSession(
            CALL, "front-desk", self.frames, self.transport, self.control, clock=lambda: self.now
        )
        self.reader = asyncio.ensure_future(self.session.read())

    async def start(self) -> "Line":
        self.transport.say(event="start", call_id="c1", custom={"k": "v"})
        assert await self.session.wait_started(1)
        return self


async def test_events_come_in_order_and_iteration_ends_with_the_stream() -> None:
    line = await Line().start()
    for message in ({"event": "media", "audio": "a"}, {"event": "dtmf", "digit": "5"}, {"event": "stop"}):
        line.transport.say(**message)
    assert [e async for e in line.session] == [AudioReceived(b"a"), DigitPressed("5")]
    assert line.session.custom == {"k": "v"}


async def test_a_lost_connection_is_a_stop() -> None:
    line = await Line().start()
    line.transport.lose()
    assert [e async for e in line.session] == []
    assert line.session.stop_reason == "connection lost"


async def test_speaking_before_the_start_or_after_the_stop_is_our_mistake() -> None:
    line = Line()
    with pytest.raises(StreamNotOpen, match="not started"):
        await line.session.send_audio(b"x")
    await line.start()
    line.session.stop("test")
    for act in (line.session.send_audio(b"x"), line.session.mark("m"), line.session.clear()):
        with pytest.raises(StreamNotOpen, match="over: test"):
            await act
    line.reader.cancel()


async def test_unreadable_and_oversize_frames_become_events_and_harm_nothing() -> None:
    line = await Line().start()
    line.transport.say_raw(b'{"event": "med')
    line.transport.say_raw(b"x" * 300_000)
    line.transport.say(event="novelty", value=1)
    line.transport.say(event="media", audio="still here")
    line.transport.say(event="stop")
    seen = [e async for e in line.session]
    assert [getattr(e, "kind", "") for e in seen[:3]] == ["malformed", "malformed", "novelty"]
    assert isinstance(seen[2], UnknownEvent) and seen[2].raw["value"] == 1
    assert seen[3] == AudioReceived(b"still here")
    assert line.session.malformed_frames == 2


async def test_a_slow_handler_loses_the_oldest_sound_and_no_key_press() -> None:
    line = await Line().start()
    line.transport.say(event="dtmf", digit="1")
    for number in range(QUEUE_FRAMES + 20):
        line.transport.say(event="media", audio=f"{number:04}")
    line.transport.say(event="stop")
    await line.reader
    seen = [e async for e in line.session]
    assert seen[0] == DigitPressed("1")
    assert len(seen) == QUEUE_FRAMES + 1
    assert seen[1] == AudioReceived(b"0020")
    assert line.session.dropped_frames == 20


async def test_marks_of_the_handlers_come_back_and_ours_stay_hidden() -> None:
    line = await Line().start()
    for _ in range(4):
        await line.session.send_audio(b"\xff" * 4000)
    await line.session.mark("said it")
    assert await anext(line.session) == MarkReached("said it")
    assert sum(message["event"] == "mark" for message in line.transport.sent) > 1
    line.reader.cancel()


async def test_a_mark_overtaken_by_a_clear_never_comes_back() -> None:
    line = await Line(echo_marks=False).start()
    await line.session.send_audio(b"\xff" * 8000)
    await line.session.mark("half")
    sent = [m["name"] for m in line.transport.sent if m["event"] == "mark"]
    line.now = 0.25
    assert (await line.session.clear()).heard == pytest.approx(0.25)
    for name in sent:
        line.transport.say(event="mark", name=name)
    line.transport.say(event="stop")
    assert [e async for e in line.session] == []
    assert line.session.heard == pytest.approx(0.25)
    assert line.session.sent == pytest.approx(1.0)


async def test_drain_waits_for_the_carriers_word() -> None:
    line = await Line(echo_marks=False).start()
    await line.session.send_audio(b"\xff" * 1600)
    waiting = asyncio.ensure_future(line.session.drain())
    while not any(m["event"] == "mark" for m in line.transport.sent):
        await asyncio.sleep(0)
    assert not waiting.done()
    line.transport.say(**next(m for m in line.transport.sent if m["event"] == "mark"))
    await asyncio.wait_for(waiting, 1)
    line.reader.cancel()


async def test_without_marks_a_mark_comes_back_by_the_clock() -> None:
    line = await Line(marks=False).start()
    await line.session.send_audio(b"\xff" * 80)
    await line.session.mark("soon")
    assert await asyncio.wait_for(anext(line.session), 1) == MarkReached("soon")
    assert not any(m["event"] == "mark" for m in line.transport.sent)
    line.reader.cancel()


async def test_other_codecs_are_turned_into_the_common_one_both_ways() -> None:
    line = Line()
    line.frames.audio_out = AudioFormat("PCMA", 8000)
    session = MediaSession(CALL, "a", line.frames, line.transport, line.control)
    line.reader.cancel()
    from linecard.events import StreamStarted

    line.frames.open = True
    session.deliver(StreamStarted("c1", "s", AudioFormat("L16", 16000)))
    session.deliver(AudioReceived(b"\x00\x00" * 320))
    event = await anext(session)
    assert isinstance(event, AudioReceived)
    assert 100 < len(event.payload) <= 160 and set(event.payload) <= {0xFF, 0x7F}
    await session.send_audio(b"\xff" * 160)
    sent = line.transport.sent[-1]["audio"].encode("latin-1")
    assert len(sent) == 160 and set(sent) <= {0xD5, 0x55}
    assert session.sent == pytest.approx(0.02)
