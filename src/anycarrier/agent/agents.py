"""Agents by id. Give them to an Exchange as its ``agents``, and their ``router`` as its router.

    agents = Agents()

    @agents.agent("front-desk", first_message="Good morning, how can I help?")
    async def front_desk(call):
        async for turn in call.turns():
            await call.say(f"You said: {turn.text}")

    agents.add("sales", websocket_url="wss://agents.example.com/sales")
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from anycarrier.agent.admission import Admission
from anycarrier.agent.agent import (
    Agent,
    AgentFunction,
    CallSetup,
    RawAgent,
    RawFunction,
    agent_function,
    as_raw,
    speech_needs,
)
from anycarrier.agent.agent_socket import Guard
from anycarrier.agent.analysis import Analyzer, Finished
from anycarrier.agent.call_handler import CallHandler
from anycarrier.agent.settings import AgentSettings, misfits_of_raw_audio
from anycarrier.agent.shared_engines import Engines
from anycarrier.audio import AudioFormat
from anycarrier.calls import Call, MachineDetection
from anycarrier.errors import ConfigurationError, SpeechNotReady, UnknownAgent
from anycarrier.events import CallEvent, IncomingCall
from anycarrier.routing import Line, Reject, Route
from anycarrier.session import MediaSession, check_handler

if TYPE_CHECKING:
    from anycarrier.switchboard import Handler, Switchboard

log = logging.getLogger("anycarrier")

AnyFunction = TypeVar("AnyFunction", bound=AgentFunction | RawAgent)

MAX_CALLS_KEPT = 10_000
"""Most calls for which agents and setups are kept; beyond that the oldest are dropped. Most are dropped when the call
ends, but a dial that the carrier refuses never ends, and a call whose audio is in another process does not end here."""

GIVE_A_FUNCTION = (
    "Give handler=f with async def f(call), a path (handler='module:f'), or what an adapter's *_agent(...) returns; "
    "raw=f with async def f(session)."
)

Lookup = Callable[[str], Awaitable[Agent | None]]
"""Finds an agent by its id in a platform's own store; None if there is none."""

SetUp = Callable[[Call, Agent], Awaitable[CallSetup]]
"""The setup of one call; asked once for each call and agent, in each process that handles the call."""


@dataclasses.dataclass(slots=True)
class _KnownCall:
    """The agents and setups looked up for a call in progress, by agent id."""

    agents: dict[str, Agent] = dataclasses.field(default_factory=dict)
    setups: dict[str, CallSetup] = dataclasses.field(default_factory=dict)


