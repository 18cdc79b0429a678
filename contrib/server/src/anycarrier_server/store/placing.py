"""A new outbound call and its place in the day's limit: both are written down, or neither."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID
from weakref import WeakValueDictionary

from anycarrier_server.store.callbook import SqlCallBook
from anycarrier_server.store.calls import Calls
from anycarrier_server.store.database import Database
from anycarrier_server.store.limits import Limits, Snapshot
from anycarrier_server.store.models import CallRow
from anycarrier_server.store.new_calls import NewCall, writing
from anycarrier_server.store.transactions import Optimist, Transaction


class Placing:
    """One process's. A call may last as long as there were minutes for it to reserve."""

    def __init__(self, db: Database, calls: Calls, limits: Limits, callbook: SqlCallBook, *, owner: str = "") -> None:
        self._db = db
        self._calls = calls
        self._limits = limits
        self._callbook = callbook
        self._owner = owner or None
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def place(self, new: NewCall) -> tuple[CallRow, bool, Snapshot]:
        """The call, whether it is new, and how much is left; :class:`OverLimit` when nothing is."""
        optimist = self._db.optimist
        if optimist is not None and new.idempotency_key is None:
            # In turn: those of one process would otherwise only spoil each other's look.
            async with self._turns.setdefault(new.line.workspace_id, asyncio.Lock()):
                done = await self._at_once(optimist, new)
            if done is not None:
                return done
        return await self._db.transact(lambda tx: self._under_lock(tx, new))

    async def _at_once(self, optimist: Optimist, new: NewCall) -> tuple[CallRow, bool, Snapshot] | None:
        """Look, and act if nobody was quicker; None when somebody was, or has to be first."""
        seen = await self._limits.foresee(new.line.workspace_id, new.id, new.time_limit)
        if seen is None:
            return None
        snapshot, (guard, *entering) = seen
        written = writing(_capped(new, snapshot), self._owner)
        version = await optimist.act_if(1, guard, *written.acts, *entering)
        if version is None:
            return None
        self._callbook.remember(written.row, version)
        return written.row, True, snapshot

    async def _under_lock(self, tx: Transaction, new: NewCall) -> tuple[CallRow, bool, Snapshot]:
        snapshot, entering = await self._limits.admit(tx, new.line.workspace_id, new.id, new.time_limit)
        return *await self._calls.create_in(tx, _capped(new, snapshot), *entering), snapshot


def _capped(new: NewCall, snapshot: Snapshot) -> NewCall:
    return replace(new, time_limit=snapshot.granted)
