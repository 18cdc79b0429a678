"""Media frames both ways, by hand, as recorded, and as anything at all."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import (
    AudioReceived,
    DigitPressed,
    MarkReached,
    StreamStarted,
    StreamStopped,
    UnknownEvent,
)
from anycarrier_twilio.frames import MAX_FRAME, TwilioSerializer
from shared_documents import shared_path

START = {
    "event": "start",
    "sequenceNumber": "1",
    "start": {
        "accountSid": "AC1",
        "streamSid": "MZ1",
        "callSid": "CA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"desk": "front"},
    },
    "streamSid": "MZ1",
}


def frame(message: object) -> str:
    return json.dumps(message)


def media(payload: bytes = b"\xff" * 160, **changes: object) -> str:
    body = {"track": "inbound", "chunk": "7", "timestamp": "155", "payload": base64.b64encode(payload).decode()}
    return frame({"event": "media", "sequenceNumber": "8", "media": {**body, **changes}, "streamSid": "MZ1"})


@pytest.fixture
def stream() -> TwilioSerializer:
    serializer = TwilioSerializer()
    serializer.decode(frame(START))
    return serializer


def test_connected_is_no_event_of_the_call():
    assert TwilioSerializer().decode(frame({"event": "connected", "protocol": "Call", "version": "1.0.0"})) == []


def test_start_tells_call_stream_format_and_custom_values():
    (event,) = TwilioSerializer().decode(frame(START))
    assert event == StreamStarted("CA1", "MZ1", PCMU_8K, {"desk": "front"}, START)


def test_start_in_another_format_says_so():
    body = {**START["start"], "mediaFormat": {"encoding": "audio/x-alaw", "sampleRate": "16000", "channels": 2}}
    (event,) = TwilioSerializer().decode(frame({**START, "start": body}))
    assert isinstance(event, StreamStarted) and event.format == AudioFormat("PCMA", 16000, 2)


def test_media_is_audio_with_its_numbers_read_from_strings(stream):
    (event,) = stream.decode(media(b"\x00\x01\x02"))
    assert isinstance(event, AudioReceived)
    assert (event.payload, event.track, event.sequence, event.timestamp) == (b"\x00\x01\x02", "inbound", 7, 155)
    assert json.loads(event.raw)["sequenceNumber"] == "8"
    (plain,) = stream.decode(media(chunk=7, timestamp=155))
    assert isinstance(plain, AudioReceived) and (plain.sequence, plain.timestamp) == (7, 155)
    assert stream.decode(media().encode()) == [AudioReceived(b"\xff" * 160, "inbound", 7, 155, media().encode())]


def test_media_without_numbers_and_with_unknown_keys_is_audio(stream):
    message = {"event": "media", "new": {"a": [1]}, "media": {"payload": "/w==", "shiny": True}}
    (event,) = stream.decode(frame(message))
    assert isinstance(event, AudioReceived) and (event.payload, event.sequence) == (b"\xff", None)


def test_digits_marks_and_stop(stream):
    digit = {"event": "dtmf", "streamSid": "MZ1", "dtmf": {"track": "inbound_track", "digit": "#"}}
    mark = {"event": "mark", "sequenceNumber": "4", "streamSid": "MZ1", "mark": {"name": "label"}}
    stop = {"event": "stop", "sequenceNumber": "9", "streamSid": "MZ1", "stop": {"accountSid": "AC1", "callSid": "CA1"}}
    assert stream.decode(frame(digit)) == [DigitPressed("#", digit)]
    assert stream.decode(frame(mark)) == [MarkReached("label", mark)]
    assert stream.decode(frame(stop)) == [StreamStopped("", stop)]


def test_an_unknown_kind_of_frame_is_an_unknown_event(stream):
    message = {"event": "sneeze", "streamSid": "MZ1", "strength": 3}
    assert stream.decode(frame(message)) == [UnknownEvent(kind="sneeze", raw=message)]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"3",
        b'"media"',
        b"{}",
        b'{"event": 3}',
        b'{"event": "media"}',
        b'{"event": "media", "media": {}}',
        b'{"event": "media", "media": {"payload": "!!!"}}',
        b'{"event": "media", "media": {"payload": "/w=="}',
        b'{"event": "media", "media": {"payload": "/w==", "chunk": "seven"}}',
        b'{"event": "dtmf", "dtmf": {}}',
        b'{"event": "start", "start": {"streamSid": "MZ1"}}',
        b'{"event": "start", "start": {"callSid": "CA1"}}',
        b"[" * 60_000,
        media()[:-20],
        media(b"\xff" * MAX_FRAME),
    ],
)
def test_what_is_no_frame_is_malformed(stream, bad):
    with pytest.raises(MalformedMessage):
        stream.decode(bad)


def test_a_malformed_frame_leaves_the_stream_usable(stream):
    with pytest.raises(MalformedMessage):
        stream.decode(b"{")
    assert isinstance(stream.decode(media())[0], AudioReceived) and stream.encode_audio(b"\xff")


@pytest.mark.parametrize("size", [1, 2, 159, 160, 161, 320, 8000, 480_001])
def test_audio_of_any_size_goes_out_in_one_frame_naming_the_stream(stream, size):
    payload = bytes(i % 256 for i in range(size))
    (sent,) = stream.encode_audio(payload)
    message = json.loads(sent)
    assert message == {"event": "media", "streamSid": "MZ1", "media": message["media"]}
    assert message["media"].keys() == {"payload"} and base64.b64decode(message["media"]["payload"]) == payload


def test_no_audio_is_no_frame(stream):
    assert stream.encode_audio(b"") == [] and stream.flush() == []


def test_marks_and_clear_name_the_stream(stream):
    assert [json.loads(f) for f in stream.encode_mark('a "b" \u2713')] == [
        {"event": "mark", "streamSid": "MZ1", "mark": {"name": 'a "b" \u2713'}}
    ]
    assert [json.loads(f) for f in stream.encode_clear()] == [{"event": "clear", "streamSid": "MZ1"}]


def test_a_stream_id_cannot_break_out_of_its_quotes():
    serializer = TwilioSerializer()
    serializer.decode(frame({**START, "streamSid": 'M"Z\\'}))
    for sent in (*serializer.encode_audio(b"\xff"), *serializer.encode_mark("m"), *serializer.encode_clear()):
        assert json.loads(sent)["streamSid"] == 'M"Z\\'


def test_nothing_is_sent_before_start_or_after_stop(stream):
    stream.decode(frame({"event": "stop", "streamSid": "MZ1"}))
    for serializer in (TwilioSerializer(), stream):
        for attempt in (
            lambda s: s.encode_audio(b"\xff"),
            lambda s: s.encode_mark("m"),
            lambda s: s.encode_clear(),
            lambda s: s.encode_relayed("/w=="),
        ):
            with pytest.raises(StreamNotOpen):
                attempt(serializer)


def test_relay_hands_over_the_very_text_that_decode_would_decode(stream):
    (event,) = stream.decode(media())
    relayed = stream.relay(media())
    assert relayed is not None and isinstance(event, AudioReceived) and base64.b64decode(relayed) == event.payload
    assert json.loads(stream.encode_relayed(relayed) or "") == json.loads(stream.encode_audio(event.payload)[0])


@pytest.mark.parametrize(
    "other",
    [
        frame(START),
        frame({"event": "mark", "mark": {"name": "payload"}}),
        frame({"event": "stop"}),
        frame({"event": "sneeze", "media": {"payload": "/w=="}}),
        media(track="outbound"),
        media()[:-10],
        media().replace("/", "\\/"),
        '{"event":"media","media":{"payload":"a\\"b"}}',
        b"\xff",
        "",
        media().encode(),
        media(b"\xff" * MAX_FRAME),
    ],
)
def test_every_other_frame_is_left_to_decode(stream, other):
    if other == media().replace("/", "\\/"):
        assert "/" in media(), "the frame holds an escape, as this case needs"
    assert stream.relay(other) is None


@pytest.mark.parametrize("text", ["", 'a"b', "a\\b", "é"])
def test_text_that_is_no_base64_is_not_wrapped_unseen(stream, text):
    assert stream.encode_relayed(text) is None


def test_the_frames_twilio_really_sent():
    lines = shared_path("recordings", "twilio", "media_streams", "bidirectional_v1_excerpt.jsonl").read_text()
    serializer = TwilioSerializer()
    events = [event for line in lines.splitlines() for event in serializer.decode(line)]
    assert [type(e) for e in events] == [StreamStarted, AudioReceived, AudioReceived, StreamStopped]
    started, first, second, _ = events
    assert isinstance(started, StreamStarted) and started.call_id.startswith("CA") and started.format == PCMU_8K
    assert isinstance(first, AudioReceived) and isinstance(second, AudioReceived)
    assert (len(first.payload), first.sequence, first.timestamp) == (160, 1, 155)
    assert (second.sequence, second.timestamp) == (73, 1593)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(["connected", "start", "media", "mark", "dtmf", "stop", "error"])


@given(st.binary(max_size=400) | st.text(max_size=400))
def test_any_bytes_or_text_are_events_or_malformed(data):
    try:
        assert isinstance(TwilioSerializer().decode(data), list)
    except MalformedMessage:
        pass


@given(
    KINDS,
    st.dictionaries(
        st.sampled_from(["start", "media", "mark", "dtmf", "stop", "streamSid", "sequenceNumber", "x"]),
        ANY_JSON
        | st.dictionaries(
            st.sampled_from("callSid streamSid payload track chunk timestamp name digit mediaFormat".split()), ANY_JSON
        ),
    ),
)
def test_any_message_of_a_known_kind_is_events_or_malformed(kind, rest):
    data = frame({**rest, "event": kind})
    serializer = TwilioSerializer()
    try:
        events = serializer.decode(data)
    except MalformedMessage:
        assert serializer.relay(data) is None or kind == "media"
        return
    assert isinstance(events, list)
    if kind == "media" and (text := serializer.relay(data)) is not None:
        assert base64.b64decode(text) == events[0].payload  # type: ignore[union-attr]


@given(st.binary(min_size=1, max_size=2000))
def test_audio_survives_the_way_out_and_back(payload):
    serializer = TwilioSerializer()
    serializer.decode(frame(START))
    (sent,) = serializer.encode_audio(payload)
    (event,) = TwilioSerializer().decode(sent)
    assert isinstance(event, AudioReceived) and event.payload == payload


def test_ten_thousand_frames_leave_nothing_behind(stream):
    import tracemalloc

    def exchange_frames(count: int) -> None:
        for _ in range(count):
            stream.decode(media())
            stream.encode_audio(b"\xff" * 160)

    exchange_frames(100)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        exchange_frames(10_000)
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
