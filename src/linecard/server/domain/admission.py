"""Room for one more call: on a carrier account calls at once and calls per second, on a number calls at once and calls
in a day. Exact over all processes.

The credential's row, then the number's, is the lock: whoever counts holds it, so two processes cannot both take the
last place. Without limits in the settings nothing is locked and nothing is counted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from linecard.errors import LimitReached
from linecard.server.settings import Settings
from linecard.server.store.columns import utc_now, word
from linecard.server.store.models import CallRow, CredentialRow, LineRow

if TYPE_CHECKING:
    from linecard.server.service import Service

DIALLED = CallRow.dial_claimed_at
DAY = timedelta(hours=24)

Whose = Literal["credential", "number"]
Kind = Literal["concurrency", "pace", "day"]


class NoRoom(LimitReached):
    """A limit of the credential's or the number's is reached; ``kind`` tells which."""

    def __init__(self, what: str, *, whose: Whose, kind: Kind, retry_after: float) -> None:
        self.whose = whose
        self.kind = kind
        super().__init__(f"{what} on this {whose}", retry_after=retry_after)


def limited(service: Service) -> bool:
    """True when there is anything to count."""
    return _counts_credentials(service.settings) or _counts_numbers(service.settings)


async def take_room(service: Service, call: CallRow) -> bool:
    """Take a place for ``call`` and mark it as being dialled by us; False when somebody dials it already.

    :class:`NoRoom` when there is none; then nothing has changed.
    """
    settings = service.settings
    async with service.store.db.write() as session:
        if _counts_credentials(settings) and call.credential_id is not None:
            await _room_on_credential(settings, session, call)
        if _counts_numbers(settings):
            await _room_on_number(settings, session, call)
        mine = (
            update(CallRow)
            .where(CallRow.id == call.id, DIALLED.is_(None), CallRow.status != "ended")
            .values(dial_claimed_at=utc_now(), owner=service.store.owner)
        )
        return (await session.execute(mine.returning(CallRow.id))).scalar_one_or_none() is not None


def _counts_credentials(settings: Settings) -> bool:
    return settings.max_concurrent is not None or settings.calls_per_second is not None


def _counts_numbers(settings: Settings) -> bool:
    return settings.max_concurrent_per_number is not None or settings.calls_per_day_per_number is not None


async def _room_on_credential(settings: Settings, session: AsyncSession, call: CallRow) -> None:
    row = select(CredentialRow.id).where(CredentialRow.id == call.credential_id)
    await session.execute(row.with_for_update())
    others = [*_others(call), CallRow.credential_id == call.credential_id]
    await _at_once(session, others, settings.max_concurrent, "credential")
    pace = settings.calls_per_second
    if pace is not None:
        window = max(1.0, 1.0 / pace)
        since = utc_now() - timedelta(seconds=window)
        recent = await session.scalar(select(func.count()).where(*others, since < DIALLED)) or 0
        if recent >= max(1, int(pace * window)):
            raise NoRoom(f"{pace:g} calls per second", whose="credential", kind="pace", retry_after=window)


async def _room_on_number(settings: Settings, session: AsyncSession, call: CallRow) -> None:
    # Every line the number ever was: taking it out of service and registering it again does not empty its day.
    lines = select(LineRow.id).where(LineRow.number == call.local_number, LineRow.workspace_id == call.workspace_id)
    await session.execute(lines.order_by(LineRow.id).with_for_update())
    others = [*_others(call), CallRow.line_id.in_(lines)]
    await _at_once(session, others, settings.max_concurrent_per_number, "number")
    most, now = settings.calls_per_day_per_number, utc_now()
    if most is None:
        return
    # What the carrier refused before anything rang is not counted, as it is not in the workspace's day.
    rang = or_(CallRow.status != "ended", CallRow.carrier_id.is_not(None))
    counted = select(func.count(), func.min(DIALLED)).where(*others, now - DAY < DIALLED, rang)
    dialled, oldest = (await session.execute(counted)).one()
    if dialled >= most:
        wait = (oldest + DAY - now if oldest is not None else DAY).total_seconds()
        raise NoRoom(f"{most} calls in 24 hours", whose="number", kind="day", retry_after=wait)


def _others(call: CallRow) -> list[ColumnElement[bool]]:
    return [CallRow.workspace_id == call.workspace_id, CallRow.id != call.id]


async def _at_once(session: AsyncSession, others: list[Any], most: int | None, whose: Whose) -> None:
    if most is None:
        return
    # Incoming calls hold a channel too; outbound ones from the moment they were let through here.
    holding = or_(CallRow.direction == "inbound", DIALLED.is_not(None))
    count = select(func.count()).where(*others, CallRow.status != word("ended"), holding)
    if (await session.scalar(count) or 0) >= most:
        raise NoRoom(f"{most} calls at once", whose=whose, kind="concurrency", retry_after=5.0)
