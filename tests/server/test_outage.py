"""What counts as "the database is away", and what is a bug of ours all the same."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from linecard.server.outage import database_is_away


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionRefusedError(111, "refused"), True),
        (OperationalError("SELECT 1", {}, Exception("the database system is starting up")), True),
        (InterfaceError("SELECT 1", {}, Exception("connection is closed")), True),
        (DBAPIError("SELECT 1", {}, Exception("cut off"), connection_invalidated=True), True),
        (PoolTimeout("no connection was free"), True),
        (IntegrityError("INSERT", {}, Exception("duplicate key")), False),
        (ProgrammingError("SELEC 1", {}, Exception("syntax error")), False),
        (FileNotFoundError("a recording"), False),
        (KeyError("x"), False),
    ],
)
def test_only_a_connection_that_is_not_there_counts(error: Exception, away: bool) -> None:
    assert database_is_away(error) is away
