"""The demo's spoken conversations: a caller books an appointment, and what the agent understood is compared.

The caller asks for an appointment, interrupts the list of times to choose one, says why (with a stop in the middle of
the sentence), keys in a year, and hangs up once it is booked.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from array import array
from dataclasses import dataclass, field

from anycarrier import Exchange
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.analysis import FinishedCall
from anycarrier.audio import pcm16_to_pcmu
from anycarrier.demo.appointment import OFFER, book_appointment, booked, chosen_time
from anycarrier.demo.callers import Caller, Speech, spoken
from anycarrier.demo.calls import CALLER_NUMBER, DemoCall, call_facts
from anycarrier.session import MediaSession
from anycarrier.speech import SpeechEngine
from anycarrier.tap import Tap
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Sandbox
from anycarrier.testing.word_errors import normalized, word_errors
from anycarrier.wav import read_wav

YEAR = "1984"

HESITATION = 0.8
"""Seconds a caller stops in the middle of a sentence: longer than the silence that ends a whole sentence."""

LATENCY = 400
"""Bytes, 50 ms: what is played is heard that much later where the call is not buffered at the carrier."""

MOST_ERRORS = 0.10
"""Share of a conversation's words that may be wrong, missing or too many."""


class AudioCapture:
    """Captures the audio of a call beside the recorder: the caller's, and the agent's up to each cut."""

    def __init__(self, recorder: Tap | None) -> None:
        self._recorder = recorder
        self.from_caller = bytearray()
        self.to_caller = [bytearray()]
        self.cut_off = 0
        """Bytes that were not played when they were cut, by the clock."""
        self._clock = asyncio.get_running_loop().time
        self._played_at = 0.0

    def caller(self, payload: bytes) -> None:
        self.from_caller += payload
        if self._recorder is not None:
            self._recorder.caller(payload)

    def agent(self, payload: bytes, starts_in: float) -> None:
        self.to_caller[-1] += payload
        self._played_at = self._clock() + starts_in + len(payload) / 8000
        if self._recorder is not None:
            self._recorder.agent(payload, starts_in)

    def cut(self) -> None:
        self.cut_off += max(0, round((self._played_at - self._clock()) * 8000))
        self._played_at = 0.0
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
        """For ``Agents(finished=)``."""
        self._future(finished.call.reference).set_result(finished)

    async def wait(self, reference: str) -> FinishedCall:
        """The call with that reference, once it is over."""
        async with asyncio.timeout(60):
            return await self._future(reference)

    def _future(self, reference: str) -> asyncio.Future[FinishedCall]:
        return self.finished.setdefault(reference, asyncio.get_running_loop().create_future())


# --- the call --------------------------------------------------------------------------------------------------------


@dataclass
class Conversation:
    """One conversation on one carrier. ``voice`` is the caller's engine, None for the recorded sentences."""

    exchange: Exchange
    agent: AppointmentAgent
    speech: Speech
    caller: Caller
    voice: SpeechEngine | None
    judged: bool = True
    said: list[bytes] = field(default_factory=list)
    """The caller's sound, piece by piece."""

    async def on(self, carrier: str, sandbox: Sandbox, number: str) -> DemoCall:
        """Hold it, and compare what was heard at each end and what was understood."""
        await self.exchange.assign(number, agent_id="appointments", credential_id=carrier)
        sound = {parts: await spoken(self.voice, parts) for parts in (self.caller.request, self.caller.choice)}
        sound[self.caller.reason] = await spoken(self.voice, self.caller.reason)
        far_end = await sandbox.ring(number, CALLER_NUMBER)
        with contextlib.suppress(TimeoutError, RuntimeError):  # what is missing is reported below
            async with asyncio.timeout(120):
                await self._call(far_end, sound)
        await far_end.hang_up()
        call = await self.exchange.wait_for(far_end.call_id)
        finished = await self.agent.wait(call.reference)
        capture = self.agent.captures[call.reference]
        whole = bool(self.said) and all(piece in capture.from_caller for piece in self.said)
        seconds = round(sum(map(len, self.said)) / 8000, 2)
        said, heard = " ".join(self.caller.utterances), " ".join(texts(finished, "remote"))
        played = far_end.heard
        return DemoCall(
            **call_facts(carrier, call),
            said=seconds,
            agent_heard=seconds if whole else 0.0,
            agent_intact=whole,
            far_end_heard=round(len(played) / 8000, 2),
            # A carrier without a buffer of its own drops nothing: what is cut is never sent to it.
            far_end_intact=intact(capture.to_caller, played, far_end.playback.cleared or capture.cut_off + LATENCY),
            transcript=[{"party": s.party, "text": s.text, "at_ms": s.at_ms} for s in finished.segments],
            digits=_keys(finished),
            recording=str(finished.recording) if finished.recording else None,
            barge_ins=finished.barge_ins,
            latency_ms={kind: round(statistics.median(ms), 1) for kind, ms in finished.latency_ms.items() if ms},
            voice=self.voice.name if self.voice is not None else "",
            recognizer=self.speech.recognizer,
            caller_said=self.caller.utterances,
            words=len(normalized(said)),
            word_errors=word_errors(said, heard),
            judged=self.judged,
            wrong=[
                *(misunderstood(self.caller, finished) if self.judged else []),
                *self._misrecorded(finished, played),
            ],
        )

    async def _call(self, far_end: FarEnd, sound: dict[tuple[str, ...], list[bytes]]) -> None:
        """The caller's side."""
        await far_end.wait_for("streaming")
        await listen(far_end, 2.0)
        await asyncio.sleep(0.3)
        greeting = far_end.heard_seconds()
        await self._say(far_end, sound[self.caller.request])
        await far_end.wait_heard(greeting + 4.0)  # in the middle of the list
        await self._say(far_end, sound[self.caller.choice])
        await listen(far_end, 2.0)
        if self.caller.reason:
            await self._say(far_end, sound[self.caller.reason])
            await listen(far_end, 2.0)
        await far_end.press(YEAR + "#")
        await listen(far_end, 2.0)

    async def _say(self, far_end: FarEnd, pieces: list[bytes]) -> None:
        """One utterance, with a hesitation between its pieces."""
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(HESITATION)
            self.said.append(piece)
            await far_end.say(piece)

    def _misrecorded(self, finished: FinishedCall, played: bytes) -> list[str]:
        """What is wrong with the recording: its length, or how much sounds on a side."""
        if finished.recording is None:
            return ["there is no recording"]
        found = []
        format, audio = read_wav(finished.recording)
        if format.channels != 2 or abs(format.seconds(len(audio)) - finished.seconds) > 1.0:
            found.append(f"the recording holds {format.seconds(len(audio)):.1f} s of {finished.seconds:.1f} s")
        for side, name, sent in ((0, "caller", b"".join(self.said)), (1, "agent", played)):
            recorded, sounded = len(_audible(_channel(audio, side))), len(_audible(sent))
            if abs(recorded - sounded) > 0.02 * sounded:
                found.append(f"the recording holds {recorded} of the {sounded} sounding samples of the {name}")
        return found


