"""Media frames: what live captures hold, what documents write otherwise, and what we send."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from anycarrier.errors import MalformedMessage
from anycarrier.events import AudioReceived, StreamStarted, StreamStopped
from anycarrier_bandwidth.frames import MAX_FRAME, BandwidthSerializer
from shared_documents import shared_path

START = {"metadata": {"callId": "c-1", "streamId": "s-1"}, "eventType": "start"}


SILENCE = base64.b64encode(b"\xff" * 160).decode()


def recorded(name: str) -> list[dict[str, Any]]:
    """The kept frames. Their silence has lost a few characters and is no base64 any more: it is put in anew."""
    text = shared_path("recordings", "bandwidth", "media_streams", f"{name}.jsonl").read_text()
    return [json.loads(re.sub(r"/{100,}w==", SILENCE, line)) for line in text.splitlines()]


@pytest.fixture
def opened() -> BandwidthSerializer:
    made = BandwidthSerializer()
    made.decode(json.dumps(START))
    return made


def test_the_recorded_frames_become_their_events() -> None:
    frames = recorded("captured_shape_inbound")
    serializer = BandwidthSerializer()
    for order in (frames, [dict(reversed(frame.items())) for frame in frames]):  # on the wire eventType comes last
        events = [event for frame in order for event in serializer.decode(json.dumps(frame))]
        assert [type(event) for event in events] == [StreamStarted, AudioReceived, AudioReceived, StreamStopped]
        started, first, second, _ = events
        assert isinstance(started, StreamStarted)
        assert isinstance(first, AudioReceived) and isinstance(second, AudioReceived)
        assert (started.call_id[:2], started.stream_id[:2], started.format.encoding) == ("c-", "s-", "PCMU")
        assert started.custom == {"callSid": "CA123", "tenant": "acme"}
        assert (first.sequence, second.sequence, len(first.payload)) == (1, 2, 160)


def test_what_we_send_is_what_clients_send_on_real_calls(opened: BandwidthSerializer) -> None:
    play, _, clear = recorded("to_carrier")
    [sent] = opened.encode_audio(base64.b64decode(play["media"]["payload"]))
    assert json.loads(sent) == play and json.loads(opened.encode_clear()[0]) == clear


@pytest.mark.parametrize(("encoding", "heard"), [("PCMU", "PCMU"), ("audio/PCMU", "PCMU"), ("OPUS", "OPUS")])
def test_the_encoding_is_read_with_and_without_its_prefix(encoding: str, heard: str) -> None:
    track: dict[str, Any] = {"name": "inbound", "mediaFormat": {"encoding": encoding, "sampleRate": 8000}}
    [started] = BandwidthSerializer().decode(json.dumps({**START, "metadata": {"callId": "c-1", "tracks": [track]}}))
    assert isinstance(started, StreamStarted) and started.format.encoding == heard


def test_our_own_voice_is_not_heard_again(opened: BandwidthSerializer) -> None:
    frame = json.dumps({"track": "outbound", "payload": "AAAA", "sequenceNumber": "1", "eventType": "media"})
    assert opened.decode(frame) == [] and opened.relay(frame) is None


def test_a_frame_that_is_too_large_is_refused_unread(opened: BandwidthSerializer) -> None:
    with pytest.raises(MalformedMessage, match="more than"):
        opened.decode(" " * (MAX_FRAME + 1))
    assert opened.relay(" " * (MAX_FRAME + 1)) is None


def test_text_that_could_close_our_frame_is_not_wrapped(opened: BandwidthSerializer) -> None:
    assert [opened.encode_relayed(text) for text in ('AA"}', "AA\\", "é", "")] == [None] * 4


def test_a_payload_with_an_escape_in_it_is_not_passed_on_as_it_stands(opened: BandwidthSerializer) -> None:
    frame = '{"track":"inbound","payload":"\\/\\/8=","sequenceNumber":"1","eventType":"media"}'
    assert opened.relay(frame) is None
    [heard] = opened.decode(frame)
    assert isinstance(heard, AudioReceived) and heard.payload == b"\xff\xff"
