"""Which master key a process seals with while keys are being changed: the newest that every live process can open.

Each process claims ``opens:<key>:<owner>`` for the keys it holds and ``sealing:<key>:<owner>`` for the one it seals
with, beside its sign of life. A process that has a newer key goes on sealing with the store's until all the others
have it too; `anycarrier rotate-key --finish` waits until all of them seal with the newest.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field

from sqlalchemy import or_, select

from anycarrier_server.encryption import MasterKeyWrong
from anycarrier_server.store import Store
from anycarrier_server.store.claims import ALIVE_SECONDS
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Claim

log = logging.getLogger("anycarrier")


def opens(owner: str, key_id: str) -> str:
    """The claim of a process that holds this master key."""
    return f"opens:{key_id}:{owner}"


def sealing(owner: str, key_id: str) -> str:
    """The claim of a process that seals with this master key, or did so a moment ago."""
    return f"sealing:{key_id}:{owner}"


class KeyRoll:
    """One process's part in it. ``beat`` is its sign of life too."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said: set[str] = set()  # the keys we claim to seal with

    async def beat(self) -> None:
        """Say that we live and with which keys; seal with the newest that all can open.

        ``MasterKeyWrong`` at the first beat as from :func:`refuse_lacking`.
        """
        claims, sealer, owner = self._store.claims, self._store.sealer, self._store.owner
        for key_id in sealer.key_ids:  # before we count as live, or we would hold up the others
            await claims.take(opens(owner, key_id), ALIVE_SECONDS)
        await claims.alive()
        if not self._said:
            try:
                await refuse_lacking(self._store)
            except MasterKeyWrong:
                await self.stop()
                raise
        before = sealer.key_id
        # What we began to seal under the last key may be on its way to the database: that one is still claimed now,
        # and given up at the next beat. At the first beat nothing has been sealed.
        used = {before} if self._said else set()
        if (newest := await self._newest()) != before:
            # Told first and looked at again: of one who starts with old keys and us, one sees the other.
            await claims.take(sealing(owner, newest), ALIVE_SECONDS)
            self._said.add(newest)
            if await self._newest() == newest:
                sealer.seal_with(newest)
                log.info("sealing with master key %s: every live process can open it", newest)
        used.add(sealer.key_id)
        for key_id in used:
            await claims.take(sealing(owner, key_id), ALIVE_SECONDS)
        for key_id in self._said - used:
            await claims.drop(sealing(owner, key_id))
        self._said = used

    async def stop(self) -> None:
        """What we claim is nobody's at once."""
        claims, owner = self._store.claims, self._store.owner
        with contextlib.suppress(Exception):
            await claims.drop(f"process:{owner}")
            for key_id in self._store.sealer.key_ids:
                await claims.drop(opens(owner, key_id))
                await claims.drop(sealing(owner, key_id))

    async def _newest(self) -> str:
        """The newest of our keys that every live process holds; the one in use when there is none."""
        ours = self._store.sealer.key_ids
        if len(ours) > 1:
            said = await AnnouncedKeys.read(self._store.db)
            for key_id in ours:
                if said.live <= said.opens.get(key_id, set()):
                    return key_id
        return self._store.sealer.key_id


@dataclass(frozen=True, slots=True)
class AnnouncedKeys:
    """What the processes that live say just now: their names, and by key id those who hold it and who seal with it."""

    live: set[str] = field(default_factory=set)
    opens: dict[str, set[str]] = field(default_factory=dict)
    sealing: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    async def read(cls, db: Database) -> AnnouncedKeys:
        """As it stands in the database."""
        kinds = or_(*(Claim.name.like(f"{kind}:%") for kind in ("process", "opens", "sealing")))
        async with db.read() as session:
            held = await session.execute(select(Claim.name, Claim.owner).where(kinds, Claim.expires_at > utc_now()))
            said = cls()
            for name, owner in held.all():
                kind, key_id = name.split(":")[:2]
                if kind == "process":
                    said.live.add(owner)
                else:
                    (said.opens if kind == "opens" else said.sealing).setdefault(key_id, set()).add(owner)
        return said

    def in_the_way_of(self, key_id: str) -> set[str]:
        """The processes that seal with another key, or did a moment ago, or do not say that they have this one."""
        others = [owners for other, owners in self.sealing.items() if other != key_id]
        return (self.live - self.sealing.get(key_id, set())).union(*others)


async def refuse_lacking(store: Store) -> None:
    """``MasterKeyWrong`` when a live process seals with a key that this one does not have."""
    ours = store.sealer.key_ids
    if strange := sorted((await AnnouncedKeys.read(store.db)).sealing.keys() - set(ours)):
        raise MasterKeyWrong(strange[0], ours)
