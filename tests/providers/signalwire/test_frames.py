"""Frames: the vendor's documented ones, wideband audio both ways, keys that we press."""

from __future__ import annotations

import base64
import json

import pytest

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import StreamNotOpen
from anycarrier.events import AudioReceived, DigitPressed, MarkReached, StreamStarted, StreamStopped
from anycarrier_signalwire.frames import SignalWireSerializer
from shared_documents import shared_path


def start(encoding: str = "audio/x-mulaw", rate: int = 8000) -> str:
    sent = {"encoding": encoding, "sampleRate": rate, "channels": 1}
    body = {"streamSid": "s1", "callSid": "c1", "mediaFormat": sent}
    return json.dumps({"event": "start", "sequenceNumber": "1", "start": body})


def test_the_documented_frames_are_their_events() -> None:
    path = shared_path("recordings", "signalwire", "media_streams", "documented_frames_from_carrier.jsonl")
    serializer = SignalWireSerializer()
    events = [event for line in path.read_text().splitlines() for event in serializer.decode(line)]
    assert [type(event) for event in events] == [StreamStarted, AudioReceived, DigitPressed, MarkReached, StreamStopped]
    started = events[0]
    assert isinstance(started, StreamStarted) and started.format == AudioFormat("PCM16", 24000)
    assert started.call_id == "76ac3c36-56da-4a3e-a0d6-b5f8df6da9ad" and started.custom == {}


@pytest.mark.parametrize("rate", [16000, 24000])
def test_wideband_audio_goes_both_ways_as_it_came(rate: int) -> None:
    serializer = SignalWireSerializer()
    assert serializer.audio_out == PCMU_8K
    (started,) = serializer.decode(start("audio/x-L16", rate))
    assert isinstance(started, StreamStarted)
    assert started.format == serializer.audio_out == AudioFormat("PCM16", rate)
    samples = bytes(range(200))
    (frame,) = serializer.encode_audio(samples)
    sent = json.loads(frame)
    assert sent == {"event": "media", "streamSid": "s1", "media": {"payload": base64.b64encode(samples).decode()}}
    (heard,) = serializer.decode(json.dumps({"event": "media", "media": sent["media"]}))
    assert isinstance(heard, AudioReceived) and heard.payload == samples


def test_one_streams_format_is_no_others() -> None:
    wide, narrow = SignalWireSerializer(), SignalWireSerializer()
    wide.decode(start("audio/x-L16", 16000))
    narrow.decode(start())
    assert (wide.audio_out.rate, narrow.audio_out) == (16000, PCMU_8K)


def test_each_key_is_a_frame_and_a_pause_is_none() -> None:
    serializer = SignalWireSerializer()
    with pytest.raises(StreamNotOpen):
        serializer.encode_digits("1")
    serializer.decode(start())
    frames = serializer.encode_digits("1*#aD")
    assert frames is not None and [json.loads(frame) for frame in frames] == [
        {"event": "dtmf", "streamSid": "s1", "dtmf": {"digit": digit}} for digit in "1*#AD"
    ]
    assert serializer.encode_digits("1w2") is None and serializer.encode_digits("") is None
    serializer.decode('{"event":"stop","sequenceNumber":"9"}')
    with pytest.raises(StreamNotOpen):
        serializer.encode_digits("1")


def test_an_id_with_anything_in_it_makes_frames_that_are_json() -> None:
    serializer = SignalWireSerializer()
    serializer.decode(json.dumps({"event": "start", "start": {"streamSid": 'a"}{\\', "callSid": "c"}}))
    frames = serializer.encode_digits("5")
    assert frames is not None and json.loads(frames[0])["streamSid"] == 'a"}{\\'
