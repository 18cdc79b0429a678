"""The agent's WebSocket messages: strict out, tolerant in."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier.agent import protocol
from anycarrier.agent.protocol import (
    AgentTranscript,
    AudioDone,
    Clear,
    Mark,
    Media,
    Mode,
    SendDigits,
    Stop,
    Text,
    Transfer,
)


@pytest.mark.parametrize(
    ("headers", "mode"),
    [
        ({}, Mode(tts=True, stt=True)),
        ({"X-Use-Inkbox-Text-To-Speech": "false"}, Mode(tts=False, stt=True)),
        ({"x-use-inkbox-speech-to-text": "FALSE"}, Mode(tts=True, stt=False)),
        ({"X-USE-INKBOX-TEXT-TO-SPEECH": "false", "X-Use-Inkbox-Speech-To-Text": " false "}, Mode(False, False)),
        ({"x-use-inkbox-speech-to-text": "true"}, Mode(tts=True, stt=True)),
    ],
)
def test_the_handshake_reply_chooses_the_mode(headers: dict[str, str], mode: Mode) -> None:
    assert Mode.from_headers(headers) == mode


def test_the_signature_matches_the_published_vector() -> None:
    expected = "sha256=f0762173346f1f5dcb7f745dcfa953b91812f924729303ea561bd4e36cc3c7e1"
    assert protocol.signature("whsec_abc", "r1", 1700000000, b"{}") == expected


def test_the_context_is_one_ascii_line_and_is_what_is_signed() -> None:
    context = protocol.call_context(
        call_id="c",
        phone_number="+14155550100",
        remote_phone_number="+14155550101",
        direction="inbound",
        extra={"name": "Zoë\n"},
    )
    assert context.isascii() and "\n" not in context
    headers = protocol.handshake_headers(context, "whsec_k", "id-1", 5)
    assert headers["X-Inkbox-Signature"] == protocol.signature("k", "id-1", 5, context.encode())
    assert set(protocol.handshake_headers(context, None, "id-1", 5)) == {"X-Call-Context"}


def test_what_we_send_is_as_documented() -> None:
    start = json.loads(protocol.start("s1", call_id="ours", carrier_call_id="theirs"))
    assert (start["event"], start["stream_id"], start["start"]["call_control_id"]) == ("start", "s1", "theirs")
    assert start["start"]["media_format"] == {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
    assert json.loads(protocol.media_template('s"1') % (40, base64.b64encode(b"\xff"))) == {
        "event": "media",
        "stream_id": 's"1',
        "media": {"track": "inbound", "timestamp": "40", "payload": "/w=="},
    }
    final = json.loads(protocol.transcript("s", "hello", is_final=True, turn_id="t1"))
    assert (final["text"], final["is_final"], final["turn_id"]) == ("hello", True, "t1")
    cut = json.loads(protocol.barge_in("s", text=None, tts_interrupted=True, turn_id="t2"))
    assert (cut["trigger"], cut["text"], cut["tts_interrupted"]) == ("caller_speech", None, True)
    assert json.loads(protocol.stop("s", reason="carrier_hangup", hangup_reason="remote"))["reason"] == "carrier_hangup"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"event": "text", "delta": "Good ", "turn_id": "g1"}, Text("Good ", "g1", False)),
        ({"event": "text", "delta": "x", "sequence": 3}, Text("x", None, False)),
        ({"event": "text", "done": True, "turn_id": "g1"}, Text("", "g1", True)),
        ({"event": "text", "text": "all at once", "done": True}, Text("all at once", None, True)),
        ({"event": "textStream", "text": "old", "done": True}, Text("old", None, True)),
        ({"event": "media", "media": {"payload": "/w==", "track": "outbound"}}, Media(b"\xff", "/w==")),
        ({"event": "media", "media": "/w=="}, Media(b"\xff", "/w==")),
        ({"event": "audio_done", "stream_id": "s"}, AudioDone()),
        ({"event": "clear"}, Clear()),
        ({"event": "transcript", "text": "hi", "is_final": True}, AgentTranscript("hi", "remote", True)),
        (
            {"event": "transcript", "party": "local", "text": "yo", "is_final": False},
            AgentTranscript("yo", "local", False),
        ),
        ({"event": "stop", "reason": "bye"}, Stop("bye")),
        # What others' serializers make of fields that are not given, or meant for somebody else.
        ({"event": "text", "delta": "x", "turn_id": None, "done": None}, Text("x", None, False)),
        ({"event": "text", "delta": None, "text": None, "done": "true", "turn_id": 7}, Text("", "7", True)),
        ({"event": "text", "delta": "x", "media": 1, "to": {}, "reason": []}, Text("x", None, False)),
        ({"event": "transcript", "text": "hi", "is_final": None}, AgentTranscript("hi", "remote", True)),
        ({"event": "transcript", "text": "hi", "is_final": "false"}, AgentTranscript("hi", "remote", False)),
        ({"event": "transcript", "text": "hi", "party": {"id": 1}}, AgentTranscript("hi", "remote", True)),
        ({"event": "media", "media": {"payload": "/w=="}, "text": {}, "done": None}, Media(b"\xff", "/w==")),
        ({"event": "stop", "reason": {"code": 3}, "text": 5}, Stop(None)),
        ({"event": "stop", "reason": None, "done": None, "is_final": None}, Stop(None)),
        ({"event": "clear", "reason": 1}, Clear()),
        ({"event": "mark", "mark": {"name": "m"}}, Mark("m")),
        ({"event": "dtmf", "dtmf": {"digits": "12#"}}, SendDigits("12#")),
        ({"event": "transfer", "to": "+14155550101"}, Transfer("+14155550101")),
    ],
)
def test_what_agents_send_is_understood_in_all_its_spellings(sent: object, read: object) -> None:
    assert protocol.read(json.dumps(sent)) == read


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x01binary",
        "not json",
        "[]",
        '"text"',
        '{"event":"hangup"}',
        '{"event":"novelty"}',
        "{}",
        '{"event":5}',
        '{"event":"media"}',
        '{"event":"media","media":{"payload":"***"}}',
        '{"event":"media","media":{"payload":""}}',
        '{"event":"text","delta":5}',
        '{"event":"mark","mark":{}}',
        '{"event":"transcript"}',
        '{"event":"text","delta":"' + "x" * protocol.MAX_MESSAGE + '"}',
        '{"event":"text","delta":"x","turn_id":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"event":"media","media":{"payload":"/w=="},"more":' + '{"a":' * 50_000,
    ],
    ids=lambda frame: repr(frame[:40]),
)
def test_everything_else_is_dropped(frame: bytes | str) -> None:
    assert protocol.read(frame) is None


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_no_frame_raises(frame: bytes | str) -> None:
    protocol.read(frame)


@given(
    st.dictionaries(
        st.sampled_from(["event", "delta", "media", "mark", "dtmf", "turn_id", "party", "text", "to", "reason"]),
        st.one_of(
            st.none(), st.integers(), st.text(max_size=9), st.dictionaries(st.text(max_size=7), st.text(max_size=9))
        ),
    ),
    st.sampled_from(["text", "media", "mark", "dtmf", "transcript", "stop", "transfer", "clear", "audio_done"]),
)
def test_no_mixture_of_known_fields_raises(fields: dict[str, object], event: str) -> None:
    protocol.read(json.dumps({**fields, "event": event}))
