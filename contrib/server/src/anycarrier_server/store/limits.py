"""How much a workspace may call in a rolling day, exact under concurrency.

One row per workspace holds the sums of the window and is the lock: a reservation holds it from reading the sums to
adding the call. When a call is admitted it reserves the seconds it may last at most, and when it ends it gives back
what it did not use, so calls at the same time cannot spend the same minutes. Entries older than the window are
subtracted once, when the window moves past them: a reservation costs the same after a million calls as after ten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnClause, Select, bindparam, case, delete, func, insert, literal_column, select, update

from anycarrier.errors import LimitReached
from anycarrier_server.store.columns import seconds_of, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallRow, Usage, UsageWindow
from anycarrier_server.store.statements import Act, Statement, Transaction, table_of

DAY = timedelta(hours=24)

SHORTEST = 0.5
"""Seconds that must be free for a call to be let in: nobody is rung for less."""

RESERVED_FOR = 10.0
"""Seconds after which to ask again when only calls in progress hold the minutes that are left."""

WINDOW, USAGE, CALL = table_of(UsageWindow), table_of(Usage), table_of(CallRow)
MINE = USAGE.c.workspace_id == bindparam("workspace_id")


def _look() -> Select[Any]:
    """All that a reservation must know, at one look. Under the lock the sums are exact; what stands beside them may
    be as old as the wait for it, which is nothing to entries that only leave the window, and to calls still talking."""
    leaving = select(func.max(USAGE.c.id)).where(
        MINE, USAGE.c.at <= bindparam("horizon"), USAGE.c.id > WINDOW.c.swept_to
    )
    oldest = select(func.min(USAGE.c.at)).where(MINE, USAGE.c.at > bindparam("horizon"))
    talking = (
        CALL.c.workspace_id == bindparam("workspace_id"),
        CALL.c.status != word("ended"),
        CALL.c.answered_at.is_not(None),
    )
    return select(
        WINDOW.c.calls,
        WINDOW.c.seconds,
        WINDOW.c.reserved,
        WINDOW.c.swept_to,
        leaving.scalar_subquery().label("leaving"),
        oldest.scalar_subquery().label("oldest"),
        select(func.count()).where(*talking).scalar_subquery().label("talking"),
        select(func.sum(seconds_of(CALL.c.answered_at))).where(*talking).scalar_subquery().label("answered"),
    ).where(WINDOW.c.workspace_id == bindparam("workspace_id"))


PEEK = Statement(_look())
# PostgreSQL's own mark of who wrote a row last: a row that has it still is the row that was read.
VERSION: ColumnClause[str] = literal_column("usage_windows.xmin::text")
PEEK_VERSION = Statement(_look().add_columns(VERSION.label("version")))
LOCK = Statement(_look().with_for_update(of=WINDOW))
BEGIN = Statement(
    lambda insert: insert(WINDOW).on_conflict_do_nothing(),
    columns=["workspace_id", "calls", "seconds", "reserved", "swept_to"],
)
LEAVING = Statement(
    select(
        func.count().label("calls"),
        func.coalesce(func.sum(USAGE.c.seconds), 0.0).label("seconds"),
        func.coalesce(func.sum(case((USAGE.c.settled, 0.0), else_=USAGE.c.reserved)), 0.0).label("reserved"),
    ).where(MINE, USAGE.c.id > bindparam("after"), USAGE.c.id <= bindparam("to"))
)
COUNTED: dict[str, Any] = {name: bindparam(name) for name in ("calls", "seconds", "reserved", "swept_to")}
SET = Statement(update(WINDOW).where(WINDOW.c.workspace_id == bindparam("of")).values(COUNTED))
SET_VERSION = Statement(
    update(WINDOW)
    .where(WINDOW.c.workspace_id == bindparam("of"), bindparam("version") == VERSION)
    .values(COUNTED)
    .returning(WINDOW.c.workspace_id)
)
ADD = Statement(
    update(WINDOW)
    # Of an entry that has left the window, nothing is in the sums.
    .where(WINDOW.c.workspace_id == bindparam("of"), WINDOW.c.swept_to < bindparam("entry"))
    .values(
        calls=WINDOW.c.calls + bindparam("calls"),
        seconds=WINDOW.c.seconds + bindparam("seconds"),
        reserved=WINDOW.c.reserved + bindparam("reserved"),
    )
)
KNOWN = Statement(select(USAGE.c.reserved).where(USAGE.c.call_id == bindparam("call_id")))
SETTLED = Statement(
    select(USAGE.c.id, USAGE.c.workspace_id, USAGE.c.seconds).where(
        USAGE.c.call_id == bindparam("call"), USAGE.c.settled
    )
)
CORRECT = Statement(update(USAGE).where(USAGE.c.id == bindparam("entry")).values(seconds=bindparam("seconds")))
ENTER = Statement(insert(USAGE), columns=["workspace_id", "call_id", "at", "seconds", "reserved", "settled"])
LEAVE = Statement(
    delete(USAGE)
    .where(USAGE.c.call_id == bindparam("call_id"))
    .returning(USAGE.c.id, USAGE.c.workspace_id, USAGE.c.seconds, USAGE.c.reserved, USAGE.c.settled)
)
SETTLE = Statement(
    update(USAGE)
    .where(USAGE.c.call_id == bindparam("call"), ~USAGE.c.settled)
    .values(seconds=bindparam("seconds"), settled=True)
    .returning(USAGE.c.id, USAGE.c.workspace_id, USAGE.c.reserved)
)
NEEDS_LESS = Statement(
    update(USAGE)
    .where(USAGE.c.call_id == bindparam("call"), ~USAGE.c.settled, USAGE.c.reserved == bindparam("had"))
    .values(reserved=bindparam("needs"))
    .returning(USAGE.c.id, USAGE.c.workspace_id)
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Use and limits of the last 24 hours; minutes include those of calls still talking.

    ``minutes_free`` are those that no call in progress has reserved. ``granted``: the seconds reserved for the call
    that asked, which it may not exceed. ``reset_at``: when the oldest entry leaves the window.
    """

    calls_used: int
    calls_limit: int
    minutes_used: float
    minutes_limit: float
    minutes_free: float
    reset_at: datetime
    granted: float = 0.0

    @property
    def calls_remaining(self) -> int:
        return max(0, self.calls_limit - self.calls_used)

    @property
    def minutes_remaining(self) -> float:
        return max(0.0, self.minutes_limit - self.minutes_used)

    @property
    def full(self) -> bool:
        """True when no further call is let in."""
        return not self.calls_remaining or round(self.minutes_free * 60, 6) < SHORTEST

    def as_dict(self) -> dict[str, float]:
        """The six keys both contracts show; limits are whole numbers there."""
        return {
            "calls_used": self.calls_used,
            "calls_remaining": self.calls_remaining,
            "calls_limit": self.calls_limit,
            "minutes_used": round(self.minutes_used, 2),
            "minutes_remaining": round(self.minutes_remaining, 2),
            "minutes_limit": math.ceil(self.minutes_limit),
        }


