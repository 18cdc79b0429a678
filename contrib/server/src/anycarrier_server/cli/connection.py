"""Which server to speak to, and with which key: the command line, the environment, then this machine's own settings.
Errors of those settings, and of the database they name, say what to do.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from anycarrier.errors import ConfigurationError

if TYPE_CHECKING:
    from anycarrier_server.settings import Settings
    from anycarrier_server.store.database import Database


DEFAULT = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Address:
    """An origin like ``https://voice.example.com`` and the key to it, None when there is none."""

    url: str
    key: str | None = field(repr=False)


def find_address(url: str | None = None, key: str | None = None) -> Address:
    """``url`` and ``key`` are what the command line said. ``ConfigurationError`` for an unfit URL or key.

    The local server's admin key is offered to the local server only, never to one that was named.
    """
    named = url or os.environ.get("ANYCARRIER_URL")
    key = key or os.environ.get("ANYCARRIER_KEY")
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the key holds characters that no key has: copy it again, without a line break")
    if named and key:
        return Address(checked(named), key)
    settings = local_settings()
    ours = local_url(settings)
    if key is None and (not named or named.rstrip("/") == ours):
        key = local_key(settings)
    return Address(checked(named or ours), key)


def checked(url: str) -> str:
    """The origin, without a last slash. A key travels with every request, so plain HTTP is for this machine only."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigurationError("the server's URL must be like https://voice.example.com: scheme, host, maybe a port")
    if parts.scheme == "http" and not _here(parts.hostname):
        raise ConfigurationError(f"{parts.hostname} must be asked over https: the key would travel in the open")
    return url.rstrip("/")


def local_settings() -> Settings | None:
    """The settings a server started here would have; None where the server is not installed."""
    if find_spec("pydantic_settings") is None:
        return None
    from anycarrier_server.cli.connection import own_settings

    return own_settings()


def local_url(settings: Settings | None) -> str:
    """Where that server listens; spoken to directly, not through its public URL."""
    if settings is None or not settings.port:
        return DEFAULT
    host = "127.0.0.1" if settings.host in ("", "0.0.0.0", "::") else settings.host  # noqa: S104 compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def local_key(settings: Settings | None) -> str | None:
    """That server's admin key, where its settings fix one."""
    return settings.admin_key.get_secret_value() if settings is not None and settings.admin_key is not None else None


def on_this_machine(url: str) -> bool:
    """True for a loopback address: no proxy stands between."""
    return _here(urlsplit(url).hostname or "")


def _here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_settings(**given: Any) -> Settings:
    """The settings a server started here would have. ``ConfigurationError`` for wrong ones."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from anycarrier_server.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as wrong:
        told = "; ".join(_complaint(error, given) for error in wrong.errors(include_input=False, include_url=False))
    except SettingsError as wrong:
        told = str(wrong)
    stop = "" if told.endswith("?") else "."
    raise ConfigurationError(f"a setting is wrong: {told}{stop} docs/settings.md lists all settings")


def _complaint(error: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What is wrong with one setting, named as it was given; with several together when it names none."""
    from anycarrier_server.settings_checks import in_words

    name, *inside = map(str, error["loc"] or ("",))
    if not name:
        return in_words(error)
    place = f"--{name.replace('_', '-')}" if name in given else _place(name)
    return f"{'.'.join([name, *inside])} ({place}): {in_words(error)}"


def _place(name: str) -> str:
    """Where a setting was set: in its variable, or else in the file."""
    variable = f"ANYCARRIER_{name.upper()}"
    known = [key.upper() for key, value in os.environ.items() if value]
    if variable in known or any(key.startswith(f"{variable}__") for key in known):
        return variable
    return os.environ.get("ANYCARRIER_CONFIG") or "anycarrier.toml"


@asynccontextmanager
async def own_database(settings: Settings) -> AsyncIterator[Database]:
    """That server's database; not migrated."""
    from anycarrier_server.store.database import Database
    from anycarrier_server.work.first_start import make_folders

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

    from anycarrier_server.outage import DatabaseUnavailable, kind

    try:
        yield
    except ArgumentError as failure:
        raise ConfigurationError(
            "the database URL cannot be read: use sqlite:///file or postgresql://user:password@host/name"
        ) from failure
    except (OSError, SQLAlchemyError, DatabaseUnavailable) as failure:
        url = make_url(settings.database_url)
        # SQLSTATE, which drivers agree on: https://www.postgresql.org/docs/current/errcodes-appendix.html
        match _sqlstate(failure):
            case "3D000":
                told = f"no database {url.database} there: create it (createdb), or correct ANYCARRIER_DATABASE"
            case "28P01" | "28000":
                told = "it does not accept this user and password: correct them in ANYCARRIER_DATABASE"
            case _:
                told = f"{kind(failure)}. Is ANYCARRIER_DATABASE right, is it running, may this user open it?"
        raise ConfigurationError(f"the database {url.render_as_string()} cannot be used: {told}") from failure


def _sqlstate(failure: BaseException | None) -> str | None:
    """PostgreSQL's own code, from whatever was wrapped around its error."""
    while failure is not None:
        code = getattr(failure, "sqlstate", None) or getattr(getattr(failure, "orig", None), "sqlstate", None)
        if code:
            return str(code)
        failure = failure.__cause__ or failure.__context__
    return None
