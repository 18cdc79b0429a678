"""Calls whose process has died: the carrier is asked how they stand, and they are brought to an end.

Every process says now and then that it lives. A call in progress whose process has not done so belongs to nobody: its
sound has no place to go. One that still rings goes on under our name, because its webhooks and its media socket may
land anywhere; one that was talking is hung up. What was written down of it until the kill stays.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select

from linecard.calls import Call, CallStatus, EndReason
from linecard.errors import LinecardError, NotFound, ProviderUnavailable, RateLimited, UnsupportedOperation
from linecard.server import aftermath, unsettled
from linecard.server.key_roll import KeyRoll
from linecard.server.outage import Watch
from linecard.server.store import Store
from linecard.server.store.columns import utc_now, word
from linecard.server.store.models import CallRow, Claim

if TYPE_CHECKING:
    from linecard.server.service import Service

log = logging.getLogger("linecard")

EVERY = 5.0
UNNAMED_FOR = timedelta(seconds=40)
"""How long a dialled call without a carrier's id may still be named by a webhook."""

GIVE_UP = timedelta(minutes=30)
"""After this without a word from the carrier, the call is written off."""


class Reconciler:
    """One process's; which of them takes a call is settled by a claim."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._keys = KeyRoll(service.store)
        self._missed = False
        self._tasks: list[asyncio.Task[None]] = []

    def missed_something(self) -> None:
        """A carrier told us of a call, and it could not be written down: it is asked again (:meth:`catch_up`)."""
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
        await self._keys.beat()

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
                    await self.catch_up()
            except Exception as problem:  # noqa: BLE001 the next round may get through
                watch.failed(problem)

    async def round(self) -> int:
        """Look after every orphan once; how many were brought to an end."""
        ended = 0
        store = self._service.store
        for row in await store.claims.orphans():
            if row.reference in self._service.exchange.sessions:
                await store.calls.note(row.id, owner=store.owner)  # ours, if late to say so
            elif await store.claims.take(f"reconcile:{row.reference}", 60):
                try:
                    ended += await self._reconcile(row)
                except LinecardError as problem:
                    log.warning("call %s of a dead process: %s", row.public_id, problem)
        for reference in await unsettled.left_behind(store):
            if await store.claims.take(f"settle:{reference}", 60):
                await self._settle(reference)
        return ended

    async def catch_up(self) -> int:
        """After an outage: calls of ours whose end the carrier has told to nobody; how many had ended."""
        store, exchange = self._service.store, self._service.exchange
        ours = select(CallRow).where(CallRow.owner == store.owner, CallRow.status != word("ended")).limit(200)
        async with store.db.read() as session:
            rows = list(await session.scalars(ours))
        ended = 0
        for row in rows:
            call = await exchange.calls.get(row.reference)
            if call is None or call.ended or not call.id or row.reference in exchange.sessions:
                continue
            try:
                if (await exchange.fetch_call(call)).ended:
                    ended += 1
                    await self._settle(row.id)
            except LinecardError as problem:
                log.warning("call %s could not be asked for after the outage: %s", row.public_id, problem)
        return ended

    async def _reconcile(self, row: CallRow) -> bool:
        exchange = self._service.exchange
        call = await exchange.calls.get(row.reference)
        if call is None or call.ended:
            return False
        if not call.id:
            if row.updated_at > utc_now() - UNNAMED_FOR:
                return False
            await self._end(row, call, EndReason.PROVIDER_UNAVAILABLE)
            return True
        try:
            call = await exchange.fetch_call(call)
        except (NotFound, UnsupportedOperation):
            await self._hang_up(call)
            await self._end(row, call, EndReason.MEDIA_ERROR)
            return True
        except (ProviderUnavailable, RateLimited):
            if row.updated_at > utc_now() - GIVE_UP:
                return False
            await self._end(row, call, EndReason.PROVIDER_UNAVAILABLE)
            return True
        if call.ended:
            await self._settle(row.id)
            return True
        if call.status is not CallStatus.ANSWERED or call.intent is EndReason.TRANSFERRED:
            await self._service.store.calls.note(row.id, owner=self._service.store.owner)
            return False
        await self._hang_up(call)
        await self._end(row, call, EndReason.MEDIA_ERROR)
        return True

    async def _hang_up(self, call: Call) -> None:
        try:
            await self._service.exchange.hang_up(call, EndReason.MEDIA_ERROR)
            await self._service.exchange.wait_for(call, CallStatus.ENDED, 5.0)
        except (LinecardError, TimeoutError) as problem:
            log.warning("a call of a dead process on %s did not hang up: %s", call.provider, problem)

    async def _end(self, row: CallRow, call: Call, reason: EndReason) -> None:
        await self._service.exchange.end_locally(call, reason)
        log.warning("call %s was ended: the process that held it is gone", row.public_id)
        await self._settle(row.id)

    async def _settle(self, call: UUID | str) -> None:
        fresh = await self._service.store.calls.find(call)
        if fresh is not None and fresh.status == "ended":
            await aftermath.settle(self._service, fresh)


async def others_live(store: Store) -> bool:
    """Whether another process has said lately that it lives."""
    beats = select(Claim.name).where(
        Claim.name >= "process:", Claim.name < "process;", Claim.owner != store.owner, Claim.expires_at > utc_now()
    )
    async with store.db.read() as session:
        return await session.scalar(beats.limit(1)) is not None
