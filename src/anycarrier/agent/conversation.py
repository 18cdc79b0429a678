"""A conversation: one media session with recognition, synthesis, turn-taking and a transcript, for any kind of agent.

It ends once, for one reason: the agent returned, one of the agent's settings ends it, or the stream is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from anycarrier.agent.agent_turn import AgentTurn, Said
from anycarrier.agent.engine_choice import missing
from anycarrier.agent.recognition import Recognition
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.shared_engines import Engines
from anycarrier.agent.speaker import Speaker
from anycarrier.agent.synthesis import Synthesis
from anycarrier.agent.transcript import Transcript
from anycarrier.agent.turn_taking import Timings, TurnTaking, end_of_turn_rule
from anycarrier.agent.voicemail import Voicemail
from anycarrier.calls import EndReason
from anycarrier.errors import AnycarrierError, StreamNotOpen
from anycarrier.events import (
    AudioReceived,
    CallEvent,
    DigitPressed,
    HoldChanged,
    MachineDetected,
    MarkReached,
    MediaEvent,
    StreamError,
)
from anycarrier.session import MediaSession
from anycarrier.speech import (
    BargeIn,
    BeginUtterance,
    DropTurn,
    EmitFinal,
    EmitInterim,
    FinishUtterance,
    Output,
    PauseUtterance,
    ResumeUtterance,
    SilenceTimeout,
    StopSpeaking,
    TurnSettings,
    interruption_seconds,
)

log = logging.getLogger("anycarrier")

KEEPING = 3.0
"""Seconds to wait for the transcript to store the last words before the agent is notified that the call is over."""


@dataclass(frozen=True, slots=True)
class CallerTurn:
    """One thing the caller said. ``began`` and ``ended`` are seconds from the start of the call's audio.

    ``interrupted``: it interrupted the agent.
    """

    text: str
    turn_id: str
    began: float
    ended: float
    interrupted: bool = False


class AgentChannel:
    """The events a conversation reports to the agent, in order. Override what you need; no method may wait for it.

    A Python function (:class:`AgentCall`) and a WebSocket (:class:`Bridge`) each have a channel.
    """

    leaving: float = 0.0
    """Seconds the agent has to return by itself once the call is over."""

    async def interim(self, turn_id: str, text: str) -> None:
        """The caller's words so far."""

    async def final(self, turn: CallerTurn) -> None:
        """What the caller said, once for each utterance."""

    async def interrupted(self, barge_in: BargeIn) -> None:
        """The caller interrupted the agent; called before the transcript that caused it."""

    async def digit(self, digit: str) -> None:
        """The caller pressed a key."""

    async def mark(self, name: str) -> None:
        """Playback reached a mark."""

    async def audio(self, payload: bytes) -> None:
        """Audio from the caller."""

    async def over(self, reason: EndReason) -> None:
        """The call has ended and its transcript is stored. Called once, last."""


