"""An agent, and the setup of one of its calls."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast, overload

from pydantic import ValidationError

from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.shared_engines import Engines
from anycarrier.agent.transcript import MemoryTranscript, Transcript
from anycarrier.audio import AudioFormat
from anycarrier.errors import ConfigurationError
from anycarrier.session import MediaSession, check_handler, run_handler

AgentFunction = Callable[[AgentCall], Awaitable[None]]
"""A Python agent: handles one call. When it returns, its queued speech finishes playing and the call is hung up."""

RawFunction = Callable[[MediaSession], Awaitable[None]]
"""A raw audio agent, which does speech itself."""


class RawAgent:
    """A function that :func:`raw_agent` has marked; call it with the session."""

    needs: Collection[str] = ()

    def __init__(self, function: RawFunction, audio: AudioFormat | None = None) -> None:
        check_handler(function, "a raw audio agent's function", "Give it one: async def bot(session).")
        _check_audio(audio)
        functools.update_wrapper(self, function)
        self.audio = audio
        """The format its sessions are in; None: that of the exchange."""
        self._function = function

    def with_audio(self, audio: AudioFormat | None) -> RawAgent:
        """The same function, with its sessions in ``audio``."""
        return RawAgent(self._function, audio)

    async def __call__(self, session: MediaSession) -> None:
        """Handle one call."""
        if self.audio is not None:
            session.set_format(self.audio)
        await run_handler(self._function, session)


@overload
def raw_agent(function: RawFunction, /) -> RawAgent: ...


@overload
def raw_agent(*, audio: AudioFormat | None = None) -> Callable[[RawFunction], RawAgent]: ...


def raw_agent(
    function: RawFunction | None = None, /, *, audio: AudioFormat | None = None
) -> RawAgent | Callable[[RawFunction], RawAgent]:
    """Mark a function of a :class:`MediaSession` as a raw audio agent: it does speech itself and needs no engine.

        @raw_agent(audio=AudioFormat("L16", 16000))
        async def bot(session): ...

    It can then be given wherever a handler is: ``Agents.add("bot", handler=bot)``, by its path ``"module:bot"``, and as
    a handler of the service. Its sessions are in ``audio``, None: in the exchange's format. ``ConfigurationError`` for
    what cannot be called, and for an ``audio`` that is no format.
    """
    if function is not None:
        return RawAgent(function)
    _check_audio(audio)
    return lambda marked: RawAgent(marked, audio)


def _check_audio(given: object) -> None:
    if given is not None and not isinstance(given, AudioFormat):
        wanted = 'Give the format of the sessions, as audio=AudioFormat("L16", 16000), or leave it out.'
        raise ConfigurationError(f"audio is of type {type(given).__name__}, not an AudioFormat. {wanted}")


def speech_needs(handler: AgentFunction | RawAgent | None, settings: AgentSettings) -> set[str]:
    """The speech abilities an agent needs: ``speak`` and ``listen``, unless its function sets ``needs``
    (``handler.needs = ()``), as a raw audio agent does. A first message needs ``speak``. ``handler`` is None for a
    WebSocket agent."""
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
    raw: RawAgent | None = None
    signing_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def audio(self) -> AudioFormat | None:
        """The format of a raw audio agent's sessions, None: that of the exchange."""
        return None if self.raw is None else self.raw.audio


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


def as_raw(given: RawFunction, audio: AudioFormat | None = None) -> RawAgent:
    """``given``, marked as a raw audio agent unless it is; with ``audio``, in that format."""
    if not isinstance(given, RawAgent):
        return RawAgent(given, audio)
    return given if audio in (None, given.audio) else given.with_audio(audio)


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
        absent = isinstance(failure, ModuleNotFoundError) and failure.name == module.partition(".")[0]
        hint = ". Install the package, or put its folder on PYTHONPATH" if absent else ""
        raise ConfigurationError(f"agent function {path!r} cannot be loaded: {failure}{hint}") from failure
    return found


def agent_function(given: AgentFunction | RawAgent | str) -> AgentFunction | RawAgent:
    """A Python agent's function, given itself or by its dotted path; a :class:`RawAgent` where that is marked so."""
    return cast("AgentFunction | RawAgent", load(given)) if isinstance(given, str) else given
