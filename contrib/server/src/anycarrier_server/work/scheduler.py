"""Scheduled calls, dialled when they are due and their carrier account and number have room.

Every process runs one. A due call is claimed with its row locked and others' locks skipped, so each is dialled by one
process, and once ever: a process that dies after the claim leaves a call that nobody dials again, because a person
may be hearing it ring.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select

from anycarrier.calls import EndReason
from anycarrier.errors import AnycarrierError
from anycarrier_server.domain import call_limits, place_call
from anycarrier_server.domain.agent_overrides import WITHOUT_SOCKET
from anycarrier_server.domain.place_call import check_destination
from anycarrier_server.domain.resources import Resources
from anycarrier_server.domain.speech_engines import refuse_unready
from anycarrier_server.outage import Watch
from anycarrier_server.store import OverLimit
from anycarrier_server.store.columns import utc_now, word
from anycarrier_server.store.models import CallRow

log = logging.getLogger("anycarrier")

POLL = 1.0
"""Seconds between looks at the schedule."""

AT_ONCE = 20


class Scheduler:
    """One process's dialler of scheduled calls."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="scheduled calls")

    async def stop(self) -> None:
        """Claim nothing more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def expect(self, at: datetime) -> None:
        """A call is due at ``at``: look then, if that is before the next look."""
        wait = (at - utc_now()).total_seconds()
        if wait < POLL:
            asyncio.get_running_loop().call_later(max(0.0, wait), self._bell.set)

    async def _run(self) -> None:
        watch = Watch("looking for scheduled calls")
        while True:
            try:
                if not self._resources.draining:
                    await self.round()
                    watch.went_well()
            except Exception as problem:  # noqa: BLE001 the next look may get through
                watch.failed(problem)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._bell.wait()
            self._bell.clear()

    async def round(self) -> int:
        """Dial what is due and has room; how many were begun."""
        begun = 0
        for call in await self._due():
            self._resources.spawn(self._dial(call), "dial a scheduled call")
            begun += 1
        return begun

    async def _due(self) -> list[CallRow]:
        resources = self._resources
        if not call_limits.limited(resources):
            return await resources.store.calls.claim_due(resources.store.owner, limit=AT_ONCE)
        found: list[CallRow] = []
        full: dict[str, set[object]] = {"credential": set(), "number": set()}
        # Calls that have to wait must not block the calls behind them.
        while len(found) < AT_ONCE and (calls := await self._waiting(full, AT_ONCE - len(found))):
            for call in calls:
                if call.credential_id in full["credential"] or call.from_number in full["number"]:
                    continue
                try:
                    if await call_limits.take_room(resources, call):
                        found.append(call)
                except call_limits.NoRoom as no:  # its turn comes when there is room
                    full[no.whose].add(call.credential_id if no.whose == "credential" else call.from_number)
        return found

    async def _waiting(self, full: Mapping[str, Collection[object]], limit: int) -> list[CallRow]:
        """Calls that are due, the longest due first, but for those of accounts and numbers without room."""
        waiting = (
            select(CallRow)
            .where(
                CallRow.status == word("queued"),
                CallRow.scheduled_at <= utc_now(),
                CallRow.dial_claimed_at.is_(None),
                CallRow.credential_id.not_in(full["credential"]),
                CallRow.from_number.not_in(full["number"]),
            )
            .order_by(CallRow.scheduled_at)
            .limit(limit)
        )
        async with self._resources.store.db.read() as session:
            return list(await session.scalars(waiting))

    async def _dial(self, call: CallRow) -> None:
        resources = self._resources
        routed = await resources.store.calls.routed(call.reference)
        agent = routed.agent if routed is not None else None
        if routed is None or agent is None or agent.deleted_at is not None:
            await place_call.give_up(resources, call, EndReason.AGENT_ERROR)
            return
        try:
            await check_destination(resources, agent, call.from_number, call.to_number)
            socket = bool(call.websocket_url or agent.websocket_url) and not call.options.get(WITHOUT_SOCKET)
            await refuse_unready(resources, agent, socket=socket, overrides=call.options.get("settings"))
            limits = await resources.store.limits.reserve(call.workspace_id, call.id, seconds=call.time_limit)
            resources.metrics.let_in(limits)
            if call.time_limit is None or limits.granted < call.time_limit:
                call.time_limit = limits.granted
                await resources.exchange.switchboard.update(
                    call.reference, lambda known: known.model_copy(update={"time_limit": limits.granted})
                )
        except AnycarrierError as refused:
            await resources.store.calls.note(call.id, error=place_call.error_note(refused))
            over = isinstance(refused, OverLimit)
            if isinstance(refused, OverLimit):
                resources.metrics.refused(refused.limit)
            await place_call.give_up(resources, call, EndReason.CONCURRENCY_LIMIT if over else EndReason.REJECTED)
            return
        try:
            await place_call.ring(resources, replace(routed, call=call))
        except AnycarrierError as refused:
            log.warning("scheduled call %s was not made: %s", call.public_id, refused)
