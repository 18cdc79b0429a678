"""Webhook subscriptions, the keys that sign deliveries, and which receivers an event has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from anycarrier_server.encryption import Sealer, new_signing_key
from anycarrier_server.refusals import TooManyWebhooks
from anycarrier_server.store.columns import new_id, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Attempt, CallRow, Delivery, OutboxEvent, SigningKey, Subscription, Workspace
from anycarrier_server.store.statements import Statement, table_of
from anycarrier_server.store.vault import place

TABLE = table_of(Subscription)
BY_ID = Statement(select(TABLE).where(TABLE.c.id == bindparam("id")), into=[Subscription])
KEY = table_of(SigningKey)
OF_WORKSPACE = select(KEY).where(KEY.c.workspace_id == bindparam("workspace_id"))
KEY_OF_WORKSPACE = Statement(OF_WORKSPACE.where(KEY.c.agent_id.is_(None)), into=[SigningKey])
KEY_OF_AGENT = Statement(OF_WORKSPACE.where(KEY.c.agent_id == bindparam("agent_id")), into=[SigningKey])


@dataclass(frozen=True, slots=True)
class Logged:
    """One line of the delivery log: the POST and the delivery it was for."""

    attempt: Attempt
    delivery: Delivery


class Webhooks:
    """The subscriptions of every workspace."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        self._db = db
        self._sealer = sealer

    async def create(
        self,
        workspace_id: UUID,
        *,
        face: str,
        url: str,
        events: list[str],
        name: str = "",
        agent_id: UUID | None = None,
        line_id: UUID | None = None,
        secret: str | None = None,
        auth_token: str | None = None,
        context: dict[str, Any] | None = None,
        most: int | None = None,
    ) -> Subscription:
        """Subscribe ``url`` (checked by the caller, and again at every delivery).

        :class:`TooManyWebhooks` when the workspace has ``most`` already, also when many ask at once.
        ``secret`` is the subscription's own; without one the agent's or workspace's signing key signs.
        """
        id_ = new_id()
        made = Subscription(
            id=id_,
            workspace_id=workspace_id,
            face=face,
            url=url,
            events=events,
            name=name,
            agent_id=agent_id,
            line_id=line_id,
            sealed_secret=self._seal(id_, "sealed_secret", secret),
            sealed_token=self._seal(id_, "sealed_token", auth_token),
            context=context,
        )
        async with self._db.write() as session:
            if most is not None:
                mine = select(Workspace.id).where(Workspace.id == workspace_id)
                await session.execute(mine.with_for_update())  # nobody else counts until this one is in
                held = (Subscription.workspace_id == workspace_id, Subscription.deleted_at.is_(None))
                if (await session.scalar(select(func.count()).where(*held)) or 0) >= most:
                    raise TooManyWebhooks(most)
            session.add(made)
        return made

    async def get(self, workspace_id: UUID, subscription_id: UUID | None) -> Subscription | None:
        """The subscription; None when unknown, deleted or another workspace's."""
        if subscription_id is None:
            return None
        row: Subscription | None = await self._db.row(BY_ID, id=subscription_id)
        if row is None or row.workspace_id != workspace_id or row.deleted_at is not None:
            return None
        return row

    async def list(
        self,
        workspace_id: UUID,
        *,
        face: str | None = None,
        agent_id: UUID | None = None,
        line_id: UUID | None = None,
        url: str | None = None,
    ) -> Sequence[Subscription]:
        """Subscriptions, oldest first."""
        query = select(Subscription).where(Subscription.workspace_id == workspace_id, Subscription.deleted_at.is_(None))
        for column, value in (
            (Subscription.face, face),
            (Subscription.agent_id, agent_id),
            (Subscription.line_id, line_id),
            (Subscription.url, url),
        ):
            if value is not None:
                query = query.where(column == value)
        async with self._db.read() as session:
            return (await session.scalars(query.order_by(Subscription.created_at, Subscription.id))).all()

    async def change(self, row: Subscription, **fields: Any) -> Subscription:
        """Set ``url``, ``events``, ``name``, ``status``, ``context``, and ``auth_token`` (None removes it)."""
        if unknown := set(fields) - {"url", "events", "name", "status", "context", "auth_token"}:
            raise ValueError(f"not fields of a subscription: {', '.join(sorted(unknown))}")
        if "auth_token" in fields:
            fields["sealed_token"] = self._seal(row.id, "sealed_token", fields.pop("auth_token"))
        async with self._db.write() as session:
            change = update(Subscription).where(Subscription.id == row.id).values(**fields, updated_at=utc_now())
            return (await session.scalars(change.returning(Subscription))).one()

    async def delete(self, row: Subscription) -> None:
        """Unsubscribe; what waits to be sent to it is given up, its log stays."""
        now = utc_now()
        async with self._db.write() as session:
            gone = update(Subscription).where(Subscription.id == row.id)
            await session.execute(gone.values(deleted_at=now, sealed_secret=None, sealed_token=None))
            waiting = update(Delivery).where(Delivery.subscription_id == row.id, Delivery.status == word("pending"))
            await session.execute(waiting.values(status="failed", finished_at=now))

    def secret(self, row: Subscription) -> str | None:
        """The subscription's own signing secret."""
        return self._open(row.id, "sealed_secret", row.sealed_secret)

    def auth_token(self, row: Subscription) -> str | None:
        """The bearer token its deliveries carry."""
        return self._open(row.id, "sealed_token", row.sealed_token)

    # --- signing keys ----------------------------------------------------------------------------------------------

    async def signing_key(self, workspace_id: UUID, agent_id: UUID | None = None) -> str | None:
        """The key of an agent, or of the workspace (``agent_id`` None); None when there is none yet."""
        return self.signing_key_in(await self.signing_key_row(workspace_id, agent_id))

    def signing_key_in(self, row: SigningKey | None) -> str | None:
        """The key that a row holds."""
        return self._sealer.open(row.sealed, place("signing_keys", "sealed", row.id)) if row is not None else None

    async def signing_key_row(self, workspace_id: UUID, agent_id: UUID | None = None) -> SigningKey | None:
        """When it was made, for the status answers."""
        asked: dict[str, Any] = {"workspace_id": workspace_id}
        if agent_id is not None:
            asked["agent_id"] = agent_id
        row: SigningKey | None = await self._db.row(KEY_OF_WORKSPACE if agent_id is None else KEY_OF_AGENT, **asked)
        return row

    async def rotate_signing_key(self, workspace_id: UUID, agent_id: UUID | None = None) -> tuple[str, SigningKey]:
        """A new key, replacing the old one; its text is shown only here."""
        text = new_signing_key()
        async with self._db.write() as session:
            row = await session.scalar(_key_of(workspace_id, agent_id).with_for_update())
            if row is None:
                row = await self._insert_key(session, workspace_id, agent_id, text)
            row.sealed = self._sealer.seal(text, place("signing_keys", "sealed", row.id))
            row.created_at = utc_now()
        return text, row

    async def ensure_signing_key(self, workspace_id: UUID, agent_id: UUID | None = None) -> tuple[str, bool]:
        """The key, made when there was none; the second value says whether it was made now."""
        known = await self.signing_key(workspace_id, agent_id)
        if known is not None:
            return known, False
        text = new_signing_key()
        async with self._db.write() as session:
            row = await self._insert_key(session, workspace_id, agent_id, text)
            bound = place("signing_keys", "sealed", row.id)
        stored = self._sealer.open(row.sealed, bound)
        return stored, stored == text

    async def _insert_key(
        self, session: AsyncSession, workspace_id: UUID, agent_id: UUID | None, text: str
    ) -> SigningKey:
        """Insert unless somebody else just did; the row that is there then."""
        insert = sqlite_insert if self._db.sqlite else postgresql_insert
        id_ = new_id()
        values = {
            "id": id_,
            "workspace_id": workspace_id,
            "agent_id": agent_id,
            "sealed": self._sealer.seal(text, place("signing_keys", "sealed", id_)),
            "created_at": utc_now(),
        }
        await session.execute(insert(SigningKey).values(values).on_conflict_do_nothing())
        return (await session.scalars(_key_of(workspace_id, agent_id).with_for_update())).one()

    # --- the log ---------------------------------------------------------------------------------------------------

    async def log(
        self,
        workspace_id: UUID,
        *,
        subscription_id: UUID | None = None,
        line_id: UUID | None = None,
        agent_id: UUID | None = None,
        event_type: str | None = None,
        success: bool | None = None,
        face: str | None = None,
        call_id: UUID | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> Sequence[Logged]:
        """Every POST we made, newest first; ``since`` and ``before`` are when."""
        query = (
            select(Attempt, Delivery)
            .join(Delivery, Delivery.id == Attempt.delivery_id)
            .where(Attempt.workspace_id == workspace_id)
        )
        for column, value in (
            (Delivery.subscription_id, subscription_id),
            (Delivery.line_id, line_id),
            (Delivery.agent_id, agent_id),
            (Delivery.event_type, event_type),
            (Delivery.face, face),
            (Delivery.call_id, call_id),
            (Attempt.success, success),
        ):
            if value is not None:
                query = query.where(column == value)
        if since is not None:
            query = query.where(Attempt.created_at >= since)
        if before is not None:
            query = query.where(Attempt.created_at < before)
        query = query.order_by(Attempt.created_at.desc(), Attempt.id).limit(limit).offset(offset)
        async with self._db.read() as session:
            return [Logged(attempt, delivery) for attempt, delivery in await session.execute(query)]

    async def logged(self, workspace_id: UUID, attempt_id: UUID | None) -> Logged | None:
        """One line of the log."""
        query = select(Attempt, Delivery).join(Delivery, Delivery.id == Attempt.delivery_id)
        async with self._db.read() as session:
            row = (
                await session.execute(query.where(Attempt.id == attempt_id, Attempt.workspace_id == workspace_id))
            ).one_or_none()
        return Logged(row[0], row[1]) if row is not None else None

    async def log_synchronous(
        self,
        workspace_id: UUID,
        *,
        line_id: UUID,
        agent_id: UUID | None,
        call_id: UUID,
        url: str,
        body: str,
        status: int | None,
        response: str | None,
        error: str | None,
        duration_ms: int,
        face: str = "inkbox",
        event_type: str = "phone.incoming_call",
    ) -> None:
        """Log an incoming-call webhook, which is posted once, while the call rings. ``error`` None: it was answered."""
        now = utc_now()
        async with self._db.write() as session:
            delivery = Delivery(
                workspace_id=workspace_id,
                line_id=line_id,
                agent_id=agent_id,
                call_id=call_id,
                face=face,
                lane=f"call:{call_id.hex}",
                event_id=str(call_id),
                event_type=event_type,
                url=url,
                body=body,
                status="delivered" if error is None else "failed",
                attempts=1,
                next_at=now,
                finished_at=now,
            )
            session.add(delivery)
            await session.flush()
            session.add(
                Attempt(
                    workspace_id=workspace_id,
                    delivery_id=delivery.id,
                    response_status=status,
                    response_body=response[:2000] if response else None,
                    error_detail=error,
                    duration_ms=duration_ms,
                    success=error is None,
                )
            )

    def _seal(self, id_: UUID, column: str, text: str | None) -> bytes | None:
        return None if text is None else self._sealer.seal(text, place("webhook_subscriptions", column, id_))

    def _open(self, id_: UUID, column: str, blob: bytes | None) -> str | None:
        return None if blob is None else self._sealer.open(blob, place("webhook_subscriptions", column, id_))


def _key_of(workspace_id: UUID, agent_id: UUID | None) -> Select[SigningKey]:
    owner = SigningKey.agent_id == agent_id if agent_id is not None else SigningKey.agent_id.is_(None)
    return select(SigningKey).where(SigningKey.workspace_id == workspace_id, owner)


class Wanting(Protocol):
    """Of a subscription, what decides who is told."""

    id: UUID
    agent_id: UUID | None
    line_id: UUID | None
    face: str
    url: str
    events: Sequence[str]


@dataclass(frozen=True, slots=True)
class Addressed:
    """One event for one receiver, before its body is written. ``subscription`` is None for a call's own URL."""

    event: OutboxEvent
    call: CallRow | None
    subscription: Wanting | None
    url: str


def receivers(event: OutboxEvent, call: CallRow | None, subscriptions: Sequence[Wanting]) -> list[Addressed]:
    """Of the workspace's subscriptions, those an event may concern; a call's own URL last, for it need not hear what a
    subscription there does."""
    found: list[Addressed] = []
    for one in subscriptions:
        if one.agent_id is not None and (call is None or call.agent_id != one.agent_id):
            continue
        if one.line_id is not None and (call is None or call.line_id != one.line_id):
            continue
        found.append(Addressed(event, call, one, one.url))
    if call is not None and call.webhook_url:
        found.append(Addressed(event, call, None, call.webhook_url))
    return found


def delivery(receiver: Addressed, written: tuple[str, str, str], now: datetime) -> dict[str, Any]:
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
        "receiver": _slow_as_one(receiver),
        "event_id": event.public_id,
        "event_type": event_type,
        "url": receiver.url,
        "body": body,
        "status": "pending",
        "attempts": 0,
        "next_at": now,
        "created_at": now,
    }


def _slow_as_one(receiver: Addressed) -> str:
    if receiver.subscription is not None:
        return f"subscription:{receiver.subscription.id.hex}"
    # Calls bring URLs of their own, each with a path of its own perhaps: what they share is the host.
    return f"host:{receiver.event.workspace_id.hex}:{urlsplit(receiver.url).netloc.lower()}"
