"""Admission: whether an agent takes a call, decided while the caller still hears it ring.

A WebSocket agent accepts by completing the handshake. Its open socket then waits here for the call's audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol

from anycarrier.agent import protocol
from anycarrier.agent.agent import Agent, CallSetup, speech_needs
from anycarrier.agent.agent_socket import OPEN_TIMEOUT, AgentSocket, Guard, best_connect, open_socket
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.shared_engines import Engines
from anycarrier.calls import Call, EndReason
from anycarrier.errors import AgentUnreachable, SpeechNotReady, UnknownAgent
from anycarrier.events import RoutingFailure
from anycarrier.routing import Answer, Reject, Route

log = logging.getLogger("anycarrier")

PATIENCE = 13.0
"""Seconds for an agent and its fallbacks together; carriers wait about fifteen for instructions."""

AUDIO_PATIENCE = 60.0
"""Seconds from answering to the carrier's media stream. If the caller hangs up earlier, the socket is closed then."""


class Directory(Protocol):
    """Finds agents and their call setups; :class:`anycarrier.agent.Agents` is one."""

    @property
    def engines(self) -> Engines:
        """The engines for calls whose setup has none."""
        ...

    async def find_for(self, reference: str, agent_id: str) -> Agent:
        """The agent with that id, for the call with that reference; raises ``UnknownAgent``."""
        ...

    async def setup_for(self, call: Call, agent: Agent) -> CallSetup:
        """The setup of that call with that agent."""
        ...

    def forget(self, reference: str) -> None:
        """Drop what is kept for the call."""
        ...


@dataclass(slots=True)
class Accepted:
    """An agent that takes a call, with its open socket if it is a WebSocket agent."""

    agent: Agent
    socket: AgentSocket | None = None


