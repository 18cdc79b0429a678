"""The outbox: events written with the change they tell of, turned into deliveries, handed out one at a time.

* **fan out**: one process at a time takes new events in order and writes a delivery per subscriber.
* **claim**: of every lane (a subscription, or a call's own URL) only the oldest unfinished delivery can be claimed,
  by one process, for ``LEASE`` seconds. A process that dies lets the lease lapse and another sends again: at least
  once, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import aliased

from linecard.server.store.columns import utc_now, word
from linecard.server.store.database import Database
from linecard.server.store.models import Attempt, CallRow, Delivery, OutboxEvent, Subscription

log = logging.getLogger("linecard")

LEASE = timedelta(seconds=60)
FAN_OUT_LOCK = 0x66616E  # "fan"


@dataclass(frozen=True, slots=True)
class Addressed:
    """One event for one receiver, before its body is written. ``subscription`` is None for a call's own URL."""

    event: OutboxEvent
    call: CallRow | None
    subscription: Subscription | None
    url: str


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
        insert_ = sqlite_insert if self._db.sqlite else postgresql_insert
        values = {
            "workspace_id": workspace_id,
            "kind": kind,
            "call_id": call_id,
            "at": utc_now(),
            "payload": payload or {},
            "dedupe": once,
        }
        async with self._db.write() as session:
            made = insert_(OutboxEvent).values(values).on_conflict_do_nothing().returning(OutboxEvent.id)
            return (await session.execute(made)).scalar_one_or_none() is not None

    async def fan_out(self, write: Write, *, limit: int = 50) -> int:
        """Turn new events into deliveries; how many events were taken.

        ``write`` is called inside the transaction: it may read the store and must not write to it. A receiver whose
        body cannot be written is logged and left out, so that it cannot hold up the others for ever.
        """
        async with self._db.write() as session:
            if not self._db.sqlite:
                mine = await session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": FAN_OUT_LOCK})
                if not mine:
                    return 0
            fresh = select(OutboxEvent).where(OutboxEvent.fanned_out_at.is_(None)).order_by(OutboxEvent.id)
            events = (await session.scalars(fresh.limit(limit))).all()
            if not events:
                return 0
            calls = await session.scalars(select(CallRow).where(CallRow.id.in_({e.call_id for e in events})))
            by_id = {call.id: call for call in calls}
            workspaces = {e.workspace_id for e in events}
            wanting = select(Subscription).where(
                Subscription.workspace_id.in_(workspaces),
                Subscription.deleted_at.is_(None),
                Subscription.status == "active",
            )
            subscriptions = (await session.scalars(wanting.order_by(Subscription.created_at))).all()
            now = utc_now()
            rows: list[dict[str, Any]] = []
            for event in events:
                call = by_id.get(event.call_id) if event.call_id else None
                told: set[tuple[str, str]] = set()
                for receiver in _receivers(event, call, subscriptions):
                    try:
                        written = await write(receiver)
                    except Exception:
                        log.exception("event %s (%s) could not be written for a receiver", event.public_id, event.kind)
                        continue
                    if written is None or (receiver.subscription is None and (written[0], receiver.url) in told):
                        continue
                    told.add((written[0], receiver.url))
                    rows.append(_delivery(receiver, written, now))
            if rows:
                await session.execute(insert(Delivery), rows)
            taken = update(OutboxEvent).where(OutboxEvent.id.in_([e.id for e in events]))
            await session.execute(taken.values(fanned_out_at=now))
        return len(events)

    async def claim(self, *, limit: int = 20, at: datetime | None = None) -> list[Delivery]:
        """Deliveries that are due, now ours for ``LEASE``: at most one per lane."""
        now = at or utc_now()
        earlier = aliased(Delivery)
        blocked = select(earlier.id).where(
            earlier.lane == Delivery.lane, earlier.status == word("pending"), earlier.id < Delivery.id
        )
        due = (
            select(Delivery.id)
            .where(
                Delivery.status == word("pending"),
                Delivery.next_at <= now,
                or_(Delivery.lease_until.is_(None), Delivery.lease_until <= now),
                ~blocked.exists(),
            )
            .order_by(Delivery.next_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claim = (
            update(Delivery)
            .where(Delivery.id.in_(due))
            .values(lease_until=now + LEASE, lease_token=uuid4().hex, attempts=Delivery.attempts + 1)
            .returning(Delivery)
        )
        async with self._db.write() as session:
            return list(await session.scalars(claim))

    async def finish(self, delivery: Delivery, attempt: Attempt, *, retry_at: datetime | None) -> bool:
        """Log an attempt and settle the delivery: done, failed for good, or due again at ``retry_at``.

        False when our lease had lapsed and somebody else has it; the attempt is logged all the same.
        """
        status = "delivered" if attempt.success else "pending" if retry_at is not None else "failed"
        settle = (
            update(Delivery)
            .where(
                Delivery.id == delivery.id,
                Delivery.lease_token == delivery.lease_token,
                Delivery.status == word("pending"),
            )
            .values(
                status=status,
                next_at=retry_at or delivery.next_at,
                lease_until=None,
                lease_token=None,
                finished_at=None if status == "pending" else utc_now(),
            )
            .returning(Delivery.id)
        )
        async with self._db.write() as session:
            session.add(attempt)
            return (await session.execute(settle)).scalar_one_or_none() is not None

    async def record(self, attempt: Attempt) -> Attempt:
        """Log an attempt that belongs to no schedule (a replay)."""
        async with self._db.write() as session:
            session.add(attempt)
        return attempt


def _receivers(event: OutboxEvent, call: CallRow | None, subscriptions: Sequence[Subscription]) -> list[Addressed]:
    """Everybody an event may concern; a call's own URL last, for it need not hear what a subscription there does."""
    found: list[Addressed] = []
    for one in subscriptions:
        if one.workspace_id != event.workspace_id:
            continue
        if one.agent_id is not None and (call is None or call.agent_id != one.agent_id):
            continue
        if one.line_id is not None and (call is None or call.line_id != one.line_id):
            continue
        found.append(Addressed(event, call, one, one.url))
    if call is not None and call.webhook_url:
        found.append(Addressed(event, call, None, call.webhook_url))
    return found


def _delivery(receiver: Addressed, written: tuple[str, str, str], now: datetime) -> dict[str, Any]:
    face, event_type, body = written
    call, subscription, event = receiver.call, receiver.subscription, receiver.event
    return {
        "workspace_id": event.workspace_id,
        "subscription_id": subscription.id if subscription is not None else None,
        "line_id": call.line_id if call is not None else None,
        "agent_id": call.agent_id if call is not None else None,
        "call_id": event.call_id,
        "face": face,
        "lane": f"subscription:{subscription.id.hex}" if subscription is not None else f"call:{event.call_id}",
        "event_id": event.public_id,
        "event_type": event_type,
        "url": receiver.url,
        "body": body,
        "next_at": now,
        "created_at": now,
    }
