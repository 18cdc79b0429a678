"""Bring the schema up to date. Safe to run from several processes at once: the first does it, the others wait."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text

from anycarrier.errors import ConfigurationError
from anycarrier_server.store.database import Database

LOCK = 0x6C696E65  # "line": any number, as long as nobody else takes it


def config(connection: Connection) -> Config:
    """Alembic's configuration for one connection; no ini file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.attributes["connection"] = connection
    return made


async def upgrade(db: Database, revision: str = "head") -> None:
    """Run the steps this database has not seen; ``ConfigurationError`` when it is newer than this program."""

    def run(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        try:
            command.upgrade(config(connection), revision)
        except CommandError as error:
            raise ConfigurationError(
                f"the database's schema cannot be brought to this version: {error}. "
                "It was probably written by a newer anycarrier; install that version, or restore the older database"
            ) from error

    async with db.unhurried() as session:
        await (await session.connection()).run_sync(run)


async def differences(db: Database) -> str:
    """What the migrated schema lacks compared with the models; empty when they agree (``alembic check``)."""

    def run(connection: Connection) -> str:
        try:
            command.check(config(connection))
        except CommandError as error:
            return str(error)
        return ""

    async with db.read() as session:
        return await (await session.connection()).run_sync(run)
