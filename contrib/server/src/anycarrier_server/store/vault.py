"""Everything sealed in the store: the canary that proves the master key, the root of what is derived, and re-wrapping
when the key changes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from anycarrier_server.encryption import SealBroken, Sealer, key_id_of
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Canary, CredentialRow, EngineRow, SigningKey, Subscription

CANARY = "anycarrier"

SEALED = (
    (CredentialRow, CredentialRow.sealed),
    (EngineRow, EngineRow.sealed),
    (SigningKey, SigningKey.sealed),
    (Subscription, Subscription.sealed_secret),
    (Subscription, Subscription.sealed_token),
)
"""Every sealed column there is; a test compares it with the models."""


def place(table: str, column: str, id_: object) -> str:
    """What a sealed value is bound to."""
    return f"{table}.{column}:{id_}"


@dataclass(frozen=True, slots=True)
class Proven:
    """What a store whose master key is right says of itself."""

    key_id: str
    """The key it is under: every process that has started can open this one."""

    root: bytes = field(repr=False)
    """32 bytes that all processes share, whichever of the master keys they hold; see ``encryption.derive``."""


async def prove(db: Database, sealer: Sealer) -> Proven:
    """Return when the master key is the store's own; the first start writes what later ones check.

    ``MasterKeyWrong`` or ``SealBroken`` otherwise, before anything is served.
    """
    insert = sqlite_insert if db.sqlite else postgresql_insert
    bound, at_root = place("canary", "sealed", 1), place("canary", "root", 1)
    fresh = {"id": 1, "sealed": sealer.seal(CANARY, bound), "created_at": utc_now()}
    async with db.write() as session:
        await session.execute(insert(Canary).values(fresh).on_conflict_do_nothing())
        # Locked: of processes starting together one makes the root, and all read that one.
        sealed, root = (await session.execute(select(Canary.sealed, Canary.root).with_for_update())).one()
        if sealer.open(sealed, bound) != CANARY:
            raise SealBroken(bound)
        if root is None:
            # Under the key the store is under, which need not be the one this process seals with.
            root = sealer.seal(secrets.token_hex(32), at_root, key_id=key_id_of(sealed))
            await session.execute(update(Canary).values(root=root))
    return Proven(key_id_of(sealed), bytes.fromhex(sealer.open(root, at_root)))


async def rewrap(db: Database, sealer: Sealer) -> int:
    """Put every sealed value under the key that ``sealer`` seals with, all or none; how many were re-wrapped.

    ``sealer`` must hold the old keys too. Nothing may seal with the old key meanwhile: restart processes with
    both keys first, then re-wrap, then drop the old one.
    """
    done = 0
    async with db.unhurried() as session:
        for table, column in (*SEALED, (Canary, Canary.sealed), (Canary, Canary.root)):
            name = column.key
            key = table.__table__.c.id
            rows = await session.execute(select(key, column).where(column.is_not(None)).with_for_update())
            for id_, blob in rows.all():
                if not blob:
                    continue
                changed = sealer.rewrap(blob, place(table.__tablename__, name, id_))
                if changed != blob:
                    await session.execute(update(table).where(key == id_).values({name: changed}))
                    done += 1
    return done
