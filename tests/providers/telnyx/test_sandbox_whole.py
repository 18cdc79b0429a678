"""From ring to hang-up: exchange, Telnyx adapter and Telnyx sandbox over real sockets, the carrier at its worst."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from anycarrier.asgi import create_app
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
        self.sequence: list[int] = []

    async def __call__(self, session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, AudioReceived):
                self.heard += event.payload
            elif isinstance(event, DigitPressed):
                break
        await session.send_audio(self.heard)


@contextlib.asynccontextmanager
async def _exchange(*quirks: str) -> AsyncIterator[tuple[Exchange, TelnyxSandbox, Echo]]:
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
