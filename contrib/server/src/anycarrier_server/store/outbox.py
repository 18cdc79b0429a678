"""The outbox: events written with the change they tell of, turned into deliveries, handed out one at a time.

* **fan out**: one process at a time takes new events, each workspace's in order, and writes a delivery per subscriber.
* **claim**: the workspaces take turns. Of every lane (a subscription, or a call's own URL) only the oldest unfinished
  delivery can be claimed, by one process, for ``LEASE`` seconds. A process that dies lets the lease lapse and another
  sends again: at least once, in order.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Boolean, bindparam, delete, func, or_, select, update

from anycarrier_server.store.columns import among, hex_of, new_id, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Attempt, CallRow, Delivery, OutboxEvent, Subscription
from anycarrier_server.store.statements import Rows, Statement, Transaction, table_of
from anycarrier_server.store.webhooks import Addressed, Wanting, delivery, receivers

log = logging.getLogger("anycarrier")

LEASE = timedelta(seconds=90)
"""Longer than any receiver is waited for."""

ROWS_AT_ONCE = 100
"""Deliveries written by one fan-out, about: what is behind them waits its turn in the next one."""

EVENTS_KEPT = timedelta(days=7)
DELIVERIES_KEPT = timedelta(days=30)
WAITS_AT_MOST = timedelta(hours=24)
"""How long events stay once they are fanned out, and deliveries with their attempts once they are over; how long a
delivery waits behind a receiver that takes nothing before it is given up. docs/service.md says these."""

FAN_OUT_LOCK = 0x66616E  # "fan"


EVENT, DELIVERY, SUBSCRIPTION, CALL, ATTEMPT = (
    table_of(of) for of in (OutboxEvent, Delivery, Subscription, CallRow, Attempt)
)


def _due(of: Any) -> tuple[Any, ...]:
    free = or_(of.c.lease_until.is_(None), of.c.lease_until <= bindparam("now"))
    return of.c.status == word("pending"), of.c.next_at <= bindparam("now"), free


WAITING = Statement(
    select(
        select(EVENT.c.id).where(EVENT.c.fanned_out_at.is_(None)).exists().label("fresh"),
        select(DELIVERY.c.id).where(*_due(DELIVERY)).exists().label("due"),
    )
)


def _fresh() -> Any:
    """Events and their calls in the order in which they are told: each workspace's first, then each one's second ...
    so that one with thousands delays nobody else's next one."""
    turn = func.row_number().over(partition_by=EVENT.c.workspace_id, order_by=EVENT.c.id).label("turn")
    waiting = select(EVENT.c.id, turn).where(EVENT.c.fanned_out_at.is_(None)).subquery()
    return (
        select(EVENT, CALL)
        .join(waiting, waiting.c.id == EVENT.c.id)
        .outerjoin(CALL, CALL.c.id == EVENT.c.call_id)
        .order_by(waiting.c.turn, EVENT.c.id)
        .limit(bindparam("most"))
    )


FRESH = Statement(_fresh(), into=[OutboxEvent, CallRow])
WANTING = Statement(
    select(*(SUBSCRIPTION.c[name] for name in ("id", "agent_id", "line_id", "face", "url", "events")))
    .where(
        SUBSCRIPTION.c.workspace_id == bindparam("workspace_id"),
        SUBSCRIPTION.c.deleted_at.is_(None),
        SUBSCRIPTION.c.status == word("active"),
    )
    .order_by(SUBSCRIPTION.c.created_at)
)
ONE_AT_A_TIME = Statement(select(func.pg_advisory_xact_lock(FAN_OUT_LOCK)))
TAKE = Statement(
    update(EVENT)
    .where(EVENT.c.id == bindparam("event"), EVENT.c.fanned_out_at.is_(None))
    .values(fanned_out_at=bindparam("now"))
    .returning(EVENT.c.id)
)
PUBLISH = Statement(
    lambda insert: insert(EVENT).on_conflict_do_nothing().returning(EVENT.c.id),
    columns=["event_id", "workspace_id", "kind", "call_id", "at", "payload", "dedupe"],
)
DELIVER = Rows(
    Delivery,
    [
        "workspace_id", "subscription_id", "line_id", "agent_id", "call_id", "face", "lane", "receiver", "event_id",
        "event_type", "url", "body", "status", "attempts", "next_at", "created_at",
    ],
)  # fmt: skip


