"""A new outbound call: written down before it is dialled, together with its place in the day's limit.

The same request with the same idempotency key is the same call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy import bindparam, insert, select, update

from anycarrier_server.refusals import IdempotencyConflict
from anycarrier_server.store import call_state
from anycarrier_server.store.call_state import LOG
from anycarrier_server.store.callbook import SqlCallBook
from anycarrier_server.store.columns import new_id, utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.limits import Limits, Snapshot
from anycarrier_server.store.models import CallRow, LineRow
from anycarrier_server.store.statements import Act, OptimisticDriver, Statement, Transaction, as_stored, table_of

TABLE = table_of(CallRow)
CREATED = (
    "id", "workspace_id", "credential_id", "line_id", "agent_id", "provider", "direction", "from_number", "to_number",
    "status", "stage", "time_limit", "is_blocked", "raw", "variables", "metadata", "overrides", "options",
    "webhook_url", "websocket_url", "scheduled_at", "idempotency_key", "body_hash", "created_at", "updated_at", "owner",
)  # fmt: skip
CREATE = Statement(insert(TABLE), columns=CREATED)
CREATE_UNLESS_THERE = Statement(
    lambda insert: insert(TABLE).on_conflict_do_nothing().returning(TABLE.c.id), columns=CREATED
)
# A key is free again after a day: let go of it, so that it can be taken anew.
FREE_KEY = Statement(
    update(TABLE)
    .where(
        TABLE.c.workspace_id == bindparam("of"),
        TABLE.c.idempotency_key == bindparam("key"),
        TABLE.c.created_at < bindparam("before"),
    )
    .values(idempotency_key=None, updated_at=TABLE.c.updated_at)
)
BY_KEY = Statement(
    select(TABLE).where(TABLE.c.workspace_id == bindparam("of"), TABLE.c.idempotency_key == bindparam("key")),
    into=[CallRow],
)

IDEMPOTENCY = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """An outbound call to be made on ``line``; ``id`` becomes the exchange's reference (``id.hex``).

    ``options`` are a face's own settings (voicemail, mode ...); ``body_hash`` is of the request, for idempotency.
    """

    line: LineRow
    to_number: str
    agent_id: UUID | None
    id: UUID = field(default_factory=new_id)
    variables: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None
    websocket_url: str | None = None
    time_limit: float | None = None
    scheduled_at: datetime | None = None
    idempotency_key: str | None = None
    body_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Writing:
    """What writes a new call down: its row, and what goes with it."""

    values: dict[str, Any]
    with_it: list[Act]

    @property
    def row(self) -> CallRow:
        """The row as it will be."""
        return as_stored(CallRow, self.values)

    @property
    def acts(self) -> list[Act]:
        """All of it, for a call that cannot be there yet."""
        return [(CREATE, self.values), *self.with_it]


def writing(new: NewCall, owner: str | None) -> Writing:
    """How ``new`` is written down, as the call of process ``owner``."""
    now = utc_now()
    stage = "queued" if new.scheduled_at else "initiated"
    of = new.line.workspace_id
    values = {
        "id": new.id,
        "workspace_id": of,
        "credential_id": new.line.credential_id,
        "line_id": new.line.id,
        "agent_id": new.agent_id,
        "provider": new.line.provider,
        "direction": "outbound",
        "from_number": new.line.number,
        "to_number": new.to_number,
        "status": stage,
        "stage": stage,
        "time_limit": new.time_limit,
        "is_blocked": False,
        "raw": {},
        "variables": dict(new.variables),
        "metadata": dict(new.metadata),
        "overrides": dict(new.overrides),
        "options": dict(new.options),
        "webhook_url": new.webhook_url,
        "websocket_url": new.websocket_url,
        "scheduled_at": new.scheduled_at,
        "idempotency_key": new.idempotency_key,
        "body_hash": new.body_hash,
        "created_at": now,
        "updated_at": now,
        "owner": owner,
    }
    with_it = [
        call_state.counting(((of, new.agent_id, "outbound", stage, False), 1)),
        LOG.of([{"call_id": new.id, "kind": "call.created", "at": now, "payload": {}}]),
    ]
    return Writing(values, with_it)


async def create(tx: Transaction, new: NewCall, owner: str | None, acts: Sequence[Act]) -> tuple[CallRow, bool]:
    """The call's row, and whether it is new; ``acts`` are done together with a new one."""
    written = writing(new, owner)
    if new.idempotency_key is None:
        await tx.run_joined(*written.acts, *acts)
        return written.row, True
    of = new.line.workspace_id
    await tx.run(FREE_KEY, of=of, key=new.idempotency_key, before=utc_now() - IDEMPOTENCY)
    if await tx.value(CREATE_UNLESS_THERE, **written.values) is None:
        known: CallRow = await tx.row(BY_KEY, of=of, key=new.idempotency_key)
        if known.body_hash != new.body_hash:
            raise IdempotencyConflict(known.id)
        return known, False
    await tx.run_joined(*written.with_it, *acts)
    return written.row, True


class Placing:
    """One process's. A call may last as long as there were minutes for it to reserve."""

    def __init__(self, db: Database, limits: Limits, callbook: SqlCallBook, *, owner: str = "") -> None:
        self._db = db
        self._limits = limits
        self._callbook = callbook
        self._owner = owner or None
        self._one_at_a_time: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def place(self, new: NewCall) -> tuple[CallRow, bool, Snapshot]:
        """The call, whether it is new, and how much is left; :class:`OverLimit` when nothing is."""
        optimistic = self._db.optimistic
        if optimistic is not None and new.idempotency_key is None:
            # In turn: those of one process would otherwise only spoil each other's look.
            async with self._one_at_a_time.setdefault(new.line.workspace_id, asyncio.Lock()):
                done = await self._at_once(optimistic, new)
            if done is not None:
                return done
        return await self._db.transact(lambda tx: self._under_lock(tx, new))

    async def _at_once(self, optimistic: OptimisticDriver, new: NewCall) -> tuple[CallRow, bool, Snapshot] | None:
        """Look, and act if nobody was quicker; None when somebody was, or has to be first."""
        seen = await self._limits.foresee(new.line.workspace_id, new.id, new.time_limit)
        if seen is None:
            return None
        snapshot, (guard, *entering) = seen
        written = writing(_capped(new, snapshot), self._owner)
        version = await optimistic.act_if(1, guard, *written.acts, *entering)
        if version is None:
            return None
        self._callbook.remember(written.row, version)
        return written.row, True, snapshot

    async def _under_lock(self, tx: Transaction, new: NewCall) -> tuple[CallRow, bool, Snapshot]:
        snapshot, entering = await self._limits.admit(tx, new.line.workspace_id, new.id, new.time_limit)
        return *await create(tx, _capped(new, snapshot), self._owner, entering), snapshot


def _capped(new: NewCall, snapshot: Snapshot) -> NewCall:
    return replace(new, time_limit=snapshot.granted)
