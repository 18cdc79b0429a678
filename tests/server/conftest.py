"""One suite, two databases: every test that asks for ``db`` or ``store`` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from anycarrier_server.encryption import Sealer
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store, migrations
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Workspace

sys.path.insert(0, str(Path(__file__).parent))
from postgres import binaries, scratch_folder, scratch_postgres
from tenants import Tenant, build_acme, make_tenant

from migrated_schema import schema_copied as schema_copied


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    if binaries() is None:
        if os.environ.get("ANYCARRIER_CI") == "1":
            pytest.fail("CI must run these on PostgreSQL too: install postgresql")
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    with scratch_folder() as folder, scratch_postgres(folder) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> str:
    """The name of a migrated, empty database, to be copied: quicker than migrating for every test."""

    async def make() -> None:
        db = await created(postgres, "template_anycarrier")
        await migrations.upgrade(db)
        await db.close()

    # In a thread, because the test that asks first is already inside its own event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()
    return "template_anycarrier"


async def created(server: str, name: str, template: str = "template0") -> Database:
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    finally:
        await connection.close()
    return Database(f"{server}/{name}")


EMPTY: list[str] = []
"""Databases that earlier tests are done with, migrated and without rows: making one writes eight megabytes."""

COLUMNS = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public'"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
SEQUENCES = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"


async def emptied(url: str) -> bool:
    """Delete all rows; False for a database that somebody still uses, or whose tables a test has changed."""
    connection = await asyncpg.connect(url)
    try:
        columns = 1 + sum(len(table.columns) for table in Workspace.metadata.tables.values())  # and Alembic's own
        if await connection.fetchval(COLUMNS) != columns or await connection.fetchval(OTHERS):
            return False
        rows = [f'DELETE FROM "{name}"' for (name,) in await connection.fetch(TABLES)]
        counters = [f'ALTER SEQUENCE "{name}" RESTART' for (name,) in await connection.fetch(SEQUENCES)]
        await connection.execute("SET session_replication_role = replica")  # references are not looked at
        await connection.execute(";".join(rows + counters))
    finally:
        await connection.close()
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty_db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database with nothing in it, not even tables."""
    if request.param == "sqlite":
        db = Database(f"sqlite:///{tmp_path / 'anycarrier.db'}")
    else:
        db = await created(request.getfixturevalue("postgres"), f"t_{uuid4().hex}")
    yield db
    await db.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated database without rows."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'anycarrier.db'}")
        await migrations.upgrade(made)
    else:
        server = request.getfixturevalue("postgres")
        template = request.getfixturevalue("postgres_template")
        made = Database(EMPTY.pop()) if EMPTY else await created(server, f"t_{uuid4().hex}", template)
    yield made
    await made.close()
    if request.param == "postgresql" and await emptied(url := made.url.render_as_string(hide_password=False)):
        EMPTY.append(url)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
async def store(db: Database, settings: Settings) -> AsyncIterator[Store]:
    """The store on either database, with its writer running."""
    made = Store(db, Sealer([b"k" * 32]), settings, root=b"r" * 32, build=build_acme)
    await made.writer.start()
    yield made
    await made.writer.stop()


@pytest.fixture
async def tenant(store: Store) -> Tenant:
    return await make_tenant(store)
