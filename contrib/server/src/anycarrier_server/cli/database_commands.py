"""``anycarrier db``: bring the database's schema to this version; ``serve`` does it too when it starts.
``anycarrier rotate-key``: replace the master key, and re-encrypt everything sealed under it.

A running server knows the keys it started with, so with servers up it takes three steps: ``--add`` (the new key goes
first into the key file; restart them), ``--finish`` (re-wrap, drop the old key). Without either, one command does both.
Servers with the new key begin to seal with it once all of them have it (``work/key_rotation.py``). If a step is
interrupted, the file still holds every key that something is sealed with. With ``ANYCARRIER_MASTER_KEY`` you keep the
keys yourself: put the new one first, restart, ``--finish``, remove the old one.
"""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.arguments import Verb, Word, option
from anycarrier_server.cli.connection import own_database, own_settings
from anycarrier_server.cli.output import say, working

if TYPE_CHECKING:
    from anycarrier_server.settings import Settings
    from anycarrier_server.store.database import Database


async def upgrade_schema(asked: Namespace) -> None:
    settings = own_settings(**({"database": asked.database} if asked.database else {}))
    from anycarrier_server.store import migrations

    async with own_database(settings) as db:
        before = await show_revision(db)
        async with working("bringing the schema up to date"):
            await migrations.upgrade(db)
        after = await show_revision(db)
    done = f"is at {after} already" if before == after else f"went from {before or 'nothing'} to {after}"
    say(asked, f"{db.url.render_as_string()} {done}", {"before": before, "after": after})


async def show_revision(db: Database) -> str | None:
    """The schema's revision; None for an empty database."""
    from alembic.runtime.migration import MigrationContext

    async with db.read() as session:
        connection = await session.connection()
        return await connection.run_sync(lambda plain: MigrationContext.configure(plain).get_current_revision())


DB = Word(
    "db",
    "the database",
    {
        "upgrade": Verb(
            upgrade_schema,
            "bring the schema to this version",
            (option("--database", metavar="URL", help="default: the settings'"),),
            connects=False,
        )
    },
)


SETTLES_WITHIN = 25.0
"""Seconds after which every server with the new key seals with it, also when one was killed a moment ago."""


async def rotate_key(asked: Namespace) -> None:
    settings = own_settings()
    from anycarrier_server.encryption import new_key, write_key
    from anycarrier_server.store import migrations

    if asked.generate + asked.add + asked.finish > 1:
        raise ConfigurationError("--add, --finish and --generate are steps apart: give one of them, or none for all")
    if asked.generate:
        key = write_key(new_key())
        say(asked, key, {"key": key})
        return
    async with own_database(settings) as db:
        await migrations.upgrade(db)
        if not asked.finish:
            await _add(asked, settings, db)
        if not asked.add:
            await _finish(asked, settings, db)


async def _add(asked: Namespace, settings: Settings, db: Database) -> None:
    """Put a new key first into the key file."""
    from anycarrier_server import encryption
    from anycarrier_server.store import sealer_of, vault

    if settings.master_key is not None:
        raise ConfigurationError(
            "the master key is in ANYCARRIER_MASTER_KEY, which only you can change: make a key with "
            "`anycarrier rotate-key --generate`, set ANYCARRIER_MASTER_KEY=<new>,<old>, restart the servers, "
            "then run `anycarrier rotate-key --finish` and take the old key out"
        )
    if not asked.add:
        await _refuse_while_serving(db)
    await vault.prove(db, sealer_of(settings))  # not over the top of a key that is the wrong one
    file = key_file(settings)
    held = encryption.keys_from_file(file)
    if len(held) > 1:
        raise ConfigurationError(f"{file} holds a new key already: restart servers, then run rotate-key --finish")
    encryption.write_keys(file, [encryption.new_key(), *held])
    if asked.add:
        key_id = encryption.Sealer(encryption.keys_from_file(file)).key_id
        say(asked, f"{file} begins with new key {key_id}. Restart the servers, then: anycarrier rotate-key --finish",
            {"key_id": key_id, "rewrapped": 0})  # fmt: skip


async def _finish(asked: Namespace, settings: Settings, db: Database) -> None:
    """Everything sealed under the first key, then the others go."""
    from anycarrier_server import encryption
    from anycarrier_server.store import sealer_of, vault

    file = key_file(settings)
    sealer = sealer_of(settings)
    if asked.finish:
        async with working("waiting until every server seals with the new key"):
            await _refuse_before_restart(db, sealer.key_id)
    async with working("putting everything sealed under the new key"):
        await vault.prove(db, sealer)
        count = await vault.rewrap(db, sealer)
        if asked.finish:
            # A server that started meanwhile may have found the old key still to be the store's.
            await _refuse_before_restart(db, sealer.key_id)
            count += await vault.rewrap(db, sealer)
    if settings.master_key is None:
        first = encryption.keys_from_file(file)[:1]
        await vault.prove(db, encryption.Sealer(first))  # it opens what it must, before the others are gone
        encryption.write_keys(file, first)
        where = f"{file} holds this key only"
    else:
        where = "take the old keys out of ANYCARRIER_MASTER_KEY"
    say(asked, f"{count} secrets are now under master key {sealer.key_id}; {where}",
        {"key_id": sealer.key_id, "rewrapped": count})  # fmt: skip


def key_file(settings: Settings) -> Path:
    """Where the keys are when they are not in the settings."""
    return settings.data_dir / "master.key"


async def _refuse_while_serving(db: Database) -> None:
    from anycarrier_server.work.key_rotation import AnnouncedKeys

    if serving := (await AnnouncedKeys.read(db)).live:
        raise ConfigurationError(
            f"{len(serving)} server process(es) use this database and know the old key only. Stop them (a killed one "
            "counts for 20 s more), or: anycarrier rotate-key --add, restart them, anycarrier rotate-key --finish"
        )


async def _refuse_before_restart(db: Database, key_id: str) -> None:
    """What a server seals with a key that is dropped is lost. Servers that have the new key take it into use by
    themselves, within two of their signs of life: that is waited for."""
    from anycarrier_server.work.key_rotation import AnnouncedKeys

    clock = asyncio.get_running_loop().time
    deadline = clock() + SETTLES_WITHIN
    while late := (said := await AnnouncedKeys.read(db)).in_the_way_of(key_id):
        if lacking := said.live - said.opens.get(key_id, set()):
            raise ConfigurationError(
                f"{len(lacking)} server process(es) still seal with the old key and do not have the new one: restart "
                "them with both (a killed one counts for 20 s more), then anycarrier rotate-key --finish"
            )
        if clock() > deadline:
            raise ConfigurationError(
                f"{len(late)} server process(es) have the new key and still seal with the old one: does each have the "
                "new key first? A killed one counts for 20 s more; then anycarrier rotate-key --finish"
            )
        await asyncio.sleep(0.5)


ROTATE_KEY = Word(
    "rotate-key",
    "a new master key: everything sealed is put under it",
    {
        "": Verb(
            rotate_key,
            "a new master key, and everything sealed put under it; with servers running: --add, restart, --finish",
            (
                option("--add", action="store_true", help="only put a new key first into the key file"),
                option("--finish", action="store_true", help="only re-wrap under the first key, and drop the others"),
                option("--generate", action="store_true", help="only print a new key, for ANYCARRIER_MASTER_KEY"),
            ),
            connects=False,
        )
    },
)
