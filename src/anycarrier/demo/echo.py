"""Echo calls: a caller speaks, an agent echoes it, and each end compares what it heard byte for byte.

Then the number is assigned to another agent, which is called the same way and then makes an outbound call.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from importlib import resources

from anycarrier import AudioReceived, Call, CallStatus, EndReason, Exchange, MediaSession
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Sandbox

CALLER_NUMBER = "+12125550123"


@dataclass
class DemoCall:
    """One call of the demo. Times are seconds of speech; ``*_intact`` means that what was heard is what was sent.

    The fields from ``transcript`` on are for spoken conversations: the words, the keys pressed, the stereo WAV, how
    often the caller interrupted, and the median of each latency in milliseconds.
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
    """What was wrong in a spoken conversation."""

    @property
    def ok(self) -> bool:
        ended = self.status == "ended" and self.reason == "user_hangup"
        return self.agent_intact and self.far_end_intact and ended and not self.wrong


class Echo:
    """An agent that echoes what it hears, and keeps it."""

    def __init__(self) -> None:
        self.heard: dict[str, bytearray] = {}

    async def __call__(self, session: MediaSession) -> None:
        heard = self.heard.setdefault(session.call.reference, bytearray())
        async for event in session:
            if isinstance(event, AudioReceived):
                heard += event.payload
                await session.send_audio(event.payload)


def clip(name: str) -> bytes:
    """A clip of speech, mu-law 8 kHz, synthesized by flite for this demo."""
    return (resources.files("anycarrier.testing") / "clips" / f"{name}.ulaw").read_bytes()


async def run_call(
    exchange: Exchange, agents: dict[str, Echo], carrier: str, sandbox: Sandbox, number: str
) -> list[DemoCall]:
    """Make three calls on one carrier: two inbound ones, to two agents, and an outbound one."""
    shown = []
    for agent in agents:
        await exchange.assign(number, agent_id=agent, credential_id=carrier)
        shown.append(await _converse(exchange, agents, carrier, await sandbox.ring(number, CALLER_NUMBER)))
    call = await exchange.dial(from_=number, to=CALLER_NUMBER)
    shown.append(await _converse(exchange, agents, carrier, await sandbox.far_end(call.id)))
    return shown


async def _converse(exchange: Exchange, agents: dict[str, Echo], carrier: str, far_end: FarEnd) -> DemoCall:
    """The far end says its sentence, waits to hear the echo, and hangs up."""
    hello = clip("hello")
    await far_end.wait_for("streaming", 10)
    await far_end.say(hello)
    with contextlib.suppress(TimeoutError):  # the comparison below shows what is missing
        await far_end.wait_heard(len(hello) / 8000, timeout=len(hello) / 8000 + 5)
    await far_end.hang_up()
    call: Call = await exchange.wait_for(far_end.call_id, CallStatus.ENDED, 10)
    heard = bytes(agents[call.agent_id or ""].heard.get(call.reference, b""))
    return DemoCall(
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
