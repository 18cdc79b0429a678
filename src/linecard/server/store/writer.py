"""Hot writes: transcript segments and call events, taken without waiting and written in batches elsewhere.

A live call must never wait for the database. What it has to say goes into a queue (a few microseconds); one writer
takes up to 256 rows or what has come in 50 ms, whichever is first, and writes them in one transaction. The order is
kept. ``flush`` waits until all that was said before it is committed. When the database fails, rows wait and are tried
again; nothing is dropped but a row the database refuses for itself (its call does not exist), and that is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from linecard.errors import LinecardError
from linecard.server.outage import Watch
from linecard.server.refusals import StoreOverloaded
from linecard.server.store.batches import CallPlace, write_rows
from linecard.server.store.columns import utc_now
from linecard.server.store.database import Database
from linecard.server.store.models import CallEventRow, Segment
from linecard.server.store.transactions import values_fault

log = logging.getLogger("linecard")

BATCH = 256
LINGER = 0.05
QUEUE = 200_000
PAUSES = (0.1, 0.5, 2.0, 5.0)


class RowsRefused(LinecardError):
    """The database would not take some rows, whoever waits for them should know; ``count`` of them."""

    def __init__(self, count: int, why: str) -> None:
        self.count = count
        super().__init__(f"{count} transcript or event rows were refused by the database: {why}")


class StoreBehind(LinecardError):
    """The database could not be written within the time given; the rows still wait."""


@dataclass(slots=True)
class Row:
    """One row to be: its table and values."""

    table: type[Segment] | type[CallEventRow]
    values: dict[str, Any]


class Writer:
    """One process's writer. ``start`` it in the event loop, ``stop`` it before the database closes.

    ``on_announcement`` is called after commits that put something in the outbox.
    """

    def __init__(
        self,
        db: Database,
        *,
        batch: int = BATCH,
        linger: float = LINGER,
        queue: int = QUEUE,
        on_announcement: Callable[[], None] | None = None,
    ) -> None:
        self._db = db
        self._announce = on_announcement or (lambda: None)
        self._batch = batch
        self._linger = linger
        self._limit = queue
        self._rows: deque[Row] = deque()
        self._places: dict[UUID, CallPlace] = {}
        self._taken = 0  # rows appended since the start
        self._done = 0  # rows committed or refused
        self._refused: list[tuple[int, str]] = []  # at which count, why
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._progress = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.problem: Exception | None = None
        """Why the last transaction failed; None while all is well."""

    # --- from a live call: never waits -----------------------------------------------------------------------------

    def segment(
        self, call_id: UUID, *, party: str, text: str, ts_ms: int, at: datetime | None = None
    ) -> None:
        """An utterance. ``seq`` is given when it is written, in the order of these calls."""
        self._append(
            Segment,
            {
                "call_id": call_id,
                "party": party,
                # What PostgreSQL's text cannot hold: NUL, and halves of surrogate pairs.
                "text": text.encode("utf-8", "replace").decode().replace("\0", ""),
                "ts_ms": ts_ms,
                "created_at": at or utc_now(),
            },
        )

    def event(
        self, call_id: UUID, kind: str, payload: Mapping[str, Any] | None = None, *, at: datetime | None = None
    ) -> None:
        """A happening on a call, for its log: ``dtmf``, ``barge_in``, ``metrics`` ..."""
        self._append(
            CallEventRow, {"call_id": call_id, "kind": kind, "at": at or utc_now(), "payload": dict(payload or {})}
        )

    @property
    def waiting(self) -> int:
        """Rows not yet committed."""
        return self._taken - self._done

    def _append(self, table: type[Segment] | type[CallEventRow], values: dict[str, Any]) -> None:
        if self._stopping or self.waiting >= self._limit:
            raise StoreOverloaded(
                "the writer has stopped" if self._stopping else f"{self.waiting} rows wait for the database already"
            )
        self._rows.append(Row(table, values))
        self._taken += 1
        self._news.set()

    # --- for those who wait ----------------------------------------------------------------------------------------

    async def flush(self, timeout: float = 10.0) -> None:
        """Return when all rows appended so far are committed.

        ``StoreBehind`` after ``timeout`` seconds, ``RowsRefused`` when the database refused any of them since the
        last flush.
        """
        goal = self._taken
        self._hurry.set()
        self._news.set()
        try:
            async with asyncio.timeout(timeout), self._progress:
                await self._progress.wait_for(lambda: self._done >= goal)
        except TimeoutError:
            raise StoreBehind(
                f"{goal - self._done} rows could not be written in {timeout:g} s ({self.problem or 'database slow'}); "
                "they are kept and tried again"
            ) from None
        refused = [why for at, why in self._refused if at <= goal]
        if refused:
            self._refused = [(at, why) for at, why in self._refused if at > goal]
            raise RowsRefused(len(refused), refused[0])

    async def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="write transcripts")

    async def stop(self, timeout: float = 30.0) -> None:
        """Take nothing more, write what waits, stop. Raises as :meth:`flush` does, after having stopped."""
        self._stopping = True
        try:
            if self._task is not None and not self._task.done():
                await self.flush(timeout)
        finally:
            if self._task is not None:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task

    def forget(self, call_id: UUID) -> None:
        """The call is over: its counters may go. They are read anew if it comes back."""
        self._places.pop(call_id, None)

    # --- the writer itself -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures, watch = 0, Watch("writing transcripts and events")
        while True:
            await self._news.wait()
            if len(self._rows) < self._batch and not self._hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._linger):
                        await self._hurry.wait()
            if not self._rows:
                self._news.clear()
                self._hurry.clear()
                continue
            batch = [self._rows[i] for i in range(min(self._batch, len(self._rows)))]
            try:
                await self._write(batch)
            except Exception as problem:  # noqa: BLE001 the writer outlives whatever the driver throws
                self._places.clear()
                if values_fault(problem):
                    await self._one_by_one(batch)
                    continue
                self.problem = problem
                pause = PAUSES[min(failures, len(PAUSES) - 1)]
                failures += 1
                watch.failed(problem)
                await asyncio.sleep(pause)
                continue
            failures, self.problem = 0, None
            watch.went_well()
            await self._advance(len(batch))

    async def _one_by_one(self, batch: list[Row]) -> None:
        """Some row is impossible: find it, and keep the others. Stops early when the database fails otherwise."""
        for row in batch:
            for last in (False, True):
                try:
                    await self._write([row])
                    break
                except Exception as problem:  # noqa: BLE001 the writer outlives whatever the driver throws
                    # The second try reads the call's counters anew: another process may have written meanwhile.
                    self._places.clear()
                    if not values_fault(problem):
                        self.problem = problem
                        return
                    if last:
                        why = str(problem).partition("\n")[0]
                        log.error("a row of %s was refused: %s", row.table.__tablename__, why)
                        self._refused.append((self._done + 1, why))
            await self._advance(1)

    async def _advance(self, count: int) -> None:
        for _ in range(count):
            self._rows.popleft()
        async with self._progress:
            self._done += count
            self._progress.notify_all()

    async def _write(self, batch: list[Row]) -> None:
        rows = [(row.table, row.values) for row in batch]
        places, told = await self._db.transact(lambda tx: write_rows(tx, rows, self._places))
        # Counters move only with the commit; a failed transaction leaves them as they were.
        self._places |= places
        if told:
            self._announce()
