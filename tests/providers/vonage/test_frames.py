"""Media frames: exact sizes out, binary audio and JSON in, whatever comes first."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from anycarrier.audio import AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import AudioReceived, DigitPressed, MarkReached, StreamStarted, UnknownEvent
from anycarrier_vonage import VonageSerializer
from shared_documents import shared_path

PCM = {rate: AudioFormat("PCM16", rate) for rate in (8000, 16000, 24000)}


def connected(rate: int = 8000, **headers: Any) -> str:
    return json.dumps({"event": "websocket:connected", "content-type": f"audio/l16;rate={rate}", **headers})


def opened(rate: int = 8000) -> VonageSerializer:
    serializer = VonageSerializer()
    serializer.decode(connected(rate))
    return serializer


@pytest.mark.parametrize(("rate", "size"), [(8000, 320), (16000, 640), (24000, 960)])
def test_every_message_out_is_20_ms_whatever_was_given(rate: int, size: int) -> None:
    serializer, dice = opened(rate), random.Random(rate)
    said, sent = b"", []
    for _ in range(200):
        piece = dice.randbytes(dice.choice([0, 1, 2, 3, 319, 320, 321, 640, 959, 960, 961, 4001, size]))
        said += piece
        sent += serializer.encode_audio(piece)
    assert {len(frame) for frame in sent} == {size}
    heard = b"".join(sent)  # type: ignore[arg-type]
    (last,) = serializer.flush()
    assert len(last) == size and (heard + last)[: len(said)] == said  # type: ignore[operator]
    assert set((heard + last)[len(said) :]) <= {0} and serializer.flush() == []  # type: ignore[operator]
    assert serializer.audio_out == PCM[rate]


def test_whole_messages_are_not_copied() -> None:
    serializer, frame = opened(), b"\x01" * 320
    assert serializer.encode_audio(frame)[0] is frame


def test_a_mark_leaves_the_tail_and_a_clear_drops_it() -> None:
    serializer = opened()
    assert serializer.encode_audio(b"\x01" * 100) == []
    (mark,) = serializer.encode_mark("lc0.1")
    assert json.loads(mark) == {"action": "notify", "payload": {"mark": "lc0.1"}}
    assert serializer.encode_audio(b"\x02" * 220) == [b"\x01" * 100 + b"\x02" * 220]
    serializer.encode_audio(b"\x03" * 100)
    (clear,) = serializer.encode_clear()
    assert json.loads(clear) == {"action": "clear"} and serializer.flush() == []
    assert all(isinstance(frame, str) for frame in (mark, clear))


@pytest.mark.parametrize("act", ["encode_audio", "encode_mark", "encode_clear"])
def test_nothing_is_sent_before_the_stream_has_started(act: str) -> None:
    arguments = {"encode_audio": (b"\x00" * 320,), "encode_mark": ("m",), "encode_clear": ()}[act]
    with pytest.raises(StreamNotOpen):
        getattr(VonageSerializer(), act)(*arguments)
    with pytest.raises(StreamNotOpen):
        VonageSerializer().encode_audio(b"")


@pytest.mark.parametrize(("size", "rate"), [(320, 8000), (640, 16000), (960, 24000), (100, 8000)])
def test_audio_may_come_first_and_tells_the_rate_by_its_size(size: int, rate: int) -> None:
    serializer, frame = VonageSerializer(), b"\x01\x00" * (size // 2)
    started, audio = serializer.decode(frame)
    assert isinstance(started, StreamStarted) and (started.format, started.call_id) == (PCM[rate], "")
    assert isinstance(audio, AudioReceived) and audio.payload is frame
    assert [type(event) for event in serializer.decode(connected(rate))] == [UnknownEvent]
    assert serializer.audio_out == PCM[rate]


def test_our_values_come_back_and_vonages_names_are_not_among_them() -> None:
    headers = {"call": "aade27", "custom-desk": "front", "custom-event": "party", "language": "en-GB", "caller-id": "1"}
    (started,) = VonageSerializer().decode(connected(16000, **headers))
    assert isinstance(started, StreamStarted)
    assert (started.call_id, started.format) == ("aade27", PCM[16000])
    assert started.custom == {"desk": "front", "event": "party"}


@pytest.mark.parametrize(
    ("content_type", "format"),
    [
        ("audio/l16;rate=8000", PCM[8000]),
        ("audio/L16; rate=16000", PCM[16000]),
        ("audio/l16", PCM[8000]),
        ("audio/pcmu;rate=8000", AudioFormat("PCMU", 8000)),
    ],
)
def test_the_content_type_is_the_format(content_type: str, format: AudioFormat) -> None:
    text = json.dumps({"event": "websocket:connected", "content-type": content_type})
    (started,) = VonageSerializer().decode(text)
    assert isinstance(started, StreamStarted) and started.format == format


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        ({"event": "websocket:dtmf", "digit": "5", "duration": 260}, DigitPressed("5")),
        ({"event": "websocket:dtmf", "dtmf": "#"}, DigitPressed("#")),
        ({"event": "websocket:notify", "payload": {"mark": "m"}}, MarkReached("m")),
    ],
)
def test_text_is_keys_and_marks(frame: dict[str, Any], event: DigitPressed | MarkReached) -> None:
    (told,) = opened().decode(json.dumps(frame))
    assert type(told) is type(event)
    assert (getattr(told, "digit", None), getattr(told, "name", None)) == (
        getattr(event, "digit", None), getattr(event, "name", None),
    )  # fmt: skip


@pytest.mark.parametrize(
    "frame",
    [
        {"event": "websocket:cleared"},
        {"event": "websocket:notify", "payload": {"ours": "no"}},
        {"event": "websocket:notify", "payload": {"mark": 5}},
        {"event": "websocket:notify"},
        {"event": "websocket:dtmf"},
        {"event": "websocket:dtmf", "digit": "12"},
        {"event": "websocket:dtmf", "digit": "x"},
        {"event": "websocket:dtmf", "digit": "\u0000"},
        {"event": "websocket:tomorrow", "x": 1},
    ],
)
def test_what_is_not_ours_is_unknown_with_its_raw(frame: dict[str, Any]) -> None:
    (told,) = opened().decode(json.dumps(frame))
    assert isinstance(told, UnknownEvent) and (told.kind, told.raw) == (frame["event"], frame)


@pytest.mark.parametrize(
    "frame", ["", "null", "[]", "{}", '{"event":5}', '{"event":', '{"event":"x","digit":7}', b"\x00"]
)
def test_what_is_no_frame_is_malformed(frame: bytes | str) -> None:
    with pytest.raises(MalformedMessage):
        opened().decode(frame)


def test_the_documented_frames() -> None:
    kept = shared_path("recordings", "vonage", "media_streams", "documented_text_frames.jsonl")
    lines = kept.read_text().splitlines()
    told = {}
    for line in map(json.loads, lines):
        if line["direction"] == "from":
            serializer = VonageSerializer() if "connected" in line["frame"]["event"] else opened()
            (event,) = serializer.decode(json.dumps(line["frame"]))
            told[line["frame"]["event"]] = type(event)
    assert told == {
        "websocket:connected": StreamStarted,
        "websocket:dtmf": DigitPressed,
        "websocket:cleared": UnknownEvent,
        "websocket:notify": UnknownEvent,
    }


def test_two_streams_share_nothing() -> None:
    one, other = opened(), opened(16000)
    one.encode_audio(b"\x01" * 5)
    assert other.flush() == [] and len(one.flush()) == 1
    assert VonageSerializer.size == 0 and VonageSerializer.tail == b""
