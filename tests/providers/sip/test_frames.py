"""The serializer passes the library's checks of media streams, with frames that no wire carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.testing.conformance.streams import StreamChecks
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.frames import SipSerializer, control
from anycarrier_sip.provider import SipProvider

STREAMS = Path(__file__).parent / "frames"


class TestStreams(StreamChecks):
    provider = SipProvider
    credential = SipCredential(preset="pbx", host="127.0.0.1", username="201", password="secret")
    cassettes = STREAMS


def opened(**start: object) -> SipSerializer:
    serializer = SipSerializer()
    serializer.decode(control("start", call="sip_1", **start))
    return serializer


def test_audio_passes_as_it_is_both_ways() -> None:
    sound = bytes(range(160))
    serializer = opened()
    [event] = serializer.decode(sound)
    assert event.payload is sound  # type: ignore[union-attr]
    assert serializer.encode_audio(sound)[0] is sound


def test_keys_are_taken_only_where_the_far_end_takes_telephone_events() -> None:
    assert opened().encode_digits("1") is None
    assert opened(sends_digits=True).encode_digits("1w2") == [control("digits", digits="1w2")]


def test_what_is_sent_is_in_the_codec_of_the_start() -> None:
    assert opened(codec="PCMA").audio_out.encoding == "PCMA"
    assert opened().audio_out.encoding == "PCMU"


@pytest.mark.parametrize("frame", ["", "{}", "[]", '{"type": 5}', '{"type":"mark","name":5}', "x" * 70_000])
def test_a_frame_that_is_none_of_ours_is_malformed(frame: str) -> None:
    with pytest.raises(MalformedMessage):
        opened().decode(frame)


def test_nothing_is_sent_after_the_stop() -> None:
    serializer = opened(sends_digits=True)
    serializer.decode(control("stop"))
    for say in (lambda: serializer.encode_audio(b"x"), lambda: serializer.encode_mark("m"), serializer.encode_clear,
                lambda: serializer.encode_digits("1")):  # fmt: skip
        with pytest.raises(StreamNotOpen):
            say()
