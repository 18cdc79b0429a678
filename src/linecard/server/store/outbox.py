"""The outbox: events written with the change they tell of, turned into deliveries, handed out one at a time.

* **fan out**: one process at a time takes new events in order and writes a delivery per subscriber.
* **claim**: of every lane (a subscription, or a call's own URL) only the oldest unfinished delivery can be claimed,
  by one process, for ``LEASE`` seconds. A process that dies lets the lease lapse and another sends again: at least
  once, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import bindparam, func, or_, select, update

from linecard.server.store.columns import utc_now, word
from linecard.server.store.database import Database
from linecard.server.store.ids import new_id
from linecard.server.store.models import Attempt, CallRow, Delivery, OutboxEvent, Subscription
from linecard.server.store.receivers import Addressed, delivery, receivers
from linecard.server.store.statements import Rows, Statement, table_of
from linecard.server.store.transactions import Transaction

log = logging.getLogger("linecard")

LEASE = timedelta(seconds=60)
FAN_OUT_LOCK = 0x66616E  # "fan"


EVENT, DELIVERY, SUBSCRIPTION, CALL = (table_of(of) for of in (OutboxEvent, Delivery, Subscription, CallRow))
WAITING = Statement(
    select(
        select(EVENT.c.id).where(EVENT.c.fanned_out_at.is_(None)).exists().label("fresh"),
        select(DELIVERY.c.id)
        .where(
            DELIVERY.c.status == word("pending"),
            DELIVERY.c.next_at <= bindparam("now"),
            or_(DELIVERY.c.lease_until.is_(None), DELIVERY.c.lease_until <= bindparam("now")),
        )
        .exists()
        .label("due"),
    )
)

# An event and its call, in the order in which they are to be told.
FRESH = Statement(
    select(EVENT, CALL)
    .outerjoin(CALL, CALL.c.id == EVENT.c.call_id)
    .where(EVENT.c.fanned_out_at.is_(None))
    .order_by(EVENT.c.id)
    .limit(bindparam("most")),
    into=[OutboxEvent, CallRow],
)
WANTING = Statement(
    select(SUBSCRIPTION)
    .where(
        SUBSCRIPTION.c.workspace_id.in_(select(EVENT.c.workspace_id).where(EVENT.c.fanned_out_at.is_(None))),
        SUBSCRIPTION.c.deleted_at.is_(None),
        SUBSCRIPTION.c.status == word("active"),
    )
    .order_by(SUBSCRIPTION.c.created_at),
    into=[Subscription],
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
        "workspace_id", "subscription_id", "line_id", "agent_id", "call_id", "face", "lane", "event_id", "event_type",
        "url", "body", "status", "attempts", "next_at", "created_at",
    ],
)  # fmt: skip


def _claim() -> Any:
    earlier = DELIVERY.alias()
    blocked = select(earlier.c.id).where(
        earlier.c.lane == DELIVERY.c.lane, earlier.c.status == word("pending"), earlier.c.id < DELIVERY.c.id
    )
    due = (
        select(DELIVERY.c.id)
        .where(
            DELIVERY.c.status == word("pending"),
            DELIVERY.c.next_at <= bindparam("now"),
            or_(DELIVERY.c.lease_until.is_(None), DELIVERY.c.lease_until <= bindparam("now")),
            ~blocked.exists(),
        )
        .order_by(DELIVERY.c.next_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    taken = {"lease_until": bindparam("until"), "lease_token": bindparam("token"), "attempts": DELIVERY.c.attempts + 1}
    return update(DELIVERY).where(DELIVERY.c.id.in_(due)).values(taken).returning(*DELIVERY.c)


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
        """Turn new events into deliveries; how many events were taken.

        Bodies are written first, then the events are taken, each by one process, and with them go their deliveries.
        Whoever takes some takes the older ones too, so the order is kept. A receiver whose body cannot be written is
        logged and left out, so that it cannot hold up the others for ever.
        """
        found: list[tuple[OutboxEvent, CallRow | None]] = await self._db.rows(FRESH, most=limit)
        if not found:
            return 0
        subscriptions: list[Subscription] = await self._db.rows(WANTING)
        now = utc_now()
        ready = [(event.id, await self._written(write, event, call, subscriptions, now)) for event, call in found]

        async def work(tx: Transaction) -> int:
            if not self._db.sqlite:
                await tx.run(ONE_AT_A_TIME)
            taken = [rows for id_, rows in ready if await tx.value(TAKE, event=id_, now=now) is not None]
            if deliveries := [row for rows in taken for row in rows]:
                await tx.together(DELIVER.of(deliveries))
            return len(taken)

        return await self._db.transact(work)

    async def _written(
        self,
        write: Write,
        event: OutboxEvent,
        call: CallRow | None,
        subscriptions: Sequence[Subscription],
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

    async def claim(self, *, limit: int = 20, at: datetime | None = None) -> list[Delivery]:
        """Deliveries that are due, now ours for ``LEASE``: at most one per lane."""
        now = at or utc_now()
        claimed: list[Delivery] = await self._db.transact(
            lambda tx: tx.rows(CLAIM, now=now, most=limit, until=now + LEASE, token=uuid4().hex)
        )
        return claimed

    async def finish(self, delivery: Delivery, attempt: Attempt, *, retry_at: datetime | None) -> bool:
        """Log an attempt and settle the delivery: done, failed for good, or due again at ``retry_at``.

        False when our lease had lapsed and somebody else has it; the attempt is logged all the same.
        """
        becomes = "delivered" if attempt.success else "pending" if retry_at is not None else "failed"

        async def work(tx: Transaction) -> bool:
            await tx.together(LOG.of([_as_row(attempt)]))
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


def _as_row(attempt: Attempt) -> dict[str, Any]:
    row = {column.name: getattr(attempt, column.name) for column in table_of(Attempt).columns}
    left_out = {"id": new_id(), "is_replay": False, "created_at": utc_now()}
    return row | {name: value for name, value in left_out.items() if row[name] is None}
