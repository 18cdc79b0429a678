"""What an agent of the store runs with: its settings, the handlers that every service has by name, and the speech
engines of its workspace (the service's, or those that the workspace has set up for itself).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from anycarrier.agent import AgentCall, AgentFunction, AgentSettings, Engines
from anycarrier.errors import AnycarrierError
from anycarrier_server.encryption import MasterKeyWrong, SealBroken
from anycarrier_server.store import Store
from anycarrier_server.store.models import Agent

log = logging.getLogger("anycarrier")


def settings_of(agent: Agent, overrides: Mapping[str, Any] | None = None) -> AgentSettings:
    """How the agent behaves; ``overrides`` (one call's) win. What is stored was checked, so this does not fail."""
    known = {k: v for k, v in {**agent.settings, **(overrides or {})}.items() if k in AgentSettings.model_fields}
    return AgentSettings.model_validate(known)


async def listen(call: AgentCall) -> None:
    """Says its first message, then listens until somebody hangs up; what is said is in the transcript."""
    async for _ in call.turns():
        pass


listen.needs = ("listen",)  # type: ignore[attr-defined]


async def repeat(call: AgentCall) -> None:
    """Says back what it understood."""
    async for turn in call.turns():
        await call.say(f"You said: {turn.text}")


BUILT_IN: Mapping[str, AgentFunction] = {"listen": listen, "repeat": repeat}


FRESH = 1.0
"""Seconds for which what the store says of a workspace's engines is believed."""


@dataclass(slots=True)
class _Known:
    versions: tuple[tuple[UUID, int], ...]
    engines: Engines
    until: float


class WorkspaceEngines:
    """One process's engines, by workspace. What another process changes is noticed within ``FRESH`` seconds."""

    def __init__(
        self,
        store: Store,
        shared: Engines,
        *,
        longest_call: float,
        spawn: Callable[[Coroutine[Any, Any, Any], str], Any],
    ) -> None:
        self._store = store
        self.shared = shared
        """The service's own, which a workspace uses that has set up none."""
        self._spawn = spawn
        self._keeps_ready = False
        self._longest_call = longest_call
        self._known: dict[UUID, _Known] = {}
        self._retired: dict[Engines, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def of(self, workspace_id: UUID) -> Engines:
        """The engines of this workspace's agents."""
        known = self._known.get(workspace_id)
        if known is not None and time.monotonic() < known.until:
            return known.engines
        rows = await self._store.engines.list(workspace_id)
        versions = tuple((row.id, row.version) for row in rows)
        known = self._known.get(workspace_id)  # another call may have looked meanwhile
        if known is None or known.versions != versions:
            if known is not None:
                self._retire(known.engines)
            settings = {}
            for row in rows:
                try:
                    settings[row.name] = self._store.engines.settings(row)
                except (MasterKeyWrong, SealBroken) as lost:
                    # Not the service's key in its place: that account is somebody else's.
                    log.error("settings of speech engine %s cannot be read: %s", row.name, lost)
                    settings[row.name] = {"unreadable": "enter them again"}
            engines = self.shared.within(settings) if settings else self.shared
            known = self._known[workspace_id] = _Known(versions, engines, 0.0)
        known.until = time.monotonic() + FRESH
        return known.engines

    def changed(self, workspace_id: UUID) -> None:
        """Look again at the next call."""
        if (known := self._known.get(workspace_id)) is not None:
            known.until = 0.0

    async def keep_ready(self, configured: Iterable[str]) -> None:
        """Load the speech engines that the agents here talk with, and those of every agent made or changed from now on.

        Loading goes on in the background: who calls meanwhile waits for the rest of it. Without agents nothing is
        loaded. ``configured``: engines that the service's settings configure.
        """
        self._keeps_ready = True
        for name in configured:
            try:
                self.shared.engine(name)
            except AnycarrierError as problem:
                where = f"ANYCARRIER_ENGINES__{name.upper()}__..., or the table [engines.{name}]"
                log.error("the settings (%s) configure speech engine %s, and it is not ready: %s", where, name, problem)
        for use in await self._store.agents.speech():
            engines = await self.of(use.workspace_id)
            engines.start_soon(engines.needed(AgentSettings.model_validate(use.settings)))

    def agent_changed(self, agent: Agent) -> None:
        """An agent was made or changed."""
        if self._keeps_ready:
            self._spawn(self._load_for(agent), "load an agent's speech engines")

    async def started(self, agent: Agent, seconds: float) -> None:
        """Wait until the agent's engines have been started, well or not; where none are kept ready, at once."""
        if self._keeps_ready:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._load_for(agent)
                    await (await self.of(agent.workspace_id)).settled()

    async def _load_for(self, agent: Agent) -> None:
        engines = await self.of(agent.workspace_id)
        engines.start_soon(engines.needed(settings_of(agent)))

    async def aclose(self) -> None:
        """Close those that are a workspace's own."""
        for timer in self._retired.values():
            timer.cancel()
        own = {known.engines for known in self._known.values()} | set(self._retired)
        self._known.clear()
        self._retired.clear()
        await asyncio.gather(*(engines.aclose() for engines in own if engines is not self.shared), *self._closing)

    def _retire(self, engines: Engines) -> None:
        """Calls that began with these go on with them: they are closed when the longest of those is over."""
        if engines is not self.shared:
            loop = asyncio.get_running_loop()
            self._retired[engines] = loop.call_later(self._longest_call + 60.0, self._close, engines)

    def _close(self, engines: Engines) -> None:
        del self._retired[engines]
        task = asyncio.ensure_future(engines.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
