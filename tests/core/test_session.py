"""The media session over a socket in memory."""

import asyncio
import json
from collections.abc import Callable

import pytest

from anycarrier import AudioFormat, AudioReceived, DigitPressed, Direction, EndReason, MarkDropped, MarkReached
from anycarrier.errors import StreamNotOpen
from anycarrier.events import StreamStarted, StreamStopped, UnknownEvent
from anycarrier.media_stream import MAX_FRAME, QUEUE_FRAMES
from anycarrier.session import MediaSession
from fake_carriers import FakeFrames, MemoryTransport
from fake_sessions import CALL, Control, Recorder


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
        self.reader = asyncio.ensure_future(self.session.stream.read())

    async def start(self) -> "Line":
        self.transport.say(event="start", call_id="c1", custom={"k": "v"})
        assert await self.session.stream.wait_started(1)
        return self


class Broken:
    """Hears along, and cannot."""

    def __init__(self) -> None:
        self.asked = 0

    def _fail(self, *_: object) -> None:
        self.asked += 1
        raise OSError("No space left on device")

    caller = agent = cut = _fail


@pytest.mark.parametrize("first", ["caller", "agent", "clear"])
async def test_who_hears_along_and_fails_hears_no_more_and_the_call_goes_on(
    first: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = await Line().start()
    line.session.tap = tap = Broken()
    order = ["caller", "agent", "clear"]
    for what in [first, *order, *order]:
        match what:
            case "caller":
                line.transport.say(event="media", audio="a" * 160)
                assert isinstance(await anext(line.session), AudioReceived)
            case "agent":
                await line.session.send_audio(b"a" * 160)
            case "clear":
                await line.session.clear()
    assert tap.asked == 1 and not line.session.ended
    assert [record.getMessage() for record in caplog.records] == ["Broken failed and hears no more of its call"]
    line.transport.say(event="stop")
    await line.reader


@pytest.mark.parametrize(
    ("format", "told"),
    [
        (("G722", 16000, 1), "p sends audio as G722 at 16000 Hz with 1 channel"),
        (("PCMU", 8000, 2), "p sends audio as PCMU at 8000 Hz with 2 channels"),
        (("OPUS", 48000, 2), "p sends audio as OPUS at 48000 Hz with 2 channels"),
        (("L16", 0, 1), "at 0 Hz"),
        (("L16", 10**9 + 7, 1), "at 1000000007 Hz"),
    ],
)
async def test_a_stream_that_cannot_be_decoded_is_over_as_it_starts_and_says_why(
    format: tuple[str, int, int], told: str
) -> None:
    line = Line()
    line.transport.say(event="start", call_id="c1", format=format)
    started = await line.session.stream.wait_started(1)
    assert started is not None and started.format == AudioFormat(*format), "its call can still be told"
    assert told in str(line.session.unreadable) and line.session.stop_reason == str(line.session.unreadable)
    line.session.stream.receive(json.dumps({"event": "media", "audio": "a"}))
    assert [event async for event in line.session] == []
    with pytest.raises(StreamNotOpen, match="cannot be decoded"):
        await line.session.send_audio(b"a")
    await line.session.stream.close()


async def test_events_come_in_order_and_iteration_ends_with_the_stream() -> None:
    line = await Line().start()
    for message in ({"event": "media", "audio": "a"}, {"event": "dtmf", "digit": "5"}, {"event": "stop"}):
        line.transport.say(**message)
    assert [e async for e in line.session] == [AudioReceived(b"a"), DigitPressed("5")]
    assert (line.session.custom, line.session.stream_id) == ({"k": "v"}, "s1")
    assert line.session.stop_reason == "asked" and line.session.ended and line.session.line_number == CALL.to


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
    line.session.stream.stop("test")
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
    assert isinstance(seen[0], UnknownEvent) and seen[0].raw == {"error": "not a frame", "frame": b'{"event": "med'}
    assert isinstance(seen[1], UnknownEvent) and seen[1].raw["error"] == "frame of 300000 bytes"
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


@pytest.mark.parametrize("marks", [True, False])
async def test_a_mark_overtaken_by_a_clear_is_dropped_and_never_comes_back(marks: bool) -> None:
    line = await Line(echo_marks=False, marks=marks).start()
    await line.session.send_audio(b"\xff" * 8000)
    for name in ("half", "whole", "half"):
        await line.session.mark(name)
    sent = [m["name"] for m in line.transport.sent if m["event"] == "mark"]
    line.now = 0.25
    assert (await line.session.clear()).heard == pytest.approx(0.25)
    for name in sent:
        line.transport.say(event="mark", name=name)
    await line.session.clear()
    line.transport.say(event="stop")
    assert [e async for e in line.session] == [MarkDropped("half"), MarkDropped("whole"), MarkDropped("half")]
    assert line.session.heard == pytest.approx(0.25)
    assert line.session.sent == pytest.approx(1.0)


async def test_drain_waits_for_the_carriers_word() -> None:
    line = await Line(echo_marks=False).start()
    await line.session.send_audio(b"\xff" * 1600)
    line.now = 5.0  # by the clock all was played long ago
    waiting = asyncio.ensure_future(line.session.drain())
    while not any(m["event"] == "mark" for m in line.transport.sent):
        await asyncio.sleep(0)
    assert not waiting.done()
    line.transport.say(**next(m for m in line.transport.sent if m["event"] == "mark"))
    await asyncio.wait_for(waiting, 1)
    assert not line.session.ended
    line.reader.cancel()


async def test_without_marks_a_mark_comes_back_by_the_clock() -> None:
    line = await Line(marks=False).start()
    await line.session.send_audio(b"\xff" * 80)
    await line.session.mark("soon")
    assert await asyncio.wait_for(anext(line.session), 1) == MarkReached("soon")
    assert not any(m["event"] == "mark" for m in line.transport.sent)
    line.reader.cancel()


async def test_without_marks_they_come_back_in_order_whichever_timer_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    line = await Line(marks=False).start()
    loop, timers = asyncio.get_running_loop(), []

    def call_later(_: float, call: Callable[..., None], *given: str) -> None:
        timers.append((call, given))

    with monkeypatch.context() as scripted:
        scripted.setattr(loop, "call_later", call_later)
        for name in ("first", "second", "third"):
            await line.session.send_audio(b"\x00" * 160)
            await line.session.mark(name)
    for at in (1, 0, 2):
        call, given = timers[at]
        call(*given)
    events = [await anext(line.session) for _ in range(3)]
    assert [event.name for event in events if isinstance(event, MarkReached)] == ["first", "second", "third"]


async def test_other_codecs_are_turned_into_the_common_one_both_ways() -> None:
    line = Line()
    line.frames.audio_out = AudioFormat("PCMA", 8000)
    session = MediaSession(CALL, "a", line.frames, line.transport, line.control)
    line.reader.cancel()
    line.frames.open = True
    session.stream.deliver(StreamStarted("c1", "s", AudioFormat("L16", 16000)))
    session.stream.deliver(AudioReceived(b"\x00\x00" * 320))
    event = await anext(session)
    assert isinstance(event, AudioReceived)
    assert 100 < len(event.payload) <= 160 and set(event.payload) <= {0xFF, 0x7F}
    await session.send_audio(b"\xff" * 160)
    sent = line.transport.sent[-1]["audio"].encode("latin-1")
    assert len(sent) == 160 and set(sent) <= {0xD5, 0x55}
    assert session.sent == pytest.approx(0.02)


async def test_what_comes_with_a_sound_survives_another_codec() -> None:
    line = Line()
    session = MediaSession(CALL, "a", line.frames, line.transport, line.control)
    line.reader.cancel()
    session.stream.deliver(StreamStarted("c1", "s", AudioFormat("L16", 16000)))
    session.stream.deliver(AudioReceived(b"\x00\x00" * 320, "inbound", 7, 140, {"chunk": 7}))
    event = await anext(session)
    assert isinstance(event, AudioReceived)
    assert (event.track, event.sequence, event.timestamp, event.raw) == ("inbound", 7, 140, {"chunk": 7})


async def test_acting_on_the_call_names_this_call() -> None:
    line = await Line().start()
    await line.session.hang_up()
    await line.session.hang_up(EndReason.SILENCE_TIMEOUT)
    await line.session.transfer("+12125550123")
    await line.session.send_digits("12#")
    assert line.control.asked == [
        (CALL, EndReason.AGENT_HANGUP), (CALL, EndReason.SILENCE_TIMEOUT), (CALL, "+12125550123"), (CALL, "12#"),
    ]  # fmt: skip
    line.reader.cancel()


async def test_a_second_start_changes_nothing() -> None:
    line = await Line().start()
    line.session.stream.deliver(StreamStarted("c2", "s2", AudioFormat("PCMA", 8000), custom={"k": "other"}))
    assert (line.session.stream_id, line.session.custom) == ("s1", {"k": "v"})
    line.reader.cancel()


async def test_no_start_in_time_is_none_and_a_stream_that_stops_before_it_has_none() -> None:
    line = Line()
    assert await line.session.stream.wait_started(0.01) is None
    line.session.stream.stop("gone")
    assert await asyncio.wait_for(line.session.stream.wait_started(60), 1) is None
    line.reader.cancel()


async def test_a_stop_without_a_reason_is_said_to_be_the_carriers() -> None:
    line = await Line().start()
    line.session.stream.deliver(StreamStopped())
    assert line.session.stop_reason == "stopped by the carrier"
    line.reader.cancel()


async def test_the_first_reason_a_stream_stopped_for_stands() -> None:
    line = await Line().start()
    line.session.stream.stop("asked")
    await line.session.stream.close(1001)
    assert (line.session.stop_reason, line.transport.closed) == ("asked", 1001)
    await asyncio.wait_for(line.session.wait_stopped(), 1)
    line.reader.cancel()


# --- how much was heard ---------------------------------------------------------------------------------------------


async def test_time_passes_by_the_clock_between_marks() -> None:
    line = await Line(echo_marks=False).start()
    await line.session.send_audio(b"")
    assert line.transport.sent == [] and line.session.sent == 0
    await line.session.send_audio(b"\xff" * 8000)
    line.now = 0.25
    session = line.session
    assert (session.sent, session.heard, session.remaining, session.queued) == pytest.approx((1.0, 0.25, 0.75, 1.0))
    assert session.ahead == pytest.approx(0.75) and session.stream.output.silent_for == pytest.approx(-0.75)
    line.now = 3.0
    assert (session.heard, session.remaining, session.ahead) == pytest.approx((1.0, 0.0, 0.0))
    assert session.stream.output.silent_for == pytest.approx(2.0)
    line.reader.cancel()


async def test_a_mark_of_our_own_goes_out_every_half_second_of_sound() -> None:
    line = await Line(echo_marks=False).start()
    for _ in range(6):
        await line.session.send_audio(b"\xff" * 1992)  # 0.249 s
    kinds = [message["event"] for message in line.transport.sent]
    assert kinds == ["media", "media", "media", "mark", "media", "media", "media", "mark"]
    line.reader.cancel()


async def test_a_mark_sends_the_unfinished_tail_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    line = await Line(echo_marks=False).start()
    monkeypatch.setattr(line.frames, "flush", lambda: line.frames.encode_audio(b"tail"))
    for act in (line.session.mark("m"), line.session.flush()):
        line.transport.sent.clear()
        await act
        assert line.transport.sent[0] == {"event": "media", "audio": "tail"}
    line.transport.sent.clear()
    await line.session.send_audio(b"\xff" * 160)
    waiting = asyncio.ensure_future(line.session.drain(timeout=5))
    await asyncio.sleep(0)
    assert [m["event"] for m in line.transport.sent] == ["media", "media", "mark"]
    assert line.transport.sent[1]["audio"] == "tail"
    line.session.stream.stop("over")
    await asyncio.wait_for(waiting, 1)
    line.transport.sent.clear()
    await line.session.flush()
    assert line.transport.sent == [], "nothing is sent on a stream that is over"
    line.reader.cancel()


async def test_a_clear_lets_go_whoever_waits_for_the_end_and_tells_the_carrier() -> None:
    line = await Line(echo_marks=False).start()
    await line.session.send_audio(b"\xff" * 80_000)
    waiting = asyncio.ensure_future(line.session.drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    line.now = 2.0
    cleared = await line.session.clear()
    await asyncio.wait_for(waiting, 1)
    assert (cleared.heard, cleared.dropped) == pytest.approx((2.0, 8.0))
    session = line.session
    assert (session.sent, session.heard, session.queued, session.remaining) == pytest.approx((10.0, 2.0, 2.0, 0.0))
    assert line.transport.sent[-1] == {"event": "clear"}
    line.reader.cancel()


def taking_keys(line: Line) -> Line:
    """Its carrier takes keys in the media stream."""
    line.frames.encode_digits = lambda digits: line.frames._frame(event="keys", digits=digits)  # type: ignore
    return line


async def test_drain_waits_until_keys_in_the_stream_were_sent() -> None:
    line = taking_keys(await Line(echo_marks=False).start())
    assert await line.session.stream.output.send_digits("1WW2")
    waiting = asyncio.ensure_future(line.session.drain())
    while line.transport.sent[-1]["event"] != "mark":
        await asyncio.sleep(0)
    assert [sent["event"] for sent in line.transport.sent] == ["keys", "mark"] and not waiting.done()
    line.transport.say(**line.transport.sent[-1])
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(line.session.drain(), 1)  # they were sent: there is nothing to wait for
    assert line.transport.sent[-2]["event"] == "keys"
    line.reader.cancel()


@pytest.mark.parametrize(("timeout", "waits"), [(None, 0.72), (0.5, 0.5), (9.0, 0.72)])
@pytest.mark.parametrize("cleared", [False, True], ids=["no marks", "cleared"])
async def test_without_a_mark_behind_them_drain_gives_keys_their_time(
    cleared: bool, timeout: float | None, waits: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = taking_keys(await Line(echo_marks=False, marks=cleared).start())
    waited: list[float] = []

    def over(seconds: float) -> None:
        waited.append(seconds)
        raise TimeoutError

    assert await line.session.stream.output.send_digits("1w2")
    line.now = 0.1
    monkeypatch.setattr(asyncio, "timeout", over)
    waiting = asyncio.ensure_future(line.session.drain(timeout))
    if cleared:
        while line.transport.sent[-1]["event"] != "mark":
            await asyncio.sleep(0)
        line.session.clear_now()  # drops the mark, and no key
    await waiting
    assert waited == [pytest.approx(waits)]
    line.now = 0.82
    await line.session.drain(timeout)
    monkeypatch.undo()
    assert len(waited) == 1, "by then they were sent"
    line.reader.cancel()


async def test_a_drain_ends_with_the_stream_at_its_timeout_or_at_once_when_all_was_heard() -> None:
    line = await Line(echo_marks=False).start()
    await asyncio.wait_for(line.session.drain(), 1)  # nothing was sent
    await line.session.send_audio(b"\xff" * 800_000)
    await asyncio.wait_for(line.session.drain(timeout=0.01), 1)
    for _ in range(3):
        await asyncio.sleep(0)  # what is cancelled is over a moment later
    assert not line.session.stream.output._waiters and asyncio.all_tasks() == {asyncio.current_task(), line.reader}
    waiting = asyncio.ensure_future(line.session.drain())
    await asyncio.sleep(0)
    line.session.stream.stop("gone")
    await asyncio.wait_for(waiting, 1)
    line.transport.sent.clear()
    await asyncio.wait_for(line.session.drain(), 1)  # on a stream that is over there is nothing to wait for
    assert line.transport.sent == []
    line.reader.cancel()


async def test_without_a_word_from_the_carrier_a_drain_waits_for_the_sound_and_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float | None] = []
    wait = asyncio.wait

    async def noting(tasks: set[asyncio.Future[object]], *, timeout: float | None = None, **how: object) -> object:
        waited.append(timeout)
        return await wait(tasks, timeout=0, **how)  # type: ignore[call-overload]

    line = await Line(echo_marks=False).start()
    await line.session.send_audio(b"\xff" * 8000)
    line.now = 0.25
    monkeypatch.setattr(asyncio, "wait", noting)
    await line.session.drain()
    await line.session.drain(timeout=0.5)
    assert waited == [pytest.approx(2.75), 0.5]
    monkeypatch.undo()
    line.reader.cancel()


@pytest.mark.parametrize(("timeout", "waits"), [(None, 0.95), (0.5, 0.5), (9.0, 0.95)])
async def test_without_marks_a_drain_goes_by_the_clock_and_the_time_that_sound_is_on_its_way(
    timeout: float | None, waits: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def over(seconds: float) -> None:
        waited.append(seconds)
        raise TimeoutError

    line = await Line(marks=False).start()
    await line.session.send_audio(b"\xff" * 8000)
    line.now = 0.25
    monkeypatch.setattr(asyncio, "timeout", over)
    await line.session.drain(timeout)
    line.now = 5.0
    await line.session.drain(timeout)  # all was heard: no wait
    monkeypatch.undo()
    assert waited == [pytest.approx(waits)] and not any(m["event"] == "mark" for m in line.transport.sent)
    line.reader.cancel()


@pytest.mark.parametrize("steps", range(4))
async def test_a_drain_that_is_cancelled_just_as_the_stream_ends_is_cancelled(steps: int) -> None:
    line = await Line(marks=False).start()
    await line.session.send_audio(b"\xff" * 8000)
    draining = asyncio.ensure_future(line.session.drain())
    for _ in range(3):
        await asyncio.sleep(0)
    line.session.stream.stop("a test")
    for _ in range(steps):
        await asyncio.sleep(0)
    was_done = draining.done()
    draining.cancel()
    await asyncio.wait({draining}, timeout=30)
    assert draining.cancelled() is not was_done
    line.reader.cancel()


@pytest.mark.parametrize("error", [ConnectionError, RuntimeError, OSError])
async def test_a_connection_that_breaks_while_speaking_ends_the_stream(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(frame: bytes) -> None:
        raise error("it is closed")

    line = await Line().start()
    monkeypatch.setattr(line.transport, "send", broken)
    with pytest.raises(StreamNotOpen, match="connection is gone"):
        await line.session.send_audio(b"x")
    assert line.session.stop_reason == "connection lost"
    line.reader.cancel()


# --- who hears along --------------------------------------------------------------------------------------------------


async def test_a_recorder_is_told_of_both_sides_when_each_sound_plays_and_of_cuts() -> None:
    line = await Line(echo_marks=False).start()
    line.session.tap = recorder = Recorder()
    assert line.session.tap is not None
    line.session.stream.deliver(AudioReceived(b"hello"))
    await line.session.send_audio(b"\xff" * 8000)
    line.now = 0.25
    await line.session.send_audio(b"\xfe" * 8000)
    await line.session.clear()
    assert recorder.told == [
        ("caller", b"hello"), ("agent", b"\xff" * 8000, 0.0), ("agent", b"\xfe" * 8000, 0.75), ("cut",),
    ]  # fmt: skip
    line.reader.cancel()


async def test_a_recorder_gets_the_common_format_whatever_the_carrier_uses() -> None:
    line = Line()
    line.frames.audio_out = AudioFormat("PCMA", 8000)
    session = MediaSession(CALL, "a", line.frames, line.transport, line.control, clock=lambda: 0.0)
    line.reader.cancel()
    session.tap = recorder = Recorder()
    line.frames.open = True
    session.stream.deliver(StreamStarted("c1", "s", AudioFormat("PCMA", 8000)))
    session.stream.deliver(AudioReceived(b"\xd5" * 4))
    await session.send_audio(b"\xff" * 160)
    assert recorder.told == [("caller", b"\xfe" * 4), ("agent", b"\xff" * 160, 0.0)]


async def test_a_recorder_that_fails_is_taken_off_and_the_call_goes_on() -> None:
    class Full(Recorder):
        def caller(self, payload: bytes) -> None:
            raise OSError(28, "No space left on device")

    line = await Line().start()
    line.session.tap = full = Full()
    line.session.stream.deliver(AudioReceived(b"one"))
    assert await anext(line.session) == AudioReceived(b"one")
    await line.session.send_audio(b"\xff" * 160)
    assert not line.session.ended and ("agent", b"\xff" * 160, 0.0) not in full.told
    line.reader.cancel()


async def test_a_session_knows_its_agent_and_nothing_of_a_stream_that_has_not_begun() -> None:
    line = Line()
    session = line.session
    assert (session.agent_id, session.custom, session.stream_id, session.stop_reason) == ("front-desk", {}, "", None)
    assert not session.ended and session.line_number == CALL.to
    assert session.stream.push is None
    session.call = CALL.model_copy(update={"direction": Direction.OUTBOUND})
    assert session.line_number == CALL.from_
    await session.stream.close()
    assert (session.stop_reason, session.ended, line.transport.closed) == ("closed by us", True, 1000)
    line.reader.cancel()


async def test_the_longest_frame_is_read_and_one_byte_more_is_not() -> None:
    line = await Line().start()
    empty = len(json.dumps({"event": "media", "audio": ""}))
    for size in (MAX_FRAME, MAX_FRAME + 1):
        line.session.stream.receive(json.dumps({"event": "media", "audio": "x" * (size - empty)}))
    first, second = await anext(line.session), await anext(line.session)
    assert isinstance(first, AudioReceived) and len(first.payload) == MAX_FRAME - empty
    assert isinstance(second, UnknownEvent) and line.session.malformed_frames == 1
    line.reader.cancel()
