"""The media stream under a session: audio relayed as it came, and the one way out on a transport that pushes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from anycarrier import AudioFormat, AudioReceived, DigitPressed, MediaSession
from anycarrier.audio import pcmu_to_pcm16
from anycarrier.audio_output import RELAYED_MARK_EVERY
from anycarrier.errors import ConfigurationError, StreamNotOpen
from anycarrier.events import StreamStarted, UnknownEvent
from anycarrier.listener import PushTransport
from anycarrier.media_stream import MAX_FRAME
from anycarrier.serializer import MediaSerializer
from fake_carriers import MemoryTransport
from fake_sessions import CALL, Control, Recorder
from media_sockets import RelayFrames

ONE = base64.b64encode(b"one").decode()


class AlawFrames(RelayFrames):
    """Takes A-law, so what we send has to be transcoded."""

    audio_out = AudioFormat("PCMA", 8000)


class Pushing(MemoryTransport):
    """A transport that pushes; ``look`` is who is shown frames first."""

    paused = False
    resumed: Callable[[], None] | None = None

    def __init__(self) -> None:
        super().__init__(echo_marks=False)
        self.look: Callable[[bytes | str], object] | None = None
        self.gone = False

    def write(self, frame: bytes | str) -> None:
        if self.gone:
            raise ConnectionError("gone")
        self.sent.append(json.loads(frame))

    async def push_to(self, receive: Callable[[bytes | str], object]) -> None:
        async for frame in self:
            if self.look is None or self.look(frame) is False:
                receive(frame)

    def look_first(self, look: Callable[[bytes | str], object] | None) -> None:
        self.look = look


class Scene:
    """A session whose stream has started, over a transport that pushes or one that is pulled."""

    def __init__(self, *, push: bool = True, frames: RelayFrames | None = None) -> None:
        self.now = 0.0
        self.transport: Any = Pushing() if push else MemoryTransport(echo_marks=False)
        assert isinstance(self.transport, PushTransport) is push
        self.frames = frames or RelayFrames()
        self.session = MediaSession(CALL, "a", self.frames, self.transport, Control(), clock=lambda: self.now)
        self.stream, self.output = self.session.stream, self.session.stream.output
        self.passed: list[str] = []
        self.push = push

    def start(self) -> Scene:
        self.frames.open = True
        self.stream.deliver(StreamStarted("c1", "s"))
        return self

    def relay(self, audio: str) -> Any:
        """Told at once where the transport pushes; else after a while, as by a socket that has to be awaited."""
        if self.push:
            self.passed.append(audio)
            return None

        async def later() -> None:
            await asyncio.sleep(0)
            self.passed.append(audio)

        return later()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(2):
            while not condition():
                await asyncio.sleep(0)

    def sent(self) -> list[str]:
        return [message["event"] for message in self.transport.sent]


@pytest.fixture(params=[True, False], ids=["push", "pull"])
def scene(request: pytest.FixtureRequest) -> Callable[..., Scene]:
    def make(**options: Any) -> Scene:
        return Scene(push=request.param, **options)

    return make


# --- the way in -----------------------------------------------------------------------------------------------------


async def test_relayed_audio_goes_on_as_it_came_and_overtakes_nothing(scene: Callable[..., Scene]) -> None:
    on = scene().start()
    told: list[str] = []
    reader = asyncio.ensure_future(on.stream.read())
    on.transport.say(event="media", audio=ONE, plain=1)
    assert await asyncio.wait_for(anext(on.session), 1) == AudioReceived(b"one"), "nobody relays yet"
    on.stream.relay_to(on.relay)
    on.stream.relay_stopped = lambda: told.append("stopped")
    assert on.stream.relaying
    on.transport.say(event="dtmf", digit="1")
    on.transport.say(event="media", audio=ONE, plain=1)  # behind a key that nobody has taken yet
    await on.until(lambda: on.session.waiting == 2)
    assert on.passed == []
    assert [await anext(on.session), await anext(on.session)] == [DigitPressed("1"), AudioReceived(b"one")]
    on.transport.say(event="media", audio="dHdv", plain=1)
    await on.until(lambda: on.passed)
    on.transport.say(event="media", audio=ONE)  # plain it is not
    assert await asyncio.wait_for(anext(on.session), 1) == AudioReceived(b"one")
    assert on.passed == ["dHdv"] and on.session.waiting == 0
    on.stream.stop_relaying()
    on.transport.say(event="media", audio=ONE, plain=1)
    assert await asyncio.wait_for(anext(on.session), 1) == AudioReceived(b"one")
    assert told == ["stopped"] and not on.stream.relaying and on.passed == ["dHdv"]
    on.transport.lose()
    await reader


async def test_a_tap_hears_relayed_audio_once(scene: Callable[..., Scene]) -> None:
    on = scene().start()
    reader = asyncio.ensure_future(on.stream.read())
    on.stream.relay_to(on.relay)
    on.session.tap = recorder = Recorder()
    on.transport.say(event="media", audio=ONE, plain=1)
    on.transport.say(event="media", audio="dHdv", plain=1)
    await on.until(lambda: len(on.passed) == 2)
    assert recorder.told == [("caller", b"one"), ("caller", b"two")]
    on.session.tap = None
    on.transport.say(event="media", audio=ONE, plain=1)
    await on.until(lambda: len(on.passed) == 3)
    assert len(recorder.told) == 2
    on.transport.lose()
    await reader


async def test_audio_that_is_no_base64_does_not_end_a_recorded_call(scene: Callable[..., Scene]) -> None:
    on = scene().start()
    reader = asyncio.ensure_future(on.stream.read())
    on.stream.relay_to(on.relay)
    on.session.tap = recorder = Recorder()
    on.transport.say(event="media", audio="A", plain=1)
    on.transport.say(event="media", audio=ONE, plain=1)
    event = await asyncio.wait_for(anext(on.session), 1)
    assert isinstance(event, UnknownEvent) and event.kind == "malformed"
    assert isinstance(await asyncio.wait_for(anext(on.session), 1), AudioReceived)
    assert recorder.told == [("caller", b"one")] and not on.session.ended
    on.transport.lose()
    await reader


async def test_an_oversize_frame_is_refused_and_not_relayed(scene: Callable[..., Scene]) -> None:
    on = scene().start()
    reader = asyncio.ensure_future(on.stream.read())
    on.stream.relay_to(on.relay)
    empty = len(json.dumps({"event": "media", "audio": "", "plain": 1}))
    on.transport.say(event="media", audio="A" * (MAX_FRAME + 1 - empty), plain=1)
    event = await asyncio.wait_for(anext(on.session), 1)
    assert isinstance(event, UnknownEvent) and event.kind == "malformed" and on.passed == []
    on.transport.say(event="media", audio="A" * (MAX_FRAME - empty), plain=1)
    await on.until(lambda: on.passed)
    assert on.passed == ["A" * (MAX_FRAME - empty)], "the longest that is read is relayed"
    on.transport.lose()
    await reader


async def test_nothing_is_relayed_before_the_start_and_where_audio_must_be_decoded() -> None:
    on = Scene()
    on.stream.relay_to(on.relay)
    assert not on.stream.relaying and on.transport.look is None
    on.stream.deliver(StreamStarted("c1", "s", AudioFormat("L16", 16000)))
    on.stream.relay_to(on.relay)
    assert not on.stream.relaying and on.transport.look is None


async def test_pushed_frames_are_read_until_the_transport_closes() -> None:
    on = Scene().start()
    on.transport.say(event="dtmf", digit="7")
    on.transport.lose()
    await on.stream.read()
    assert await anext(on.session) == DigitPressed("7") and on.session.stop_reason == "connection lost"


# --- the way out ----------------------------------------------------------------------------------------------------

SECOND = b"\xff" * 8000


async def send(on: Scene, payload: bytes, encoded: str) -> None:
    """By the form that fits the transport."""
    if on.push:
        assert on.output.send_now(payload, encoded, 300.0)
    else:
        await on.output.send(payload, encoded, RELAYED_MARK_EVERY)


async def test_relayed_audio_is_wrapped_counted_and_marked_every_two_seconds(scene: Callable[..., Scene]) -> None:
    on = scene().start()
    for _ in range(5):
        await send(on, SECOND, "b25l")
    assert on.sent() == ["media", "media", "mark", "media", "media", "mark", "media"]
    assert on.transport.sent[0] == {"event": "media", "audio": "b25l", "relayed": True}
    assert (on.session.sent, on.session.remaining) == pytest.approx((5.0, 5.0))


async def test_audio_that_cannot_be_wrapped_is_encoded(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    on = scene().start()
    monkeypatch.setattr(on.frames, "encode_relayed", lambda base64_audio: None)
    await send(on, b"one", ONE)
    assert on.transport.sent == [{"event": "media", "audio": ONE}] and on.session.sent == pytest.approx(3 / 8000)


async def test_recorded_audio_in_the_carriers_own_codec_goes_out_as_it_came(scene: Callable[..., Scene]) -> None:
    on = scene().start()
    on.session.tap = recorder = Recorder()
    await send(on, SECOND, "b25l")
    assert on.transport.sent == [{"event": "media", "audio": "b25l", "relayed": True}]
    assert recorder.told == [("agent", SECOND, 0.0)]


async def test_audio_for_another_codec_is_transcoded_recorded_and_marked(scene: Callable[..., Scene]) -> None:
    on = scene(frames=AlawFrames()).start()
    on.session.tap = recorder = Recorder()
    await send(on, SECOND * 2, "unused")
    assert on.sent() == ["media", "mark"]
    assert base64.b64decode(on.transport.sent[0]["audio"]) == b"\xd5" * 16_000
    on.now = 0.5
    await send(on, SECOND, "unused")
    assert recorder.told == [("agent", SECOND * 2, 0.0), ("agent", SECOND, 1.5)]


async def test_what_the_carrier_takes_is_known_once_the_stream_has_started(scene: Callable[..., Scene]) -> None:
    on = scene()
    on.frames.audio_out = AudioFormat("L16", 16000)
    on.start()
    await send(on, b"\x55\xd5" * 4000, "unused")
    assert len(base64.b64decode(on.transport.sent[0]["audio"])) == pytest.approx(32_000, rel=0.01)


async def test_a_format_that_cannot_be_encoded_ends_the_stream_as_it_starts() -> None:
    on = Scene()
    on.frames.audio_out = AudioFormat("G722", 16000)
    on.start()
    assert "G722 at 16000 Hz" in str(on.session.unreadable) and on.session.ended


@pytest.mark.parametrize("rate", [0, 1, 3, 3999, 192_001])
async def test_a_rate_that_no_telephone_has_ends_the_stream_before_a_frame_becomes_hours(rate: int) -> None:
    on = Scene()
    on.frames.open = True
    on.stream.deliver(StreamStarted("c1", "s", AudioFormat("PCMU", rate)))
    assert "cannot be decoded" in str(on.session.unreadable) and on.session.ended


async def test_audio_too_far_ahead_is_not_sent_without_waiting() -> None:
    for frames in (RelayFrames(), AlawFrames()):
        on = Scene(frames=frames).start()
        assert [on.output.send_now(SECOND, "b25l", 1.5) for _ in range(3)] == [True, True, False]
        assert on.sent().count("media") == 2 and on.session.sent == 2.0
        on.now = 0.5
        assert on.output.send_now(SECOND, "b25l", 1.5), "just so much is not too much"


async def test_nothing_goes_out_before_the_start_after_the_end_or_to_nobody(scene: Callable[..., Scene]) -> None:
    on = scene()
    with pytest.raises(StreamNotOpen, match="has not started"):
        await send(on, SECOND, "b25l")
    on.start()
    if on.push:
        on.transport.gone = True
    else:
        on.transport.closed = 1000
    with pytest.raises(StreamNotOpen, match="connection is gone"):
        await send(on, SECOND, "b25l")
    assert on.session.stop_reason == "connection lost" and on.session.sent == 0.0
    with pytest.raises(StreamNotOpen, match="over: connection lost"):
        await send(on, SECOND, "b25l")


async def test_a_carrier_without_marks_is_sent_none(scene: Callable[..., Scene]) -> None:
    frames = RelayFrames()
    frames.marks = False
    on = scene(frames=frames).start()
    await send(on, SECOND * 10, "b25l")
    await on.session.send_audio(SECOND * 10)
    assert on.sent() == ["media", "media"]


def test_a_serializer_with_marks_and_no_encode_mark_fails_as_it_is_defined() -> None:
    methods = {"decode": None, "encode_audio": None, "encode_clear": None}
    with pytest.raises(TypeError, match="Silent has no encode_mark: write it, or set marks = False"):
        type("Silent", (MediaSerializer,), methods)
    without = type("Without", (MediaSerializer,), {**methods, "marks": False})
    with pytest.raises(TypeError, match="Again has no encode_mark"):
        type("Again", (without,), {"marks": True})
    type("Below", (RelayFrames,), {})  # inherits its own


# --- base64 for agents ------------------------------------------------------------------------------------------------


async def test_base64_is_received_untouched_and_after_what_waits_while_all_else_is_iterated(
    scene: Callable[..., Scene],
) -> None:
    on = scene().start()
    on.session.tap = recorder = Recorder()
    got: list[str] = []
    reader = asyncio.ensure_future(on.stream.read())
    for message in ({"audio": ONE, "plain": 1}, {"event": "dtmf", "digit": "1"}, {"audio": "dHdv", "plain": 1}):
        on.transport.say(**{"event": "media", **message})
    await on.until(lambda: on.session.waiting == 3)
    on.session.receive_base64(got.append)
    assert got == [ONE, "dHdv"] and on.session.waiting == 1
    on.transport.say(event="media", audio="YWJ=", plain=1)  # behind a key that nobody has taken: encoded anew
    await on.until(lambda: len(got) == 3)
    assert await anext(on.session) == DigitPressed("1")
    on.transport.say(event="media", audio="YWJ=", plain=1)  # as no encoder of ours writes it
    on.transport.say(event="media", audio=ONE)  # cannot be relayed as it came
    await on.until(lambda: len(got) == 5)
    assert got[2:] == ["YWI=", "YWJ=", ONE]
    on.session.receive_base64(None)
    on.transport.say(event="media", audio="dHdv", plain=1)
    assert await asyncio.wait_for(anext(on.session), 1) == AudioReceived(b"two")
    assert [told[1] for told in recorder.told] == [b"one", b"two", b"ab", b"ab", b"one", b"two"]
    on.transport.lose()
    await reader


async def test_base64_is_encoded_here_where_the_audio_has_to_be_converted(scene: Callable[..., Scene]) -> None:
    on = scene()
    on.stream.deliver(StreamStarted("c1", "s", AudioFormat("PCMA", 8000)))
    got: list[str] = []
    on.session.receive_base64(got.append)
    on.stream.deliver(AudioReceived(b"\xd5" * 3))
    assert got == [base64.b64encode(b"\xfe" * 3).decode()] and on.session.waiting == 0
    other: list[str] = []
    on.session.receive_base64(other.append)
    on.stream.deliver(AudioReceived(b"\xd5" * 3))
    assert len(got) == len(other) == 1


async def test_a_callback_for_base64_that_fails_is_called_no_more_and_fails_the_handler(
    scene: Callable[..., Scene],
) -> None:
    class Odd(Exception):
        pass

    def fail(text: str) -> None:
        asked.append(text)
        raise Odd

    for waiting in (True, False):
        on, asked = scene().start(), list[str]()
        reader = asyncio.ensure_future(on.stream.read())
        if not waiting:
            on.session.receive_base64(fail)
        for _ in range(2):
            on.transport.say(event="media", audio=ONE, plain=1)
        await on.until(lambda on=on: on.transport._in.empty())
        if waiting:
            on.session.receive_base64(fail)
        with pytest.raises(Odd):
            await asyncio.wait_for(anext(on.session), 1)
        assert asked == [ONE] and not on.stream.relaying and not on.session.ended
        on.transport.say(event="media", audio="dHdv", plain=1)
        assert AudioReceived(b"two") in [await asyncio.wait_for(anext(on.session), 1) for _ in range(2)]
        on.transport.lose()
        await reader


async def test_base64_is_sent_untouched_or_converted_and_counted_like_any_audio(scene: Callable[..., Scene]) -> None:
    on = scene().start()
    on.session.tap = recorder = Recorder()
    audio = base64.b64encode(SECOND).decode()
    await on.session.send_base64(audio)
    await on.session.send_base64("")
    assert on.transport.sent[0] == {"event": "media", "audio": audio, "relayed": True}
    assert on.sent() == ["media", "mark"] and on.session.sent == 1.0 and len(recorder.told) == 1
    for wrong in ("YW J=", "YW", "é", ONE + "\n", "-_=="):
        with pytest.raises(ValueError, match=r"base64|[Pp]adding"):
            await on.session.send_base64(wrong)
    assert len(on.transport.sent) == 2
    other = scene(frames=AlawFrames()).start()
    await other.session.send_base64(base64.b64encode(b"\xff" * 3).decode())
    assert other.transport.sent[0] == {"event": "media", "audio": base64.b64encode(b"\xd5" * 3).decode()}
    on.stream.stop("over")
    with pytest.raises(StreamNotOpen):
        await on.session.send_base64(audio)


# --- another format ---------------------------------------------------------------------------------------------------


async def test_a_session_can_be_put_into_another_format_with_all_that_waits(scene: Callable[..., Scene]) -> None:
    on = scene().start()
    got: list[str] = []
    reader = asyncio.ensure_future(on.stream.read())
    for message in ({"audio": ONE}, {"event": "dtmf", "digit": "1"}, {"audio": "dHdv"}):
        on.transport.say(**{"event": "media", **message})
    await on.until(lambda: on.session.waiting == 3)
    format = AudioFormat("PCM16", 8000)
    with pytest.raises(ValueError, match="no such audio encoding"):
        on.session.set_format(AudioFormat("OPUS", 8000))
    assert on.session.format == AudioFormat()
    on.session.set_format(format)
    assert on.session.format == on.stream.format == format
    one, key, two = [await anext(on.session) for _ in range(3)]
    assert (one, key, two) == (
        AudioReceived(pcmu_to_pcm16(b"one")), DigitPressed("1"), AudioReceived(pcmu_to_pcm16(b"two")),
    )  # fmt: skip
    on.session.receive_base64(got.append)
    on.transport.say(event="media", audio=ONE, plain=1)
    await on.until(lambda: got)
    assert got == [base64.b64encode(pcmu_to_pcm16(b"one")).decode()]
    await on.session.send_audio(pcmu_to_pcm16(b"\xff" * 800))
    assert base64.b64decode(on.transport.sent[0]["audio"]) == b"\xff" * 800 and on.session.sent == 0.1
    on.session.set_format(AudioFormat())
    on.transport.say(event="media", audio="YWJ=", plain=1)
    await on.until(lambda: len(got) == 2)
    assert got[1] == "YWJ=", "untouched again"
    on.session.tap = Recorder()
    on.session.set_format(AudioFormat())
    with pytest.raises(ConfigurationError, match="recorded"):
        on.session.set_format(format)
    on.transport.lose()
    await reader


async def test_what_waits_at_another_rate_is_as_long_as_before() -> None:
    on = Scene().start()
    for _ in range(50):
        on.stream.deliver(AudioReceived(b"\xff" * 160))
    on.session.set_format(AudioFormat("PCM16", 24000))
    waiting = [await anext(on.session) for _ in range(50)]
    assert sum(len(event.payload) for event in waiting if isinstance(event, AudioReceived)) == 48_000


async def test_a_format_that_is_set_before_the_start_holds_from_the_start() -> None:
    on = Scene(frames=AlawFrames())
    on.session.set_format(AudioFormat("PCMA", 8000))
    on.start()
    on.stream.deliver(AudioReceived(b"\xff"))
    assert await anext(on.session) == AudioReceived(b"\xd5")
    await on.session.send_audio(b"\xd5" * 160)
    assert base64.b64decode(on.transport.sent[0]["audio"]) == b"\xd5" * 160
