"""The demo's calls: an echo that both ends compare byte for byte, and a spoken appointment, booked by a script.

Echo: a caller speaks and an agent echoes it; the number is assigned to another agent, called again, and that agent
makes an outbound call. Appointment: the caller asks for an appointment, is understood and answered, interrupts the list
of times to choose one, keys in a year, and hangs up once it is booked.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from array import array
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from anycarrier import AudioReceived, Call, CallStatus, EndReason, Exchange
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.analysis import FinishedCall
from anycarrier.audio import pcm16_to_pcmu
from anycarrier.audio_output import Tap
from anycarrier.session import MediaSession
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Sandbox
from anycarrier.wav import read_wav

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


async def echo_calls(
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
        **_facts(carrier, call),
        said=round(len(hello) / 8000, 2),
        agent_heard=round(len(heard) / 8000, 2),
        agent_intact=hello == heard,
        far_end_heard=round(far_end.heard_seconds(), 2),
        far_end_intact=hello == far_end.heard,
    )


def _facts(carrier: str, call: Call) -> dict[str, Any]:
    """The fields that both kinds of demo call have in common."""
    return {
        "carrier": carrier,
        "direction": str(call.direction),
        "agent": call.agent_id or "-",
        "status": str(call.status),
        "reason": str(call.reason or EndReason.UNKNOWN),
        "seconds": round(call.duration, 2),
    }


GREETING = "Good morning, this is the practice of {{doctor}}. How can I help you?"

OFFER = (
    "Certainly. We have several times this week. There is tomorrow morning at nine, "
    "or Wednesday afternoon at three, or Friday at half past eleven, or, if none of these suits you, "
    "any morning of next week. Which one would you like?"
)

GRAMMAR = """#JSGF V1.0;
grammar appointments;
public <said> = <wish> | <time> [please] | yes please | no thank you | goodbye;
<wish> = i would like to (book | change | cancel) an appointment;
<time> = tomorrow morning | wednesday afternoon | friday | next week;
"""

TIMES = {
    "tomorrow morning": "tomorrow morning at nine",
    "wednesday afternoon": "Wednesday afternoon at three",
    "friday": "Friday at half past eleven",
    "next week": "Monday of next week at nine",
}

SETTINGS = {
    "first_message": GREETING,
    "grammar": GRAMMAR,
    "dynamic_variables": {"doctor": "doctor Brown"},
    "silence_timeout_seconds": 20,
}
"""For ``agents.add("desk", handler="anycarrier.demo.calls:book_appointment", settings=SETTINGS)``."""


async def book_appointment(call: AgentCall) -> None:
    """Talk until the caller has an appointment, or gives up. ``call.variables`` then holds ``time`` and ``keys``."""
    async for turn in call.turns():
        if "goodbye" in turn.text or "no thank you" in turn.text:
            await call.say("Goodbye.")
            return
        chosen = next((time for words, time in TIMES.items() if words in turn.text), None)
        if chosen is None:
            await call.say(OFFER if "appointment" in turn.text else "I am sorry, I did not understand. " + OFFER)
            continue
        await call.say(f"{chosen}. Please key in your year of birth, and then the pound key.")
        keys = await call.gather(8, timeout=8)
        if len(keys) != 4:
            await call.say("That was not a year. Which time would you like?")
            continue
        call.variables.update(time=chosen, keys=keys)
        await call.say(f"Thank you. Your appointment is booked for {chosen}. Goodbye.")
        return


YEAR = "1984"
ASKED, CHOSE = "i would like to book an appointment", "tomorrow morning please"
BOOKED = f"Thank you. Your appointment is booked for {TIMES['tomorrow morning']}. Goodbye."


class AudioCapture:
    """Captures the audio of a call beside the recorder: the caller's, and the agent's up to each cut."""

    def __init__(self, recorder: Tap | None) -> None:
        self._recorder = recorder
        self.from_caller = bytearray()
        self.to_caller = [bytearray()]

    def caller(self, payload: bytes) -> None:
        self.from_caller += payload
        if self._recorder is not None:
            self._recorder.caller(payload)

    def agent(self, payload: bytes, starts_in: float) -> None:
        self.to_caller[-1] += payload
        if self._recorder is not None:
            self._recorder.agent(payload, starts_in)

    def cut(self) -> None:
        self.to_caller.append(bytearray())
        if self._recorder is not None:
            self._recorder.cut()


class AppointmentAgent:
    """The scripted agent; captures the audio of each of its calls."""

    def __init__(self) -> None:
        self.captures: dict[str, AudioCapture] = {}
        self.finished: dict[str, asyncio.Future[FinishedCall]] = {}

    async def __call__(self, call: AgentCall) -> None:
        session: MediaSession = call.session
        session.tap = self.captures[call.id] = AudioCapture(session.tap)
        await book_appointment(call)
        await session.wait_stopped()  # the caller hangs up

    async def done(self, finished: FinishedCall) -> None:
        self._future(finished.call.reference).set_result(finished)

    async def wait(self, reference: str) -> FinishedCall:
        return await asyncio.wait_for(self._future(reference), 20)

    def _future(self, reference: str) -> asyncio.Future[FinishedCall]:
        return self.finished.setdefault(reference, asyncio.get_running_loop().create_future())


async def appointment_call(
    exchange: Exchange, agent: AppointmentAgent, carrier: str, sandbox: Sandbox, number: str
) -> DemoCall:
    """One conversation on one carrier."""
    await exchange.assign(number, agent_id="appointments", credential_id=carrier)
    far_end = await sandbox.ring(number, CALLER_NUMBER)
    with contextlib.suppress(TimeoutError, RuntimeError):  # what is missing is reported below
        async with asyncio.timeout(40):
            await _call(far_end)
    await far_end.hang_up()
    call = await exchange.wait_for(far_end.call_id, CallStatus.ENDED, 10)
    finished = await agent.wait(call.reference)
    capture = agent.captures[call.reference]
    said = clip("appointment") + clip("tomorrow")
    heard_whole = all(clip(name) in capture.from_caller for name in ("appointment", "tomorrow"))
    played = far_end.heard
    return DemoCall(
        **_facts(carrier, call),
        said=round(len(said) / 8000, 2),
        agent_heard=round(len(said) / 8000, 2) if heard_whole else 0.0,
        agent_intact=heard_whole,
        far_end_heard=round(len(played) / 8000, 2),
        far_end_intact=_intact(capture, played, far_end.playback.cleared),
        transcript=[{"party": s.party, "text": s.text, "at_ms": s.at_ms} for s in finished.segments],
        digits=_keys(finished),
        recording=str(finished.recording) if finished.recording else None,
        barge_ins=finished.barge_ins,
        latency_ms={kind: round(statistics.median(ms), 1) for kind, ms in finished.latency_ms.items() if ms},
        wrong=_wrong(finished, said, played),
    )


async def _call(far_end: FarEnd) -> None:
    """The caller's side of the appointment call."""
    await far_end.wait_for("streaming", 10)
    await far_end.wait_heard(2.0, 10)
    await far_end.playback.drained()
    await asyncio.sleep(0.3)
    greeting = far_end.heard_seconds()
    await far_end.say(clip("appointment"))
    await far_end.wait_heard(greeting + 4.0, 10)  # in the middle of the list
    await far_end.say(clip("tomorrow"))
    offered = far_end.heard_seconds()
    await far_end.wait_heard(offered + 3.0, 10)
    await far_end.playback.drained()
    await far_end.press(YEAR + "#")
    asked = far_end.heard_seconds()
    await far_end.wait_heard(asked + 2.0, 10)
    await far_end.playback.drained()
    await asyncio.sleep(0.2)