class Admission:
    """Asks the agents of ``directory`` whether they take a call; ``guard`` checks every socket address first."""

    def __init__(self, directory: Directory, *, guard: Guard | None = None) -> None:
        self.pending = PendingAgents()
        self.connect = best_connect()
        self._directory = directory
        self._guard = guard
        self._refused: dict[str, AgentUnreachable] = {}
        """Why no agent takes a call that is answered only to play the voicemail message, by reference."""

    async def take(self, call: Call, agent_id: str) -> Route:
        """Answer for the first agent of the fallback chain that accepts; else to play the voicemail message; else
        reject."""
        try:
            accepted = await self.accept(call, agent_id)
        except AgentUnreachable as failure:
            if await self._can_play_message(call, agent_id):
                self._refused[call.reference] = failure
                return Answer(agent_id)
            if failure.declined:
                return Reject(EndReason.REJECTED, str(failure))
            return Reject(EndReason.AGENT_ERROR, str(failure), RoutingFailure.AGENT_UNREACHABLE, failure.agent_id)
        if accepted is None:
            return Reject(EndReason.REJECTED)
        if accepted.socket is not None:
            self.pending.put(call.reference, accepted)
        settings = (await self._directory.setup_for(call, accepted.agent)).settings(accepted.agent)
        return Answer(accepted.agent.id, time_limit=settings.max_duration_seconds)

    async def accept(self, call: Call, agent_id: str) -> Accepted | None:
        """The agent that takes the call; raises ``AgentUnreachable`` when none does."""
        if (refused_before := self._refused.get(call.reference)) is not None:
            raise refused_before
        due = time.monotonic() + PATIENCE
        last: AgentUnreachable | None = None
        async for agent in self._chain(call, agent_id):
            setup = await self._directory.setup_for(call, agent)
            settings = setup.settings(agent)
            first = agent.id == agent_id and setup.websocket_url is not None
            url = setup.websocket_url if first else agent.websocket_url
            try:
                if not url:
                    if (function := agent.handler or agent.raw) is not None:
                        self._need_speech(agent, setup, speech_needs(function, settings))
                    return Accepted(agent)
                socket = await self._connect(call, agent, setup, url, max(0.5, due - time.monotonic()))
                try:
                    self._need_speech(agent, setup, socket_needs(socket.mode, settings))
                except SpeechNotReady:
                    await socket.close(1011)
                    raise
                return Accepted(agent, socket)
            except AgentUnreachable as refused:
                last = refused
        if last is not None:
            raise last
        return None

    def forget(self, reference: str) -> None:
        """Drop what is kept for a call that is over."""
        self._refused.pop(reference, None)

    async def aclose(self) -> None:
        """Close the sockets of agents whose calls have not begun."""
        await self.pending.aclose()

    def _need_speech(self, agent: Agent, setup: CallSetup, needs: Collection[str]) -> None:
        """Raise ``SpeechNotReady`` if this agent could not speak or hear: such a call is not answered."""
        lacks = (setup.engines or self._directory.engines).lacks(setup.settings(agent), needs)
        if lacks is not None:
            raise SpeechNotReady(agent.id, lacks)

    async def _connect(self, call: Call, agent: Agent, setup: CallSetup, url: str, timeout: float) -> AgentSocket:
        """Open the agent's socket with this call's context."""
        context = protocol.call_context(
            call_id=setup.call_id or call.reference,
            phone_number=call.line_number,
            remote_phone_number=call.remote_number,
            direction=str(call.direction),
            extra=setup.context,
        )
        return await open_socket(
            url,
            agent_id=agent.id,
            context=context,
            signing_key=agent.signing_key,
            headers=agent.headers,
            timeout=min(OPEN_TIMEOUT, timeout),
            guard=self._guard,
            connect=self.connect,
        )

    async def _chain(self, call: Call, agent_id: str) -> AsyncIterator[Agent]:
        """The agent, its fallback, that one's fallback and so on, each once."""
        seen: set[str] = set()
        following: str | None = agent_id
        while following is not None and following not in seen:
            seen.add(following)
            try:
                agent = await self._directory.find_for(call.reference, following)
            except UnknownAgent as unknown:
                if len(seen) == 1:
                    raise
                log.error("fallback of agent %r: %s", agent_id, unknown)
                return
            yield agent
            following = (await self._directory.setup_for(call, agent)).settings(agent).fallback_agent_id

    async def _can_play_message(self, call: Call, agent_id: str) -> bool:
        """Whether there is a voicemail message, and an engine to speak it."""
        agent = await self._directory.find_for(call.reference, agent_id)
        setup = await self._directory.setup_for(call, agent)
        settings = setup.settings(agent)
        engines = setup.engines or self._directory.engines
        return bool(settings.voicemail_message) and engines.lacks(settings, ["speak"]) is None


def socket_needs(mode: protocol.Mode, settings: AgentSettings) -> set[str]:
    """The speech abilities that an agent leaves to us by its handshake; we always speak the first message."""
    speaks = mode.tts or bool(settings.first_message.strip())
    return {ability for ability, needed in (("speak", speaks), ("listen", mode.stt)) if needed}


class PendingAgents:
    """Agents that have accepted a call whose audio has not arrived yet, by call reference.

    If the audio arrives in another process, the socket times out here.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Accepted, asyncio.TimerHandle]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def put(self, reference: str, accepted: Accepted) -> None:
        """Keep it until it is taken, for at most :data:`AUDIO_PATIENCE` seconds."""
        timer = asyncio.get_running_loop().call_later(AUDIO_PATIENCE, self.dismiss, reference)
        self._waiting[reference] = (accepted, timer)

    def take(self, reference: str) -> Accepted | None:
        """Remove and return the agent that waits for this call, if any."""
        found = self._waiting.pop(reference, None)
        if found is None:
            return None
        found[1].cancel()
        return found[0]

    def dismiss(self, reference: str) -> None:
        """The call is over or its audio did not arrive: close the socket that waits for it."""
        accepted = self.take(reference)
        if accepted is not None and accepted.socket is not None:
            task = asyncio.ensure_future(accepted.socket.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close them all."""
        for reference in list(self._waiting):
            self.dismiss(reference)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._closing, return_exceptions=True)
