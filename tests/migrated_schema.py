"""The schema of a new SQLite database, made by the migrations once in a process and copied from then on.

Running them takes 0.15 s, and most tests of the service start one. ``server/test_migrations.py`` runs them each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

run = command.upgrade
made: list[str] = []

WRITTEN = """SELECT sql FROM sqlite_master WHERE sql IS NOT NULL
AND name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow') ORDER BY rowid"""
"""Without what a full-text index makes by itself."""


def upgrade(config: Config, revision: str, **settings: Any) -> None:
    """As Alembic's, but that an empty SQLite database gets a copy."""
    connection: Connection = config.attributes["connection"]
    new = connection.dialect.name == "sqlite" and not connection.exec_driver_sql("SELECT * FROM sqlite_master").first()
    if not new or revision != "head":
        run(config, revision, **settings)
    elif not made:
        run(config, revision, **settings)
        made.extend(statements(connection))
    else:
        for statement in made:
            connection.exec_driver_sql(statement)


def statements(connection: Connection) -> Iterator[str]:
    """What makes this database again; the migrations leave no rows but Alembic's own."""
    for (sql,) in connection.exec_driver_sql(WRITTEN):
        yield sql
    for (number,) in connection.exec_driver_sql("SELECT version_num FROM alembic_version"):
        yield f"INSERT INTO alembic_version VALUES ('{number}')"


@pytest.fixture(autouse=True)
def schema_copied(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.path.name != "test_migrations.py":
        monkeypatch.setattr(command, "upgrade", upgrade)
