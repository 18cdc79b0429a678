"""Calls on a carrier that does not detect answering machines: we listen, and tell what we hear as carriers do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anycarrier import CallEvent, EndReason, Exchange, MachineDetected, MachineDetection, MediaSession, media
from anycarrier.audio import PCM16_16K
from anycarrier.provider import Capability
from core.conftest import OURS, connect, dialled, echo, logged, ring, ticket_in
from core.test_machine_detection import coded, quiet, tone, voice
from fake_carriers import InlineProvider, MemoryTransport

HUMAN = coded(quiet(0.2)) + coded(voice(0.6)) + coded(quiet(2.0))
MACHINE = coded(voice(5)) + coded(quiet(0.5)) + coded(tone(1000, 0.4)) + coded(quiet(0.5))


class Notes:
    """A handler that notes the verdicts it gets."""

    def __init__(self) -> None:
        self.verdicts: list[tuple[str, bool, bool]] = []

    async def __call__(self, session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, MachineDetected):
                self.verdicts.append((event.answered_by, event.greeting_ended, event.beep))


@pytest.fixture
async def deaf(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """An exchange on a carrier that does not detect."""
    monkeypatch.setattr(InlineProvider, "detects_machines", False)
    exchange.switchboard.agents = Notes()
    return exchange


def play(transport: MemoryTransport, audio: bytes) -> None:
    for at in range(0, len(audio), 160):
        transport.say(event="media", audio=audio[at : at + 160].decode("latin-1"))


async def answered(exchange: Exchange, **options: Any) -> tuple[MemoryTransport, asyncio.Future[None]]:
    await dialled(exchange, **options)
    [*_, (_, request)] = logged("dial")
    return await connect(exchange, request.stream.url.rpartition("/")[2], "out-1")


def observed(exchange: Exchange) -> list[CallEvent]:
    seen: list[CallEvent] = []
    exchange.switchboard.observers.append(
        lambda event, call: seen.append(event) if isinstance(event, MachineDetected) else None
    )
    return seen


async def heard(exchange: Exchange, count: int = 1) -> Notes:
    notes = exchange.switchboard.agents
    assert isinstance(notes, Notes)
    async with asyncio.timeout(30):
        while len(notes.verdicts) < count:
            await asyncio.sleep(0.01)
    return notes


async def test_the_carrier_is_not_asked_and_the_verdict_reaches_call_handler_and_observers(deaf: Exchange) -> None:
    seen = observed(deaf)
    transport, _ = await answered(deaf, machine_detection=MachineDetection.DETECT)
    assert logged("dial")[0][1].machine_detection is MachineDetection.OFF
    play(transport, HUMAN)
    assert (await heard(deaf)).verdicts == [("human", False, False)]
    [event] = seen
    assert (event.call_id, event.occurred_at is not None) == ("out-1", True)
    [call] = await deaf.calls_in_progress()
    assert (call.answered_by, event.reference) == ("human", call.reference)


async def test_a_machine_is_told_twice_in_order_and_the_beep_with_the_second(deaf: Exchange) -> None:
    transport, _ = await answered(deaf, machine_detection="wait_for_beep")
    play(transport, MACHINE)
    assert (await heard(deaf, 2)).verdicts == [("machine", False, False), ("machine", True, True)]


async def test_what_the_session_converts_relays_or_gives_to_a_callback_is_heard_all_the_same(deaf: Exchange) -> None:
    given: list[str] = []

    class Relays(Notes):
        async def __call__(self, session: MediaSession) -> None:
            session.receive_base64(given.append)
            await super().__call__(session)

    class Wide(Notes):
        async def __call__(self, session: MediaSession) -> None:
            session.set_format(PCM16_16K)
            await super().__call__(session)

    for number, handler in enumerate((Relays(), Wide())):
        deaf.switchboard.agents = handler
        InlineProvider.log.clear()
        transport, serving = await answered(deaf, machine_detection="detect", reference=f"{number:032x}")
        await asyncio.sleep(0.1)
        play(transport, HUMAN)
        assert (await heard(deaf)).verdicts == [("human", False, False)]
        transport.say(event="status", id="out-1", status="ended")
        transport.lose()
        await serving
        await deaf.switchboard.end_locally((await deaf.calls_in_progress())[0], EndReason.USER_HANGUP)
    assert len(given) == len(HUMAN) / 160


async def test_listening_ends_with_the_last_verdict(deaf: Exchange) -> None:
    transport, _ = await answered(deaf, machine_detection="detect")
    await asyncio.sleep(0.1)
    [session] = deaf.switchboard.sessions.values()
    assert session.stream.input.monitor is not None
    play(transport, HUMAN)
    await heard(deaf)
    assert session.stream.input.monitor is None


async def test_a_line_that_brings_no_audio_is_unknown_in_time(deaf: Exchange) -> None:
    _, serving = await answered(deaf, machine_detection="wait_for_beep")
    begin = asyncio.get_running_loop().time()
    assert (await heard(deaf)).verdicts == [("unknown", False, False)]
    assert asyncio.get_running_loop().time() - begin == pytest.approx(media.OVERDUE, abs=0.5)
    assert not serving.done(), "the call goes on"


async def test_a_call_that_ends_undecided_is_never_told_about(deaf: Exchange) -> None:
    seen = observed(deaf)
    transport, serving = await answered(deaf, machine_detection="detect")
    play(transport, HUMAN[:8000])
    transport.lose()
    await serving
    await asyncio.sleep(60)
    assert seen == []


@pytest.mark.parametrize("why", ["not asked for", "inbound", "the carrier detects"])
async def test_nobody_listens_where_nobody_is_to(deaf: Exchange, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "the carrier detects":
        monkeypatch.setattr(InlineProvider, "detects_machines", True)
    if why == "inbound":
        await deaf.assign(OURS, agent_id="a", credential_id="main")
        transport, _ = await connect(deaf, ticket_in(await ring(deaf)), "in-1")
    else:
        transport, _ = await answered(deaf, **({} if why == "not asked for" else {"machine_detection": "detect"}))
    seen = observed(deaf)
    play(transport, HUMAN)
    await asyncio.sleep(60)
    assert seen == []
    if why == "the carrier detects":
        assert logged("dial")[0][1].machine_detection is MachineDetection.DETECT


async def test_a_wish_that_there_is_not_is_refused_before_the_carrier_is_asked(deaf: Exchange) -> None:
    with pytest.raises(ValueError, match="sometimes"):
        await dialled(deaf, machine_detection="sometimes")
    assert logged("dial") == []


async def test_the_wish_survives_in_the_facts_of_a_carrier_that_asks_for_its_instructions_later(
    deaf: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InlineProvider, "capabilities", InlineProvider.capabilities | {Capability.INSTRUCT})
    call = await dialled(deaf, machine_detection="wait_for_beep")
    [call] = [known for known in await deaf.calls_in_progress() if known.reference == call.reference]
    stream = deaf.switchboard.kept_stream(call)
    assert stream is not None
    assert (await deaf.admit(stream.ticket)).machine_detection == "wait_for_beep"


async def test_a_detector_that_fails_costs_the_call_nothing(
    deaf: Exchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: object, payload: bytes) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("anycarrier.media.MachineDetector.hear", fails)
    deaf.switchboard.agents = echo
    transport, serving = await answered(deaf, machine_detection="detect")
    play(transport, HUMAN[:1600])
    async with asyncio.timeout(30):
        while len(transport.sent) < 10:
            await asyncio.sleep(0.01)
    assert not serving.done()
    assert caplog.text.count("listening for an answering machine failed") == 1

