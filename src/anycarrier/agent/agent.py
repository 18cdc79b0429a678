"""An agent: which door its calls go through, how it behaves on the line, and what a single call may change of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.shared_engines import Engines
from anycarrier.agent.transcript import MemoryTranscript, Transcript
from anycarrier.errors import ConfigurationError
from anycarrier.session import MediaSession

AgentFunction = Callable[[AgentCall], Awaitable[None]]
"""A Python agent: talks on one call; returning hangs up once everything said was heard."""

RawFunction = Callable[[MediaSession], Awaitable[None]]
"""An agent that brings its own speech: audio in, audio out."""


NEEDS = ("speak", "listen")


def speech_needs(handler: AgentFunction, settings: AgentSettings) -> set[str]:
    """The speech a Python agent cannot do without: both ways, unless its ``needs`` say less (``handler.needs = ()``);
    a first message has to be spoken."""
    needs = set(getattr(handler, "needs", NEEDS))
    return needs | {"speak"} if settings.first_message.strip() else needs


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent and its door: ``handler`` (Python), ``websocket_url``, or ``raw``.

    A WebSocket URL takes precedence over a handler: calls set up with ``websocket_url=""`` go to the handler.
    ``signing_key`` signs the handshake of its socket, ``headers`` are added to it.
    """

    id: str
    settings: AgentSettings = field(default_factory=AgentSettings)
    handler: AgentFunction | None = None
    websocket_url: str | None = None
    raw: RawFunction | None = None
    signing_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class CallSetup:
    """What one call brings along. ``overrides`` are fields of :class:`AgentSettings`.

    ``call_id`` is what the agent's socket knows the call by (our reference unless given), ``context`` more for its
    ``X-Call-Context``; ``websocket_url`` replaces the agent's, "" leaves the call to its handler; ``recording`` is
    where the WAV goes, when the call is recorded. ``engines`` are its speech engines, where they are not those of all.
    Calls of one ``workspace`` share what its agents may send in bursts (:mod:`anycarrier.agent.budget`).
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    websocket_url: str | None = None
    call_id: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    engines: Engines | None = None
    transcript: Transcript = field(default_factory=MemoryTranscript)
    recording: Path | None = None
    workspace: str | None = None

    def settings(self, agent: Agent) -> AgentSettings:
        """The agent's settings on this call; ``ConfigurationError`` when an override does not fit."""
        if not self.overrides:
            return agent.settings
        try:
            return AgentSettings.model_validate({**agent.settings.model_dump(), **self.overrides})
        except ValidationError as failure:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in failure.errors())
            raise ConfigurationError(f"overrides of agent {agent.id!r} do not fit: {wrong}") from None

    def all_variables(self, settings: AgentSettings) -> dict[str, Any]:
        """The agent's own variables, overruled by the call's."""
        return {**settings.dynamic_variables, **self.variables}


def load(path: str) -> Any:
    """What ``module:name`` stands for; ``ConfigurationError`` says what is wrong with it."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ConfigurationError(f"an agent's function is written module:function, not {path!r}")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as failure:
        raise ConfigurationError(f"agent function {path!r} cannot be loaded: {failure}") from failure
    return found


def function(given: AgentFunction | str) -> AgentFunction:
    """A Python agent's function: itself, or by its dotted path."""
    return cast(AgentFunction, load(given)) if isinstance(given, str) else given
