"""The exchange's call book on the database: calls in progress, seen and changed by every process.

A change is one transaction: the row is locked, read, changed and written, and with it go the call's log, the tally,
the minutes used, and what subscribers will be told. Either all of it happened or none of it did.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, select

from anycarrier.calls import Call, CallStatus
from anycarrier.errors import UnknownCall, UnknownCredential
from anycarrier_server.store import call_state, claims
from anycarrier_server.store.call_state import (
    ENDING,
    LIVE,
    LOCK,
    LOG,
    READ,
    READ_VERSION,
    TABLE,
    TAKEN,
    announcements,
    as_call,
    as_columns,
    call_events,
    changing,
    changing_version,
    once_key,
)
from anycarrier_server.store.columns import new_id, parse_id, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.limits import correct, settle
from anycarrier_server.store.models import Agent, CredentialRow, LineRow, OutboxEvent
from anycarrier_server.store.statements import Act, Rows, Statement, Transaction, table_of

CREDENTIAL, LINE, AGENT = table_of(CredentialRow), table_of(LineRow), table_of(Agent)
SEEN = 256
"""Rows kept in mind between a look at a call and the change that follows."""
PLACE = Statement(
    select(CREDENTIAL.c.workspace_id, LINE.c.id.label("line_id"), AGENT.c.id.label("agent_id"))
    .select_from(CREDENTIAL)
    .outerjoin(
        LINE,
        and_(
            LINE.c.credential_id == CREDENTIAL.c.id,
            LINE.c.number == bindparam("number"),
            LINE.c.status != word("released"),
        ),
    )
    .outerjoin(AGENT, and_(AGENT.c.id == bindparam("agent"), AGENT.c.workspace_id == CREDENTIAL.c.workspace_id))
    .where(CREDENTIAL.c.id == bindparam("credential"))
)
EMPTY: dict[str, Any] = {"variables": {}, "metadata": {}, "overrides": {}, "options": {}, "is_blocked": False}
"""What a call that nobody asked for has of these."""
OPEN = Statement(
    lambda insert: insert(TABLE).on_conflict_do_nothing().returning(TABLE.c.id),
    columns=[
        "id", "workspace_id", "provider", "credential_id", "line_id", "agent_id", "carrier_id", "direction",
        "from_number", "to_number", "status", "stage", "reason", "intent", "transfer", "carrier_status",
        "carrier_reason", "sip_code", "answered_by", "time_limit", "price", "facts", "raw", "created_at",
        "answered_at", "ended_at", "updated_at", "owner", *EMPTY,
    ],
)  # fmt: skip
TELL = Rows(OutboxEvent, ["event_id", "workspace_id", "call_id", "kind", "at", "payload", "dedupe"], unless_there=True)


class SqlCallBook:
    """:class:`anycarrier.callbook.CallBook`. ``owner`` names this process on the calls it opens."""

    def __init__(self, db: Database, *, owner: str = "") -> None:
        self._db = db
        self._owner = owner or None
        self._seen: OrderedDict[UUID, tuple[Any, str]] = OrderedDict()

    async def open(self, call: Call) -> Call:
        """Write a new call down, or return the one already known by its reference or carrier id.

        ``UnknownCredential`` when the call's credential is not in the store: without it nobody owns the call.
        """
        id_ = parse_id("call", call.reference) or new_id()
        now, owner = utc_now(), call.owner or self._owner

        async def work(tx: Transaction) -> tuple[Call, bool]:
            workspace_id, place = await self._place(tx, call)
            values = {
                **EMPTY,
                **as_columns(call),
                **place,
                "workspace_id": workspace_id,
                "id": id_,
                "created_at": call.created_at or now,
                "updated_at": now,
                "owner": owner,
            }
            if await tx.value(OPEN, **values) is None:
                known = {"id": id_, "credential_id": place["credential_id"], "carrier_id": call.id}
                return as_call(await tx.row(TAKEN, **known)), False
            sort = (workspace_id, place["agent_id"], call.direction.value, values["stage"], False)
            # What a call brings with it when it is first seen (already answered, say) is told as well.
            nothing = call.model_copy(
                update={"status": CallStatus.QUEUED, "answered_at": None, "ended_at": None, "answered_by": None}
            )
            acts, told = _record(id_, workspace_id, nothing, call, tell=True)
            await tx.run_joined(call_state.counting((sort, 1)), *acts)
            if call.ended:
                await settle(tx, id_, call.duration)
            kept = {"reference": id_.hex, "created_at": values["created_at"], "owner": owner or ""}
            return call.model_copy(update=kept), told

        opened, told = await self._db.transact(work)
        if told:
            self._db.on_announcement()
        return opened

    async def get(self, key: str) -> Call | None:
        row = await self._find(key)
        if row is None:
            return None
        if self._db.optimistic is not None:
            self.remember(row, row.version)
        return as_call(row)

    def remember(self, row: Any, version: str) -> None:
        """The row as it was a moment ago, for the change that mostly follows."""
        self._seen[row.id] = row, version
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        after = await self._update(key, change)
        assert after is not None
        return after

    async def update_once(self, event: str, ttl: float, key: str, change: Callable[[Call], Call]) -> Call | None:
        """See :class:`anycarrier.callbook.OnceCallBook`."""
        return await self._update(key, change, claims.taking(event, ttl))

    async def _update(self, key: str, change: Callable[[Call], Call], first: Act | None = None) -> Call | None:
        """``first`` takes a once-only key; when it is taken already, nothing is done, and None comes back."""
        done = await self._at_once(key, change, first)
        if done is None:
            done = await self._db.transact(lambda tx: self._under_lock(tx, key, change, first))
        after, told = done
        if told:
            self._db.on_announcement()
        return after

    async def _at_once(
        self, key: str, change: Callable[[Call], Call], first: Act | None
    ) -> tuple[Call | None, bool] | None:
        """Look, and act if nobody was quicker: half the ways to PostgreSQL and back that a lock takes. None when that
        will not do: somebody was quicker, or the call is over, which has more to write than goes together."""
        optimistic = self._db.optimistic
        if optimistic is None:
            return None
        id_ = parse_id("call", key)
        row: Any
        row, version = self._seen.pop(id_, (None, "")) if id_ is not None else (None, "")
        for look in (row is None, row is not None):
            if look:
                row = await self._find(key)
                if row is None:
                    raise UnknownCall(key)
                version = row.version
            before = as_call(row)
            after = change(before)
            if after is before or after == before:
                if look:
                    taken = first is None or await self._db.act(first[0], **first[1]) is not None
                    return before if taken else None, False
                continue  # there was nothing to change in what was seen a moment ago: it may have moved on
            if after.ended:
                return None
            changed, acts, told = _moved(row, before, after)
            act = changing_version(tuple(changed)), {"row_id": row.id, "version": version, **changed}
            guards = [act] if first is None else [act, first]
            return (after, told) if await optimistic.act_if(len(guards), *guards, *acts) is not None else None
        return None

    async def _under_lock(
        self, tx: Transaction, key: str, change: Callable[[Call], Call], first: Act | None
    ) -> tuple[Call | None, bool]:
        if first is not None and await tx.row(first[0], **first[1]) is None:
            return None, False
        row = await _locked(tx, key)
        if row is None:
            raise UnknownCall(key)
        before = as_call(row)
        after = change(before)
        if after is before or after == before:
            return before, False
        changed, acts, told = _moved(row, before, after)
        await tx.run_joined((changing(tuple(changed)), {"row_id": row.id, **changed}), *acts)
        if after.ended and not before.ended:
            await settle(tx, row.id, after.duration)
        elif after.ended and after.duration != before.duration:
            await correct(tx, row.id, after.duration)
        return after, told

    async def in_progress(self) -> list[Call]:
        return [as_call(row) for row in await self._db.rows(LIVE)]

    async def ending(self, references: Collection[str]) -> list[Call]:
        """See :class:`anycarrier.callbook.SweptCallBook`."""
        return [as_call(row) for row in await self._db.rows(ENDING, ids=json.dumps([*references]))]

    async def _find(self, key: str) -> Any:
        by_id, by_carrier = READ if self._db.optimistic is None else READ_VERSION
        id_ = parse_id("call", key)
        row = await self._db.row(by_id, id=id_) if id_ is not None else None
        return row if row is not None or not key else await self._db.row(by_carrier, key=key)

    async def _place(self, tx: Transaction, call: Call) -> tuple[UUID, dict[str, UUID | None]]:
        """Whose call it is: the workspace; then credential, line and agent, as far as they are ours."""
        credential_id = parse_id("credential", call.credential_id)
        agent = parse_id("agent", call.agent_id)
        found = None
        if credential_id is not None:
            found = await tx.row(PLACE, credential=credential_id, number=call.line_number, agent=agent)
        if found is None:
            raise UnknownCredential(call.credential_id)
        return found.workspace_id, {
            "credential_id": credential_id, "line_id": found.line_id, "agent_id": found.agent_id
        }  # fmt: skip


async def _locked(tx: Transaction, key: str) -> Any:
    """By our reference first, then by the carrier's id: some carriers' ids look like uuids too."""
    by_id, by_carrier = LOCK
    id_ = parse_id("call", key)
    row = await tx.row(by_id, id=id_) if id_ is not None else None
    return row if row is not None or not key else await tx.row(by_carrier, key=key)


def _moved(row: Any, before: Call, after: Call) -> tuple[dict[str, Any], list[Act], bool]:
    """What is to be set on the row, what is to be done beside it, and whether there is anything to tell."""
    changed = {
        name: value
        for (name, value), old in zip(as_columns(after).items(), as_columns(before).values(), strict=True)
        if value != old
    }
    changed["updated_at"] = utc_now()
    if after.agent_id != before.agent_id:
        changed["agent_id"] = parse_id("agent", after.agent_id)
    acts, told = _record(row.id, row.workspace_id, before, after, tell=not row.is_blocked)
    agent_id, stage = changed.get("agent_id", row.agent_id), changed.get("stage", row.stage)
    was = (row.workspace_id, row.agent_id, row.direction, row.stage, row.is_blocked)
    now_is = (row.workspace_id, agent_id, after.direction.value, stage, row.is_blocked)
    if was != now_is:
        acts.append(call_state.counting((was, -1), (now_is, 1)))
    return changed, acts, told


def _record(id_: UUID, workspace_id: UUID, before: Call, after: Call, *, tell: bool) -> tuple[list[Act], bool]:
    """What writes the call's log, and what subscribers will be told; whether there is anything to tell."""
    now = utc_now()
    acts: list[Act] = []
    if happened := call_events(before, after, now):
        lines = [{"call_id": id_, "kind": kind, "at": at, "payload": facts} for kind, at, facts in happened]
        acts.append(LOG.of(lines))
    told = announcements(before, after, now) if tell else []
    if told:
        events = [
            {
                "event_id": new_id(),
                "workspace_id": workspace_id,
                "call_id": id_,
                "kind": kind,
                "at": at,
                "payload": facts,
                "dedupe": once_key(id_.hex, kind),
            }
            for kind, at, facts in told
        ]
        acts.append(TELL.of(events))
    return acts, bool(told)
