"""Run by Alembic, on the connection that ``anycarrier_server.store.migrate`` hands over in the configuration."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from anycarrier_server.store import models
from anycarrier_server.store.columns import Json, Moment, Serial, Table

assert models.__all__


def ours(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Leave out what models cannot say: the full-text tables of SQLite, the search column of PostgreSQL."""
    return not (reflected and name is not None and name.startswith(("transcripts_fts", "fts_")))


def render(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Write our column types by name in new steps."""
    if kind == "type":
        if isinstance(item, Moment):
            return "columns.Moment()"
        for name, type_ in (("Json", Json), ("Serial", Serial)):
            if item is type_ or repr(item) == repr(type_):
                return f"columns.{name}"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    include_object=ours,
    render_item=render,
    compare_type=True,
    # SQLite's DDL is transactional too, once the driver leaves BEGIN to us: a failed step leaves nothing behind.
    transactional_ddl=True,
    render_as_batch=False,
)
context.run_migrations()
