"""The Telnyx sandbox's media stream: frames as documented, played in real time, with the carrier's traps in place."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from anycarrier.audio import L16_16K, PCMU_8K, Transcoder, pcma_to_pcmu, pcmu_to_pcm16, pcmu_to_pcma
from anycarrier.testing.far_end import FarEnd
from shared_documents import shared_path
from telnyx_platform import OURS, STATE, THEIRS, Line, codes, open_line

SPOKEN = bytes(range(0x10, 0x70)) * 20
"""240 ms of mu-law that is no silence."""


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with open_line() as line:
        line.sandbox.quirks.add("quiet")
        yield line


async def _streaming(line: Line, **stream: Any) -> FarEnd:
    call_id = await line.dial(**line.stream(**stream))
    await line.platform.frame("start")
    far_end = line.sandbox.far_ends[call_id]
    await far_end.wait_for("streaming")
    return far_end


async def _audio(line: Line, size: int) -> bytes:
    """The first ``size`` bytes of audio that came, in the order of their chunks."""

    def all_media() -> list[dict[str, Any]]:
        return [frame["media"] for frame in line.platform.frames.items if frame["event"] == "media"]

    def joined() -> bytes:
        return b"".join(base64.b64decode(m["payload"]) for m in sorted(all_media(), key=lambda m: int(m["chunk"])))

    await line.platform.frames.until(lambda _: len(joined()) >= size)
    return joined()[:size]


async def test_the_first_frames_are_those_the_vendor_documents(line: Line) -> None:
    documented = {
        frame["event"]: frame
        for frame in map(
            json.loads,
            shared_path("recordings", "telnyx", "media_streams", "documented_frames.jsonl").read_text().splitlines(),
        )
    }
    far_end = await _streaming(line, client_state=STATE)
    assert line.platform.frames.items[0] == documented["connected"]
    start = await line.platform.frame("start")
    assert start.keys() == documented["start"].keys()
    assert start["start"].keys() == documented["start"]["start"].keys()
    assert start["sequence_number"] == "1"
    assert start["start"]["call_control_id"] == far_end.call_id
    assert start["start"]["client_state"] == STATE
    assert start["start"]["media_format"] == {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
    await far_end.say(SPOKEN)
    await far_end.press("1")
    await line.platform.send(event="mark", mark={"name": "m"})
    await line.platform.send(event="media", media={"payload": "not base64"})
    for event in ("media", "dtmf", "mark", "error"):
        frame = await line.platform.frame(event)
        assert frame.keys() == documented[event].keys(), event
        inner = "payload" if event == "error" else event
        assert {name: type(value) for name, value in frame[inner].items()} == {
            name: type(value) for name, value in documented[event][inner].items()
        }, event
    await far_end.hang_up()
    assert (await line.platform.frame("stop")).keys() == documented["stop"].keys()
    await line.platform.frame("closed")


async def test_an_answered_call_connects_and_says_what_the_caller_says(line: Line) -> None:
    await line.sandbox.ring(OURS, THEIRS, said=SPOKEN)
    call_id = (await line.platform.event("call.initiated"))["call_control_id"]
    await line.client.calls.actions.answer(call_id, **line.stream())
    started = await line.platform.event("streaming.started")
    assert started["stream_url"] == line.platform.media_url
    assert await _audio(line, len(SPOKEN)) == SPOKEN


@pytest.mark.parametrize(("codec", "rate"), [("PCMA", 8000), ("L16", 16000)])
async def test_the_network_legs_codec_is_what_comes_unless_another_is_asked_for(
    line: Line, codec: str, rate: int
) -> None:
    line.sandbox.codec = codec
    far_end = await _streaming(line)
    start = await line.platform.frame("start")
    assert start["start"]["media_format"] == {"encoding": codec, "sample_rate": rate, "channels": 1}
    await far_end.say(SPOKEN)
    if codec == "PCMA":
        assert await _audio(line, len(SPOKEN)) == pcmu_to_pcma(SPOKEN)
    else:
        expected = Transcoder(PCMU_8K, L16_16K).convert(SPOKEN)
        assert await _audio(line, 3200) == expected[:3200]


async def test_stream_codec_is_obeyed_where_the_network_can_transcode(line: Line) -> None:
    line.sandbox.codec = "PCMA"
    await _streaming(line, stream_codec="PCMU")
    assert (await line.platform.frame("start"))["start"]["media_format"]["encoding"] == "PCMU"


async def test_stream_codec_is_not_obeyed_where_it_cannot(line: Line) -> None:
    line.sandbox.codec = "PCMA"
    line.sandbox.quirks.add("no_transcoding")
    await _streaming(line, stream_codec="PCMU")
    assert (await line.platform.frame("start"))["start"]["media_format"]["encoding"] == "PCMA"


async def test_shuffled_media_overtakes_but_keeps_its_numbers(line: Line) -> None:
    line.sandbox.quirks.add("shuffle_media")
    far_end = await _streaming(line)
    await far_end.say(SPOKEN)
    assert await _audio(line, 1600) == SPOKEN[:1600]
    chunks = [int(frame["media"]["chunk"]) for frame in line.platform.frames.items if frame["event"] == "media"]
    assert chunks != sorted(chunks)
    assert chunks[:6] == [1, 2, 3, 5, 4, 6]


async def test_inbound_frames_can_be_longer_than_twenty_milliseconds(line: Line) -> None:
    line.sandbox.frame_ms = 60
    far_end = await _streaming(line)
    await far_end.say(SPOKEN)
    media = (await line.platform.frame("media"))["media"]
    assert len(base64.b64decode(media["payload"])) == 480


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, SPOKEN),
        ({"stream_bidirectional_codec": "PCMA"}, pcmu_to_pcma(SPOKEN)),
    ],
)
async def test_audio_sent_in_the_codec_asked_for_is_heard(line: Line, asked: dict[str, str], sent: bytes) -> None:
    far_end = await _streaming(line, **asked)
    for start in range(0, len(sent), 480):
        await line.platform.send_audio(sent[start : start + 480])
    await far_end.wait_heard(0.24)
    assert far_end.heard == (pcma_to_pcmu(sent) if asked else SPOKEN)


async def test_linear_audio_is_heard_in_network_byte_order(line: Line) -> None:
    """A steady 1,000 at 16 kHz, high byte first (RFC 2586); read the other way round it would be -6,141."""
    far_end = await _streaming(line, stream_bidirectional_codec="L16", stream_bidirectional_sampling_rate=16000)
    await line.platform.send_audio(b"\x03\xe8" * 8000)
    await far_end.wait_heard(0.4)
    middle = far_end.heard[400:2400]  # resampling bends the ends
    levels = struct.unpack(f"<{len(middle)}h", pcmu_to_pcm16(middle))
    assert len(levels) == 2000 and all(900 < level < 1100 for level in levels)


async def test_without_rtp_mode_the_caller_hears_nothing(line: Line) -> None:
    call_id = await line.dial(stream_url=line.platform.media_url)
    await line.platform.frame("start")
    error = asyncio.create_task(line.platform.frame("error"))
    while not error.done():  # two that are a second apart are both taken
        await line.platform.send_audio(SPOKEN)
        await asyncio.sleep(0.01)
    assert error.result()["payload"]["code"] == 100005  # one MP3 file a second
    far_end = line.sandbox.far_ends[call_id]
    assert far_end.heard == b""
    assert any("mp3" in what for _, what in far_end.log)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"event": "media", "media": {"payload": "%%%"}}, 100004),
        ({"event": "media", "media": {"payload": base64.b64encode(b"\x10" * 159).decode()}}, 100003),
        ({"event": "media", "media": {"payload": base64.b64encode(b"\x10" * 240_001).decode()}}, 100003),
        ({"event": "media", "media": {}}, 100003),
        ({"event": "media"}, 100003),
        ({"event": "mark", "mark": {"name": 1}}, 100003),
        ({"event": "dance"}, 100003),
        ({}, 100003),
    ],
)
async def test_a_frame_the_carrier_cannot_use_gets_an_error_frame(line: Line, frame: dict[str, Any], code: int) -> None:
    far_end = await _streaming(line)
    await line.platform.send(**frame)
    assert (await line.platform.frame("error"))["payload"]["code"] == code
    assert far_end.heard == b"" and far_end.streaming


async def test_binary_and_broken_frames_get_an_error_frame_too(line: Line) -> None:
    await _streaming(line)
    assert line.platform.socket is not None
    await line.platform.socket.send(b"\x10" * 160)
    await line.platform.socket.send("{")
    assert (await line.platform.frame("error", count=2))["payload"]["title"] == "malformed_frame"


async def test_a_mark_comes_back_when_the_audio_before_it_was_played(line: Line) -> None:
    far_end = await _streaming(line)
    await line.platform.send_audio(SPOKEN)
    await line.platform.send(event="mark", mark={"name": "end"})
    frame = await line.platform.frame("mark")
    assert frame["mark"] == {"name": "end"}
    assert far_end.heard == SPOKEN


async def test_clear_empties_the_queue_and_returns_its_marks_at_once(line: Line) -> None:
    far_end = await _streaming(line)
    await line.platform.send_audio(b"\x10" * 240_000)
    await line.platform.send(event="mark", mark={"name": "never played"})
    await line.platform.send(event="clear")
    assert (await line.platform.frame("mark", timeout=60))["mark"]["name"] == "never played"
    assert far_end.heard_seconds() < 25, "half a minute was queued and must not all have been played"
    assert far_end.playback.waiting == 0


async def test_a_key_is_told_on_the_stream_and_by_webhook(line: Line) -> None:
    far_end = await _streaming(line)
    await far_end.press("12")
    second = await line.platform.frame("dtmf", count=2)
    assert second["dtmf"] == {"digit": "2"} and second["occurred_at"].endswith("Z")
    assert (await line.platform.event("call.dtmf.received", count=2))["digit"] == "2"


async def test_closing_the_socket_does_not_end_the_call(line: Line) -> None:
    far_end = await _streaming(line)
    assert line.platform.socket is not None
    await line.platform.socket.close()
    await line.platform.event("streaming.stopped")
    assert (far_end.state, far_end.streaming) == ("answered", False)
    await line.client.calls.actions.start_streaming(
        far_end.call_id, stream_url=line.platform.media_url, stream_bidirectional_mode="rtp"
    )
    await line.platform.frame("start", count=2)


async def test_the_number_whose_media_breaks_keeps_its_call(line: Line) -> None:
    line.sandbox.pace = 4
    call_id = await line.dial("+15005550115", **line.stream())
    failed = await line.platform.event("streaming.failed")
    assert failed["failure_reason"] == "connection_failed"
    assert failed["stream_params"]["stream_url"] == line.platform.media_url
    assert line.sandbox.far_ends[call_id].state == "answered"


async def test_a_platform_that_is_not_there_is_told_as_streaming_failed(line: Line) -> None:
    call_id = await line.dial(stream_url="ws://127.0.0.1:9/media/nobody", stream_bidirectional_mode="rtp")
    failed = await line.platform.event("streaming.failed")
    assert failed["call_control_id"] == call_id
    assert line.sandbox.far_ends[call_id].state == "answered"


async def test_a_stream_started_by_command_carries_parameters_and_token(line: Line) -> None:
    call_id = await line.dial()
    await line.platform.event("call.answered")
    await line.client.calls.actions.start_streaming(
        call_id,
        stream_url=line.platform.media_url,
        stream_bidirectional_mode="rtp",
        stream_auth_token="one-time",
        custom_parameters=[{"name": "k", "value": "v"}],
    )
    start = await line.platform.frame("start")
    assert start["start"]["custom_parameters"] == {"k": "v"}
    assert line.platform.upgrade_headers["x-telnyx-streaming-auth-token"] == "one-time"
    assert codes(await line.command(call_id, "streaming_start", **line.stream())) == ["90045"]
    await line.client.calls.actions.stop_streaming(call_id)
    await line.platform.frame("stop")
    await line.platform.event("streaming.stopped")


async def test_answer_does_not_take_what_only_streaming_start_takes(line: Line) -> None:
    await line.sandbox.ring(OURS, THEIRS)
    call_id = (await line.platform.event("call.initiated"))["call_control_id"]
    later: dict[str, Any] = {
        "stream_auth_token": "t",
        "custom_parameters": [],
        "stream_bidirectional_sampling_rate": 8000,
    }
    for name, value in later.items():
        response = await line.command(call_id, "answer", **line.stream(**{name: value}))
        assert response.json()["errors"][0]["source"]["pointer"] == f"/{name}"


async def test_both_tracks_bring_our_own_audio_back(line: Line) -> None:
    line.sandbox.quirks.discard("quiet")
    far_end = await _streaming(line, stream_track="both_tracks")
    await line.platform.send_audio(SPOKEN)
    await far_end.wait_heard(0.24)
    outbound = await line.platform.frames.until(
        lambda frame: frame["event"] == "media" and frame["media"]["track"] == "outbound", count=5
    )
    assert base64.b64decode(outbound["media"]["payload"])[:1] in [SPOKEN[n : n + 1] for n in range(len(SPOKEN))]


async def test_the_machines_greeting_is_heard_on_the_stream_and_the_beep_ends_it(line: Line) -> None:
    await line.dial("+15005550105", **line.stream(answering_machine_detection="greeting_end"))
    await line.platform.event("call.machine.greeting.ended")
    spoken = await _audio(line, 8000)
    assert set(spoken) != {0xFF}


async def test_speech_is_paced_in_real_time(line: Line) -> None:
    far_end = await _streaming(line)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await far_end.say(SPOKEN)
    assert loop.time() - began >= 0.2
