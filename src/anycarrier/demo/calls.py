"""One call of the demo and what it showed, and the echo calls: both ends compare what they heard, byte for byte.

A caller speaks and an agent echoes it; the number is assigned to another agent, called again, and that agent makes an
outbound call. The spoken conversations are in :mod:`anycarrier.demo.conversation`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from anycarrier import AudioReceived, Call, EndReason, Exchange
from anycarrier.session import MediaSession
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Sandbox

CALLER_NUMBER = "+12125550123"


@dataclass
class DemoCall:
    """One call of the demo. Times are seconds of speech; ``*_intact`` means that what was heard is what was sent.

    The fields from ``transcript`` on are for spoken conversations: the words, the keys pressed, the stereo WAV, how
    often the caller interrupted, the median of each latency in milliseconds, and the engines that spoke and listened.
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
    voice: str = ""
    recognizer: str = ""
    caller_said: list[str] = field(default_factory=list)
    """What the caller said, utterance by utterance."""
    words: int = 0
    """How many words that is."""
    word_errors: int = 0
    """How many of them are wrong, missing or too many in the transcript."""
    judged: bool = True
    """False for the hard case, whose words do not decide whether the call is ok."""
    wrong: list[str] = field(default_factory=list)
    """What was wrong in a spoken conversation."""

    @property
    def ok(self) -> bool:
        """Whether everything that decides was as it should be."""
        ended = self.status == "ended" and self.reason == "user_hangup"
        return self.agent_intact and self.far_end_intact and ended and not self.wrong

    @property
    def word_error_rate(self) -> float | None:
        """Word errors per word said; None if nothing was said to be understood."""
        return self.word_errors / self.words if self.words else None


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


async def echo_calls(
    exchange: Exchange, agents: dict[str, Echo], carrier: str, sandbox: Sandbox, number: str
) -> list[DemoCall]:
    """Make three calls on one carrier: two inbound ones, to two agents, and an outbound one."""
    shown = []
    for agent in agents:
        await exchange.assign(number, agent_id=agent, credential_id=carrier)
        shown.append(await _echoed(exchange, agents, carrier, await sandbox.ring(number, CALLER_NUMBER)))
    call = await exchange.dial(from_=number, to=CALLER_NUMBER)
    shown.append(await _echoed(exchange, agents, carrier, await sandbox.far_end(call.id)))
    return shown


async def _echoed(exchange: Exchange, agents: dict[str, Echo], carrier: str, far_end: FarEnd) -> DemoCall:
    """The far end says its sentence, waits to hear the echo, and hangs up."""
    hello = clip("hello")
    await far_end.wait_for("streaming")
    await far_end.say(hello)
    with contextlib.suppress(TimeoutError):  # the comparison below shows what is missing
        await far_end.wait_heard(len(hello) / 8000)
    await far_end.hang_up()
    call: Call = await exchange.wait_for(far_end.call_id)
    heard = bytes(agents[call.agent_id or ""].heard.get(call.reference, b""))
    return DemoCall(
        **call_facts(carrier, call),
        said=round(len(hello) / 8000, 2),
        agent_heard=round(len(heard) / 8000, 2),
        agent_intact=hello in heard,  # a carrier may fill the pauses around it
        far_end_heard=round(far_end.heard_seconds(), 2),
        far_end_intact=hello in far_end.heard,
    )


def call_facts(carrier: str, call: Call) -> dict[str, Any]:
    """The fields that both kinds of demo call have in common."""
    return {
        "carrier": carrier,
        "direction": str(call.direction),
        "agent": call.agent_id or "-",
        "status": str(call.status),
        "reason": str(call.reason or EndReason.UNKNOWN),
        "seconds": round(call.duration, 2),
    }
