"""``anycarrier db upgrade``: bring the database's schema to this version. ``serve`` does it too when it starts."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from anycarrier_server.cli.progress import working
from anycarrier_server.cli.table import say
from anycarrier_server.cli.this_machine import own_database, own_settings
from anycarrier_server.cli.words import Verb, Word, option

if TYPE_CHECKING:
    from anycarrier_server.store.database import Database


async def upgrade(asked: Namespace) -> None:
    settings = own_settings(**({"database": asked.database} if asked.database else {}))
    from anycarrier_server.store import migrate

    async with own_database(settings) as db:
        before = await revision(db)
        async with working("bringing the schema up to date"):
            await migrate.upgrade(db)
        after = await revision(db)
    done = f"is at {after} already" if before == after else f"went from {before or 'nothing'} to {after}"
    say(asked, f"{db.url.render_as_string()} {done}", {"before": before, "after": after})


async def revision(db: Database) -> str | None:
    """The schema's revision; None for an empty database."""
    from alembic.runtime.migration import MigrationContext

    async with db.read() as session:
        connection = await session.connection()
        return await connection.run_sync(lambda plain: MigrationContext.configure(plain).get_current_revision())


WORD = Word(
    "db",
    "the database",
    {
        "upgrade": Verb(
            upgrade,
            "bring the schema to this version",
            (option("--database", metavar="URL", help="default: the settings'"),),
            connects=False,
        )
    },
)
main = WORD.main
