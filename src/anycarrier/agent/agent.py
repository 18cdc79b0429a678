"""An agent, and the setup of one of its calls."""

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
"""A Python agent: handles one call. When it returns, its queued speech finishes playing and the call is hung up."""

RawFunction = Callable[[MediaSession], Awaitable[None]]
"""A raw audio agent, which does speech itself."""


def speech_needs(handler: AgentFunction | None, settings: AgentSettings) -> set[str]:
    """The speech abilities an agent needs: ``speak`` and ``listen``, unless its function sets ``needs``
    (``handler.needs = ()``). A first message needs ``speak``. ``handler`` is None for a WebSocket agent."""
    needs = set(getattr(handler, "needs", ("speak", "listen")))
    return needs | {"speak"} if settings.first_message.strip() else needs


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent: a Python ``handler``, a ``websocket_url``, or ``raw`` audio.

    A WebSocket URL takes precedence over a handler; calls set up with ``websocket_url=""`` go to the handler.
    ``signing_key`` signs the handshake of the WebSocket, ``headers`` are added to it.
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
    """What one call sets for its agent. ``overrides`` are fields of :class:`AgentSettings`.

    ``call_id`` identifies the call to a WebSocket agent (default: the reference), ``context`` is added to its
    ``X-Call-Context``. ``websocket_url`` replaces the agent's; "" gives the call to its handler. ``recording`` is the
    path of the WAV file, if the call is recorded. ``engines`` replace the shared speech engines. Calls of one
    ``workspace`` share a budget for bursts (:mod:`anycarrier.agent.budget`).
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
        """The agent's settings for this call; raises ``ConfigurationError`` if an override does not fit."""
        if not self.overrides:
            return agent.settings
        try:
            return AgentSettings.model_validate({**agent.settings.model_dump(), **self.overrides})
        except ValidationError as failure:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in failure.errors())
            raise ConfigurationError(f"overrides of agent {agent.id!r} do not fit: {wrong}") from None

    def all_variables(self, settings: AgentSettings) -> dict[str, Any]:
        """The agent's variables, overridden by the call's."""
        return {**settings.dynamic_variables, **self.variables}


def load(path: str) -> Any:
    """The object at ``module:name``; raises ``ConfigurationError`` if it cannot be loaded."""
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


def agent_function(given: AgentFunction | str) -> AgentFunction:
    """A Python agent's function, given itself or by its dotted path."""
    return cast(AgentFunction, load(given)) if isinstance(given, str) else given
