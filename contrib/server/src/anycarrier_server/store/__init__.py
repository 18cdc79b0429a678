"""The store: everything the service remembers, on SQLite or PostgreSQL.

:class:`Store` opens it; its attributes are small repositories, one idea each. Rows come back detached: read them
freely, change them only through the repositories.
"""

from __future__ import annotations

import os
import socket
from secrets import token_hex

from anycarrier_server.encryption import Sealer, derive, keys_from_file, read_keys
from anycarrier_server.settings import Settings
from anycarrier_server.store import migrations, vault
from anycarrier_server.store.agents import Agents
from anycarrier_server.store.callbook import SqlCallBook
from anycarrier_server.store.calls import CallFilter, Calls, Recordings, RoutedCall
from anycarrier_server.store.claims import Claims, SqlOnce
from anycarrier_server.store.columns import Page, parse_id, public_id
from anycarrier_server.store.credentials import Build, Carriers, Credentials, StoredEngines
from anycarrier_server.store.database import Database
from anycarrier_server.store.limits import Limits, OverLimit, Snapshot
from anycarrier_server.store.lines import Lines
from anycarrier_server.store.new_calls import NewCall, Placing
from anycarrier_server.store.outbox import Outbox
from anycarrier_server.store.rules import Rules, Verdict
from anycarrier_server.store.transcripts import Transcripts
from anycarrier_server.store.webhooks import Webhooks
from anycarrier_server.store.workspaces import Keys, Workspaces
from anycarrier_server.store.writer import Writer


def sealer_of(settings: Settings) -> Sealer:
    """The sealer with the master key of the settings, or of the key file, made when there is neither."""
    if settings.master_key is not None:
        return Sealer(read_keys(settings.master_key.get_secret_value()))
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return Sealer(keys_from_file(settings.data_dir / "master.key"))


class Store:
    """One process's view of the store. ``owner`` names the process in claims and on calls; ``root`` is the secret that
    all of them share (``vault.prove``)."""

    def __init__(
        self, db: Database, sealer: Sealer, settings: Settings, *, root: bytes, build: Build | None = None
    ) -> None:
        self.db = db
        self.sealer = sealer
        self._root = root
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
        self.workspaces = Workspaces(db)
        self.keys = Keys(db)
        self.agents = Agents(db)
        self.credentials = Credentials(db, sealer, build or Carriers().build, base_urls=settings.base_urls)
        self.engines = StoredEngines(db, sealer)
        self.lines = Lines(db)
        self.calls = Calls(db, owner=self.owner)
        self.callbook = SqlCallBook(db, owner=self.owner)
        self.transcripts = Transcripts(db)
        self.recordings = Recordings(db)
        self.rules = Rules(db)
        self.limits = Limits(
            db,
            calls=settings.calls_per_day,
            minutes=settings.minutes_per_day,
            longest=settings.max_duration_seconds,
        )
        self.placing = Placing(db, self.limits, self.callbook, owner=self.owner)
        self.once = SqlOnce(db)
        self.claims = Claims(db, self.owner)
        self.webhooks = Webhooks(db, sealer)
        self.outbox = Outbox(db)
        self.writer = Writer(db)

    @classmethod
    async def open(cls, settings: Settings, *, build: Build | None = None) -> Store:
        """Connect, bring the schema up to date, prove the master key, start the writer.

        ``ConfigurationError`` (``MasterKeyWrong`` among them) says what to do, before anything is served.
        """
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        db = Database(settings.database_url, pool_size=settings.database_pool)
        try:
            await migrations.upgrade(db)
            sealer = sealer_of(settings)
            proven = await vault.prove(db, sealer)
            # Not with a newer key yet: first every process must have said that it can open it (key_rotation.py).
            sealer.seal_with(proven.key_id)
            store = cls(db, sealer, settings, root=proven.root, build=build)
            await store.writer.start()
        except BaseException:
            await db.close()
            raise
        return store

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one use, the same in every process of this store, whichever master keys it holds."""
        return derive(self._root, purpose)

    async def close(self) -> None:
        """Write what waits, then disconnect."""
        try:
            await self.writer.stop()
        finally:
            await self.db.close()


__all__ = [
    "CallFilter",
    "NewCall",
    "OverLimit",
    "Page",
    "RoutedCall",
    "Snapshot",
    "Store",
    "Verdict",
    "parse_id",
    "public_id",
    "sealer_of",
]
