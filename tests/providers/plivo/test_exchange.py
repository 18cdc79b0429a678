"""Whole calls of an exchange on the sandbox: what only Plivo does so."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator

import pytest

from anycarrier import CallStatus, Capability, EndReason, Forward, IncomingCall, MediaSession, Policy, RecordingProgress
from anycarrier.audio import AudioFormat
from anycarrier.errors import NotFound
from anycarrier.events import StreamProgress
from anycarrier_plivo import PlivoProvider
from anycarrier_plivo.sandbox import PlivoSandbox, media_stream
from whole.conftest import CALLER, OURS, House, echo, listen, open_house, until


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house("plivo") as opened:
        yield opened


def sandbox_of(house: House) -> PlivoSandbox:
    assert isinstance(house.sandbox, PlivoSandbox)
    return house.sandbox


async def provider_of(house: House) -> PlivoProvider:
    provider = await house.exchange.switchboard.provider("main")
    assert isinstance(provider, PlivoProvider)
    return provider


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
async def test_wide_sound_goes_both_ways(house: House, rate: int):
    house.exchange.switchboard.carrier_audio = AudioFormat("L16", rate)
    house.answer_with(echo)
    far_end = await house.ring(said=b"\x42" * 1600)
    await until(lambda: far_end.heard_seconds() >= 0.2)
    assert f"audio/x-l16;rate={rate}".encode() in house.sandbox.deliveries[0].reply
    heard = far_end.heard[400:1200]
    assert sum(abs(sample - 0x42) <= 1 for sample in heard) > 700, "the byte order is right, both ways"
    await far_end.hang_up()
    await house.over(far_end)


async def test_a_dial_that_is_to_be_recorded_is_from_its_answer(house: House):
    house.answer_with(echo)
    call, far_end = await house.dial(record=True)
    await far_end.wait_for("streaming")
    await far_end.say(b"\x20" * 1600)
    await far_end.hang_up()
    await house.over(call)
    await until(lambda: any(isinstance(event, RecordingProgress) for event, _ in house.events))
    (told,) = [(event, known) for event, known in house.events if isinstance(event, RecordingProgress)]
    event, known = told
    assert known is not None and known.reference == call.reference and event.status == "completed"
    assert event.recording_id is not None and event.duration
    sound = await (await provider_of(house)).fetch_recording(event.recording_id)
    with wave.open(io.BytesIO(sound)) as opened:
        assert opened.getframerate() == 8000 and opened.getnframes() > 0


async def test_a_recording_begun_on_a_call_has_both_sides(house: House):
    house.answer_with(echo)
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    recording = await house.exchange.start_recording(far_end.call_id)
    await far_end.say(b"\x20" * 800)
    await house.exchange.stop_recording(far_end.call_id, recording)
    await until(lambda: any(isinstance(event, RecordingProgress) for event, _ in house.events))
    sound = await (await provider_of(house)).fetch_recording(recording)
    with wave.open(io.BytesIO(sound)) as opened:
        assert opened.getnchannels() == 2
    await far_end.hang_up()
    await house.over(far_end)


async def test_keys_with_pauses_are_a_command_and_others_a_frame(house: House):
    house.answer_with(listen)
    far_end = await house.ring()
    session = await house.live()
    await session.send_digits("12")
    await until(lambda: far_end.digits == "12")
    assert not [request for request in house.sandbox.requests if request.path.endswith("/DTMF/")]
    await session.send_digits("3w4")
    await until(lambda: far_end.digits == "1234")
    assert [request.body["digits"] for request in house.sandbox.requests if request.path.endswith("/DTMF/")] == ["3w4"]
    await far_end.hang_up()
    await house.over(far_end)


async def test_headers_go_out_and_come_in(house: House):
    house.answer_with(listen)
    call, far_end = await house.dial(headers={"X-PH-Case": "7 & 8"})
    assert far_end.headers == {"X-PH-Case": "7 & 8"}
    await far_end.hang_up()
    await house.over(call)
    caller = await sandbox_of(house).ring(OURS, CALLER, headers={"Desk": "front"})
    await caller.wait_for("streaming")
    (event,) = [event for event, _ in house.events if isinstance(event, IncomingCall)]
    assert event.headers == {"X-PH-Desk": "front"}
    await caller.hang_up()
    await house.over(caller)


async def test_a_call_can_be_asked_about_while_it_lives_and_after(house: House):
    house.answer_with(listen)
    call, far_end = await house.dial()
    await far_end.wait_for("streaming")
    assert (await house.exchange.fetch_call(call)).status is CallStatus.ANSWERED
    await far_end.hang_up()
    over = await house.over(call)
    known = await (await provider_of(house)).fetch_call(over.id)
    assert (known.status, known.reason) == (CallStatus.ENDED, EndReason.USER_HANGUP)
    assert known.answered_at is not None and known.price is not None and over.price == known.price
    with pytest.raises(NotFound):
        await (await provider_of(house)).fetch_call("11111111-2222-3333-4444-555555555555")


async def test_a_dial_is_cancelled_before_it_is_a_call(house: House):
    sandbox_of(house).ring_seconds = 30
    call, _ = await house.dial()
    await house.exchange.hang_up(call)
    over = await house.over(call)
    assert over.reason is EndReason.CANCELED
    assert [request.path.split("/")[-3] for request in house.sandbox.requests[-2:]] == ["Call", "Request"]


async def test_a_stream_that_cannot_be_opened_ends_the_call(house: House, monkeypatch: pytest.MonkeyPatch):
    """Plivo says so by webhook only: without it the callee would sit in silence."""

    async def refused(url: str, **options: object) -> None:
        raise OSError("nobody there")

    monkeypatch.setattr(media_stream, "connect", refused)
    call, far_end = await house.dial()
    over = await house.over(call)
    assert over.ended and not house.sessions
    assert any(isinstance(event, StreamProgress) and event.status == "failed" for event, _ in house.events)
    await far_end.wait_for("ended")


async def test_a_forward_to_somebody_who_is_busy_ends_the_call(house: House):
    async def onward(event: IncomingCall, line: object) -> Forward:
        return Forward("+15005550101")

    house.exchange.switchboard.router = onward
    far_end = await house.ring()
    over = await house.over(far_end)
    assert (over.answered_at, far_end.state) == (None, "ended")


async def test_an_agent_hands_a_caller_to_a_sip_address_with_headers(house: House):
    house.exchange.switchboard.policy = Policy(allow=["US", "sip:pbx.example.com"])

    async def hand_over(session: MediaSession) -> None:
        await house.exchange.transfer(session.call, "sip:desk@pbx.example.com", headers={"X-PH-Case": "7"})

    house.answer_with(hand_over)
    far_end = await house.ring()
    await until(lambda: far_end.transferred_to == "sip:desk@pbx.example.com")
    asked = [request for request in house.sandbox.requests if request.body and "aleg_url" in request.body]
    assert len(asked) == 1 and "Case%3D7" in asked[0].body["aleg_url"]
    await far_end.hang_up()
    await house.over(far_end)


async def test_every_ability_of_the_page_is_there():
    lacking = {Capability.LISTEN}
    assert set(Capability) - PlivoProvider.capabilities == lacking


async def test_many_calls_at_once_are_kept_apart(house: House):
    house.answer_with(echo)

    async def one(number: int) -> None:
        sound = bytes([0x10 + number]) * 800
        far_end = await sandbox_of(house).ring(OURS, f"+1212555{1000 + number}", said=sound)
        await until(lambda: sound in far_end.heard)
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP

    await asyncio.gather(*(one(number) for number in range(8)))
