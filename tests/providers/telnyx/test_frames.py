"""Media frames: what Telnyx sends becomes events in order, what we send is cut as Telnyx takes it."""

from __future__ import annotations

import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier.audio import L16_16K, PCMA_8K, PCMU_8K, SILENCE, AudioFormat
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
from anycarrier_telnyx import TelnyxCredential, TelnyxProvider
from anycarrier_telnyx.commands import ClientState
from anycarrier_telnyx.frames import TelnyxSerializer
from shared_documents import shared_path

CALL = "v3:call-of-the-tests"
MEDIA_EVENTS = (
    StreamStarted, AudioReceived, DigitPressed, MarkReached, StreamStopped, StreamError, UnknownEvent
)


def start(encoding: str = "PCMU", rate: int = 8000, **fields: object) -> str:
    told = {
        "user_id": "u", "call_control_id": CALL, "call_session_id": "s", "from": "+14155550123", "to": "+14155550100",
        "media_format": {"encoding": encoding, "sample_rate": rate, "channels": 1}, **fields,
    }
    return json.dumps({"event": "start", "sequence_number": "1", "start": told, "stream_id": "st-1"})


def media(chunk: int | None, payload: bytes = b"\x7f" * 160, track: str = "inbound") -> str:
    body = {"track": track, "timestamp": "20", "payload": base64.b64encode(payload).decode()}
    if chunk is not None:
        body["chunk"] = str(chunk)
    return json.dumps({"event": "media", "sequence_number": "9", "media": body, "stream_id": "st-1"})


def opened(audio_out: AudioFormat = PCMU_8K) -> TelnyxSerializer:
    serializer = TelnyxSerializer(audio_out)
    serializer.decode(start())
    return serializer


def sound(frames: list[str]) -> list[bytes]:
    """The audio in outbound frames, each of which must be exactly a media frame as Telnyx takes it."""
    pieces = []
    for frame in frames:
        message = json.loads(frame)
        assert message == {"event": "media", "media": {"payload": message["media"]["payload"]}}
        pieces.append(base64.b64decode(message["media"]["payload"], validate=True))
    return pieces


# --- from Telnyx ---------------------------------------------------------------------------------------------------


def test_the_documented_frames_are_read():
    serializer = TelnyxSerializer()
    lines = shared_path("recordings", "telnyx", "media_streams", "documented_frames.jsonl").read_text().splitlines()
    events = [event for line in lines for event in serializer.decode(line)]
    # The published media frame is chunk 2: it waits for the first, and comes with the stop when that never does.
    assert [type(event) for event in events] == [
        StreamStarted, MarkReached, DigitPressed, StreamError, AudioReceived, StreamStopped
    ]
    begun, mark, digit, error, audio, _ = events
    told = json.loads(lines[1])
    assert (begun.call_id, begun.stream_id) == (told["start"]["call_control_id"], told["stream_id"])
    assert begun.format == PCMU_8K
    assert (mark.name, digit.digit) == ("some_mark_name", "1")
    assert (error.code, error.detail) == ("100004", "invalid_media: Media provided was not base64 encoded")
    assert (len(audio.payload), audio.sequence, audio.timestamp) == (192, 2, 5)


@pytest.mark.parametrize("form", [str, str.encode])
def test_audio_is_decoded_with_its_numbers_and_its_own_frame(form):
    serializer = opened()
    frame = form(media(1, b"abc"))
    assert serializer.decode(frame) == [AudioReceived(b"abc", "inbound", 1, 20, frame)]


@pytest.mark.parametrize(("encoding", "rate"), [("PCMU", 8000), ("PCMA", 8000), ("L16", 16000), ("G722", 8000)])
def test_the_format_is_the_one_telnyx_says_it_sends(encoding, rate):
    [begun] = TelnyxSerializer().decode(start(encoding, rate))
    assert begun.format == AudioFormat(encoding, rate)


