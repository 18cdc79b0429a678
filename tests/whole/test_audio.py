"""Sound and keys, both ways."""

import asyncio

import pytest

from anycarrier import Capability, DigitPressed, EndReason, MarkReached, MediaSession
from anycarrier.audio import dtmf_tones
from anycarrier.events import DigitReported
from anycarrier.serializer import MediaSerializer
from whole.conftest import House


def gathered_digits(house: House) -> list[str]:
    """The digits of the next call, whose agent gathers them until a pound key."""
    pressed: list[str] = []

    async def gather(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, DigitPressed):
                pressed.append(event.digit)
                if event.digit == "#":
                    return

    house.answer_with(gather)
    return pressed


async def test_keys_of_the_caller_arrive_once_each(house: House) -> None:
    pressed = gathered_digits(house)
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    await far_end.press("1295*#")
    await house.over(far_end)
    assert "".join(pressed) == "1295*#"


async def test_a_key_that_only_a_webhook_tells_arrives_too(house: House) -> None:
    pressed = gathered_digits(house)
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    call = await house.call_of(far_end)
    desk = house.exchange.listeners.desk(await house.exchange.switchboard.provider("main"), "main")
    told = DigitReported(call_id=call.id, reference=call.reference, event_id="key-1", digit="4")
    for _ in range(2):  # a webhook that is delivered twice is one
        await desk.event(told)
    await far_end.press("#")
    await house.over(far_end)
    assert "".join(pressed) == "4#"


async def test_keys_of_ours_reach_the_far_end(house: House) -> None:
    serializer = (await house.exchange.switchboard.provider("main")).serializer()
    on_the_socket = type(serializer).encode_digits is not MediaSerializer.encode_digits
    pressed_as_keys = on_the_socket or Capability.SEND_DIGITS in house.provider.capabilities

    async def press(session: MediaSession) -> None:
        far_end = await house.sandbox.far_end(session.call.id)
        await session.send_digits("42#")
        await session.drain()
        if pressed_as_keys:
            async with asyncio.timeout(30):
                while far_end.digits != "42#":
                    await asyncio.sleep(0.005)

    house.answer_with(press)
    call, far_end = await house.dial()
    await house.over(call)
    if pressed_as_keys:
        assert far_end.digits == "42#"
    else:
        assert dtmf_tones("42#") in far_end.heard, "as tones, where the carrier has no command that keeps the stream"


async def test_barge_in_cuts_playback_and_knows_what_was_heard(house: House) -> None:
    results: list[tuple[float, float, float, float]] = []

    async def interrupted(session: MediaSession) -> None:
        far_end = await house.sandbox.far_end(session.call.id)
        await session.send_audio(b"\x33" * 8000 * 5)
        await far_end.wait_heard(0.6)
        playback = await session.clear()
        await asyncio.sleep(0.1)
        results.append((playback.heard, playback.dropped, session.heard, far_end.heard_seconds()))
        await session.send_audio(b"\x44" * 1600)

    house.answer_with(interrupted)
    call, far_end = await house.dial()
    await house.over(call)
    [(heard, dropped, total, really)] = results
    assert heard == pytest.approx(really, abs=0.15)
    assert heard + dropped == pytest.approx(5.0)
    assert total == pytest.approx(heard)
    assert far_end.heard.count(b"\x44") == 1600, "what was said after the interruption was heard"
    assert far_end.heard_seconds() < 2


async def test_marks_come_back_in_order_when_heard_and_not_after_a_clear(house: House) -> None:
    reached: list[tuple[str, float]] = []

    async def speak(session: MediaSession) -> None:
        far_end = await house.sandbox.far_end(session.call.id)
        await session.send_audio(b"\x33" * 1600)
        await session.mark("one")
        await session.send_audio(b"\x33" * 1600)
        await session.mark("two")
        while len(reached) < 2:
            event = await anext(session)
            if isinstance(event, MarkReached):
                reached.append((event.name, far_end.heard_seconds()))
        await session.send_audio(b"\x33" * 80000)
        await session.mark("never")
        await session.clear()
        await session.send_audio(b"\x33" * 800)
        await session.mark("last")
        async for event in session:
            if isinstance(event, MarkReached):
                reached.append((event.name, far_end.heard_seconds()))
                return

    house.answer_with(speak)
    call, _far_end = await house.dial()
    await house.over(call)
    assert [name for name, _ in reached] == ["one", "two", "last"]
    assert reached[0][1] >= 0.19 and reached[1][1] >= 0.39


async def test_speech_in_pieces_of_any_size_arrives_whole(house: House) -> None:
    # Without negative zero, which mu-law has and the 16-bit samples of some carriers have not.
    said = bytes(i % 251 for i in range(16000)).replace(b"\x7f", b"\xff")

    async def speak(session: MediaSession) -> None:
        position = 0
        for size in (1, 7, 159, 160, 161, 320, 3, 1000, 4000, 2, 5000, 99999):
            await session.send_audio(said[position : position + size])
            position += size

    house.answer_with(speak)
    call, far_end = await house.dial()
    await house.over(call)
    assert said in far_end.heard


async def test_a_slow_agent_neither_stalls_the_call_nor_loses_its_end(house: House) -> None:
    async def slow(session: MediaSession) -> None:
        async for _ in session:
            await asyncio.sleep(0.05)

    house.answer_with(slow)
    far_end = await house.ring(said=b"\x31" * 16000)
    await house.live()
    await asyncio.sleep(0.3)
    await far_end.hang_up()
    call = await house.over(far_end)
    assert call.reason is EndReason.USER_HANGUP


async def test_what_was_said_is_counted_as_heard_only_once_it_was(house: House) -> None:
    async def speak(session: MediaSession) -> None:
        far_end = await house.sandbox.far_end(session.call.id)
        await session.send_audio(b"\x33" * 8000)
        assert (session.sent, session.heard < 0.3) == (pytest.approx(1.0), True)
        await session.drain()
        assert session.heard == pytest.approx(1.0, abs=0.05)
        assert far_end.heard_seconds() == pytest.approx(1.0, abs=0.05)

    house.answer_with(speak)
    call, _far_end = await house.dial()
    assert (await house.over(call)).reason is EndReason.AGENT_HANGUP
