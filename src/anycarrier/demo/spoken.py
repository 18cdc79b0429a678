"""A spoken conversation through a carrier's sandbox: a caller with a voice, an agent with ears, and what each heard.

The caller asks for an appointment, is understood and answered aloud, interrupts the list of times with the one that
suits, keys in a year, and hangs up when it is booked.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from array import array

from anycarrier import CallStatus, EndReason, Exchange
from anycarrier.agent import scripted
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.analysis import FinishedCall
from anycarrier.audio import pcm16_to_pcmu
from anycarrier.demo.echo import SOMEBODY, Shown, clip
from anycarrier.session import MediaSession, Tap
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Sandbox
from anycarrier.wav import read_wav

YEAR = "1984"
ASKED, CHOSE = "i would like to book an appointment", "tomorrow morning please"
BOOKED = f"Thank you. Your appointment is booked for {scripted.TIMES['tomorrow morning']}. Goodbye."


class Witness:
    """Hears along beside the recorder: all the caller's sound, and the agent's up to each cut."""

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


class Desk:
    """The scripted agent, with a witness on each of its calls."""

    def __init__(self) -> None:
        self.witnesses: dict[str, Witness] = {}
        self.finished: dict[str, asyncio.Future[FinishedCall]] = {}

    async def __call__(self, call: AgentCall) -> None:
        session: MediaSession = call.session
        session.tap = self.witnesses[call.id] = Witness(session.tap)
        await scripted.appointments(call)
        await session.wait_stopped()  # the caller hangs up

    async def done(self, finished: FinishedCall) -> None:
        self._future(finished.call.reference).set_result(finished)

    async def wait(self, reference: str) -> FinishedCall:
        return await asyncio.wait_for(self._future(reference), 20)

    def _future(self, reference: str) -> asyncio.Future[FinishedCall]:
        return self.finished.setdefault(reference, asyncio.get_running_loop().create_future())


async def show(exchange: Exchange, desk: Desk, carrier: str, sandbox: Sandbox, number: str) -> Shown:
    """One conversation on one carrier."""
    await exchange.assign(number, agent_id="appointments", credential_id=carrier)
    far_end = await sandbox.ring(number, SOMEBODY)
    with contextlib.suppress(TimeoutError, RuntimeError):  # what is missing is told below
        async with asyncio.timeout(40):
            await _call(far_end)
    await far_end.hang_up()
    call = await exchange.wait_for(far_end.call_id, CallStatus.ENDED, 10)
    finished = await desk.wait(call.reference)
    witness = desk.witnesses[call.reference]
    said = clip("appointment") + clip("tomorrow")
    heard_whole = all(clip(name) in witness.from_caller for name in ("appointment", "tomorrow"))
    played = far_end.heard
    return Shown(
        carrier=carrier,
        direction=str(call.direction),
        agent=call.agent_id or "-",
        status=str(call.status),
        reason=str(call.reason or EndReason.UNKNOWN),
        seconds=round(call.duration, 2),
        said=round(len(said) / 8000, 2),
        agent_heard=round(len(said) / 8000, 2) if heard_whole else 0.0,
        agent_intact=heard_whole,
        far_end_heard=round(len(played) / 8000, 2),
        far_end_intact=_intact(witness, played, far_end.playback.cleared),
        transcript=[{"party": s.party, "text": s.text, "at_ms": s.at_ms} for s in finished.segments],
        digits=_keys(finished),
        recording=str(finished.recording) if finished.recording else None,
        barge_ins=finished.barge_ins,
        latency_ms={kind: round(statistics.median(ms), 1) for kind, ms in finished.latency_ms.items() if ms},
        wrong=_wrong(finished, said, played),
    )


async def _call(far_end: FarEnd) -> None:
    """The caller's part."""
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


def _intact(witness: Witness, played: bytes, cleared: int) -> bool:
    """Whether each sounding byte the agent sent was played, in order, but for what the interruption cut off.

    Silence takes no part: carriers fill up the last 20 ms of an utterance with it. What was cut off is no more than
    what the carrier says it dropped, and those 20 ms.
    """
    if len(witness.to_caller) != 2:
        return False
    before, after = (_sounding(sent) for sent in witness.to_caller)
    heard = _sounding(played)
    whole = len(heard) - len(after)
    dropped = len(before) - whole
    return 0 < dropped <= cleared + 160 and heard == before[:whole] + after


def _wrong(finished: FinishedCall, said: bytes, played: bytes) -> list[str]:
    """What is not as it must be in what the call left behind."""
    found = []
    remote = [s.text for s in finished.segments if s.party == "remote"]
    local = [s.text for s in finished.segments if s.party == "local"]
    if remote != [ASKED, CHOSE]:
        found.append(f"the caller was understood as {remote}")
    if finished.barge_ins != 1:
        found.append(f"{finished.barge_ins} interruptions instead of 1")
    cut = next((text for text in local if scripted.OFFER.startswith(text[:12])), "")
    if not (0 < len(cut.split()) < len(scripted.OFFER.split())) or not scripted.OFFER.startswith(cut):
        found.append("the transcript does not hold just what was heard of the offer")
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
        recorded, sounded = len(_sounding(_channel(audio, side))), len(_sounding(sent))
        if abs(recorded - sounded) > 0.02 * sounded:
            found.append(f"the recording holds {recorded} of the {sounded} sounding samples of the {name}")
    return found


def _keys(finished: FinishedCall) -> str:
    """The keys the agent was told of, in their order."""
    return "".join(str(facts["digit"]) for kind, facts in finished.notes if kind == "digit")


def _sounding(mulaw: bytes | bytearray) -> bytes:
    """What is not silent of it."""
    return bytes(mulaw.translate(None, b"\xff\x7f"))


def _channel(audio: bytes, side: int) -> bytes:
    samples = array("h", audio)
    return pcm16_to_pcmu(samples[side::2].tobytes())
