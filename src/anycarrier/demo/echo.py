"""Transport, proven: a voice rings a number on each carrier, an agent echoes it, and each end compares byte for byte.

Then the number is given to another agent, who is reached the same way, and who rings out.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from importlib import resources

from anycarrier import AudioReceived, Call, CallStatus, EndReason, Exchange, MediaSession
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Sandbox

SOMEBODY = "+12125550123"


@dataclass
class Shown:
    """One call of the demo. Seconds of speech; ``*_intact`` say that what was heard is what was sent.

    The last are a spoken conversation's: who said what, the keys pressed, the stereo WAV, how often the caller cut in,
    and the median milliseconds of each wait of the caller's.
    """

    carrier: str
    direction: str
    agent: str
    status: str
    reason: str
    seconds: float
    said: float
    agent_heard: float
    agent_intact: bool
    far_end_heard: float
    far_end_intact: bool
    transcript: list[dict[str, object]] = field(default_factory=list)
    digits: str = ""
    recording: str | None = None
    barge_ins: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """What of a spoken conversation was not as it must be."""

    @property
    def ok(self) -> bool:
        ended = self.status == "ended" and self.reason == "user_hangup"
        return self.agent_intact and self.far_end_intact and ended and not self.wrong


class Echo:
    """An agent that says back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard: dict[str, bytearray] = {}

    async def __call__(self, session: MediaSession) -> None:
        heard = self.heard.setdefault(session.call.reference, bytearray())
        async for event in session:
            if isinstance(event, AudioReceived):
                heard += event.payload
                await session.send_audio(event.payload)


def clip(name: str) -> bytes:
    """What a man's voice says, mu-law 8 kHz; spoken by flite for this demo."""
    return (resources.files("anycarrier.testing") / "clips" / f"{name}.ulaw").read_bytes()


async def show(exchange: Exchange, agents: dict[str, Echo], carrier: str, sandbox: Sandbox, number: str) -> list[Shown]:
    """Three calls on one carrier: two that come in, to two agents, and one that goes out."""
    shown = []
    for agent in agents:
        await exchange.assign(number, agent_id=agent, credential_id=carrier)
        shown.append(await _converse(exchange, agents, carrier, await sandbox.ring(number, SOMEBODY)))
    call = await exchange.dial(from_=number, to=SOMEBODY)
    shown.append(await _converse(exchange, agents, carrier, await sandbox.far_end(call.id)))
    return shown


async def _converse(exchange: Exchange, agents: dict[str, Echo], carrier: str, far_end: FarEnd) -> Shown:
    """The far end says its sentence, waits to hear it come back, hangs up."""
    hello = clip("hello")
    await far_end.wait_for("streaming", 10)
    await far_end.say(hello)
    with contextlib.suppress(TimeoutError):  # the comparison below tells what is missing
        await far_end.wait_heard(len(hello) / 8000, timeout=len(hello) / 8000 + 5)
    await far_end.hang_up()
    call: Call = await exchange.wait_for(far_end.call_id, CallStatus.ENDED, 10)
    heard = bytes(agents[call.agent_id or ""].heard.get(call.reference, b""))
    return Shown(
        carrier=carrier,
        direction=str(call.direction),
        agent=call.agent_id or "-",
        status=str(call.status),
        reason=str(call.reason or EndReason.UNKNOWN),
        seconds=round(call.duration, 2),
        said=round(len(hello) / 8000, 2),
        agent_heard=round(len(heard) / 8000, 2),
        agent_intact=hello == heard,
        far_end_heard=round(far_end.heard_seconds(), 2),
        far_end_intact=hello == far_end.heard,
    )
