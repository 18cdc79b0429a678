"""Speech engines: what is installed, what a workspace has set up for itself, and whether agents have what their calls
need. That is told when an agent is set up, not by a silent call.

An agent with a WebSocket may do its own speech, which it says when it is connected. Of such an agent only the engines
that it names can be judged before; one that names none has a *doubt* where the service has no engine for it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from anycarrier.agent import ENGINE_SETTINGS, AgentSettings, EngineChoice, speech_needs
from anycarrier.errors import AnycarrierError, SpeechNotReady, UnknownSpeechEngine
from anycarrier.speech import SpeechEngine, get_speech_engine, speech_engine_names
from anycarrier_server.domain import agent_runtime
from anycarrier_server.domain.access import Caller, need_admin
from anycarrier_server.domain.agent_runtime import settings_of
from anycarrier_server.domain.request_data import complaints
from anycarrier_server.domain.resources import Resources
from anycarrier_server.refusals import Invalid, Unknown
from anycarrier_server.store.models import Agent

log = logging.getLogger("anycarrier")

VERIFY_WITHIN = 10.0
"""Seconds an engine's cloud has to answer a login."""

SECRET = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class Installed:
    """An engine. ``why_not`` None: it is ready. ``default_for`` is what it does for an English agent that names no
    engine and has no grammar, ``rank`` its place among those of this machine. ``settings`` are the workspace's own,
    secrets by their last four; ``settable`` what it may set; ``by_service``: the service's operator has configured it
    for all."""

    name: str
    abilities: tuple[str, ...]
    remote: bool
    rank: int
    why_not: str | None
    default_for: tuple[str, ...]
    settings: Mapping[str, Any]
    settable: tuple[str, ...]
    by_service: bool


async def list_engines(resources: Resources, caller: Caller) -> list[Installed]:
    """The engines installed here, and those that somebody has configured although they are not."""
    need_admin(caller, "looking at speech engines")
    rows = {row.name: row for row in await resources.store.engines.list(caller.workspace_id)}
    names = sorted({*speech_engine_names(), *resources.settings.engines, *rows})
    return [await _look(resources, caller, name, rows[name].shown if name in rows else {}) for name in names]


async def set_up_engine(resources: Resources, caller: Caller, name: str, change: Mapping[str, Any]) -> Installed:
    """Set some of the workspace's own settings of an engine; None takes one away. Sealed, and used by its agents alone.

    ``UnknownSpeechEngine`` when it is not installed; ``Invalid`` names the setting that is wrong, not there, or not
    for a workspace to set.
    """
    need_admin(caller, "setting up a speech engine")
    kind = get_speech_engine(name)
    fields, secrets, settable = kind.settings_type.model_fields, kind.settings_type.secrets(), _settable(kind)
    for field, value in change.items():
        if field not in fields:
            raise Invalid.field(f"settings.{field}", f"{name} has no such setting (settable: {_listed(settable)})")
        if field not in settable:
            ours = f"ANYCARRIER_ENGINES__{name.upper()}__{field.upper()}"
            raise Invalid.field(f"settings.{field}", f"is set for all workspaces by whoever runs the service: {ours}")
        if field in secrets and value is not None and not (isinstance(value, str) and SECRET.fullmatch(value.strip())):
            raise Invalid.field(f"settings.{field}", "holds a character that no key has, or nothing")
    store = resources.store.engines
    row = next((row for row in await store.list(caller.workspace_id) if row.name == name), None)
    merged = {**(store.settings(row) if row is not None else {}), **change}
    own = {field: value.strip() if field in secrets else value for field, value in merged.items() if value is not None}
    shown: Mapping[str, Any] = {}
    if own:
        _check(kind, {**resources.settings.engines.get(name, {}), **own})
        shown = (await store.put(caller.workspace_id, name, own, secrets)).shown
    else:  # nothing of its own: it shares the service's engine, and is not given processes of its own
        await store.delete(caller.workspace_id, name)
    resources.engines.changed(caller.workspace_id)
    return await _look(resources, caller, name, shown)


