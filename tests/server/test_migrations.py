"""The schema: up from nothing, equal to the models, safe when several start at once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from anycarrier.errors import ConfigurationError
from anycarrier_server.store import migrations
from anycarrier_server.store.database import Database


async def test_an_empty_database_comes_up_equal_to_the_models(empty_db: Database) -> None:
    await migrations.upgrade(empty_db)
    assert await migrations.differences(empty_db) == ""


async def test_the_check_sees_a_missing_column(empty_db: Database) -> None:
    await migrations.upgrade(empty_db)
    async with empty_db.write() as session:
        await session.execute(text("ALTER TABLE recordings DROP COLUMN size"))
    assert "size" in await migrations.differences(empty_db)


async def test_upgrading_twice_changes_nothing(empty_db: Database) -> None:
    await migrations.upgrade(empty_db)
    await migrations.upgrade(empty_db)
    assert await migrations.differences(empty_db) == ""


async def test_processes_starting_together_migrate_once(empty_db: Database) -> None:
    others = [Database(empty_db.url.render_as_string(hide_password=False)) for _ in range(3)]
    try:
        await asyncio.gather(*(migrations.upgrade(one) for one in (empty_db, *others)))
    finally:
        for other in others:
            await other.close()
    assert await migrations.differences(empty_db) == ""


async def test_a_database_of_a_newer_version_is_refused_with_what_to_do(empty_db: Database) -> None:
    await migrations.upgrade(empty_db)
    async with empty_db.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer anycarrier"):
        await migrations.upgrade(empty_db)


def test_a_database_that_is_neither_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="mysql"):
        Database("mysql://localhost/anycarrier")


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="file"):
        Database("sqlite://")
