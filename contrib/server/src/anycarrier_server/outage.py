"""Outages of the database: a request is refused with a retryable error, and background loops log one line and retry."""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from anycarrier.errors import StoreUnavailable
from anycarrier_server.refusals import StoreFull, StoreUnreachable

log = logging.getLogger("anycarrier")

SQLITE_UNAVAILABLE = frozenset(
    (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)
)
"""Primary result codes; every other ``OperationalError`` of SQLite is a statement that is wrong."""


NO_ROOM = frozenset({"53100"})
"""PostgreSQL's ``disk_full``: https://www.postgresql.org/docs/16/errcodes-appendix.html"""


class DatabaseUnavailable(StoreUnavailable):
    """There was no connection to the database, or no answer in time. Its text is the driver's error.

    Not an ``OSError``: handlers for files or other servers would catch it by mistake. A client is told
    :class:`~anycarrier_server.refusals.StoreUnreachable` instead (:func:`refusal`).
    """


class DatabaseFull(DatabaseUnavailable):
    """It can be read, and has no room to write."""

    def __init__(self) -> None:
        super().__init__("its disk is full")


@contextmanager
def outages_named() -> Iterator[None]:
    """Around what asks the database: an error that says it is unavailable is raised as :class:`DatabaseUnavailable`."""
    try:
        yield
    except Exception as problem:
        if no_room(problem):
            raise DatabaseFull from problem
        if not no_connection(problem):
            raise
        raise DatabaseUnavailable(kind(problem)) from problem


def kind(problem: Exception) -> str:
    """What happened, in a word of the driver's; the text of its errors may hold an address, a statement and values."""
    if isinstance(problem, DatabaseUnavailable):
        return str(problem)
    return type(getattr(problem, "orig", None) or problem).__name__


def no_room(error: Exception) -> bool:
    """True when ``error`` says that the database's disk, or its quota, is full."""
    if isinstance(error, DBAPIError):
        return getattr(error.orig, "sqlstate", None) in NO_ROOM or (
            isinstance(error.orig, Exception) and no_room(error.orig)
        )
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_FULL
    return getattr(error, "sqlstate", None) in NO_ROOM


def no_connection(error: Exception) -> bool:
    """True when ``error`` means that there was no connection, not that the statement was wrong.

    Covers errors of SQLAlchemy and of the drivers below it, and network errors and ``TimeoutError`` (both
    ``OSError``), which around a statement are the database's.
    """
    if isinstance(error, DBAPIError):
        if isinstance(error.orig, sqlite3.Error):
            return no_connection(error.orig)
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    if isinstance(error, sqlite3.OperationalError):
        # The low byte: what is above says in which way. Without a code it is an error that is raised by hand.
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in SQLITE_UNAVAILABLE
    return isinstance(error, OSError | PoolTimeout) or _asyncpg_says_so(error)


def _asyncpg_says_so(error: Exception) -> bool:
    if "asyncpg" not in sys.modules:  # then it is none of its errors
        return False
    import asyncpg
    from asyncpg import exceptions as of

    if isinstance(error, asyncpg.InterfaceError):
        return "clos" in str(error)  # of a connection or a pool; else it was used wrongly
    return isinstance(
        error,
        of.PostgresConnectionError
        | of.CannotConnectNowError
        | of.TooManyConnectionsError
        | of.AdminShutdownError
        | of.CrashShutdownError,
    )


def refusal(unavailable: DatabaseUnavailable) -> StoreUnreachable:
    """How a client is told that its request failed for this reason."""
    return StoreFull() if isinstance(unavailable, DatabaseFull) else StoreUnreachable()


class Watch:
    """Logs one background loop's failures: an outage when it begins and when it ends, anything else each time."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._unavailable = False

    def failed(self, problem: Exception) -> None:
        """In the loop's ``except Exception``."""
        if not isinstance(problem, DatabaseUnavailable):
            log.error("%s: failed, trying again", self._what, exc_info=problem)
        elif not self._unavailable:
            self._unavailable = True
            log.error("%s: the database is unavailable (%s), trying until it is back", self._what, problem)

    def went_well(self) -> bool:
        """At the end of a round; True when it was the first one after an outage."""
        was_unavailable, self._unavailable = self._unavailable, False
        if was_unavailable:
            log.warning("%s: the database is back", self._what)
        return was_unavailable