def _check(kind: type[SpeechEngine], settings: Mapping[str, Any]) -> None:
    try:
        kind.settings_type.model_validate(settings)
    except ValidationError as failure:
        raise Invalid(
            [
                {**one, "loc": ["body", "settings", *one["loc"][1:]], "msg": f"{kind.name}: {one['msg']}"}
                for one in complaints(failure, "settings")
            ]
        ) from None


@dataclass(frozen=True, slots=True)
class EngineVerified:
    """What an engine said to this workspace's settings; ``error`` None when they work."""

    name: str
    error: str | None


async def verify_engine(resources: Resources, caller: Caller, name: str) -> EngineVerified:
    """Log in with the settings that this workspace's calls use. ``UnknownSpeechEngine`` when it is not installed."""
    need_admin(caller, "checking a speech engine")
    get_speech_engine(name)
    engines = await resources.engines.of(caller.workspace_id)
    try:
        async with asyncio.timeout(VERIFY_WITHIN):
            await engines.check(name)
    except AnycarrierError as problem:
        return EngineVerified(name, str(problem))
    except TimeoutError:
        return EngineVerified(name, f"{name} gave no answer within {VERIFY_WITHIN:g} s")
    except Exception as bug:
        log.exception("speech engine %s failed while it was checked", name)
        return EngineVerified(name, f"{name} failed: {type(bug).__name__}")
    return EngineVerified(name, None)


async def forget_engine(resources: Resources, caller: Caller, name: str) -> None:
    """Forget the workspace's own settings of an engine; those for all workspaces hold again."""
    need_admin(caller, "setting up a speech engine")
    if not await resources.store.engines.delete(caller.workspace_id, name):
        raise Unknown("settings of that engine")
    resources.engines.changed(caller.workspace_id)


async def _look(resources: Resources, caller: Caller, name: str, shown: Mapping[str, Any]) -> Installed:
    engines = await resources.engines.of(caller.workspace_id)
    by_service = name in resources.settings.engines
    try:
        kind = get_speech_engine(name)
    except UnknownSpeechEngine:
        return Installed(name, (), False, 0, engines.problem("speak", name), (), shown, (), by_service)
    abilities = tuple(sorted(kind.abilities))
    why_not = next((why for ability in abilities if (why := engines.problem(ability, name)) is not None), None)
    set_already = {*shown, *resources.settings.engines.get(name, {})}
    fields = kind.settings_type.model_fields
    unset = [field for field in sorted(_settable(kind)) if fields[field].is_required() and field not in set_already]
    if why_not is not None and unset:
        why_not += f" (anycarrier engines set {name} {' '.join(unset)})"
    default_for = tuple(ability for ability in abilities if engines.default(ability) == name)
    settable = tuple(sorted(_settable(kind)))
    return Installed(name, abilities, kind.remote, kind.rank, why_not, default_for, shown, settable, by_service)


async def explain_engines(resources: Resources, caller: Caller, agent: Agent) -> list[EngineChoice]:
    """Which engines the agent's calls use, and why; a WebSocket that does its own speech uses none."""
    need_admin(caller, "looking at speech engines")
    await resources.engines.started(agent, STARTING)
    return (await resources.engines.of(agent.workspace_id)).explain(settings_of(agent))


def _settable(kind: type[SpeechEngine]) -> frozenset[str]:
    return kind.settings_type.secrets() | kind.settings_type.for_workspaces


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none by a workspace"


KEPT = 15.0
"""Seconds for which :func:`degraded` is not asked anew: balancers ask often."""

STARTING = 3.0
"""Seconds that setting up an agent waits for its engines to start, to tell how that went."""