class OverLimit(LimitReached):
    """The workspace's calls or minutes of the last 24 hours are used up. ``retry_after`` is in seconds."""

    def __init__(self, what: str, snapshot: Snapshot, retry_after: float) -> None:
        self.snapshot = snapshot
        self.limit = "minutes" if snapshot.calls_remaining else "calls"
        super().__init__(f"{what} in 24 hours", retry_after=retry_after)


@dataclass(frozen=True, slots=True)
class Sums:
    """A window's, as they are once what has left it is taken off."""

    calls: int
    seconds: float
    reserved: float
    swept_to: int


class Limits:
    """The rolling day's limits. ``calls`` and ``minutes`` apply to every workspace. ``longest`` are the seconds of a
    call that does not say how long it may be."""

    def __init__(self, db: Database, *, calls: int, minutes: float, longest: float = 600.0) -> None:
        self._db = db
        self.calls = calls
        self.minutes = minutes
        self._longest = longest

    async def reserve(
        self, workspace_id: UUID, call_id: UUID, *, seconds: float | None = None, at: datetime | None = None
    ) -> Snapshot:
        """Count one call and reserve ``seconds`` for it, or what is free, or raise :class:`OverLimit`.

        The call must end after ``granted`` seconds. Reserving for the same call again changes nothing.
        """
        now = at or utc_now()

        async def work(tx: Transaction) -> Snapshot:
            sums, before = await self._locked(tx, workspace_id, now)
            if (granted := await tx.value(KNOWN, call_id=call_id)) is not None:
                return replace(before, granted=granted)
            after, acts = self._entering(sums, before, workspace_id, call_id, seconds, now)
            await tx.run_joined(*acts)
            return after

        return await self._db.transact(work)

    async def admit(
        self, tx: Transaction, workspace_id: UUID, call_id: UUID, seconds: float | None
    ) -> tuple[Snapshot, list[Act]]:
        """Room for a call that is new, as part of a transaction: how things are with it, and what writes it down.

        :class:`OverLimit` when there is none. Nobody else is let in until the transaction ends.
        """
        now = utc_now()
        return self._entering(*await self._locked(tx, workspace_id, now), workspace_id, call_id, seconds, now)

    async def foresee(
        self, workspace_id: UUID, call_id: UUID, seconds: float | None
    ) -> tuple[Snapshot, list[Act]] | None:
        """:meth:`admit` without the lock: the first of what writes it down does nothing if anybody was quicker.

        Only where the database is an optimistic. None for a workspace that has never called.
        """
        now = utc_now()

        async def work(tx: Transaction) -> tuple[str, Sums, Snapshot] | None:
            found = await tx.row(PEEK_VERSION, workspace_id=workspace_id, horizon=now - DAY)
            return None if found is None else (found.version, *await self._seen(tx, found, workspace_id, now))

        seen = await self._db.look(work)
        if seen is None:
            return None
        version, sums, before = seen
        after, ((_, counted), entry) = self._entering(sums, before, workspace_id, call_id, seconds, now)
        return after, [(SET_VERSION, {**counted, "version": version}), entry]

    def _entering(
        self, sums: Sums, before: Snapshot, workspace_id: UUID, call_id: UUID, seconds: float | None, at: datetime
    ) -> tuple[Snapshot, list[Act]]:
        if before.full:
            raise self._over(sums, before, at)
        free = before.minutes_free * 60
        granted = round(min(free, self._longest if seconds is None else seconds), 6)
        counted = {
            "calls": sums.calls + 1,
            "seconds": sums.seconds,
            "reserved": sums.reserved + granted,
            "swept_to": sums.swept_to,
        }
        entry = {
            "workspace_id": workspace_id, "call_id": call_id, "at": at, "seconds": 0.0, "reserved": granted,
            "settled": False,
        }  # fmt: skip
        after = replace(before, calls_used=sums.calls + 1, minutes_free=(free - granted) / 60, granted=granted)
        return after, [(SET, {"of": workspace_id, **counted}), (ENTER, entry)]

    def _over(self, sums: Sums, before: Snapshot, at: datetime) -> OverLimit:
        wait = max(1.0, math.ceil((before.reset_at - at).total_seconds()))
        if not before.calls_remaining:
            return OverLimit(f"{self.calls} calls", before, wait)
        if self.minutes * 60 - sums.seconds < SHORTEST:
            return OverLimit(f"{self.minutes:g} minutes", before, wait)
        held = f"{self.minutes:g} minutes, what is left of them reserved by calls in progress,"
        return OverLimit(held, before, min(wait, RESERVED_FOR))

    async def needs_less(self, call_id: UUID, *, had: float, needs: float) -> None:
        """The call was granted ``had`` seconds and will end after ``needs`` of them: the rest is free at once."""

        async def work(tx: Transaction) -> None:
            entry = await tx.row(NEEDS_LESS, call=call_id, had=had, needs=needs)
            if entry is not None:
                await tx.run(ADD, of=entry.workspace_id, entry=entry.id, calls=0, seconds=0.0, reserved=needs - had)

        if needs < had:
            await self._db.transact(work)

    async def release(self, call_id: UUID) -> None:
        """Give a reservation back: the call was never made."""

        async def work(tx: Transaction) -> None:
            gone = await tx.row(LEAVE, call_id=call_id)
            if gone is not None:
                held = 0.0 if gone.settled else gone.reserved
                took = {"calls": -1, "seconds": -gone.seconds, "reserved": -held}
                await tx.run(ADD, of=gone.workspace_id, entry=gone.id, **took)

        await self._db.transact(work)

    async def snapshot(self, workspace_id: UUID, *, at: datetime | None = None) -> Snapshot:
        """How things stand now."""
        now = at or utc_now()
        seen: Snapshot | None = await self._db.look(lambda tx: self._peek(tx, workspace_id, now))
        return seen or (await self._db.transact(lambda tx: self._locked(tx, workspace_id, now)))[1]

    async def _peek(self, tx: Transaction, workspace_id: UUID, at: datetime) -> Snapshot | None:
        found = await tx.row(PEEK, workspace_id=workspace_id, horizon=at - DAY)
        return (await self._seen(tx, found, workspace_id, at))[1] if found is not None else None

    async def _locked(self, tx: Transaction, workspace_id: UUID, at: datetime) -> tuple[Sums, Snapshot]:
        """As things are, and will be until the transaction ends."""
        asked = {"workspace_id": workspace_id, "horizon": at - DAY}
        found = await tx.row(LOCK, **asked)
        if found is None:
            await tx.run(BEGIN, workspace_id=workspace_id, calls=0, seconds=0.0, reserved=0.0, swept_to=0)
            found = await tx.row(LOCK, **asked)
        return await self._seen(tx, found, workspace_id, at)

    async def _seen(self, tx: Transaction, found: Any, workspace_id: UUID, at: datetime) -> tuple[Sums, Snapshot]:
        sums = Sums(found.calls, found.seconds, found.reserved, found.swept_to)
        if found.leaving is not None:
            gone = await tx.row(LEAVING, workspace_id=workspace_id, after=sums.swept_to, to=found.leaving)
            sums = Sums(
                sums.calls - gone.calls,
                max(0.0, sums.seconds - gone.seconds),
                max(0.0, sums.reserved - gone.reserved),
                found.leaving,
            )
        live = max(0.0, found.talking * at.timestamp() - (found.answered or 0.0))
        # Calls from before there were reservations have none, and talk all the same.
        held = max(live, sums.reserved)
        return sums, Snapshot(
            calls_used=sums.calls,
            calls_limit=self.calls,
            minutes_used=(sums.seconds + live) / 60,
            minutes_limit=self.minutes,
            minutes_free=max(0.0, self.minutes - (sums.seconds + held) / 60),
            reset_at=(found.oldest or at) + DAY,
        )


async def settle(tx: Transaction, call_id: UUID, seconds: float) -> None:
    """Write down how long a counted call talked, in the transaction that ends it, and free what it had reserved.

    Once for each call; calls not counted are ignored.
    """
    entry = await tx.row(SETTLE, call=call_id, seconds=max(0.0, seconds))
    if entry is not None:
        took = {"calls": 0, "seconds": max(0.0, seconds), "reserved": -entry.reserved}
        await tx.run(ADD, of=entry.workspace_id, entry=entry.id, **took)


async def correct(tx: Transaction, call_id: UUID, seconds: float) -> None:
    """Write down anew how long a call talked that was settled before; the caller holds its row."""
    entry = await tx.row(SETTLED, call=call_id)
    if entry is not None:
        await tx.run(CORRECT, entry=entry.id, seconds=seconds)
        took = {"calls": 0, "seconds": seconds - entry.seconds, "reserved": 0.0}
        await tx.run(ADD, of=entry.workspace_id, entry=entry.id, **took)
