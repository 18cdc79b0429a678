"""From ring to hang-up: exchange, Telnyx adapter and Telnyx sandbox over real sockets, the carrier at its worst."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from anycarrier.asgi import create_app
from anycarrier.audio import L16_16K, PCM16_16K, PCMU_8K, AudioFormat, Transcoder
from anycarrier.calls import CallStatus, EndReason
from anycarrier.events import AudioReceived, DigitPressed
from anycarrier.exchange import Exchange
from anycarrier.routing import MemoryNumberRegistry
from anycarrier.session import MediaSession
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier_telnyx.sandbox import TelnyxSandbox

OURS = "+14155550123"
THEIRS = "+12125550111"
SPEECH = bytes(range(0x10, 0x60)) * 20
"""200 ms of mu-law."""


class Echo:
    """An agent that says back what it heard once a key is pressed, then hangs up."""

    def __init__(self) -> None:
        self.heard = b""
        self.frames: set[int] = set()
        self.sequence: list[int] = []

    async def __call__(self, session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, AudioReceived):
                self.heard += event.payload
                self.frames.add(len(event.payload))
            elif isinstance(event, DigitPressed):
                break
        await session.send_audio(self.heard)


@contextlib.asynccontextmanager
async def _exchange(*quirks: str, **audio: AudioFormat) -> AsyncIterator[tuple[Exchange, TelnyxSandbox, Echo]]:
    sock = listening()
    agent = Echo()
    async with serve_sandbox(TelnyxSandbox) as sandbox:
        sandbox.quirks.update(quirks)
        sandbox.add_number(OURS)
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential()},
            public_url=url_of(sock),
            secret="x" * 32,
            agents={"echo": agent},
            **audio,
        )
        async with serve(create_app(exchange), sock):
            await exchange.assign(OURS, agent_id="echo", credential_id="main")
            yield exchange, sandbox, agent


@pytest.mark.parametrize(
    "quirks", [("quiet",), ("quiet", "duplicate", "reorder", "shuffle_media")], ids=["at its best", "at its worst"]
)
async def test_a_caller_is_answered_heard_and_answered_back(quirks: tuple[str, ...]) -> None:
    async with _exchange(*quirks) as (exchange, sandbox, agent):
        caller = await sandbox.ring(OURS, THEIRS)
        await caller.wait_for("streaming")
        await caller.say(SPEECH)
        await caller.press("#")
        await caller.wait_for("ended")
        call = await exchange.wait_for(caller.call_id)
        assert agent.heard == SPEECH
        assert caller.heard == SPEECH
        assert (call.status, call.reason) == (CallStatus.ENDED, EndReason.AGENT_HANGUP)


@pytest.mark.parametrize("direction", ["inbound", "inbound, answered late", "outbound"])
async def test_audio_is_wideband_both_ways_where_it_is_asked_for(direction: str) -> None:
    quirks = ("quiet", "late_answer") if "late" in direction else ("quiet",)
    async with _exchange(*quirks, audio=PCM16_16K, carrier_audio=L16_16K) as (exchange, sandbox, agent):
        if direction == "outbound":
            placed = await exchange.dial(from_=OURS, to=THEIRS, agent_id="echo")
            far_end = await sandbox.far_end(placed.id)
        else:
            far_end = await sandbox.ring(OURS, THEIRS)
        await far_end.wait_for("streaming")
        await far_end.say(SPEECH)
        await far_end.press("#")
        await far_end.wait_for("ended")
        assert max(agent.frames) == 640, "20 ms at 16 kHz in 16 bits"
        assert agent.heard == Transcoder(PCMU_8K, PCM16_16K).convert(SPEECH)
        assert far_end.heard_seconds() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("+15005550101", EndReason.BUSY),
        ("+15005550102", EndReason.NO_ANSWER),
        ("+15005550103", EndReason.REJECTED),
        ("+15005550112", EndReason.USER_HANGUP),
        ("+15005550114", EndReason.INVALID_NUMBER),
    ],
)
async def test_a_magic_number_ends_for_the_reason_it_stands_for(to: str, reason: EndReason) -> None:
    async with _exchange("quiet") as (exchange, sandbox, _):
        sandbox.pace = 10
        placed = await exchange.dial(from_=OURS, to=to, agent_id="echo", timeout=5)
        call = await exchange.wait_for(placed)
        assert call.reason == reason
