"""Media frames: Plivo's, as it documents them, and ours, as it takes them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import (
    AudioReceived,
    DigitPressed,
    MarkReached,
    StreamError,
    StreamStarted,
    StreamStopped,
    UnknownEvent,
)
from anycarrier_plivo.frames import PlivoSerializer, read_extra_headers
from shared_documents import shared_path

CALL, STREAM = "12345678-1234-1234-1234-123456789abc", "87654321-4321-4321-4321-cba987654321"


def start(encoding: str = "audio/x-mulaw", rate: int = 8000, extra: Any = "") -> str:
    about = {"callId": CALL, "streamId": STREAM, "accountId": "MA", "tracks": ["inbound"]}
    about["mediaFormat"] = {"encoding": encoding, "sampleRate": rate}
    return json.dumps({"event": "start", "sequenceNumber": 1, "start": about, "extra_headers": extra})


def opened(**given: Any) -> PlivoSerializer:
    serializer = PlivoSerializer()
    serializer.decode(start(**given))
    return serializer


def test_every_documented_frame_is_what_it_is_documented_to_be():
    lines = shared_path("recordings", "plivo", "media_streams", "documented_frames.jsonl").read_text().splitlines()
    frames = [json.loads(line) for line in lines]
    theirs = [frame["frame"] for frame in frames if frame["direction"] == "from"]
    serializer = PlivoSerializer()
    (started,) = serializer.decode(json.dumps(theirs[0]))
    assert isinstance(started, StreamStarted)
    assert (started.call_id, started.stream_id, started.format) == (CALL, STREAM, PCMU_8K)
    assert started.custom == {"userId": "12345", "sessionId": "abc-xyz"}
    (reached,) = serializer.decode(json.dumps(theirs[1]))
    assert isinstance(reached, MarkReached) and reached.name == "customer greeting audio"
    ours = {frame["frame"]["event"]: frame["frame"] for frame in frames if frame["direction"] == "to"}
    (mark,) = serializer.encode_mark("customer greeting audio")
    assert json.loads(mark) == {**ours["checkpoint"], "streamId": STREAM}
    (audio,) = serializer.encode_audio(b"\x7f")
    assert json.loads(audio)["media"].keys() == ours["playAudio"]["media"].keys()


@pytest.mark.parametrize(
    ("encoding", "rate", "format"),
    [
        ("audio/x-mulaw", 8000, PCMU_8K),
        ("audio/x-mulaw;rate=8000", 8000, PCMU_8K),
        ("audio/x-l16", 8000, AudioFormat("PCM16", 8000)),  # little-endian
        ("audio/x-l16", 16000, AudioFormat("PCM16", 16000)),
        ("audio/x-l16", 24000, AudioFormat("PCM16", 24000)),
        ("audio/opus", 48000, AudioFormat("audio/opus", 48000)),  # the session says that it cannot be read
    ],
)
def test_the_stream_says_its_format_and_ours_is_the_same(encoding: str, rate: int, format: AudioFormat):
    serializer = PlivoSerializer()
    (started,) = serializer.decode(start(encoding, rate))
    assert isinstance(started, StreamStarted) and started.format == serializer.audio_out == format
    (frame,) = serializer.encode_audio(b"\x01\x02")
    media = json.loads(frame)["media"]
    assert media == {"contentType": encoding.partition(";")[0], "sampleRate": rate, "payload": "AQI="}


def test_what_comes_in_becomes_its_event():
    serializer = opened()
    media = {"track": "inbound", "timestamp": "1718", "chunk": 1, "payload": "f39/"}
    frames = [
        (AudioReceived(b"\x7f\x7f\x7f", "inbound", 2), {"event": "media", "sequenceNumber": 2, "media": media}),
        (DigitPressed("5"), {"event": "dtmf", "dtmf": {"track": "inbound", "digit": "5", "timestamp": "20"}}),
        (MarkReached("a"), {"event": "playedStream", "streamId": STREAM, "name": "a"}),
        (MarkReached("b"), {"event": "played", "streamId": STREAM, "name": "b"}),
        (StreamError("playFailed", "no audio"), {"event": "playFailed", "reason": "no audio"}),
        (StreamError("error", "bad"), {"event": "error", "reason": "bad"}),
        (UnknownEvent(kind="clearedAudio"), {"event": "clearedAudio", "streamId": STREAM}),
        (StreamStopped(), {"event": "stop"}),
    ]
    for expected, frame in frames:
        (event,) = serializer.decode(json.dumps(frame))
        kept = {name: getattr(event, name) for name in event.__struct_fields__ if name != "raw"}
        assert kept == {name: getattr(expected, name) for name in kept}
    with pytest.raises(StreamNotOpen):
        serializer.encode_audio(b"x")


@pytest.mark.parametrize(
    "frame",
    [
        '{"event":"media","media":{"track":"inbound"}}',
        '{"event":"media"}',
        '{"event":"start"}',
        '{"event":"start","start":{"callId":"x"}}',
        '{"event":"start","start":{"callId":"x","mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":"fast"}}}',
        '{"event":"dtmf","dtmf":{}}',
        '{"media":{}}',
        "[]",
        "",
        "nonsense",
    ],
)
def test_a_frame_that_lacks_what_it_is_about_is_malformed(frame: str):
    with pytest.raises(MalformedMessage):
        opened().decode(frame)


def test_nothing_is_sent_before_the_start():
    serializer = PlivoSerializer()
    for send in (
        lambda: serializer.encode_audio(b"x"),
        lambda: serializer.encode_mark("m"),
        serializer.encode_clear,
        lambda: serializer.encode_digits("1"),
        lambda: serializer.encode_digits("1w"),
    ):
        with pytest.raises(StreamNotOpen):
            send()


def test_a_long_piece_is_cut_to_what_plivo_takes_and_loses_nothing():
    said = bytes(range(256)) * 200
    frames = opened().encode_audio(said)
    payloads = [json.loads(frame)["media"]["payload"] for frame in frames]
    assert len(frames) > 1 and all(len(payload) <= 16 * 1024 for payload in payloads)
    assert b"".join(base64.b64decode(payload) for payload in payloads) == said
    assert all(len(base64.b64decode(payload)) % 2 == 0 for payload in payloads[:-1]), "no sample is cut in two"
    assert opened().encode_audio(b"") == []


def test_digits_go_by_the_stream_unless_they_pause():
    serializer = opened()
    assert [json.loads(frame) for frame in serializer.encode_digits("12#*A") or ()] == [
        {"event": "sendDTMF", "dtmf": "12#*A"}
    ]
    assert serializer.encode_digits("1w2") is None and serializer.encode_digits("") is None


@pytest.mark.parametrize(
    "sent",
    [
        "desk=front;who=Zo%C3%AB;x=a%3Db%2Cc",
        "desk=front,who=Zo%C3%AB,x=a%3Db%2Cc",
        '{"desk": "front", "who": "Zo%C3%AB", "x": "a%3Db%2Cc"}',
        {"desk": "front", "who": "Zoë", "x": "a=b,c"},
        " desk=front; who=Zo%C3%AB;;x=a%3Db%2Cc;",
    ],
)
def test_custom_values_come_back_however_they_are_separated(sent: Any):
    assert read_extra_headers(sent) == {"desk": "front", "who": "Zoë", "x": "a=b,c"}


@pytest.mark.parametrize("nothing", ["", None, "{}", ";", "nonsense"])
def test_no_custom_values_are_none(nothing: Any):
    assert read_extra_headers(nothing) == {}
