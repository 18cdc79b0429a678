"""Which speech engines a workspace's calls talk with: the service's, or those it has set up for itself."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from anycarrier.agent import Engines
from anycarrier_server.encryption import MasterKeyWrong, SealBroken

if TYPE_CHECKING:
    from anycarrier_server.store import Store

log = logging.getLogger("anycarrier")

FRESH = 1.0
"""Seconds for which what the store says of a workspace's engines is believed."""


@dataclass(slots=True)
class _Known:
    versions: tuple[tuple[UUID, int], ...]
    engines: Engines
    until: float


class WorkspaceEngines:
    """One process's engines, by workspace. What another process changes is noticed within ``FRESH`` seconds."""

    def __init__(self, store: Store, shared: Engines, *, longest_call: float) -> None:
        self._store = store
        self._shared = shared
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
            engines = self._shared.within(settings) if settings else self._shared
            known = self._known[workspace_id] = _Known(versions, engines, 0.0)
        known.until = time.monotonic() + FRESH
        return known.engines

    def changed(self, workspace_id: UUID) -> None:
        """Look again at the next call."""
        if (known := self._known.get(workspace_id)) is not None:
            known.until = 0.0

    async def aclose(self) -> None:
        """Close those that are a workspace's own."""
        for timer in self._retired.values():
            timer.cancel()
        own = {known.engines for known in self._known.values()} | set(self._retired)
        self._known.clear()
        self._retired.clear()
        await asyncio.gather(*(engines.aclose() for engines in own if engines is not self._shared), *self._closing)

    def _retire(self, engines: Engines) -> None:
        """Calls that began with these go on with them: they are closed when the longest of those is over."""
        if engines is not self._shared:
            loop = asyncio.get_running_loop()
            self._retired[engines] = loop.call_later(self._longest_call + 60.0, self._close, engines)

    def _close(self, engines: Engines) -> None:
        del self._retired[engines]
        task = asyncio.ensure_future(engines.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
