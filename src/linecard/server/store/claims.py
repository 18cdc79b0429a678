"""Who does what just now, over all processes; and which processes are alive.

A claim lapses unless renewed, so what a dead process held is free again after ``seconds``. A process's own sign of
life is the claim ``process:<owner>``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from linecard.server.store.columns import utc_now, word
from linecard.server.store.database import Database
from linecard.server.store.models import CallRow, Claim

ALIVE_SECONDS = 20.0


class Claims:
    """Claims of one process, ``owner``."""

    def __init__(self, db: Database, owner: str) -> None:
        self._db = db
        self.owner = owner

    async def take(self, name: str, seconds: float, *, at: datetime | None = None) -> bool:
        """Claim or renew; False while another owner holds it."""
        now = at or utc_now()
        insert = sqlite_insert if self._db.sqlite else postgresql_insert
        statement = insert(Claim).values(name=name, owner=self.owner, expires_at=now + timedelta(seconds=seconds))
        taken = statement.on_conflict_do_update(
            index_elements=[Claim.name],
            set_={"owner": statement.excluded.owner, "expires_at": statement.excluded.expires_at},
            where=or_(Claim.owner == self.owner, Claim.expires_at <= now),
        ).returning(Claim.name)
        async with self._db.write() as session:
            return (await session.execute(taken)).scalar_one_or_none() is not None

    async def drop(self, name: str) -> None:
        """Give a claim back, if it is ours."""
        async with self._db.write() as session:
            await session.execute(delete(Claim).where(Claim.name == name, Claim.owner == self.owner))

    async def alive(self, *, at: datetime | None = None) -> None:
        """Say that this process lives; to be called well within ``ALIVE_SECONDS``."""
        await self.take(f"process:{self.owner}", ALIVE_SECONDS, at=at)

    async def orphans(self, *, at: datetime | None = None) -> list[CallRow]:
        """Calls in progress whose process has not been heard of: ask the carrier how they stand.

        Scheduled calls nobody has begun to dial are no orphans. A call nobody owns yet is one after
        ``ALIVE_SECONDS``.
        """
        now = at or utc_now()
        keeper = and_(Claim.owner == CallRow.owner, Claim.name == "process:" + CallRow.owner, Claim.expires_at > now)
        begun = or_(CallRow.scheduled_at.is_(None), CallRow.dial_claimed_at.is_not(None))
        query = (
            select(CallRow)
            .outerjoin(Claim, keeper)
            .where(
                CallRow.status != word("ended"),
                Claim.name.is_(None),
                begun,
                CallRow.updated_at <= now - timedelta(seconds=ALIVE_SECONDS),
            )
            .order_by(CallRow.created_at)
            .limit(200)
        )
        async with self._db.read() as session:
            return list(await session.scalars(query))
