"""Transactions: whole or not at all, one writer at a time on SQLite, and never waiting for oneself."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from anycarrier_server.store.columns import new_id, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Agent, Workspace


async def test_what_a_block_wrote_is_undone_when_it_raises(db: Database) -> None:
    async def half() -> None:
        async with db.write() as session:
            session.add(Workspace(name="a"))
            await session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await half()
    async with db.read() as session:
        assert await session.scalar(select(func.count()).select_from(Workspace)) == 0


async def test_references_are_enforced(db: Database) -> None:
    with pytest.raises(IntegrityError):
        async with db.write() as session:
            session.add(Agent(workspace_id=new_id(), handle="a", name="a"))


async def test_times_come_back_as_they_went_in_whatever_zone_they_had(db: Database) -> None:
    moment = datetime(2026, 3, 29, 1, 30, 0, 123456, timezone(timedelta(hours=2)))
    async with db.write() as session:
        session.add(Workspace(name="a", created_at=moment))
    async with db.read() as session:
        stored = (await session.scalars(select(Workspace))).one().created_at
    assert stored == moment
    assert stored.tzinfo is UTC


async def test_a_time_without_a_zone_is_refused(db: Database) -> None:
    with pytest.raises(StatementError, match="aware"):
        async with db.write() as session:
            session.add(Workspace(name="a", created_at=datetime(2026, 1, 1)))


async def test_sqlite_is_set_up_for_many_readers_and_one_writer(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'x.db'}")
    async with db.read() as session:
        for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1), ("busy_timeout", 15000)):
            assert await session.scalar(text(f"PRAGMA {pragma}")) == value
    await db.close()


async def test_a_write_waits_for_another_process_instead_of_failing(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'x.db'}")
    async with db.write() as session:
        await session.execute(text("CREATE TABLE t (n INTEGER)"))
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def insert() -> None:
        async with db.write() as session:
            await session.execute(text("INSERT INTO t VALUES (1)"))

    waiting = asyncio.create_task(insert())
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    other.execute("COMMIT")
    await asyncio.wait_for(waiting, 20)
    other.close()
    await db.close()


async def test_a_write_inside_a_write_is_an_error_and_not_a_deadlock(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'x.db'}")
    async with db.write():
        with pytest.raises(RuntimeError, match="inside another"):
            async with db.write():
                pass
    async with db.write() as session:
        assert await session.scalar(text("SELECT 1")) == 1
    await db.close()


async def test_reads_go_on_while_somebody_writes(db: Database) -> None:
    async with db.write() as session:
        session.add(Workspace(name="a", created_at=utc_now()))
        await session.flush()
        async with db.read() as reader:
            assert await reader.scalar(select(func.count()).select_from(Workspace)) == 0


def test_only_plain_words_are_written_into_statements() -> None:
    assert str(word("ended")) == "'ended'"
    with pytest.raises(ValueError, match="plain words"):
        word("x' OR '1'='1")