async def listen(far_end: FarEnd, least: float, patience: float = 15) -> None:
    """Wait until the agent has said something more, ``least`` seconds of it, and has finished.

    ``TimeoutError`` when that much has not been heard after ``patience`` seconds.
    """
    await far_end.wait_heard(far_end.heard_seconds() + least, patience)
    before = -1.0
    while far_end.heard_seconds() != before:  # a sentence may follow
        await far_end.playback.drained()
        before = far_end.heard_seconds()
        await asyncio.sleep(0.3)


# --- what is compared ------------------------------------------------------------------------------------------------


def texts(finished: FinishedCall, party: str) -> list[str]:
    """What a party said, by the transcript."""
    return [segment.text for segment in finished.segments if segment.party == party]


def intact(sent: list[bytearray], played: bytes, cleared: int) -> bool:
    """Whether every audible byte the agent sent was played, in order, except what interruptions cut off.

    ``sent`` is the agent's audio up to each cut and after the last. Silence is ignored: carriers pad the last 20 ms of
    an utterance with it. At most what the carrier says it dropped, and those 20 ms for each cut, may be missing.
    """
    *cut, last = map(_audible, sent)
    heard = _audible(played)
    if not heard.endswith(last):
        return False
    ends = {0}  # where in ``heard`` the parts so far may end
    for part in cut:
        ends = {end + length for end in ends for length in range(_common(part, heard, end) + 1)}
    whole = len(heard) - len(last)
    dropped = sum(map(len, cut)) - whole
    return whole in ends and (dropped > 0 if cut else dropped == 0) and dropped <= cleared + 160 * len(cut)


def _common(part: bytes, heard: bytes, start: int) -> int:
    """How many bytes of ``part`` follow in ``heard`` from ``start``."""
    length = min(len(part), len(heard) - start)
    return next((n for n in range(length) if part[n] != heard[start + n]), length)


def misunderstood(caller: Caller, finished: FinishedCall) -> list[str]:
    """What is wrong with the words, the interruption and the keys of the call."""
    found = []
    remote, local = texts(finished, "remote"), texts(finished, "local")
    said = caller.utterances
    wrong, words = word_errors(" ".join(said), " ".join(remote)), len(normalized(" ".join(said)))
    if wrong > MOST_ERRORS * words:
        found.append(f"{wrong} of {words} words: the caller was understood as {remote}")
    if len(remote) != len(said):
        found.append(f"{len(said)} utterances are {len(remote)} in the transcript: {remote}")
    if finished.barge_ins != 1:
        found.append(f"{finished.barge_ins} interruptions instead of 1")
    cut = next((text for text in local if OFFER.startswith(text[:12])), "")
    if not (0 < len(cut.split()) < len(OFFER.split())) or not OFFER.startswith(cut):
        found.append("the transcript does not contain exactly the part of the offer that was heard")
    if local[-1:] != [booked(chosen_time(said[1]) or "")]:
        found.append("the appointment was not booked")
    if _keys(finished) != YEAR + "#":
        found.append("the keys are not those pressed")
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
