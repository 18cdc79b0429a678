"""Room for one more call: on a carrier account calls at once and calls per second, on a number calls at once and calls
in a day. Exact over all processes. And how much was called: today, this month, and within the rolling day's limits.

The credential's row, then the number's, is the lock that counting holds, so two processes cannot both take the last
place. Without limits in the settings nothing is locked and nothing is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import bindparam, func, or_, select, update

from anycarrier.errors import LimitReached
from anycarrier_server.domain.access import Caller
from anycarrier_server.domain.resources import Resources
from anycarrier_server.settings import Settings
from anycarrier_server.store import Snapshot, Store
from anycarrier_server.store.columns import utc_now, word
from anycarrier_server.store.models import CallRow, CredentialRow, LineRow, Usage
from anycarrier_server.store.statements import Statement, Transaction, table_of

DAY = timedelta(hours=24)

Whose = Literal["credential", "number"]
Kind = Literal["concurrency", "pace", "day"]

CALL, CREDENTIAL, LINE = table_of(CallRow), table_of(CredentialRow), table_of(LineRow)
DIALLED = CALL.c.dial_claimed_at
# Every line the number ever was: taking it out of service and registering it again does not empty its day.
LINES = select(LINE.c.id).where(LINE.c.number == bindparam("number"), LINE.c.workspace_id == bindparam("workspace_id"))
OTHERS = (CALL.c.workspace_id == bindparam("workspace_id"), CALL.c.id != bindparam("call_id"))
OF_CREDENTIAL = (*OTHERS, CALL.c.credential_id == bindparam("credential_id"))
OF_NUMBER = (*OTHERS, CALL.c.line_id.in_(LINES))
# Incoming calls hold a channel too; outbound ones from the moment they were let through here.
HOLDING = (CALL.c.status != word("ended"), or_(CALL.c.direction == word("inbound"), DIALLED.is_not(None)))
# What the carrier refused before anything rang is not counted, as it is not in the workspace's day.
RANG = or_(CALL.c.status != word("ended"), CALL.c.carrier_id.is_not(None))
SINCE = CALL.c.dial_claimed_at > bindparam("since")

LOCK_CREDENTIAL = Statement(
    select(CREDENTIAL.c.id).where(CREDENTIAL.c.id == bindparam("credential_id")).with_for_update()
)
LOCK_NUMBER = Statement(LINES.order_by(LINE.c.id).with_for_update())
HELD_BY_CREDENTIAL = Statement(select(func.count()).where(*OF_CREDENTIAL, *HOLDING))
HELD_BY_NUMBER = Statement(select(func.count()).where(*OF_NUMBER, *HOLDING))
LATELY = Statement(select(func.count()).where(*OF_CREDENTIAL, SINCE))
IN_A_DAY = Statement(
    select(func.count().label("calls"), func.min(DIALLED).label("oldest")).where(*OF_NUMBER, SINCE, RANG)
)
CLAIM = Statement(
    update(CALL)
    .where(CALL.c.id == bindparam("call"), DIALLED.is_(None), CALL.c.status != word("ended"))
    .values(dial_claimed_at=bindparam("now"), updated_at=bindparam("now"), owner=bindparam("by"))
    .returning(CALL.c.id)
)


class NoRoom(LimitReached):
    """A limit of the credential's or the number's is reached; ``kind`` tells which."""

    def __init__(self, what: str, *, whose: Whose, kind: Kind, retry_after: float) -> None:
        self.whose = whose
        self.kind = kind
        super().__init__(f"{what} on this {whose}", retry_after=retry_after)


def limited(resources: Resources) -> bool:
    """True when there is anything to count."""
    return _counts_credentials(resources.settings) or _counts_numbers(resources.settings)


async def take_room(resources: Resources, call: CallRow) -> bool:
    """Take a place for ``call`` and mark it as being dialled by us; False when somebody dials it already.

    :class:`NoRoom` when there is none; then nothing has changed.
    """
    settings = resources.settings

    async def work(tx: Transaction) -> bool:
        if _counts_credentials(settings) and call.credential_id is not None:
            await _room_on_credential(settings, tx, call)
        if _counts_numbers(settings):
            await _room_on_number(settings, tx, call)
        return await tx.value(CLAIM, call=call.id, now=utc_now(), by=resources.store.owner) is not None

    return await resources.store.db.transact(work)


def _counts_credentials(settings: Settings) -> bool:
    return settings.max_concurrent is not None or settings.calls_per_second is not None


def _counts_numbers(settings: Settings) -> bool:
    return settings.max_concurrent_per_number is not None or settings.calls_per_day_per_number is not None


async def _room_on_credential(settings: Settings, tx: Transaction, call: CallRow) -> None:
    await tx.run(LOCK_CREDENTIAL, credential_id=call.credential_id)
    mine = {"workspace_id": call.workspace_id, "call_id": call.id, "credential_id": call.credential_id}
    most = settings.max_concurrent
    if most is not None and await tx.value(HELD_BY_CREDENTIAL, **mine) >= most:
        raise _too_many_at_once(most, "credential")
    pace = settings.calls_per_second
    if pace is not None:
        window = max(1.0, 1.0 / pace)
        recent = await tx.value(LATELY, **mine, since=utc_now() - timedelta(seconds=window))
        if recent >= max(1, int(pace * window)):
            raise NoRoom(f"{pace:g} calls per second", whose="credential", kind="pace", retry_after=window)


async def _room_on_number(settings: Settings, tx: Transaction, call: CallRow) -> None:
    number: dict[str, Any] = {"number": call.local_number, "workspace_id": call.workspace_id}
    await tx.run(LOCK_NUMBER, **number)
    most = settings.max_concurrent_per_number
    if most is not None and await tx.value(HELD_BY_NUMBER, **number, call_id=call.id) >= most:
        raise _too_many_at_once(most, "number")
    most, now = settings.calls_per_day_per_number, utc_now()
    if most is None:
        return
    day = await tx.row(IN_A_DAY, **number, call_id=call.id, since=now - DAY)
    if day.calls >= most:
        wait = (day.oldest + DAY - now if day.oldest is not None else DAY).total_seconds()
        raise NoRoom(f"{most} calls in 24 hours", whose="number", kind="day", retry_after=wait)


def _too_many_at_once(most: int, whose: Whose) -> NoRoom:
    return NoRoom(f"{most} calls at once", whose=whose, kind="concurrency", retry_after=5.0)


@dataclass(frozen=True, slots=True)
class Used:
    """Days and months begin at 00:00 UTC; ``cost_cents`` is None when no carrier told any price."""

    calls_today: int
    calls_this_month: int
    minutes_this_month: float
    cost_cents_this_month: float | None
    month_began: datetime
    day_ends: datetime
    rolling: Snapshot


async def usage_of_workspace(store: Store, caller: Caller) -> Used:
    """The workspace's use."""
    now = utc_now()
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    ours = Usage.workspace_id == caller.workspace_id
    async with store.db.read() as session:
        today = await session.scalar(select(func.count()).where(ours, Usage.at >= day)) or 0
        monthly = select(func.count(), func.coalesce(func.sum(Usage.seconds), 0.0)).where(ours, Usage.at >= month)
        calls, seconds = (await session.execute(monthly)).one()
        cost = await session.scalar(
            select(func.sum(CallRow.cost_cents)).where(
                CallRow.workspace_id == caller.workspace_id, CallRow.created_at >= month
            )
        )
    rolling = await store.limits.snapshot(caller.workspace_id, at=now)
    return Used(today, calls, seconds / 60, cost, month, day + timedelta(days=1), rolling)
