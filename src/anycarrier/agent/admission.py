"""Whether an agent takes a call: its socket is opened while the caller still hears it ring."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anycarrier.agent import protocol
from anycarrier.agent.agent import Agent, CallSetup, speech_needs
from anycarrier.agent.agent_socket import OPEN_TIMEOUT, AgentSocket, open_socket
from anycarrier.agent.settings import AgentSettings
from anycarrier.calls import Call, EndReason
from anycarrier.errors import AgentUnreachable, SpeechNotReady, UnknownAgent
from anycarrier.events import RoutingFailure
from anycarrier.routing import Answer, Reject, Route

if TYPE_CHECKING:
    from anycarrier.agent.agents import Agents



log = logging.getLogger("anycarrier")

PATIENCE = 13.0
"""Seconds for an agent and its fallbacks together: carriers wait some fifteen for what to do with a call."""


async def take(agents: Agents, call: Call, agent_id: str) -> Route:
    """Answer for the first agent of the chain that accepts; else to speak the voicemail message; else decline."""
    try:
        accepted = await accept(agents, call, agent_id)
    except AgentUnreachable as nobody:
        if (await _apology(agents, call, agent_id)) is not None:
            agents.untaken[call.reference] = nobody
            return Answer(agent_id)
        if nobody.declined:
            return Reject(EndReason.REJECTED, str(nobody))
        return Reject(EndReason.AGENT_ERROR, str(nobody), RoutingFailure.AGENT_UNREACHABLE, nobody.agent_id)
    if accepted is None:
        return Reject(EndReason.REJECTED)
    agent, socket = accepted
    if socket is not None:
        agents.pending.put(call.reference, Accepted(agent, socket))
    settings = (await agents.setup_for(call, agent)).settings(agent)
    return Answer(agent.id, time_limit=settings.max_duration_seconds)


async def accept(agents: Agents, call: Call, agent_id: str) -> tuple[Agent, AgentSocket | None] | None:
    """The agent that takes the call, with its socket when that is its door; ``AgentUnreachable`` when none does."""
    if (refused_before := agents.untaken.get(call.reference)) is not None:
        raise refused_before
    due = time.monotonic() + PATIENCE
    last: AgentUnreachable | None = None
    async for agent in _chain(agents, call, agent_id):
        setup = await agents.setup_for(call, agent)
        first = agent.id == agent_id and setup.websocket_url is not None
        url = setup.websocket_url if first else agent.websocket_url
        try:
            if not url:
                if agent.handler is not None:
                    settings = setup.settings(agent)
                    _need_speech(agents, agent, setup, speech_needs(agent.handler, settings))
                return agent, None
            socket = await connect(agents, call, agent, setup, url, max(0.5, due - time.monotonic()))
            try:
                _need_speech(agents, agent, setup, socket_needs(socket.mode, setup.settings(agent)))
            except SpeechNotReady:
                await socket.close(1011)
                raise
            return agent, socket
        except AgentUnreachable as refused:
            last = refused
    if last is not None:
        raise last
    return None


def socket_needs(mode: protocol.Mode, settings: AgentSettings) -> set[str]:
    """The speech that an agent leaves to us by its handshake; a first message is ours to speak."""
    speaks = mode.tts or bool(settings.first_message.strip())
    return {ability for ability, needed in (("speak", speaks), ("listen", mode.stt)) if needed}


def _need_speech(agents: Agents, agent: Agent, setup: CallSetup, needs: set[str]) -> None:
    """``SpeechNotReady`` when a call with this agent would be mute or deaf: it is not answered for that."""
    lacks = (setup.engines or agents.engines).lacks(setup.settings(agent), needs)
    if lacks is not None:
        raise SpeechNotReady(agent.id, lacks)


async def connect(
    agents: Agents, call: Call, agent: Agent, setup: CallSetup, url: str, timeout: float = OPEN_TIMEOUT
) -> AgentSocket:
    """The agent's socket, opened with this call's context."""
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
        guard=agents.guard,
        connect=agents.connect,
    )


async def _chain(agents: Agents, call: Call, agent_id: str) -> AsyncIterator[Agent]:
    """The agent, its fallback, the fallback's fallback; each once."""
    seen: set[str] = set()
    following: str | None = agent_id
    while following is not None and following not in seen:
        seen.add(following)
        try:
            agent = await agents.find_for(call.reference, following)
        except UnknownAgent as unknown:
            if len(seen) == 1:
                raise
            log.error("fallback of agent %r: %s", agent_id, unknown)
            return
        yield agent
        following = (await agents.setup_for(call, agent)).settings(agent).fallback_agent_id


async def _apology(agents: Agents, call: Call, agent_id: str) -> str | None:
    agent = await agents.find_for(call.reference, agent_id)
    setup = await agents.setup_for(call, agent)
    settings = setup.settings(agent)
    if not settings.voicemail_message or (setup.engines or agents.engines).lacks(settings, ["speak"]) is not None:
        return None
    return settings.voicemail_message


AUDIO_PATIENCE = 60.0
"""Seconds from answering to the carrier's media stream; a caller who gives up meanwhile is told of sooner."""


@dataclass(slots=True)
class Accepted:
    """An agent and its open socket."""

    agent: Agent
    socket: AgentSocket


class PendingAgents:
    """By call reference. A call whose audio lands in another process leaves its socket here, to be closed."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Accepted, asyncio.TimerHandle]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def put(self, reference: str, accepted: Accepted) -> None:
        """Keep it until it is taken, at most :data:`AUDIO_PATIENCE` seconds."""
        timer = asyncio.get_running_loop().call_later(AUDIO_PATIENCE, self.dismiss, reference)
        self._waiting[reference] = (accepted, timer)

    def take(self, reference: str) -> Accepted | None:
        """Whoever waits for this call; None when nobody does."""
        found = self._waiting.pop(reference, None)
        if found is None:
            return None
        found[1].cancel()
        return found[0]

    def dismiss(self, reference: str) -> None:
        """The call will not come: close its socket."""
        if (accepted := self.take(reference)) is not None:
            task = asyncio.ensure_future(accepted.socket.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close them all."""
        for reference in list(self._waiting):
            self.dismiss(reference)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._closing, return_exceptions=True)