async def lacking(
    resources: Resources, agent: Agent, *, socket: bool | None = None, overrides: Mapping[str, Any] | None = None
) -> str | None:
    """Why no call with this agent is answered or dialled, None when it can talk. ``socket``: whether the call goes to a
    WebSocket, by default when the agent has one; ``overrides`` are one call's settings."""
    has_socket = bool(agent.websocket_url) if socket is None else socket
    settings = settings_of(agent, overrides)
    return await _lacking(resources, agent.workspace_id, settings, agent.handler, has_socket)


async def doubt(resources: Resources, agent: Agent) -> str | None:
    """What an agent with a WebSocket lacks unless it does its own speech; None when it can talk either way."""
    if not agent.websocket_url or await lacking(resources, agent) is not None:
        return None
    engines = await resources.engines.of(agent.workspace_id)
    settings = settings_of(agent)
    lacks = engines.lacks(settings, speech_needs(None, settings))
    return f"unless it does its own speech, its calls are declined: {lacks}" if lacks is not None else None


async def weakness(resources: Resources, agent: Agent) -> str | None:
    """What an agent's calls would do poorly for want of a better engine; None if nothing."""
    engines, settings = await resources.engines.of(agent.workspace_id), settings_of(agent)
    function = resources.handlers.get(agent.handler or "") if not agent.websocket_url else None
    needs = speech_needs(function, settings)
    choices = engines.explain(settings)
    found = "; ".join(choice.warning for choice in choices if choice.warning and choice.ability in needs)
    return (f"unless it does its own speech: {found}" if agent.websocket_url else found) if found else None


def declined(lacks: str) -> str:
    """The message for those who can mend it."""
    more = "" if "Run: " in lacks else " (anycarrier engines ls|set: what is installed, and its settings)"
    return f"its calls are declined: {lacks}{more}"


async def refuse_unready(
    resources: Resources, agent: Agent, *, socket: bool | None = None, overrides: Mapping[str, Any] | None = None
) -> None:
    """``SpeechNotReady`` when a call with this agent would be silent."""
    if (lacks := await lacking(resources, agent, socket=socket, overrides=overrides)) is not None:
        raise SpeechNotReady(agent.public_id, lacks)


async def warnings(resources: Resources, agent: Agent) -> list[str]:
    """Warnings for the person who sets the agent up; none when all is well."""
    await resources.engines.started(agent, STARTING)
    if (lacks := await lacking(resources, agent)) is not None:
        return [declined(lacks)]
    unsure = await doubt(resources, agent) or await weakness(resources, agent)
    return [unsure] if unsure is not None else []


async def _lacking(
    resources: Resources, workspace_id: UUID, settings: AgentSettings, handler: str | None, socket: bool
) -> str | None:
    if socket:
        needs = {ability for ability, (named, _) in ENGINE_SETTINGS.items() if getattr(settings, named) is not None}
        needs |= {"speak"} if settings.first_message.strip() else set()
    else:
        function = resources.handlers.get(handler) if handler else agent_runtime.listen
        if function is None:
            return f"no handler {handler!r} is configured here (ANYCARRIER_HANDLERS)"
        needs = speech_needs(function, settings)
    return (await resources.engines.of(workspace_id)).lacks(settings, needs)


class Readiness:
    """What ``/readyz`` says of speech. It turns nothing away: other agents, and calls that need none, go on."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._found: dict[str, str] = {}
        self._until = 0.0

    async def degraded(self) -> dict[str, str]:
        """``{"speech": "..."}`` while agents of any workspace cannot talk; names nobody, since anybody may ask."""
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + KEPT
            count = 0
            for use in await self._resources.store.agents.speech():
                settings = AgentSettings.model_validate(use.settings)
                if await _lacking(self._resources, use.workspace_id, settings, use.handler, use.socket) is not None:
                    count += use.count
            told = f"{count} agent(s) lack a speech engine, and their calls are declined: anycarrier doctor names them"
            self._found = {"speech": told} if count else {}
        return self._found
