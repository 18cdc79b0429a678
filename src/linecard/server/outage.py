"""Is the database away? Then a request is answered with "not now" and not as a bug of ours."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout


def database_is_away(error: BaseException) -> bool:
    """True when ``error`` says that there was no connection, not that something was wrong with what was asked."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return isinstance(error, ConnectionError | PoolTimeout)
