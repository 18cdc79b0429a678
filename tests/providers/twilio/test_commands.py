"""What Twilio gets back: TwiML where it asks for instructions, 204 where it only tells."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from anycarrier.calls import EndReason, StreamTarget
from anycarrier.errors import (
    InvalidNumber,
    LimitReached,
    MalformedMessage,
    NumberNotAssigned,
    ProviderUnavailable,
    Replayed,
    SignatureInvalid,
    UnsupportedOperation,
)
from anycarrier.events import IncomingCall
from anycarrier_twilio import commands
from anycarrier_twilio.wire import parse

RING = {"CallSid": "CA1", "CallStatus": "ringing", "Direction": "inbound", "From": "+14155550123", "To": "+14155550100"}
STREAM = StreamTarget(url="wss://voice.example.com/media/t", custom={"a": "<&'\">\n", "empty": ""})


def instructions(reply) -> ElementTree.Element:
    assert (reply.status, reply.content_type) == (200, "text/xml")
    root = ElementTree.fromstring(reply.body)
    assert root.tag == "Response"
    return root


@pytest.fixture
def ringing(kit) -> IncomingCall:
    event = parse(kit.webhook(RING))
    assert isinstance(event, IncomingCall)
    return event


async def test_answering_connects_a_two_way_stream_and_nothing_after_it(provider, carrier, ringing):
    root = instructions(await provider.answer(ringing, STREAM))
    (connect,) = root
    (stream,) = connect
    assert (connect.tag, stream.tag, stream.get("url")) == ("Connect", "Stream", STREAM.url)
    assert {p.get("name"): p.get("value") for p in stream} == STREAM.custom
    assert carrier.requests == [], "the instructions travel in the reply"


async def test_a_stream_url_with_a_query_is_refused(provider, ringing):
    with pytest.raises(UnsupportedOperation, match="query"):
        await provider.answer(ringing, StreamTarget(url="wss://voice.example.com/media?ticket=1"))


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (EndReason.BUSY, "busy"),
        (EndReason.REJECTED, "rejected"),
        (EndReason.INVALID_NUMBER, "rejected"),
        (EndReason.AGENT_ERROR, "rejected"),
    ],
)
async def test_rejecting_is_unbilled_and_tells_busy_from_declined(provider, ringing, reason, word):
    (verb,) = instructions(await provider.reject(ringing, reason))
    assert (verb.tag, verb.get("reason")) == ("Reject", word)


async def test_forwarding_dials_a_number_or_a_sip_address(provider, ringing):
    assert instructions(await provider.forward(ringing, "+14155550177")).findtext("Dial/Number") == "+14155550177"
    assert instructions(await provider.forward(ringing, "sip:a@b.example")).findtext("Dial/Sip") == "sip:a@b.example"
    for nowhere in ("nobody", "sip:a@b.example@c.example", "sip:a@b.example<x>"):
        with pytest.raises(InvalidNumber):
            await provider.forward(ringing, nowhere)


@pytest.mark.parametrize(
    "caller", ["client:alice", "sip:al@pbx.example.com", "anonymous", "", "+266696687", "+7378742833", "+86282452253"]
)
async def test_forwarding_a_caller_without_a_number_shows_ours(provider, kit, caller):
    """13214: callerId must be provided for Client and SIP calls. The numbers are how Twilio spells "anonymous"."""
    ringing = parse(kit.webhook({**RING, "From": caller}))
    dial = instructions(await provider.forward(ringing, "+14155550177")).find("Dial")
    assert dial.get("callerId") == RING["To"]


async def test_forwarding_leaves_a_caller_the_number_they_ring_from(provider, ringing):
    assert instructions(await provider.forward(ringing, "+14155550177")).find("Dial").get("callerId") is None


@pytest.mark.parametrize(
    "form",
    [
        {**RING, "CallbackSource": "call-progress-events"},
        {"CallSid": "CA1", "RecordingStatus": "completed"},
        {"CallSid": "CA1", "StreamEvent": "stream-started"},
        {"CallSid": "CA1", "AnsweredBy": "human"},
        {"Hello": "world"},
        {**RING, "CallbackSource": "x", "ParentCallSid": "CA0", "CallStatus": "in-progress"},
    ],
)
def test_what_only_tells_is_acknowledged_without_content(provider, kit, form):
    reply = provider.acknowledge(parse(kit.webhook(form)))
    assert (reply.status, reply.body) == (204, b"")


@pytest.mark.parametrize(
    "form",
    [RING, {**RING, "DialCallStatus": "busy"}, {**RING, "CallStatus": "in-progress", "Digits": "1"}],
)
def test_what_asks_for_instructions_gets_empty_ones(provider, kit, form):
    assert list(instructions(provider.acknowledge(parse(kit.webhook(form))))) == []


@pytest.mark.parametrize(
    ("error", "status"), [(SignatureInvalid("x"), 403), (Replayed("x"), 409), (MalformedMessage("x"), 400)]
)
def test_strangers_and_replays_get_no_instructions(provider, error, status):
    reply = provider.refuse(error)
    assert reply.status == status and b"<" not in reply.body


@pytest.mark.parametrize(
    "error",
    [NumberNotAssigned("+14155550100"), LimitReached("calls"), ProviderUnavailable("twilio", "answer")],
)
def test_a_call_we_failed_to_take_sounds_busy_to_its_caller(provider, error):
    (verb,) = instructions(provider.refuse(error))
    assert (verb.tag, verb.get("reason")) == ("Reject", "busy")


def test_a_call_left_ringing_is_not_picked_up(provider, ringing):
    first, *_ = instructions(provider.leave_ringing(ringing))
    assert first.tag == "Pause" and int(first.get("length", "0")) >= 60, "a first <Pause> delays the pick-up"


@pytest.mark.parametrize("text", ["plain", "tab\tline\nreturn\r", "ü ✓ 𝄞"])
def test_text_that_fits_xml(text):
    assert commands.fits_xml(text)
    ElementTree.fromstring(commands.connect_stream(StreamTarget(url="wss://x", custom={"a": text})).encode())


@pytest.mark.parametrize("text", ["\x00", "\x1b[0m", "\ufffe", "\ud800"])
def test_text_that_does_not_fit_xml(text):
    assert not commands.fits_xml(text)
