"""Handles a call of an agent from the start of its audio: conversation, recording, then analysis.

It does so for every kind of agent: a WebSocket, a Python function, or raw audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, TypeVar

from anycarrier.agent.admission import Admission, Directory
from anycarrier.agent.agent import Agent
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.agent_socket import AgentSocket
from anycarrier.agent.analysis import Analyzer, Finished, FinishedCall, analyze_call
from anycarrier.agent.bridge import Bridge
from anycarrier.agent.budget import Budgets
from anycarrier.agent.concurrent_work import first_done
from anycarrier.agent.conversation import AgentChannel, Conversation
from anycarrier.agent.recording import Recorder
from anycarrier.agent.settings import fill
from anycarrier.agent.shared_engines import Engines
from anycarrier.agent.synthesis import Synthesis
from anycarrier.agent.transcript import TranscriptCopy
from anycarrier.agent.turn_taking import Timings
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.calls import Direction, EndReason
from anycarrier.errors import AgentUnreachable, AnycarrierError, ConfigurationError
from anycarrier.events import RoutingFailure
from anycarrier.session import MediaSession

if TYPE_CHECKING:
    from anycarrier.switchboard import Switchboard

log = logging.getLogger("anycarrier")

SETTLING = 15.0
"""Seconds to wait for the carrier to report the end of the call before analyzing it without that."""

T = TypeVar("T")


class CallHandler:
    """Handles the calls of one :class:`anycarrier.agent.Agents`.

    ``analyzers`` analyze each call once it is over, then ``finished`` is called. ``switchboard`` is set once an
    exchange has started. ``budgets`` are shared by the calls of a workspace.
    """

    def __init__(
        self,
        directory: Directory,
        admission: Admission,
        *,
        analyzers: Sequence[Analyzer] | None = None,
        finished: Finished | None = None,
    ) -> None:
        self.directory = directory
        self.admission = admission
        self.analyzers = analyzers
        self.finished = finished
        self.budgets = Budgets()
        self.switchboard: Switchboard | None = None

    async def handle(self, agent_id: str, session: MediaSession) -> None:
        """Handle one call. Raises what fails at its agent; the exchange then hangs up."""
        if session.format != PCMU_8K:
            raise ConfigurationError("agents use mu-law 8 kHz: give the exchange audio=PCMU_8K, which is its default")
        await _HandledCall(self, agent_id, session).run()


class _HandledCall:
    def __init__(self, handler: CallHandler, agent_id: str, session: MediaSession) -> None:
        self.handler = handler
        self.session = session
        self.agent_id = agent_id
        self.began = time.monotonic()
        self.timings = Timings()
        self.reason: EndReason | None = None
        self.nothing_recorded = False
        self.recorder: Recorder | None = None

    async def run(self) -> None:
        reference = self.session.call.reference
        agent = await self.handler.directory.find_for(reference, self.agent_id)
        setup = await self.handler.directory.setup_for(self.session.call, agent)
        self.settings = setup.settings(agent)
        self.transcript = TranscriptCopy(setup.transcript)
        self.setup = setup
        self.budget = self.handler.budgets.of_call(setup.workspace)
        try:
            async with self._recording():
                await self._talk(agent)
        finally:
            self.handler.directory.forget(reference)
            work = self._finish()
            if self.handler.switchboard is not None:
                self.handler.switchboard.spawn(work, "finish a call")
            else:
                # In a task of its own: a failure there is unrelated to why the conversation ended.
                await asyncio.ensure_future(work)

    async def _talk(self, agent: Agent) -> None:
        admission, call = self.handler.admission, self.session.call
        try:
            accepted = admission.pending.take(call.reference)
            accepted = accepted or await self._unless_over(admission.accept(call, agent.id))
        except AgentUnreachable as failure:
            inbound = call.direction is Direction.INBOUND
            if not (inbound and self.settings.voicemail_message) or self._engines.lacks(self.settings, ["speak"]):
                raise
            if (board := self.handler.switchboard) is not None:
                unreachable = RoutingFailure.AGENT_UNREACHABLE
                await board.routing_failed(call, unreachable, str(failure), failure.agent_id)
            await self._play_message()
            return
        if accepted is None:
            return
        agent = accepted.agent
        if agent.id != self.agent_id:
            self.transcript.note("fallback_agent", agent_id=agent.id)
            self.settings = self.setup.settings(agent)
        await self._converse(agent, accepted.socket)

    async def _converse(self, agent: Agent, socket: AgentSocket | None) -> None:
        self._note_missing_variables()
        if agent.audio is not None:
            self._use_format(agent.audio)
        if socket is not None:
            mode = socket.mode
            conversation = self._conversation(speaks=mode.tts, listens=mode.stt)
            call_id = self.setup.call_id or self.session.call.reference
            try:
                bridge = Bridge(conversation, socket, call_id, call_budget=self.budget)
                self.reason = await bridge.converse()
            finally:
                await socket.close()
        elif agent.handler is not None:
            call = AgentCall(self.session, self.settings, self._variables, call_budget=self.budget)
            self.reason = await call.converse(self._conversation(channel=call), agent.handler)
        elif agent.raw is not None:
            await self._raw(agent)
        else:
            raise ConfigurationError(f"agent {agent.id!r} has no handler and no websocket_url")

    def _use_format(self, format: AudioFormat) -> None:
        """The session is in the agent's format. Known only now: another agent may have taken the call in its place."""
        self.session.tap = None
        self.session.set_format(format)
        if self.recorder is not None:
            self.recorder.set_format(format)
            self.session.tap = self.recorder

    def _note_missing_variables(self) -> None:
        """Tell the author of the texts which variables had no value; the caller only hears a gap."""
        s, variables = self.settings, self._variables
        missing = {name for text in (s.first_message, s.system_prompt) for name in fill(text, variables)[1]}
        if missing:
            self.transcript.note("variables_missing", names=sorted(missing))

    async def _raw(self, agent: Agent) -> None:
        """A raw audio agent. First message, time limit and recording apply; settings that need recognition do not."""
        assert agent.raw is not None
        try:
            async with asyncio.timeout(self.settings.max_duration_seconds):
                if greeting := fill(self.settings.first_message, self._variables)[0].strip():
                    await self._greet(greeting)
                await agent.raw(self.session)
        except TimeoutError:
            if time.monotonic() - self.began < self.settings.max_duration_seconds:
                raise
            self.reason = EndReason.MAX_DURATION
            await self.session.hang_up(EndReason.MAX_DURATION)
        finally:
            await self.transcript.flush()

    async def _greet(self, greeting: str) -> None:
        s = self.settings
        engines = self._engines.candidates("speak", s)
        synthesis = Synthesis(engines, s, self.transcript.note, format=self.session.format)
        try:
            async for sound in synthesis.speak(greeting):
                await self.session.send_audio(sound)
        finally:
            await synthesis.aclose()
        self.transcript.said("local", greeting, round((time.monotonic() - self.began) * 1000))

    async def _play_message(self) -> None:
        """No agent takes the call: play the voicemail message."""
        call = AgentCall(self.session, self.settings.model_copy(update={"first_message": ""}), self._variables)
        conversation = self._conversation(channel=call, listens=False)
        message = fill(self.settings.voicemail_message, self._variables)[0]

        async def play(call: AgentCall) -> None:
            await call.say(message, interruptible=False)
            await self.session.drain()
            conversation.end(EndReason.AGENT_ERROR)

        self.reason = await call.converse(conversation, play)

    def _conversation(
        self, *, channel: AgentChannel | None = None, speaks: bool = True, listens: bool = True
    ) -> Conversation:
        return Conversation(
            self.session,
            self.settings,
            channel or AgentChannel(),
            engines=self._engines,
            transcript=self.transcript,
            speaks=speaks,
            listens=listens,
            variables=self._variables,
            timings=self.timings,
            began=self.began,
        )

    @property
    def _engines(self) -> Engines:
        return self.setup.engines or self.handler.directory.engines

    @property
    def _variables(self) -> dict[str, object]:
        return self.setup.all_variables(self.settings)

    @contextlib.asynccontextmanager
    async def _recording(self) -> AsyncIterator[None]:
        path = self.setup.recording
        if path is None:
            yield
            return
        self.recorder = recorder = Recorder(path, failed=self._recording_failed)
        self.session.tap = recorder
        try:
            yield
        finally:
            self.session.tap = None
            recorder.close()

    def _recording_failed(self, why: str, seconds: float) -> None:
        self.transcript.note("recording_failed", why=why, seconds=seconds)
        if not seconds:
            self.nothing_recorded = True

    async def _unless_over(self, work: Awaitable[T]) -> T | None:
        """The result of ``work``; None if the stream ended first."""
        working = asyncio.ensure_future(work)
        await first_done(working, self.session.wait_stopped())
        return None if working.cancelled() else working.result()

    async def _finish(self) -> None:
        """Once the carrier has reported the end: analyze the call and run the ``finished`` callback."""
        seconds = round(time.monotonic() - self.began, 2)
        call, board = self.session.call, self.handler.switchboard
        if board is not None:
            with contextlib.suppress(TimeoutError, AnycarrierError):
                call = await board.wait_until(call.reference, lambda c: c.ended, SETTLING)
        finished = FinishedCall(
            call=call,
            agent_id=self.agent_id,
            settings=self.settings,
            reason=call.reason or self.reason or call.expected_reason or EndReason.UNKNOWN,
            seconds=seconds,
            segments=tuple(self.transcript.segments),
            notes=tuple(self.transcript.notes),
            latency_ms=self.timings.milliseconds(),
            variables=self._variables,
            recording=None if self.nothing_recorded else self.setup.recording,
        )
        found = await analyze_call(finished, self.handler.analyzers)
        finished = dataclasses.replace(finished, analysis=found)
        self.transcript.note("analysis", outcome=found.outcome, summary=found.summary, source=found.source)
        try:
            if self.handler.finished is not None:
                await self.handler.finished(finished)
        except Exception as failure:
            # Not a failure of the agent: its call is over.
            why = str(failure) or type(failure).__name__
            log.error("the finished callback failed after call %s: %s", call.reference, why, exc_info=failure)
        finally:
            await self.transcript.flush()
