"""One call of an agent's, whichever its door: from the start of its audio to what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, TypeVar

from anycarrier.agent import admission, analysis
from anycarrier.agent.agent import Agent
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.agent_socket import AgentSocket
from anycarrier.agent.analysis import FinishedCall, TranscriptCopy
from anycarrier.agent.bridge import Bridge
from anycarrier.agent.conversation import AgentChannel, Conversation
from anycarrier.agent.recording import Recorder
from anycarrier.agent.settings import fill
from anycarrier.agent.shared_engines import Engines
from anycarrier.agent.synthesis import Synthesis
from anycarrier.agent.turn_taking import Timings
from anycarrier.audio import PCMU_8K
from anycarrier.calls import Direction, EndReason
from anycarrier.errors import AgentUnreachable, AnycarrierError, ConfigurationError
from anycarrier.events import RoutingFailure
from anycarrier.session import MediaSession

if TYPE_CHECKING:
    from anycarrier.agent.agents import Agents

log = logging.getLogger("anycarrier")

SETTLING = 15.0
"""Seconds the carrier may take to say that the call is over, before it is analysed without its word."""

T = TypeVar("T")


async def serve(agents: Agents, agent_id: str, session: MediaSession) -> None:
    """Have the call. What goes wrong with its agent is raised, and the exchange hangs up."""
    if session.format != PCMU_8K:
        raise ConfigurationError("agents talk mu-law 8 kHz: give the exchange audio=PCMU_8K, which is its default")
    call = _CallHandler(agents, agent_id, session)
    await call.serve()


class _CallHandler:
    def __init__(self, agents: Agents, agent_id: str, session: MediaSession) -> None:
        self.agents = agents
        self.session = session
        self.agent_id = agent_id
        self.began = time.monotonic()
        self.timings = Timings()
        self.reason: EndReason | None = None
        self.nothing_recorded = False

    async def serve(self) -> None:
        reference = self.session.call.reference
        agent = await self.agents.find_for(reference, self.agent_id)
        setup = await self.agents.setup_for(self.session.call, agent)
        self.settings = setup.settings(agent)
        self.transcript = TranscriptCopy(setup.transcript)
        self.setup = setup
        self.budget = self.agents.budgets.of_call(setup.workspace)
        try:
            async with self._recording():
                await self._talk(agent)
        finally:
            self.agents.forget(reference)
            work = self._finish()
            if self.agents.switchboard is not None:
                self.agents.switchboard.spawn(work, "finish a call")
            else:
                # In a task of its own: what fails there has nothing to do with why the conversation ended.
                await asyncio.ensure_future(work)

    async def _talk(self, agent: Agent) -> None:
        socket: AgentSocket | None
        try:
            if (accepted := self.agents.pending.take(self.session.call.reference)) is not None:
                agent, socket = accepted.agent, accepted.socket
            else:
                taken = await self._unless_over(admission.accept(self.agents, self.session.call, agent.id))
                if taken is None:
                    return
                agent, socket = taken
        except AgentUnreachable as nobody:
            inbound = self.session.call.direction is Direction.INBOUND
            if not (inbound and self.settings.voicemail_message) or self._engines.lacks(self.settings, ["speak"]):
                raise
            if (board := self.agents.switchboard) is not None:
                call, why = self.session.call, str(nobody)
                unreachable = RoutingFailure.AGENT_UNREACHABLE
                await board.routing_failed(call, unreachable, why, nobody.agent_id)
            await self._decline_aloud()
            return
        if agent.id != self.agent_id:
            self.transcript.note("fallback_agent", agent_id=agent.id)
            self.settings = self.setup.settings(agent)
        await self._converse(agent, socket)

    async def _converse(self, agent: Agent, socket: AgentSocket | None) -> None:
        self._note_missing_variables()
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
            raise ConfigurationError(f"agent {agent.id!r} has no door: no handler, no websocket_url")

    def _note_missing_variables(self) -> None:
        """Whoever wrote the texts should hear of it: the caller only hears a gap."""
        s, variables = self.settings, self._variables
        missing = {name for text in (s.first_message, s.system_prompt) for name in fill(text, variables)[1]}
        if missing:
            self.transcript.note("variables_missing", names=sorted(missing))

    async def _raw(self, agent: Agent) -> None:
        """Raw audio: what needs our ears is the handler's own; greeting, time limit and recording are honoured."""
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
        engines = self._engines.candidates("speak", s.synthesizer, s.fallback_synthesizer)
        synthesis = Synthesis(engines, s, self.transcript.note, format=self.session.format)
        try:
            async for sound in synthesis.speak(greeting):
                await self.session.send_audio(sound)
        finally:
            await synthesis.aclose()
        self.transcript.said("local", greeting, round((time.monotonic() - self.began) * 1000))

    async def _decline_aloud(self) -> None:
        """Nobody takes the call: say the voicemail message instead of nothing."""
        call = AgentCall(self.session, self.settings.model_copy(update={"first_message": ""}), self._variables)
        conversation = self._conversation(channel=call, listens=False)
        message = fill(self.settings.voicemail_message, self._variables)[0]

        async def apologise(call: AgentCall) -> None:
            await call.say(message, interruptible=False)
            await self.session.drain()
            conversation.end(EndReason.AGENT_ERROR)

        self.reason = await call.converse(conversation, apologise)

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
        return self.setup.engines or self.agents.engines

    @property
    def _variables(self) -> dict[str, object]:
        return self.setup.all_variables(self.settings)

    @contextlib.asynccontextmanager
    async def _recording(self) -> AsyncIterator[None]:
        path = self.setup.recording
        if path is None:
            yield
            return
        recorder = Recorder(path, failed=self._recording_failed)
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
        """``work``'s result; None when the stream ended before it."""
        working = asyncio.ensure_future(work)
        over = asyncio.ensure_future(self.session.wait_stopped())
        try:
            await asyncio.wait({working, over}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            over.cancel()

    async def _finish(self) -> None:
        """Once the carrier has said how it ended: analyse, and tell whoever wants to know."""
        seconds = round(time.monotonic() - self.began, 2)
        call, board = self.session.call, self.agents.switchboard
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
        found = await analysis.analyse(finished, self.agents.analyzers)
        finished = dataclasses.replace(finished, analysis=found)
        self.transcript.note("analysis", outcome=found.outcome, summary=found.summary, source=found.source)
        try:
            if self.agents.finished is not None:
                await self.agents.finished(finished)
        except Exception as failure:
            # Not the agent's: the call is over and went as it went.
            why = str(failure) or type(failure).__name__
            log.error("the finished callback failed after call %s: %s", call.reference, why, exc_info=failure)
        finally:
            await self.transcript.flush()
