"""Our side of a call with a real peer: an exchange with one SIP credential, on sockets of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from peer_process import HOST
from sound import Sound, tone

from anycarrier import (
    AudioReceived,
    Call,
    CallEvent,
    CallProgress,
    CallStatus,
    DigitPressed,
    Exchange,
    MemoryNumberRegistry,
    Policy,
)
from anycarrier.audio import pcm16_to_pcmu, pcmu_to_pcm16
from anycarrier.session import MediaSession
from anycarrier_sip import SipCredential, SipProvider, SipSettings

OURS, CALLEE = "+14155550101", "+12125550120"
NO_TRUNK: dict[str, Any] = {"host": None, "peers": (f"{HOST}/32",)}
"""A credential for addresses only: SIPp would take the OPTIONS that a trunk is asked for a call."""
Agent = Callable[[MediaSession], Awaitable[None]]


@dataclass
class Heard:
    """What an agent heard: sound, digits and all events of its session."""

    pcm: bytearray = field(default_factory=bytearray)
    digits: str = ""
    events: list[object] = field(default_factory=list)

    def take(self, event: object) -> None:
        if isinstance(event, AudioReceived):
            self.pcm += pcmu_to_pcm16(event.payload)
        else:
            self.events.append(event)
            if isinstance(event, DigitPressed):
                self.digits += event.digit

    @property
    def sound(self) -> Sound:
        return Sound.of(bytes(self.pcm))


@dataclass
class House:
    exchange: Exchange
    provider: SipProvider
    port: int
    events: list[tuple[CallEvent, Call | None]] = field(default_factory=list)
    sessions: list[MediaSession] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def line(self) -> str:
        """What a telephone dials to reach our number without a PBX between."""
        return f"sip:{OURS}@{self.address}"

    async def live(self, count: int = 1) -> MediaSession:
        """The ``count``-th session, once it is talking."""
        await until(lambda: len(self.sessions) >= count)
        return self.sessions[count - 1]

    async def only_call(self) -> Call:
        """The call that came in, however far it is."""
        await until(lambda: bool(self.events))
        return next(call for event in self.events if (call := getattr(event[0], "call", None)) is not None)

    def told(self, call: Call) -> list[Call]:
        """How the call stood in each event of it so far."""
        return [event.call for event, _ in self.events if isinstance(event, CallProgress) and event.call_id == call.id]

    async def over(self, call: Call) -> Call:
        """The call, once it has ended."""
        return await self.exchange.wait_for(call.reference or call.id, CallStatus.ENDED, 30)


async def until(met: Callable[[], bool], timeout: float = 30) -> None:
    async with asyncio.timeout(timeout):
        while not met():
            await asyncio.sleep(0.01)


def speaker(frequency: float = 600, seconds: float = 2) -> Callable[[House], Agent]:
    """An agent that says a tone of ``frequency`` and listens until the call is over."""

    def made(house: House) -> Agent:
        async def talk(session: MediaSession) -> None:
            house.sessions.append(session)
            heard = Heard()
            house.heard.append(heard)
            await session.send_audio(pcm16_to_pcmu(tone(frequency, seconds)))
            async for event in session:
                heard.take(event)

        return talk

    return made


@contextlib.asynccontextmanager
async def open_house(
    credential: dict[str, Any],
    *,
    agent: Callable[[House], Agent] | None = None,
    settings: dict[str, Any] | None = None,
    allow: tuple[str, ...] = ("+1", f"sip:{HOST}"),
    **options: Any,
) -> AsyncIterator[House]:
    """``credential`` adds to host 127.0.0.1, no REGISTER and our number."""
    given = {"host": HOST, "registers": False, "numbers": (OURS,), **credential}
    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"trunk": SipCredential(**given)},
        public_url="https://voice.example.com",
        secret="s" * 32,
        policy=Policy(allow=allow),
        carrier_settings=[SipSettings(**{"listen": (f"udp:{HOST}:0", f"tcp:{HOST}:0"), **(settings or {})})],
        **options,
    )
    await exchange.start()
    try:
        await exchange.assign(OURS, agent_id="desk", credential_id="trunk")
        provider = await exchange.switchboard.provider("trunk")
        assert isinstance(provider, SipProvider)
        port = next(iter(provider.listener.endpoint.addresses.values()))[1]
        house = House(exchange, provider, port)
        exchange.switchboard.agents = (agent or speaker())(house)
        exchange.switchboard.observers.append(lambda event, call: house.events.append((event, call)))
        yield house
    finally:
        await exchange.stop()