class Conversation:
    """``speaks``: we speak the agent's text, and stop it when interrupted. ``listens``: we transcribe the caller.

    Without ``listens`` only the agent hears the caller; a silence limit then needs a voice detector, or is ignored.
    ``events`` are the session's, where somebody else iterates it; by default the conversation does.
    """

    def __init__(
        self,
        session: MediaSession,
        settings: AgentSettings,
        channel: AgentChannel,
        *,
        engines: Engines,
        transcript: Transcript,
        speaks: bool = True,
        listens: bool = True,
        variables: dict[str, Any] | None = None,
        timings: Timings | None = None,
        began: float | None = None,
        events: AsyncIterable[MediaEvent | CallEvent] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session
        self.settings = settings
        self.channel = channel
        self.transcript = transcript
        self.variables = variables or {}
        self.speaks = speaks
        self.listens = listens
        self._events = session if events is None else events
        self.reason: EndReason | None = None
        """Why we ended the call; None while we have not."""
        self.held = False
        """True while the far end has put us on hold."""
        self._clock = clock
        self._began = clock() if began is None else began
        self._ended: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        s = settings
        # Admission has rejected calls that need a missing engine; this one continues without it.
        self._engines = engines
        self._voices: dict[tuple[str, str | None], Synthesis] = {}
        self._lacks = {
            ability: why
            for ability, needed in (("speak", True), ("listen", listens))
            if needed and (why := engines.lacks(s, [ability])) is not None
        }
        hears = listens and "listen" not in self._lacks
        recognizers = engines.candidates("listen", s) if hears else []
        detectors = engines.candidates("detect", s) if listens or s.silence_timeout_seconds else []
        turn_settings = TurnSettings(
            interruption=interruption_seconds(s.interruption_sensitivity) if listens else None,
            silence_timeout=s.silence_timeout_seconds if recognizers or detectors else None,
            trust_words=not detectors,
        )
        self.turn_taking = TurnTaking(turn_settings, self._act, end_of_turn=end_of_turn_rule(s), clock=clock)
        mute = self._lacks.get("speak")
        voice_engines = engines.candidates("speak", s) if mute is None else []
        self.synthesis = Synthesis(voice_engines, s, self.note, format=session.format, lacks=mute)
        self.recognition = Recognition(self.turn_taking, s, recognizers, detectors, self.note, format=session.format)
        self.hears_words = bool(recognizers)
        self.timings = timings or Timings()
        self.speaker = Speaker(session, self.synthesis, self.turn_taking, self._was_said, self.timings)
        self.voicemail = Voicemail(self)
        self._interrupted: set[str] = set()
        self._draining: asyncio.Future[None] | None = None

    # --- for the agent channels --------------------------------------------------------------------------------------

    def now_ms(self, at: float | None = None) -> int:
        """Milliseconds from the start of the call's audio to ``at`` (the clock's time, default now)."""
        return max(0, round(((self._clock() if at is None else at) - self._began) * 1000))

    def note(self, kind: str, **facts: Any) -> None:
        """Add an event to the transcript, with its time."""
        self.transcript.note(kind, at_ms=self.now_ms(), **facts)

    def said(self, party: str, text: str, at_ms: int | None = None) -> None:
        """Add what a party said to the transcript, and end the call if it contains an ``end_call_phrases`` phrase."""
        if not text:
            return
        self.transcript.said(party, text, self.now_ms() if at_ms is None else at_ms)
        if (reason := self.settings.ends_call(text)) is None:
            return
        if party == "local":
            self.end_when_heard(reason)
        else:
            self.end(reason)

    def end_when_heard(self, reason: EndReason) -> None:
        """Hang up once the carrier has played everything sent; our own clock is ahead of what the caller hears."""
        self._draining = self._draining or asyncio.ensure_future(self._drained(reason))

    async def _drained(self, reason: EndReason) -> None:
        with contextlib.suppress(StreamNotOpen):
            await self.session.drain()
        self.end(reason)

    def end(self, reason: EndReason) -> None:
        """Hang up for this reason; the first reason counts. Nothing new is said from now on."""
        if not self._ended.done():
            self.speaker.muted = True
            self._ended.set_result(reason)

    # --- languages ---------------------------------------------------------------------------------------------------

    def synthesis_in(self, language: str, voice: str | None = None) -> Synthesis:
        """The synthesis of a language and a voice, for ``speaker.begin(synthesis=...)``; closed with the conversation.

        Raises ``ConfigurationError`` if no installed engine speaks the language. An unknown voice is replaced.
        """
        s = self.settings
        if (language, voice) == (s.language, s.voice):
            return self.synthesis
        if (language, voice) not in self._voices:
            settings = s.model_copy(update={"language": language, "voice": voice})
            engines = self._engines.candidates("speak", settings)
            made = Synthesis(engines, settings, self.note, format=self.session.format, lacks=self._lacks.get("speak"))
            self._voices[language, voice] = made
        return self._voices[language, voice]

    async def listen_in(self, language: str) -> None:
        """Recognize the caller in another language from now on, also what the caller is just saying.

        Raises ``ConfigurationError`` if no installed engine knows the language; then nothing has changed.
        """
        settings = self.settings.model_copy(update={"language": language})
        recognizers = self._engines.candidates("listen", settings)
        if not recognizers:
            raise missing("listen")
        await self.recognition.change(recognizers, language)

    # --- the call ----------------------------------------------------------------------------------------------------

    async def run(self, talk: Callable[[], Awaitable[None]]) -> EndReason:
        """Run the conversation until it is over; ``talk`` is the agent's side and hangs up by returning.

        Returns why it ended. What ``talk`` raises reaches the exchange, which hangs up with ``AGENT_ERROR``.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            if self.listens and not self.hears_words:
                self.note("no_recognition", why=self._lacks.get("listen"))
            await asyncio.gather(self.synthesis.open(), self.recognition.open())
            pump = asyncio.create_task(self._pump(), name="session events")
            talking = asyncio.create_task(_awaited(talk), name="agent")
            tasks += [pump, talking]
            tasks += [asyncio.create_task(work) for work in (self.turn_taking.run(), self.speaker.run(), self._limit())]
            if self.recognition.exist:
                tasks.append(asyncio.create_task(self.recognition.run()))
            await self._until_over(pump, talking, tasks)
        finally:
            await self._close(tasks)
        return self.ending

    @property
    def ending(self) -> EndReason:
        """Why the call ended or is ending: our own reason, else the reason known from the call."""
        call = self.session.call
        return self.reason or call.expected_reason or EndReason.USER_HANGUP

    async def _until_over(
        self, pump: asyncio.Task[None], talking: asyncio.Task[None], tasks: list[asyncio.Task[None]]
    ) -> None:
        waiting: set[asyncio.Future[Any]] = {*tasks, self._ended}
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {pump, talking, self._ended}:
                if not task.cancelled():
                    task.result()  # these end only by failing
            if talking in done and not (pump.done() and isinstance(talking.exception(), StreamNotOpen)):
                talking.result()
                if not (pump.done() or self._ended.done()):
                    tasks.append(leaving := asyncio.create_task(self._leave()))
                    waiting.add(leaving)
            if self._ended in done and not pump.done():
                await self._hang_up(self._ended.result())
                return
            if pump in done:
                pump.result()
                await asyncio.wait({talking}, timeout=self.channel.leaving)
                return

    async def _leave(self) -> None:
        """The agent has returned: finish playing its queued speech, then end the call."""
        await self.speaker.idle()
        await self._drained(EndReason.AGENT_HANGUP)

    async def _hang_up(self, reason: EndReason) -> None:
        self.reason = reason
        try:
            await self.session.hang_up(reason)
        except AnycarrierError as problem:
            log.error("could not hang up a call on %s: %s", self.session.call.provider, problem)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self.session.wait_stopped()

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        if self._draining is not None:
            self._draining.cancel()
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, StreamNotOpen):
                log.debug("a part of a conversation ended with %r", outcome)
        if not self._ended.done():
            self._ended.cancel()
        self.speaker.close()
        await self.turn_taking.close()
        try:
            async with asyncio.timeout(KEEPING):
                await self.transcript.flush()
        except TimeoutError:
            log.error("the transcript of a call is not stored yet, after %g s", KEEPING)
        await self.channel.over(self.ending)
        voices = [self.synthesis, *self._voices.values()]
        await asyncio.gather(self.recognition.aclose(), *(v.aclose() for v in voices), return_exceptions=True)

    # --- from the session --------------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        async for event in self._events:
            match event:
                case AudioReceived(payload):
                    if not self.held:  # else it is music
                        self.recognition.feed(payload)
                    await self.channel.audio(payload)
                case DigitPressed(digit):
                    self.note("digit", digit=digit)
                    self.turn_taking.follow(self.turn_taking.turns.digit(self._clock()))
                    await self.channel.digit(digit)
                case HoldChanged(held):
                    self.held = held
                    self.note("hold" if held else "resumed")
                    self.turn_taking.follow(self.turn_taking.turns.hold(self._clock(), held))
                case MarkReached(name):
                    await self.channel.mark(name)
                case MachineDetected():
                    self.voicemail.detected(event)
                case StreamError(code, detail):
                    self.note("stream_error", code=code, detail=detail)
                case _:
                    pass  # among others MarkDropped: whoever clears in the protocol knows which marks have not come

    async def _limit(self) -> None:
        limit = self.settings.max_duration_seconds
        await asyncio.sleep(max(0.0, self._began + limit - self._clock()))
        self.end(EndReason.MAX_DURATION)
        await asyncio.get_running_loop().create_future()

    # --- from turn-taking --------------------------------------------------------------------------------------------

    async def _act(self, output: Output) -> None:
        match output:
            case BeginUtterance() | PauseUtterance() | ResumeUtterance() | FinishUtterance():
                self.recognition.act(output)
            case StopSpeaking():
                if self.speaks:
                    await self.speaker.interrupt()
            case DropTurn(agent_turn_id):
                self.speaker.drop(agent_turn_id)
            case SilenceTimeout(seconds):
                self.note("silence", seconds=round(seconds, 1))
                self.end(EndReason.SILENCE_TIMEOUT)
            case BargeIn():
                self._interrupted.add(output.turn_id)
                self.note("barge_in", turn_id=output.turn_id, trigger=output.trigger)
                await self.channel.interrupted(output)
            case EmitInterim(turn_id, text) if self.hears_words and not self.voicemail.machine:
                await self.channel.interim(turn_id, text)
            case EmitFinal() if self.hears_words:
                await self._caller_said(output)
            case _:
                pass

    async def _caller_said(self, final: EmitFinal) -> None:
        turn = CallerTurn(
            final.text,
            final.turn_id,
            round(final.began - self._began, 3),
            round(final.ended - self._began, 3),
            final.turn_id in self._interrupted,
        )
        self._interrupted.discard(final.turn_id)
        if final.text:
            self.timings.final(final.ended, self._clock())
        self.said("remote", final.text, self.now_ms(final.began))
        if not self.voicemail.machine:
            await self.channel.final(turn)

    def _was_said(self, turn: AgentTurn, said: Said) -> None:
        self.said("local", said.text, self.now_ms(turn.began))


async def _awaited(talk: Callable[[], Awaitable[None]]) -> None:
    await talk()
