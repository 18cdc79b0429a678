"""Whether agents have the speech engines that their calls need: told when it is set up, not by a silent call.

An agent with a WebSocket may do its own speech, which it says when it is connected. Of such an agent only the engines
that it names can be judged before; one that names none has a *doubt* where the service has no engine for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from anycarrier.agent import ENGINE_SETTINGS, AgentSettings, speech_needs
from anycarrier.errors import SpeechNotReady
from anycarrier_server import handlers
from anycarrier_server.domain.agents import settings_of
from anycarrier_server.store.models import Agent

if TYPE_CHECKING:
    from anycarrier_server.service import Service

KEPT = 15.0
"""Seconds for which :func:`degraded` is not asked anew: balancers ask often."""

STARTING = 3.0
"""Seconds that setting up an agent waits for its engines to start, to tell how that went."""


async def lacking(
    service: Service, agent: Agent, *, socket: bool | None = None, overrides: Mapping[str, Any] | None = None
) -> str | None:
    """Why no call with this agent is answered or dialled, None when it can talk. ``socket``: whether the call goes to a
    WebSocket, by default when the agent has one; ``overrides`` are one call's settings."""
    has_socket = bool(agent.websocket_url) if socket is None else socket
    settings = settings_of(agent, overrides)
    return await _lacking(service, agent.workspace_id, settings, agent.handler, has_socket)


async def doubt(service: Service, agent: Agent) -> str | None:
    """What an agent with a WebSocket lacks unless it does its own speech; None when it can talk either way."""
    if not agent.websocket_url or await lacking(service, agent) is not None:
        return None
    engines = await service.agents.engines_of(agent.workspace_id)
    settings = settings_of(agent)
    lacks = engines.lacks(settings, speech_needs(None, settings))
    return f"unless it does its own speech, its calls are declined: {lacks}" if lacks is not None else None


def declined(lacks: str) -> str:
    """What is told to whoever can mend it."""
    return f"its calls are declined: {lacks} (anycarrier engines ls|set: what is installed, and its settings)"


async def refuse_unready(
    service: Service, agent: Agent, *, socket: bool | None = None, overrides: Mapping[str, Any] | None = None
) -> None:
    """``SpeechNotReady`` when a call with this agent would be silent."""
    if (lacks := await lacking(service, agent, socket=socket, overrides=overrides)) is not None:
        raise SpeechNotReady(agent.public_id, lacks)


async def warnings(service: Service, agent: Agent) -> list[str]:
    """What whoever sets the agent up should hear; none when all is well."""
    await service.agents.started(agent, STARTING)
    if (lacks := await lacking(service, agent)) is not None:
        return [declined(lacks)]
    unsure = await doubt(service, agent)
    return [unsure] if unsure is not None else []


async def _lacking(
    service: Service, workspace_id: UUID, settings: AgentSettings, handler: str | None, socket: bool
) -> str | None:
    if socket:
        needs = {ability for ability, (named, _) in ENGINE_SETTINGS.items() if getattr(settings, named) is not None}
        needs |= {"speak"} if settings.first_message.strip() else set()
    else:
        function = service.handlers.get(handler) if handler else handlers.listen
        if function is None:
            return f"no handler {handler!r} is configured here (ANYCARRIER_HANDLERS)"
        needs = speech_needs(function, settings)
    return (await service.agents.engines_of(workspace_id)).lacks(settings, needs)


class Readiness:
    """What ``/readyz`` says of speech. It turns nothing away: other agents, and calls that need none, go on."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._found: dict[str, str] = {}
        self._until = 0.0

    async def degraded(self) -> dict[str, str]:
        """``{"speech": "..."}`` while agents of any workspace cannot talk; names nobody, since anybody may ask."""
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + KEPT
            count = 0
            for use in await self._service.store.agents.speech():
                named = {**use.engines, "first_message": "." if use.greets else ""}
                settings = AgentSettings(**named)  # type: ignore[arg-type]
                if await _lacking(self._service, use.workspace_id, settings, use.handler, use.socket) is not None:
                    count += use.count
            told = f"{count} agent(s) lack a speech engine, and their calls are declined: anycarrier doctor names them"
            self._found = {"speech": told} if count else {}
        return self._found
