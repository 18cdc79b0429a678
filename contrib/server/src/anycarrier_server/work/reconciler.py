"""Calls whose process has died: they are adopted, and brought to an end.

Every process says now and then that it lives. An open call whose process has not done so is adopted by another one's
watch (``anycarrier.call_watch``), which keeps it until it is over. What was written down of it until the death stays.
"""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from sqlalchemy import select

from anycarrier.call_phases import RING_TIME
from anycarrier_server.domain import carrier_listeners
from anycarrier_server.domain.resources import Resources
from anycarrier_server.outage import Watch
from anycarrier_server.store import Store
from anycarrier_server.store.claims import ALIVE_SECONDS
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Claim
from anycarrier_server.work import finished_calls
from anycarrier_server.work.key_rotation import KeyRoll

log = logging.getLogger("anycarrier")

EVERY = 5.0

INVENTORY_EVERY = 60.0
"""Seconds between comparisons of our open calls in the database with those that are watched: what was written down by
a request that failed half-way is in the first only."""


class Reconciler:
    """One process's."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._keys = KeyRoll(resources.store)
        self._missed = False
        self._beat_at: float | None = None
        self._inventory_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def missed_something(self) -> None:
        """A carrier told us of a call, and it could not be written down: the carrier is asked."""
        self._missed = True

    def start(self) -> None:
        """Say that we live, and look after the dead."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._beat(), name="sign of life"),
            loop.create_task(self._run(), name="reconcile calls"),
        ]

    async def stop(self) -> None:
        """Stop both; what we hold is nobody's at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keys.stop()

    async def sign_of_life(self) -> None:
        """Say that we live, and which master keys we hold and use: one that somebody seals with must not be dropped."""
        now, before = asyncio.get_running_loop().time(), self._beat_at
        await self._keys.beat()
        self._beat_at = now
        talking = self._resources.exchange.switchboard.sessions
        if before is not None and now - before > ALIVE_SECONDS and talking:
            # Others took us for dead and may have adopted our calls; calls with audio here are ours.
            await self._resources.store.claims.reclaim([UUID(reference) for reference in talking])
            await self.take_inventory()

    async def _beat(self) -> None:
        watch = Watch("saying that this process lives")
        while True:
            try:
                await self.sign_of_life()
                watch.went_well()
            except Exception as problem:  # noqa: BLE001 the next beat may get through
                watch.failed(problem)
            await asyncio.sleep(EVERY)

    async def _run(self) -> None:
        watch = Watch("looking after the calls of dead processes")
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.round()
                if watch.went_well() or self._missed:
                    self._missed = False
                    self._resources.exchange.call_watch.hurry()
                    await self._settle_ours()
            except Exception as problem:  # noqa: BLE001 the next round may get through
                watch.failed(problem)

    async def round(self) -> int:
        """Adopt the calls of dead processes, and finish what they have left to finish; how many were adopted."""
        resources, adopted = self._resources, 0
        for row in await resources.store.claims.orphans():
            ring_time = float(row.options.get("timeout") or RING_TIME)
            dialled_at = row.dial_claimed_at or row.created_at
            if await resources.exchange.call_watch.adopt(
                row.reference, row.owner or "", ring_time=ring_time, dialled_at=dialled_at
            ):
                adopted += 1
                log.warning("call %s is taken over: the process that had it is gone", row.public_id)
        for reference in await resources.store.claims.abandoned_calls():
            if await resources.store.claims.take(f"settle:{reference}", 60):
                await self._settle(reference)
        now = asyncio.get_running_loop().time()
        if now - self._inventory_at >= INVENTORY_EVERY:
            self._inventory_at = now
            await self.take_inventory()
            await carrier_listeners.look(resources)
        return adopted

    async def take_inventory(self) -> None:
        """Watch every open call that the database says is ours."""
        resources = self._resources
        for row in await resources.store.claims.ours():
            if not resources.exchange.call_watch.watches(row.id.hex):
                call = await resources.exchange.switchboard.calls.get(row.id.hex)
                if call is not None:
                    resources.exchange.call_watch.note(call)

    async def _settle_ours(self) -> None:
        """After an outage: finish what could not be written down of the calls that ended here meanwhile."""
        for reference in await self._resources.store.claims.claimed_calls():
            if reference not in self._resources.agents.talking:
                await self._settle(reference)

    async def _settle(self, call: UUID | str) -> None:
        fresh = await self._resources.store.calls.find(call)
        if fresh is not None and fresh.status == "ended":
            await finished_calls.finish(self._resources, fresh)


async def others_live(store: Store) -> bool:
    """Whether another process has said lately that it lives."""
    beats = select(Claim.name).where(
        Claim.name >= "process:", Claim.name < "process;", Claim.owner != store.owner, Claim.expires_at > utc_now()
    )
    async with store.db.read() as session:
        return await session.scalar(beats.limit(1)) is not None
