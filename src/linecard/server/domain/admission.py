"""Room for one more call on a carrier account: calls at once and calls per second, exact over all processes.

The credential's row is the lock: whoever counts holds it, so two processes cannot both take the last place. Without
limits in the settings nothing is locked and nothing is counted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from linecard.errors import LimitReached
from linecard.server.store.columns import utc_now
from linecard.server.store.models import CallRow, CredentialRow

if TYPE_CHECKING:
    from linecard.server.service import Service

DIALLED = CallRow.dial_claimed_at


class NoRoom(LimitReached):
    """The credential's own limit is reached; ``concurrency`` tells which of the two."""

    def __init__(self, what: str, *, concurrency: bool, retry_after: float) -> None:
        self.concurrency = concurrency
        super().__init__(what, retry_after=retry_after)


def limited(service: Service) -> bool:
    """True when there is anything to count."""
    return service.settings.max_concurrent is not None or service.settings.calls_per_second is not None


async def take_room(service: Service, call: CallRow) -> bool:
    """Take a place for ``call`` and mark it as being dialled by us; False when somebody dials it already.

    :class:`NoRoom` when there is none; then nothing has changed.
    """
    async with service.store.db.write() as session:
        if limited(service) and call.credential_id is not None:
            row = select(CredentialRow.id).where(CredentialRow.id == call.credential_id)
            await session.execute(row.with_for_update())
            await _count(service, session, call.credential_id, call.id)
        mine = (
            update(CallRow)
            .where(CallRow.id == call.id, DIALLED.is_(None), CallRow.status != "ended")
            .values(dial_claimed_at=utc_now(), owner=service.store.owner)
        )
        return (await session.execute(mine.returning(CallRow.id))).scalar_one_or_none() is not None


async def _count(service: Service, session: AsyncSession, credential_id: UUID, call_id: UUID) -> None:
    most, pace = service.settings.max_concurrent, service.settings.calls_per_second
    others = (CallRow.credential_id == credential_id, CallRow.id != call_id)
    if most is not None:
        # Incoming calls hold a channel too; outbound ones from the moment they were let through here.
        holding = or_(CallRow.direction == "inbound", DIALLED.is_not(None))
        live = await session.scalar(select(func.count()).where(*others, CallRow.status != "ended", holding)) or 0
        if live >= most:
            raise NoRoom(f"{most} calls at once on this credential", concurrency=True, retry_after=5.0)
    if pace is not None:
        window = max(1.0, 1.0 / pace)
        since = utc_now() - timedelta(seconds=window)
        recent = await session.scalar(select(func.count()).where(*others, since < DIALLED)) or 0
        if recent >= max(1, int(pace * window)):
            raise NoRoom(f"{pace:g} calls per second on this credential", concurrency=False, retry_after=window)