def test_what_we_expect_and_what_telnyx_sends_are_two_things():
    serializer = TelnyxSerializer()
    serializer.decode(start("PCMA"))
    assert serializer.audio_out == PCMU_8K


def test_custom_values_travel_in_client_state_and_come_back_with_the_start():
    state = ClientState(reference="r", custom={"lang": "de", "both": "ours"}).encode()
    [begun] = TelnyxSerializer().decode(start(client_state=state, custom_parameters={"more": "x", "both": "theirs"}))
    assert begun.custom == {"lang": "de", "more": "x", "both": "ours"}
    [listed] = TelnyxSerializer().decode(start(custom_parameters=[{"name": "a", "value": "b"}, "odd"]))
    assert listed.custom == {"a": "b"}


def test_the_codec_asked_for_at_dialling_is_known_again_at_the_start():
    serializer = TelnyxSerializer()
    serializer.decode(start("L16", 16000, client_state=ClientState(format="L16/16000").encode()))
    assert serializer.audio_out == L16_16K
    assert sound(serializer.encode_audio(bytes(640))) == [bytes(640)]


def test_frames_out_of_order_come_out_in_order():
    serializer = opened()
    heard = [e.sequence for c in (1, 3, 2, 6, 5, 4) for e in serializer.decode(media(c))]
    assert heard == [1, 2, 3, 4, 5, 6]


def test_a_frame_that_comes_too_late_is_told_and_not_played():
    serializer = opened()
    for chunk in (1, 2, 3):
        serializer.decode(media(chunk))
    [late] = serializer.decode(media(2))
    assert isinstance(late, UnknownEvent)
    assert late.kind == "media.late"
    assert late.raw["media"]["chunk"] == "2"


def test_stragglers_over_a_long_call_never_turn_it_back():
    serializer = opened()
    for chunk in range(1, 200):
        [audio] = serializer.decode(media(chunk))
        assert audio.sequence == chunk
        if chunk % 10 == 0:
            assert [type(event) for event in serializer.decode(media(chunk - 5))] == [UnknownEvent]


def test_what_waits_comes_out_before_the_stop():
    serializer = opened()
    assert serializer.decode(media(2)) == []
    events = serializer.decode(json.dumps({"event": "stop", "stop": {"reason": "hangup"}}))
    assert [type(event) for event in events] == [AudioReceived, StreamStopped]


def test_our_own_voice_coming_back_with_both_tracks_is_dropped_and_delays_nothing():
    serializer = opened()
    assert [e.sequence for e in serializer.decode(media(1))] == [1]
    assert serializer.decode(media(2, track="outbound")) == []
    assert [e.sequence for e in serializer.decode(media(3))] == [3]
    assert [e.sequence for e in serializer.decode(media(7))] == [7]


def test_audio_without_a_chunk_number_is_passed_on_as_it_comes():
    serializer = opened()
    [audio] = serializer.decode(media(None))
    assert audio.sequence is None


def test_a_second_start_begins_a_new_order():
    serializer = opened()
    for chunk in range(1, 9):
        serializer.decode(media(chunk))
    serializer.decode(start())
    assert [e.sequence for e in serializer.decode(media(1))] == [1]


def test_ten_thousand_frames_leave_nothing_behind():
    serializer = opened()
    for chunk in range(1, 10_001):
        assert len(serializer.decode(media(chunk))) == 1
    assert serializer._order.waiting == {}


@pytest.mark.parametrize(("digit", "key"), [("1", "1"), ("#", "#"), ("*", "*"), ("d", "D")])
def test_keys(digit, key):
    [pressed] = opened().decode(json.dumps({"event": "dtmf", "dtmf": {"digit": digit}}))
    assert (type(pressed), pressed.digit) == (DigitPressed, key)