class Agents(Mapping[str, "Handler"]):
    """The agents added here, and the ones ``lookup`` finds.

    ``recordings`` is the folder for the recordings of calls, ``guard`` checks every agent's WebSocket address before it
    is connected to.
    """

    def __init__(
        self,
        *,
        engines: Engines | None = None,
        lookup: Lookup | None = None,
        set_up: SetUp | None = None,
        finished: Finished | None = None,
        analyzers: Sequence[Analyzer] | None = None,
        recordings: str | Path | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.engines = engines or Engines()
        self.lookup = lookup
        self.recordings = Path(recordings) if recordings is not None else None
        self.admission = Admission(self, guard=guard)
        self.call_handler = CallHandler(self, self.admission, analyzers=analyzers, finished=finished)
        self._agents: dict[str, Agent] = {}
        self._set_up = set_up
        self._prepared: dict[str, CallSetup] = {}
        self._variables: dict[str, Mapping[str, Any]] = {}
        self._known: dict[str, _KnownCall] = {}

    # --- registering and finding -------------------------------------------------------------------------------------

    def agent(self, agent_id: str, **settings: Any) -> Callable[[AnyFunction], AnyFunction]:
        """Register the decorated function as an agent; ``settings`` are fields of :class:`AgentSettings`."""

        def register(handler: AnyFunction) -> AnyFunction:
            self.add(agent_id, handler=handler, settings=settings)
            return handler

        return register

    def add(
        self,
        agent_id: str,
        *,
        handler: AgentFunction | RawAgent | str | None = None,
        websocket_url: str | None = None,
        raw: RawFunction | None = None,
        audio: AudioFormat | None = None,
        settings: AgentSettings | Mapping[str, Any] | None = None,
        signing_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Agent:
        """Register an agent: a Python ``handler`` (or its path, ``module:function``), a WebSocket, or raw audio.

        A handler marked by :func:`raw_agent` is raw audio. ``audio`` is the format of a raw audio agent's sessions,
        None: that of the mark, else of the exchange. ``ConfigurationError`` for settings that it cannot have.
        """
        if sum(given is not None for given in (handler, websocket_url, raw)) != 1:
            raise ConfigurationError(f"agent {agent_id!r} needs exactly one of handler, websocket_url and raw")
        function = agent_function(handler) if handler is not None else None
        if websocket_url is None:
            given = raw if function is None else function
            check_handler(given, f"the function of agent {agent_id!r}", GIVE_A_FUNCTION)
        if isinstance(function, RawAgent):
            function, raw = None, function
        if audio is not None and raw is None:
            raise ConfigurationError(f"agent {agent_id!r} does no speech itself: audio is for raw audio agents only")
        added = Agent(
            agent_id,
            settings if isinstance(settings, AgentSettings) else AgentSettings.model_validate(dict(settings or {})),
            function,
            websocket_url,
            as_raw(raw, audio) if raw is not None else None,
            signing_key,
            dict(headers or {}),
        )
        if added.raw is not None and (wrong := misfits_of_raw_audio(added.settings)):
            told = "; ".join(f"{name} {why}" for name, why in wrong.items())
            raise ConfigurationError(f"agent {agent_id!r}: {told}")
        self._agents[agent_id] = added
        return added

    async def find(self, agent_id: str) -> Agent:
        """The agent with that id; raises ``UnknownAgent``."""
        found = self._agents.get(agent_id)
        if found is None and self.lookup is not None:
            found = await self.lookup(agent_id)
        if found is None:
            raise UnknownAgent(agent_id, self._agents)
        return found

    def __getitem__(self, agent_id: str) -> Handler:
        if self.lookup is None and agent_id not in self._agents:
            raise KeyError(agent_id)

        async def handle(session: MediaSession) -> None:
            await self.call_handler.handle(agent_id, session)

        return handle

    def __iter__(self) -> Iterator[str]:
        return iter(self._agents)

    def __len__(self) -> int:
        return len(self._agents)

    # --- calls -------------------------------------------------------------------------------------------------------

    def prepare(self, reference: str, setup: CallSetup) -> None:
        """Set the setup of a call by its reference, before ``exchange.dial(reference=...)``."""
        self._prepared[reference] = setup

    def keep(self, reference: str, agent: Agent, setup: CallSetup) -> None:
        """Use this agent and setup for the call with that reference; neither is looked up again while it lasts."""
        known = self._known_call(reference)
        known.agents[agent.id] = agent
        known.setups[agent.id] = setup

    async def find_for(self, reference: str, agent_id: str) -> Agent:
        """:meth:`find`, asking ``lookup`` once for each call."""
        if agent_id in self._agents or self.lookup is None:
            return await self.find(agent_id)
        agents = self._known_call(reference).agents
        if agent_id not in agents:
            agents[agent_id] = await self.find(agent_id)
        return agents[agent_id]

    def _known_call(self, reference: str) -> _KnownCall:
        known = self._known.setdefault(reference, _KnownCall())
        _drop_oldest(self._known)
        return known

    async def prepare_dial(self, agent_id: str, reference: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Called by ``exchange.dial``: keep the call's variables and return the dial options that the agent's settings
        imply. Raises ``SpeechNotReady``, before anybody is called, if the call would be silent."""
        agent = await self.find_for(reference, agent_id)
        settings = agent.settings
        self.need_speech(agent, reference)
        if variables:
            self._variables[reference] = dict(variables)
            _drop_oldest(self._variables)
        options: dict[str, Any] = {"time_limit": settings.max_duration_seconds}
        if settings.voicemail_detection:
            leaves = settings.on_voicemail == "leave_message"
            options["machine_detection"] = MachineDetection.WAIT_FOR_BEEP if leaves else MachineDetection.DETECT
        return options

    def need_speech(self, agent: Agent, reference: str) -> None:
        """Raise ``SpeechNotReady`` if this agent lacks a speech engine for an outbound call. What a WebSocket agent
        needs is known only once it is connected."""
        if agent.websocket_url is not None:
            return
        setup = self._prepared.get(reference, CallSetup())
        settings = setup.settings(agent)
        lacks = (setup.engines or self.engines).lacks(settings, speech_needs(agent.handler or agent.raw, settings))
        if setup.websocket_url is None and lacks is not None:
            raise SpeechNotReady(agent.id, lacks)

    async def setup_for(self, call: Call, agent: Agent) -> CallSetup:
        """The setup of a call: the prepared one, or what ``set_up`` returns, asked once for each agent."""
        setup = self._prepared.get(call.reference)
        if setup is None and self._set_up is not None:
            setups = self._known_call(call.reference).setups
            if agent.id not in setups:
                setups[agent.id] = await self._set_up(call, agent)
            setup = setups[agent.id]
        setup = setup or CallSetup()
        if (variables := self._variables.get(call.reference)) is not None:
            setup = dataclasses.replace(setup, variables={**setup.variables, **variables})
        if setup.recording is None and self.recordings is not None and setup.settings(agent).enable_recording:
            setup = dataclasses.replace(setup, recording=self.recordings / f"{call.reference}.wav")
        return setup

    async def router(self, event: IncomingCall, line: Line | None) -> Route:
        """For ``Exchange(router=)``: answer a call only once an agent has accepted it."""
        return Reject() if line is None else await self.take(event.call, line.agent_id)

    async def take(self, call: Call, agent_id: str) -> Route:
        """Have ``agent_id``, or its fallback, accept a ringing call; returns what to do with the call."""
        return await self.admission.take(call, agent_id)

    # --- starting and stopping ---------------------------------------------------------------------------------------

    async def open(self, switchboard: Switchboard) -> None:
        """Load the engines that the registered agents need, and log which agents lack one. Called by
        ``exchange.start()``."""
        self.call_handler.switchboard = switchboard
        switchboard.observers.append(self._observe)
        speaking = [agent for agent in self._agents.values() if agent.raw is None or agent.settings.first_message]
        await self.engines.start(name for agent in speaking for name in self.engines.needed(agent.settings))
        for agent in speaking:
            self._warn_of_missing_speech(agent)

    def _warn_of_missing_speech(self, agent: Agent) -> None:
        """Report a missing or poor engine at startup, where it is noticed, instead of by rejecting calls later."""
        needs = speech_needs(agent.handler or agent.raw, agent.settings)
        if (lacks := self.engines.lacks(agent.settings, needs)) is not None:
            unless = "" if agent.websocket_url is None else ", unless its WebSocket does speech itself"
            log.error("agent %r will take no calls%s: %s", agent.id, unless, lacks)
        for choice in self.engines.explain(agent.settings):
            if choice.ability in needs and choice.problem is None and choice.warning is not None:
                log.warning("agent %r: %s", agent.id, choice.warning)

    async def aclose(self) -> None:
        """Close engines and sockets. Called by ``exchange.stop()``."""
        switchboard = self.call_handler.switchboard
        if switchboard is not None and self._observe in switchboard.observers:
            switchboard.observers.remove(self._observe)
        await self.admission.aclose()
        await self.engines.aclose()

    def _observe(self, event: CallEvent, call: Call | None) -> None:
        if call is not None and call.ended:
            self.admission.pending.dismiss(call.reference)
            self.forget(call.reference)

    def forget(self, reference: str) -> None:
        """Drop what is kept for a call that is over."""
        self._prepared.pop(reference, None)
        self._variables.pop(reference, None)
        self._known.pop(reference, None)
        self.admission.forget(reference)


def _drop_oldest(kept: dict[str, Any]) -> None:
    while len(kept) > MAX_CALLS_KEPT:
        kept.pop(next(iter(kept)))
