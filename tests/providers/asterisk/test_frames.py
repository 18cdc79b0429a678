"""chan_websocket's frames: what Asterisk would drop without a word is never sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anycarrier import AudioReceived, MarkReached
from anycarrier.audio import PCM16_16K, PCMA_8K, PCMU_8K
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import DigitPressed, StreamStarted, UnknownEvent
from anycarrier_asterisk.frames import CUSTOM, LONGEST_TEXT, AsteriskSerializer

START = {"event": "MEDIA_START", "connection_id": "us", "channel": "WebSocket/us/0x1", "format": "ulaw", "ptime": 20,
         "channel_id": "anycarrier.desk.media.1788070356.2", "optimal_frame_size": 160}  # fmt: skip


def opened(**changes: Any) -> AsteriskSerializer:
    serializer = AsteriskSerializer()
    serializer.decode(json.dumps({**START, **changes}))
    return serializer


@pytest.mark.parametrize(
    ("channel", "call"),
    [
        ("anycarrier.desk.media.1788070356.2", "1788070356.2"),
        ("anycarrier.media.media.anycarrier.media.call.0f", "anycarrier.media.call.0f"),
        ("lc-media-A", "lc-media-A"),
        ("", "?"),
    ],
)
def test_a_stream_names_the_call_whose_media_channel_it_is_and_never_none(channel: str, call: str) -> None:
    """An empty id would be taken for any call's."""
    [start] = AsteriskSerializer().decode(json.dumps({**START, "channel_id": channel}))
    assert isinstance(start, StreamStarted) and start.call_id == call


@pytest.mark.parametrize(("name", "format"), [("ulaw", PCMU_8K), ("alaw", PCMA_8K), ("slin16", PCM16_16K)])
def test_both_ways_are_in_the_format_that_the_start_names(name: str, format: Any) -> None:
    serializer = AsteriskSerializer()
    [start] = serializer.decode(json.dumps({**START, "format": name}))
    assert isinstance(start, StreamStarted) and (start.format, serializer.audio_out) == (format, format)


def test_custom_values_come_back_in_the_channels_variables() -> None:
    held = {CUSTOM: json.dumps({"who": "Zoë"}), "OTHER": None}
    [start] = AsteriskSerializer().decode(json.dumps({**START, "channel_variables": held}))
    assert isinstance(start, StreamStarted) and start.custom == {"who": "Zoë"}


def test_audio_before_the_start_is_dropped_and_after_it_heard() -> None:
    serializer = AsteriskSerializer()
    assert serializer.decode(b"\xff" * 160) == []
    serializer.decode(json.dumps(START))
    assert serializer.decode(b"\x01" * 40) == [AudioReceived(b"\x01" * 40, raw=b"\x01" * 40)]


def test_only_whole_frames_are_sent_and_the_last_is_filled_up_with_silence() -> None:
    serializer = opened()
    assert serializer.encode_audio(b"\x55" * 100) == []
    assert serializer.encode_audio(b"\x55" * 300) == [b"\x55" * 320]
    assert serializer.flush() == [b"\x55" * 80 + b"\xff" * 80] and serializer.flush() == []
    alaw = opened(format="alaw")
    alaw.encode_audio(b"\x55")
    assert alaw.flush() == [b"\x55" + b"\xd5" * 159]


@pytest.mark.parametrize("size", [160, 640, 30_000, 65_000])
def test_no_frame_ends_the_stream_by_its_size(size: int) -> None:
    sent = opened(optimal_frame_size=size).encode_audio(b"\x55" * (size * 120))
    assert b"".join(map(bytes, sent)) == b"\x55" * (size * 120)  # type: ignore[arg-type]
    assert all(len(each) < 65_500 and len(each) % size == 0 for each in sent)


@pytest.mark.parametrize("size", [0, -1, 65_001, 10**9])
def test_a_start_with_frames_of_no_size_is_none(size: int) -> None:
    with pytest.raises(MalformedMessage, match="frames of"):
        opened(optimal_frame_size=size)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", ["m", "n" * 128, "ü" * 70, '"' * 60, "~1", " led by a space", "a\nb" * 60])
def test_a_mark_comes_back_by_its_name_whatever_fits_into_a_text(name: str, plain: bool) -> None:
    serializer = AsteriskSerializer()
    text = "MEDIA_START channel_id:a format:ulaw optimal_frame_size:160"
    serializer.decode(text if plain else json.dumps(START))
    [frame] = serializer.encode_mark(name)
    assert isinstance(frame, str) and len(frame.encode()) <= LONGEST_TEXT
    sent = frame.partition(" ")[2] if plain else json.loads(frame)["correlation_id"]
    told = {"event": "MEDIA_MARK_PROCESSED", "correlation_id": sent}
    back = f"MEDIA_MARK_PROCESSED {sent}" if plain else json.dumps(told)
    [mark] = serializer.decode(back)
    assert isinstance(mark, MarkReached) and mark.name == name


def test_two_long_names_are_two_marks_and_a_clear_forgets_them() -> None:
    serializer = opened()
    first, second = (json.loads(serializer.encode_mark(letter * 200)[0])["correlation_id"] for letter in "ab")
    assert first != second
    serializer.encode_clear()
    [mark] = serializer.decode(json.dumps({"event": "MEDIA_MARK_PROCESSED", "correlation_id": first}))
    assert isinstance(mark, MarkReached) and mark.name == first


def test_a_clear_is_a_flush_and_drops_the_tail() -> None:
    serializer = opened()
    serializer.encode_audio(b"\x55" * 7)
    assert [json.loads(str(frame)) for frame in serializer.encode_clear()] == [{"command": "FLUSH_MEDIA"}]
    assert serializer.flush() == []


def test_plain_text_is_answered_in_plain_text() -> None:
    serializer = AsteriskSerializer()
    fields = "connection_id:a b channel:c:d channel_id:x.y.media.1 format:ulaw optimal_frame_size:160 ptime:20"
    serializer.decode(f"MEDIA_START {fields}")
    assert serializer.encode_clear() == ["FLUSH_MEDIA"] and serializer.encode_mark("m") == ["MARK_MEDIA m"]
    assert serializer.decode("DTMF_END digit:# channel_id:x") == [DigitPressed("#", "DTMF_END digit:# channel_id:x")]


@pytest.mark.parametrize(
    "frame", ["", "no words of its", "X", "media_start a:b", "[1]", '{"event":5}', '{"no":1}', "\ud800"]
)
def test_what_is_no_event_is_malformed(frame: str) -> None:
    with pytest.raises(MalformedMessage):
        opened().decode(frame)


def test_an_event_of_no_known_kind_keeps_what_it_said() -> None:
    frame = '{"event":"WEATHER","sunny":true}'
    [event] = opened().decode(frame)
    assert isinstance(event, UnknownEvent) and event.kind == "WEATHER" and event.raw["frame"] == frame


def test_nothing_is_sent_before_the_start() -> None:
    for act in (lambda s: s.encode_audio(b""), lambda s: s.encode_audio(b"\x55" * 160), lambda s: s.encode_mark("m"),
                lambda s: s.encode_clear()):  # fmt: skip
        with pytest.raises(StreamNotOpen):
            act(AsteriskSerializer())