def test_an_unknown_kind_of_frame_is_an_unknown_event():
    [other] = opened().decode('{"event":"holo","x":1}')
    assert (other.kind, other.raw) == ("holo", {"event": "holo", "x": 1})
    assert opened().decode('{"event":"connected","version":"1.0.0"}') == []


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"null", b"[]", b"{}", b"5", b'{"event":5}', b"\xff\xfe", b'{"event":"media"}', "\ud800",
        b'{"event":"media","media":{"payload":"!!"}}', b'{"event":"media","media":{"chunk":"1"}}',
        b'{"event":"media","media":{"chunk":"x","payload":"AAAA"}}', b'{"event":"start"}',
        b'{"event":"start","start":{}}',
        b'{"event":"start","start":{"call_control_id":"c","media_format":{"sample_rate":"fast"}}}',
        b'{"event":"dtmf","dtmf":{"digit":"12"}}', b'{"event":"dtmf","dtmf":{}}', b'{"event":"mark","mark":{}}',
        b'{"event":"error"}', b'{"event":"media","media":{"chunk":"1","payl', b"[" * 50_000,
    ],
)
def test_what_is_no_frame_is_malformed(frame):
    with pytest.raises(MalformedMessage):
        opened().decode(frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.binary(max_size=120) | st.text(max_size=60), max_size=4))
def test_any_bytes_are_events_or_malformed(frames):
    serializer = opened()
    for frame in frames:
        try:
            assert all(isinstance(event, MEDIA_EVENTS) for event in serializer.decode(frame))
        except MalformedMessage:
            pass


@given(
    st.sampled_from(["start", "media", "dtmf", "mark", "error", "stop", "connected", "other"]),
    st.dictionaries(
        st.sampled_from(
            ["call_control_id", "media_format", "client_state", "custom_parameters", "payload", "chunk", "track",
             "timestamp", "digit", "name", "code", "title", "detail", "reason"]
        ),
        JSON,
    ),
    JSON,
)
def test_any_fields_in_any_frame_are_events_or_malformed(kind, fields, stream_id):
    part = "payload" if kind == "error" else kind
    try:
        events = opened().decode(json.dumps({"event": kind, part: fields, "stream_id": stream_id}))
        assert all(isinstance(event, MEDIA_EVENTS) for event in events)
    except MalformedMessage:
        pass


# --- the fast path -------------------------------------------------------------------------------------------------


def test_relayed_audio_is_the_frame_s_own_base64():
    serializer = opened()
    assert [serializer.relay(media(chunk, b"sound")) for chunk in (1, 2)] == [base64.b64encode(b"sound").decode()] * 2


@given(st.permutations(range(1, 9)), st.lists(st.booleans(), min_size=8, max_size=8))
def test_relaying_changes_nothing_a_caller_can_see(chunks, relayed):
    plain, fast = opened(), opened()
    heard: list[bytes] = []
    for chunk, try_relay in zip(chunks, relayed, strict=True):
        frame = media(chunk, bytes([chunk]) * 160)
        text = fast.relay(frame) if try_relay else None
        events = [e.payload for e in fast.decode(frame) if isinstance(e, AudioReceived)] if text is None else []
        heard += [base64.b64decode(text)] if text is not None else events
    expected = [
        e.payload
        for chunk in chunks
        for e in plain.decode(media(chunk, bytes([chunk]) * 160))
        if isinstance(e, AudioReceived)
    ]
    assert heard == expected


@pytest.mark.parametrize(
    "frame", [start(), media(2), media(None), media(1, track="outbound"), "{", '{"event":"mark","mark":{"name":"x"}}',
              media(1).encode()]
)
def test_everything_but_plain_audio_in_its_turn_is_left_to_decode(frame):
    assert opened().relay(frame) is None


def test_audio_that_is_base64_already_is_framed_as_it_is():
    text = base64.b64encode(bytes(range(160))).decode()
    serializer = opened()
    assert serializer.encode_relayed(text) == serializer.encode_audio(bytes(range(160)))[0]


@pytest.mark.parametrize("text", ["AAAA", 'AA"' + "A" * 300, "\\" + "A" * 300, "ü" * 300, "A" * 400_000])
def test_what_cannot_be_framed_unseen_is_left_to_encode_audio(text):
    assert opened().encode_relayed(text) is None