def _claim() -> Any:
    """The oldest unfinished delivery of each lane, where it is due: each workspace's first, then its second ...

    Lanes are gone through by the index, one step each, so that thousands of deliveries behind a dead one cost nothing.
    """
    after, first = DELIVERY.alias(), DELIVERY.alias()
    lowest = select(func.min(DELIVERY.c.lane).label("lane")).where(DELIVERY.c.status == word("pending"))
    lanes = lowest.cte("lanes", recursive=True)
    following = select(func.min(after.c.lane)).where(after.c.status == word("pending"), after.c.lane > lanes.c.lane)
    lanes = lanes.union_all(select(following.scalar_subquery()).where(lanes.c.lane.is_not(None)))
    of_lane = select(func.min(first.c.id)).where(first.c.status == word("pending"), first.c.lane == lanes.c.lane)
    # Apart, or PostgreSQL's planner reads all that is due and finds the heads among them.
    heads = (
        select(DELIVERY)
        .select_from(lanes.join(DELIVERY, DELIVERY.c.id == of_lane.scalar_subquery()))
        .cte("heads")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    turn = func.row_number().over(partition_by=heads.c.workspace_id, order_by=(heads.c.next_at, heads.c.id))
    ranked = (
        select(heads.c.id, heads.c.next_at, turn.label("turn"))
        .where(
            *_due(heads),
            among(heads.c.receiver, bindparam("slow")) == bindparam("slow_ones", type_=Boolean()),
            ~among(hex_of(heads.c.workspace_id), bindparam("full")),
        )
        .subquery()
    )
    in_turn = (
        select(ranked.c.id)
        .where(ranked.c.turn <= bindparam("each"))
        .order_by(ranked.c.turn, ranked.c.next_at)
        .limit(bindparam("most"))
    )
    mine = select(DELIVERY.c.id).where(DELIVERY.c.id.in_(in_turn), *_due(DELIVERY)).with_for_update(skip_locked=True)
    taken = {"lease_until": bindparam("until"), "lease_token": bindparam("token"), "attempts": DELIVERY.c.attempts + 1}
    return update(DELIVERY).where(DELIVERY.c.id.in_(mine)).values(taken).returning(*DELIVERY.c)


CLAIM = Statement(_claim(), into=[Delivery])
SETTLE = Statement(
    update(DELIVERY)
    .where(
        DELIVERY.c.id == bindparam("delivery"),
        DELIVERY.c.lease_token == bindparam("token"),
        DELIVERY.c.status == word("pending"),
    )
    .values(
        status=bindparam("becomes"),
        next_at=bindparam("due"),
        lease_until=None,
        lease_token=None,
        finished_at=bindparam("over"),
    )
    .returning(DELIVERY.c.id)
)
LOG = Rows(
    Attempt,
    [
        "id", "workspace_id", "delivery_id", "response_status", "response_body", "error_detail", "duration_ms",
        "success", "is_replay", "created_at",
    ],
)  # fmt: skip


def _oldest(table: Any, *columns: Any) -> Any:
    """The first rows of a table that only grows at its end: what is to be deleted is among them, or nowhere."""
    return select(table.c.id, *columns).order_by(table.c.id).limit(bindparam("most")).subquery()


OLD_EVENTS = _oldest(EVENT, EVENT.c.fanned_out_at)
FORGET_EVENTS = Statement(
    delete(EVENT)
    .where(EVENT.c.id.in_(select(OLD_EVENTS.c.id).where(OLD_EVENTS.c.fanned_out_at < bindparam("before"))))
    .returning(EVENT.c.id)
)
OLD_DELIVERIES = _oldest(DELIVERY, DELIVERY.c.finished_at)
OVER_LONG_AGO = select(OLD_DELIVERIES.c.id).where(OLD_DELIVERIES.c.finished_at < bindparam("before"))
FORGET_ATTEMPTS = Statement(delete(ATTEMPT).where(ATTEMPT.c.delivery_id.in_(OVER_LONG_AGO)))
FORGET_DELIVERIES = Statement(delete(DELIVERY).where(DELIVERY.c.id.in_(OVER_LONG_AGO)).returning(DELIVERY.c.id))
GIVE_UP = Statement(
    update(DELIVERY)
    .where(
        DELIVERY.c.status == word("pending"),
        DELIVERY.c.created_at < bindparam("before"),
        or_(DELIVERY.c.lease_until.is_(None), DELIVERY.c.lease_until <= bindparam("now")),
    )
    .values(status="failed", finished_at=bindparam("now"))
    .returning(DELIVERY.c.id)
)

Write = Callable[[Addressed], Awaitable[tuple[str, str, str] | None]]
"""Face, event type and body for a receiver; None when the receiver does not want it."""


class Outbox:
    """Events and deliveries of every workspace."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def publish(
        self,
        workspace_id: UUID,
        kind: str,
        *,
        call_id: UUID | None = None,
        payload: dict[str, Any] | None = None,
        once: str | None = None,
    ) -> bool:
        """Tell of something beside a call's course (``call.analyzed``, ``transcript.final`` ...).

        With ``once`` a second event of that key is dropped, and False comes back.
        """
        made = await self._db.act(
            PUBLISH,
            event_id=new_id(),
            workspace_id=workspace_id,
            kind=kind,
            call_id=call_id,
            at=utc_now(),
            payload=payload or {},
            dedupe=once,
        )
        return made is not None

    async def waiting(self, *, at: datetime | None = None) -> tuple[bool, bool]:
        """Whether there are new events, and whether a delivery may be due: what is asked when nothing is known."""
        found = await self._db.row(WAITING, now=at or utc_now())
        return bool(found.fresh), bool(found.due)

    async def fan_out(self, write: Write, *, limit: int = 50) -> int:
        """Turn new events into deliveries; returns how many events were taken.

        Bodies are written first. Then the events are taken, each by one process, in one transaction with their
        deliveries, and always with the older events of the same workspace, so the order is kept. A receiver whose body
        cannot be written is logged and left out, so that it does not hold up the others for ever.
        """
        found: list[tuple[OutboxEvent, CallRow | None]] = await self._db.rows(FRESH, most=limit)
        if not found:
            return 0
        wanting: dict[UUID, list[Wanting]] = {}
        now = utc_now()
        ready, count = [], 0
        for event, call in await self._in_turn(found, wanting):
            rows = await self._written(write, event, call, wanting[event.workspace_id], now)
            ready.append((event.id, rows))
            count += len(rows)
            if count >= ROWS_AT_ONCE:
                break

        async def work(tx: Transaction) -> int:
            if not self._db.sqlite:
                await tx.run(ONE_AT_A_TIME)
            taken = [rows for id_, rows in ready if await tx.value(TAKE, event=id_, now=now) is not None]
            deliveries = [row for rows in taken for row in rows]
            for some in _in_lengths(deliveries):
                await tx.run_joined(DELIVER.of(some))
            return len(taken)

        return await self._db.transact(work)

    async def _in_turn(
        self, found: Sequence[tuple[OutboxEvent, CallRow | None]], wanting: dict[UUID, list[Wanting]]
    ) -> list[tuple[OutboxEvent, CallRow | None]]:
        """Of the events that are each workspace's next, those with few receivers first: who has many waits for himself.

        Reads who they are into ``wanting``."""
        turns: Counter[UUID] = Counter()
        keyed = []
        for event, call in found:
            of = event.workspace_id
            if of not in wanting:
                wanting[of] = await self._db.few(WANTING, workspace_id=of)
            turns[of] += 1
            keyed.append(((turns[of], len(wanting[of]), event.id), (event, call)))
        return [told for _, told in sorted(keyed, key=lambda one: one[0])]

    async def _written(
        self,
        write: Write,
        event: OutboxEvent,
        call: CallRow | None,
        subscriptions: Sequence[Wanting],
        now: datetime,
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        told: set[tuple[str, str]] = set()
        for receiver in receivers(event, call, subscriptions):
            try:
                written = await write(receiver)
            except Exception:
                log.exception("event %s (%s) could not be written for a receiver", event.public_id, event.kind)
                continue
            if written is None or (receiver.subscription is None and (written[0], receiver.url) in told):
                continue
            told.add((written[0], receiver.url))
            rows.append(delivery(receiver, written, now))
        return rows

    async def claim(
        self,
        *,
        limit: int = 20,
        each: int | None = None,
        slow: Collection[str] = (),
        slow_ones: bool = False,
        full: Collection[UUID] = (),
        at: datetime | None = None,
    ) -> list[Delivery]:
        """Deliveries that are due, now ours for ``LEASE``: at most one per lane, at most ``each`` per workspace.

        None of the workspaces in ``full``. Of the receivers in ``slow`` none, or with ``slow_ones`` only theirs.
        """
        now = at or utc_now()
        asked = {
            "now": now,
            "most": limit,
            "each": limit if each is None else each,
            "slow": json.dumps(list(slow)),
            "slow_ones": slow_ones,
            "full": json.dumps([of.hex for of in full]),
            "until": now + LEASE,
            "token": uuid4().hex,
        }
        claimed: list[Delivery] = await self._db.transact(lambda tx: tx.rows(CLAIM, **asked))
        return claimed

    async def clean(self, *, at: datetime | None = None, limit: int = 500) -> int:
        """Give up what nobody took for ``WAITS_AT_MOST``, delete what is older than ``EVENTS_KEPT`` and
        ``DELIVERIES_KEPT``; how many rows were deleted. Each look at ``limit`` rows is a short transaction."""
        now = at or utc_now()
        await self._db.transact(lambda tx: tx.rows(GIVE_UP, before=now - WAITS_AT_MOST, now=now))

        async def work(tx: Transaction) -> int:
            events = await tx.rows(FORGET_EVENTS, before=now - EVENTS_KEPT, most=limit)
            await tx.run(FORGET_ATTEMPTS, before=now - DELIVERIES_KEPT, most=limit)
            over = await tx.rows(FORGET_DELIVERIES, before=now - DELIVERIES_KEPT, most=limit)
            return len(events) + len(over)

        gone = 0
        while done := await self._db.transact(work):
            gone += done
        return gone

    async def finish(self, delivery: Delivery, attempt: Attempt, *, retry_at: datetime | None) -> bool:
        """Log an attempt and settle the delivery: done, failed for good, or due again at ``retry_at``.

        False when our lease had lapsed and somebody else has it; the attempt is logged all the same.
        """
        becomes = "delivered" if attempt.success else "pending" if retry_at is not None else "failed"

        async def work(tx: Transaction) -> bool:
            await tx.run_joined(LOG.of([_as_row(attempt)]))
            settled = await tx.value(
                SETTLE,
                delivery=delivery.id,
                token=delivery.lease_token,
                becomes=becomes,
                due=retry_at or delivery.next_at,
                over=None if becomes == "pending" else utc_now(),
            )
            return settled is not None

        return await self._db.transact(work)

    async def record(self, attempt: Attempt) -> Attempt:
        """Log an attempt that belongs to no schedule (a replay)."""
        async with self._db.write() as session:
            session.add(attempt)
        return attempt


def _in_lengths(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    """The rows in pieces of a few lengths: each length is a statement of its own, and compiling one for a hundred rows
    takes as long as many calls do."""
    start = 0
    for length in (16, 4, 1):
        while len(rows) - start >= length:
            yield rows[start : start + length]
            start += length


def _as_row(attempt: Attempt) -> dict[str, Any]:
    row = {column.name: getattr(attempt, column.name) for column in table_of(Attempt).columns}
    left_out = {"id": new_id(), "is_replay": False, "created_at": utc_now()}
    return row | {name: value for name, value in left_out.items() if row[name] is None}
