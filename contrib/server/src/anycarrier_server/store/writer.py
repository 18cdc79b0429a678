"""Hot writes: transcript segments and call events, taken without waiting and written in batches elsewhere.

A live call must never wait for the database. What it has to say goes into a queue (a few microseconds); one writer
takes up to 256 rows or what has come in 50 ms, whichever is first, and writes them in one transaction. When the
database fails, rows wait and are tried again; nothing is dropped but a row the database refuses for itself (its call
does not exist), and that is told.

Each call has a queue of its own, in which the order is kept. A batch takes from the workspaces in turn, and from the
calls of each in turn, so that nobody's rows stand before another's. A call and a workspace may have only so many rows
waiting: what is beyond is refused to them, and lost to nobody else. ``flush`` waits until what was said before it, on
one call or on all, is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Text, bindparam, cast, func, insert, select

from anycarrier.errors import AnycarrierError
from anycarrier_server.outage import Watch
from anycarrier_server.refusals import StoreOverloaded
from anycarrier_server.store.columns import new_id, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallEventRow, CallRow, OutboxEvent, Segment, Subscription
from anycarrier_server.store.statements import Rows, Statement, Transaction, table_of, values_fault

log = logging.getLogger("anycarrier")

BATCH = 256
LINGER = 0.05
QUEUE = 200_000
"""Rows that may wait in all."""
WORKSPACE_QUEUE = 50_000
"""Rows of one workspace that may wait."""
CALL_QUEUE = 2_000
"""Rows of one call that may wait: what an agent may send at once (``agent/budget.py``) and the minutes of a talk while
the database is unavailable."""
PAUSES = (0.1, 0.5, 2.0, 5.0)


class RowsRefused(AnycarrierError):
    """The database refused ``count`` rows; raised to those who wait for them to be written."""

    def __init__(self, count: int, why: str) -> None:
        self.count = count
        super().__init__(f"{count} transcript or event rows were refused by the database: {why}")


class StoreBehind(AnycarrierError):
    """The database could not be written within the time given; the rows still wait."""


@dataclass(slots=True)
class Row:
    """One row to be: its table and values."""

    table: type[Segment] | type[CallEventRow]
    values: dict[str, Any]


class CallQueue:
    """One call's rows, and how far they are written."""

    __slots__ = ("done", "refused", "rows", "taken", "workspace")

    def __init__(self, workspace: UUID) -> None:
        self.workspace = workspace
        self.rows: deque[Row] = deque()
        self.taken = 0
        """Rows appended so far."""
        self.done = 0
        """Those committed or refused."""
        self.refused: list[tuple[int, str]] = []
        """At which count, and why."""