def test_nothing_is_relayed_past_a_tail_or_a_closed_stream():
    text = base64.b64encode(bytes(160)).decode()
    serializer = opened()
    serializer.encode_audio(b"tail")
    assert serializer.encode_relayed(text) is None
    assert TelnyxSerializer().encode_relayed(text) is None


# --- to Telnyx -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 1000), max_size=30))
def test_every_frame_is_20_ms_or_more_and_no_byte_is_lost_or_moved(sizes):
    serializer = opened()
    stream = bytes(i % 251 for i in range(sum(sizes)))
    pieces: list[bytes] = []
    at = 0
    for size in sizes:
        pieces += sound(serializer.encode_audio(stream[at : at + size]))
        at += size
    assert all(len(piece) >= 160 for piece in pieces)
    rest = len(stream) - sum(map(len, pieces))
    assert 0 <= rest < 160
    last = sound(serializer.flush())
    assert last == ([stream[len(stream) - rest :] + b"\xff" * (160 - rest)] if rest else [])
    assert serializer.flush() == []


@given(st.integers(0, 4))
def test_pieces_over_30_seconds_are_cut(extra):
    serializer = opened()
    payload = bytes(2 * 30 * 8000 + 100 * extra)
    pieces = sound(serializer.encode_audio(payload))
    assert [len(piece) for piece in pieces[:2]] == [240_000, 240_000]
    assert all(160 <= len(piece) <= 240_000 for piece in pieces)
    assert len(b"".join(pieces + sound(serializer.flush()))) >= len(payload)


@given(st.lists(st.integers(0, 3000), max_size=20))
def test_a_16_bit_sample_is_never_torn_apart(sizes):
    serializer = opened(L16_16K)
    stream = bytes(i % 256 for i in range(sum(sizes)))
    pieces: list[bytes] = []
    at = 0
    for size in sizes:
        pieces += sound(serializer.encode_audio(stream[at : at + size]))
        at += size
    assert all(len(piece) % 2 == 0 and len(piece) >= 640 for piece in pieces)
    assert stream.startswith(b"".join(pieces))
    for last in sound(serializer.flush()):
        assert len(last) == 640


@pytest.mark.parametrize("format", [PCMU_8K, PCMA_8K, L16_16K])
def test_a_tail_is_padded_with_the_silence_of_its_codec(format):
    serializer = opened(format)
    assert serializer.encode_audio(b"\x01\x02") == []
    [last] = sound(serializer.flush())
    assert last[:2] == b"\x01\x02"
    assert set(last[2:]) == {SILENCE[format.encoding]}
    assert math.isclose(format.seconds(len(last)), 0.02)


def test_a_mark_leaves_the_tail_in_place_and_a_clear_drops_it():
    serializer = opened()
    serializer.encode_audio(b"tail")
    assert [json.loads(f) for f in serializer.encode_mark('a "b"')] == [{"event": "mark", "mark": {"name": 'a "b"'}}]
    assert sound(serializer.encode_audio(b"x" * 200)) == [b"tail" + b"x" * 200]
    serializer.encode_audio(b"tail")
    assert [json.loads(f) for f in serializer.encode_clear()] == [{"event": "clear"}]
    assert serializer.flush() == []


def test_nothing_goes_out_before_the_start_and_after_the_stop():
    before, after = TelnyxSerializer(), opened()
    after.encode_audio(b"tail")
    after.decode('{"event":"stop"}')
    for serializer in (before, after):
        for send in (
            lambda s=serializer: s.encode_audio(b"x" * 160),
            lambda s=serializer: s.encode_mark("m"),
            lambda s=serializer: s.encode_clear(),
        ):
            with pytest.raises(StreamNotOpen):
                send()
        assert serializer.flush() == []


def test_each_stream_gets_a_serializer_of_its_own():
    telnyx = TelnyxProvider(TelnyxCredential(api_key="KEY"))
    assert telnyx.serializer() is not telnyx.serializer()
