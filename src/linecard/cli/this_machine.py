"""The server's settings and database as they are on this machine, with errors that say what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from tomllib import TOMLDecodeError
from typing import TYPE_CHECKING, Any

from linecard.errors import ConfigurationError

if TYPE_CHECKING:
    from linecard.server.settings import Settings
    from linecard.server.store.database import Database


def own_settings(**given: Any) -> Settings:
    """The settings a server started here would have. ``ConfigurationError`` for wrong ones, or without the server."""
    try:
        from pydantic import ValidationError
        from pydantic_settings import SettingsError

        from linecard.server.settings import Settings
    except ImportError as missing:
        needed = f"this needs the server, and it is not installed ({missing.name}): install the extra `server`"
        raise ConfigurationError(needed) from None
    try:
        return Settings(**given)
    except ValidationError as wrong:
        told = "; ".join(_complaint(error["loc"], error["msg"]) for error in wrong.errors())
    except TOMLDecodeError as wrong:
        told = f"the settings file is not TOML: {wrong}"
    except SettingsError as wrong:
        told = str(wrong)
    raise ConfigurationError(f"a setting is wrong: {told}. docs/settings.md lists them")


def _complaint(where: tuple[str | int, ...], message: str) -> str:
    """What is wrong with one setting; with several together when ``where`` names none."""
    name = ".".join(map(str, where))
    return f"{name}: {message}".removeprefix(": ").replace("Value error, ", "")


@asynccontextmanager
async def own_database(settings: Settings) -> AsyncIterator[Database]:
    """That server's database; not migrated."""
    from linecard.server.first_start import make_folders
    from linecard.server.store.database import Database

    with database_troubles(settings):
        make_folders(settings)
        db = Database(settings.database_url)
        try:
            yield db
        finally:
            await db.close()


@contextmanager
def database_troubles(settings: Settings) -> Iterator[None]:
    """A database that is not there or does not let us in, as one line without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    from linecard.server.outage import DatabaseAway, kind

    try:
        yield
    except ArgumentError as failure:
        raise ConfigurationError(
            "the database URL cannot be read: use sqlite:///file or postgresql://user:password@host/name"
        ) from failure
    except (OSError, SQLAlchemyError, DatabaseAway) as failure:
        where = make_url(settings.database_url).render_as_string()
        raise ConfigurationError(
            f"the database {where} cannot be used ({kind(failure)}). Is LINECARD_DATABASE right, is it running, "
            "may this user open it?"
        ) from failure