class Writer:
    """One process's writer. ``start`` it in the event loop, ``stop`` it before the database closes."""

    def __init__(
        self,
        db: Database,
        *,
        batch: int = BATCH,
        linger: float = LINGER,
        queue: int = QUEUE,
        workspace_queue: int = WORKSPACE_QUEUE,
        call_queue: int = CALL_QUEUE,
    ) -> None:
        self._db = db
        self._batch = batch
        self._linger = linger
        self._limit = queue
        self._workspace_limit = workspace_queue
        self._call_limit = call_queue
        self._queues: OrderedDict[UUID, OrderedDict[UUID, CallQueue]] = OrderedDict()  # by workspace, by call
        self._of_call: dict[UUID, CallQueue] = {}
        self._waiting_of: Counter[UUID] = Counter()
        self._waiting = 0
        self._places: dict[UUID, CallPlace] = {}
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._progress = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.problem: Exception | None = None
        """Why the last transaction failed; None while all is well."""

    # --- from a live call: never waits -----------------------------------------------------------------------------

    def segment(
        self,
        call_id: UUID,
        *,
        party: str,
        text: str,
        ts_ms: int,
        at: datetime | None = None,
        workspace_id: UUID | None = None,
    ) -> None:
        """An utterance. ``seq`` is given when it is written, in the order of these calls.

        ``workspace_id`` says with whom the call shares; without it, with nobody. ``StoreOverloaded`` when too many
        rows wait already: in all, of the workspace, or of the call.
        """
        self._append(
            workspace_id,
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
        self,
        call_id: UUID,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
        workspace_id: UUID | None = None,
    ) -> None:
        """A happening on a call, for its log: ``dtmf``, ``barge_in``, ``metrics`` ... Raises as :meth:`segment`."""
        self._append(
            workspace_id,
            CallEventRow,
            {"call_id": call_id, "kind": kind, "at": at or utc_now(), "payload": dict(payload or {})},
        )

    @property
    def waiting(self) -> int:
        """Rows not yet committed."""
        return self._waiting

    def waiting_of(self, call_id: UUID) -> int:
        """Those of one call."""
        queue = self._of_call.get(call_id)
        return 0 if queue is None else len(queue.rows)

    def _append(
        self, workspace: UUID | None, table: type[Segment] | type[CallEventRow], values: dict[str, Any]
    ) -> None:
        call_id: UUID = values["call_id"]
        queue = self._of_call.get(call_id)
        whose = queue.workspace if queue is not None else workspace or call_id
        self._refuse_beyond(whose, len(queue.rows) if queue is not None else 0)
        if queue is None:
            queue = self._of_call[call_id] = CallQueue(whose)
        if not queue.rows:
            self._queues.setdefault(whose, OrderedDict())[call_id] = queue
        queue.rows.append(Row(table, values))
        queue.taken += 1
        self._waiting += 1
        self._waiting_of[whose] += 1
        self._news.set()

    def _refuse_beyond(self, workspace: UUID, of_call: int) -> None:
        if self._stopping:
            raise StoreOverloaded("the writer has stopped")
        for count, limit, whose in (
            (of_call, self._call_limit, " of this call"),
            (self._waiting_of[workspace], self._workspace_limit, " of this workspace"),
            (self._waiting, self._limit, ""),
        ):
            if count >= limit:
                raise StoreOverloaded(f"{count} rows{whose} wait for the database already")

    # --- for those who wait ----------------------------------------------------------------------------------------

    async def flush(self, timeout: float = 10.0, *, call_id: UUID | None = None) -> None:
        """Return when all rows appended so far are committed, those of ``call_id`` when it is given.

        ``StoreBehind`` after ``timeout`` seconds, ``RowsRefused`` when the database refused any of them since the
        last flush.
        """
        queues = list(self._of_call.values()) if call_id is None else [self._of_call.get(call_id)]
        goals = [(queue, queue.taken) for queue in queues if queue is not None]
        self._hurry.set()
        self._news.set()
        try:
            async with asyncio.timeout(timeout), self._progress:
                await self._progress.wait_for(lambda: all(queue.done >= goal for queue, goal in goals))
        except TimeoutError:
            left = sum(max(0, goal - queue.done) for queue, goal in goals)
            raise StoreBehind(
                f"{left} rows could not be written in {timeout:g} s ({self.problem or 'database slow'}); "
                "they are kept and tried again"
            ) from None
        refused: list[str] = []
        for queue, goal in goals:
            refused += [why for at, why in queue.refused if at <= goal]
            queue.refused = [(at, why) for at, why in queue.refused if at > goal]
        if refused:
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
        queue = self._of_call.get(call_id)
        if queue is not None and not queue.rows:
            del self._of_call[call_id]

    # --- the writer itself -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures, watch = 0, Watch("writing transcripts and events")
        while True:
            await self._news.wait()
            if self._waiting < self._batch and not self._hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._linger):
                        await self._hurry.wait()
            if not self._waiting:
                self._news.clear()
                self._hurry.clear()
                continue
            batch = self._next_batch()
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
            await self._advance(batch)

    def _next_batch(self) -> list[Row]:
        """The first rows of every workspace's calls, in turn, until the batch is full or nothing is left."""
        batch: list[Row] = []
        chosen: Counter[UUID] = Counter()
        most = min(self._batch, self._waiting)
        while len(batch) < most:
            share = max(1, (most - len(batch)) // len(self._queues))
            for calls in self._queues.values():
                each = max(1, share // len(calls))
                end = min(most, len(batch) + share)
                for call_id, queue in calls.items():
                    begin = chosen[call_id]
                    rows = list(islice(queue.rows, begin, begin + min(each, end - len(batch))))
                    chosen[call_id] += len(rows)
                    batch += rows
                    if len(batch) >= end:
                        break
        return batch

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
                        queue = self._of_call[row.values["call_id"]]
                        queue.refused.append((queue.done + 1, why))
            await self._advance([row])

    async def _advance(self, batch: list[Row]) -> None:
        """These rows are done. Workspaces that had rows in this batch come last in the next."""
        for row in batch:
            call_id: UUID = row.values["call_id"]
            queue = self._of_call[call_id]
            queue.rows.popleft()
            queue.done += 1
            self._waiting -= 1
            self._waiting_of[queue.workspace] -= 1
            calls = self._queues[queue.workspace]
            calls.move_to_end(call_id)
            self._queues.move_to_end(queue.workspace)
            if not queue.rows:
                del calls[call_id]
                if not queue.refused:
                    del self._of_call[call_id]
            if not calls:
                del self._queues[queue.workspace]
                del self._waiting_of[queue.workspace]
        async with self._progress:
            self._progress.notify_all()

    async def _write(self, batch: list[Row]) -> None:
        rows = [(row.table, row.values) for row in batch]
        places, told = await self._db.transact(lambda tx: write_rows(tx, rows, self._places))
        # Counters move only with the commit; a failed transaction leaves them as they were.
        self._places |= places
        if told:
            self._db.on_announcement()


CALL_ROW, SEGMENT, WANTS = table_of(CallRow), table_of(Segment), table_of(Subscription)

PARTIAL = "transcript.partial"

PLACE = Statement(
    select(
        CALL_ROW.c.workspace_id,
        CALL_ROW.c.line_id,
        CALL_ROW.c.agent_id,
        CALL_ROW.c.is_blocked,
        CALL_ROW.c.webhook_url,
        select(WANTS.c.id)
        .where(
            WANTS.c.workspace_id == CALL_ROW.c.workspace_id,
            WANTS.c.status == word("active"),
            WANTS.c.deleted_at.is_(None),
            cast(WANTS.c.events, Text).like(f'%"{PARTIAL}"%'),
        )
        .exists()
        .label("wanted"),
        select(func.max(SEGMENT.c.seq)).where(SEGMENT.c.call_id == CALL_ROW.c.id).scalar_subquery().label("last"),
    ).where(CALL_ROW.c.id == bindparam("id"))
)
SAY = Statement(
    insert(SEGMENT),
    columns=["call_id", "workspace_id", "line_id", "agent_id", "seq", "ts_ms", "party", "text", "created_at"],
)
TELL = Rows(OutboxEvent, ["event_id", "workspace_id", "call_id", "kind", "at", "payload"])
NOTE = Statement(insert(table_of(CallEventRow)), columns=["call_id", "kind", "at", "payload"])


@dataclass(frozen=True, slots=True)
class CallPlace:
    """What every segment of a call repeats, the number the next one gets, and whether anybody is told of it at once.

    That is found out once for a call: who subscribes in the middle of one hears of the next.
    """

    workspace_id: UUID | None
    line_id: UUID | None
    agent_id: UUID | None
    next_seq: int
    told: bool


async def write_rows(
    tx: Transaction,
    rows: Sequence[tuple[type[Segment] | type[CallEventRow], dict[str, Any]]],
    known: Mapping[UUID, CallPlace],
) -> tuple[dict[UUID, CallPlace], bool]:
    """Insert ``rows`` in order; the calls' counters as they are once this is committed, and whether there is anything
    to tell subscribers.

    A segment of an unknown call is inserted without a workspace, which the database refuses: the caller finds out.
    """
    places: dict[UUID, CallPlace] = {}
    segments: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for table, values in rows:
        if table is CallEventRow:
            events.append(values)
            continue
        call_id: UUID = values["call_id"]
        place = places.get(call_id) or known.get(call_id) or await _place(tx, call_id)
        places[call_id] = replace(place, next_seq=place.next_seq + 1)
        segments.append(
            {
                **values,
                "workspace_id": place.workspace_id,
                "line_id": place.line_id,
                "agent_id": place.agent_id,
                "seq": place.next_seq,
            }
        )
        if place.told:
            told.append(
                {
                    "event_id": new_id(),
                    "workspace_id": place.workspace_id,
                    "call_id": call_id,
                    "kind": PARTIAL,
                    "at": values["created_at"],
                    "payload": {"party": values["party"], "text": values["text"]},
                }
            )
    await tx.each(SAY, segments)
    await tx.each(NOTE, events)
    if told:
        await tx.run_joined(TELL.of(told))
    return places, bool(told)


async def _place(tx: Transaction, call_id: UUID) -> CallPlace:
    row = await tx.row(PLACE, id=call_id)
    if row is None:
        return CallPlace(None, None, None, 0, False)
    told = not row.is_blocked and (row.wanted or row.webhook_url is not None)
    return CallPlace(row.workspace_id, row.line_id, row.agent_id, 0 if row.last is None else row.last + 1, told)