def _intact(capture: AudioCapture, played: bytes, cleared: int) -> bool:
    """Whether every audible byte the agent sent was played, in order, except what the interruption cut off.

    Silence is ignored: carriers pad the last 20 ms of an utterance with it. At most what the carrier says it dropped,
    and those 20 ms, may be missing.
    """
    if len(capture.to_caller) != 2:
        return False
    before, after = (_audible(sent) for sent in capture.to_caller)
    heard = _audible(played)
    whole = len(heard) - len(after)
    dropped = len(before) - whole
    return 0 < dropped <= cleared + 160 and heard == before[:whole] + after


def _wrong(finished: FinishedCall, said: bytes, played: bytes) -> list[str]:
    """What is wrong with the transcript, keys and recording of the call."""
    found = []
    remote = [s.text for s in finished.segments if s.party == "remote"]
    local = [s.text for s in finished.segments if s.party == "local"]
    if remote != [ASKED, CHOSE]:
        found.append(f"the caller was understood as {remote}")
    if finished.barge_ins != 1:
        found.append(f"{finished.barge_ins} interruptions instead of 1")
    cut = next((text for text in local if OFFER.startswith(text[:12])), "")
    if not (0 < len(cut.split()) < len(OFFER.split())) or not OFFER.startswith(cut):
        found.append("the transcript does not contain exactly the part of the offer that was heard")
    if local[-1:] != [BOOKED]:
        found.append("the appointment was not booked")
    if _keys(finished) != YEAR + "#":
        found.append("the keys are not those pressed")
    if finished.recording is None:
        return [*found, "there is no recording"]
    format, audio = read_wav(finished.recording)
    if format.channels != 2 or abs(format.seconds(len(audio)) - finished.seconds) > 1.0:
        found.append(f"the recording holds {format.seconds(len(audio)):.1f} s of {finished.seconds:.1f} s")
    for side, name, sent in ((0, "caller", said), (1, "agent", played)):
        recorded, sounded = len(_audible(_channel(audio, side))), len(_audible(sent))
        if abs(recorded - sounded) > 0.02 * sounded:
            found.append(f"the recording holds {recorded} of the {sounded} sounding samples of the {name}")
    return found


def _keys(finished: FinishedCall) -> str:
    """The keys the agent received, in order."""
    return "".join(str(facts["digit"]) for kind, facts in finished.notes if kind == "digit")


def _audible(mulaw: bytes | bytearray) -> bytes:
    """The audio without its silence."""
    return bytes(mulaw.translate(None, b"\xff\x7f"))


def _channel(audio: bytes, side: int) -> bytes:
    samples = array("h", audio)
    return pcm16_to_pcmu(samples[side::2].tobytes())
