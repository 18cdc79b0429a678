"""Post-call work: finish the recording, analyse the words, notify subscribers.

It is done by the process that held the call, or, when that one died, by the one that reconciled it. A note in the
claims, made when a call's sound begins and removed when all is done, says which process has the call. Each
announcement is made once, however many processes try.

Recordings that a killed process left before any call knew of them are looked for at the start and once an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import statistics
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from uuid import UUID

from anycarrier.agent import AgentSettings, Analysis, FinishedCall, Segment, analyze_call
from anycarrier.calls import Call, CallStatus, EndReason
from anycarrier.errors import AnycarrierError
from anycarrier.wav import repair_wav
from anycarrier_server.domain import agent_overrides
from anycarrier_server.domain.agent_runtime import settings_of
from anycarrier_server.domain.resources import Resources
from anycarrier_server.outage import Watch
from anycarrier_server.store import Store
from anycarrier_server.store.call_state import as_call
from anycarrier_server.store.callbook import SqlCallBook
from anycarrier_server.store.models import CallRow, Recording

log = logging.getLogger("anycarrier")

IDLE = 600.0
"""Seconds without a write after which nobody records on a file any more: a live call writes each second."""

KEPT = 24 * 3600.0
"""Seconds that a recording without any call is kept."""

SWEEP_EVERY = 3600.0
RECORDING_NAME = re.compile(r"[0-9a-f]{32}\.wav")


async def keep_conversation(resources: Resources, call: CallRow, finished: FinishedCall) -> None:
    """Keep what a conversation of ours found out, then :func:`finish`."""
    notes: dict[str, Any] = {}
    if finished.latency_ms:
        resources.metrics.answered(finished.latency_ms)
        notes["latency"] = {kind: _spread(values) for kind, values in finished.latency_ms.items() if values}
    if finished.analysis is not None:
        notes |= _analysed(call, finished.analysis)
    if notes:
        call = await resources.store.calls.note(call.id, **notes) or call
    await finish(resources, call)


async def finish(resources: Resources, call: CallRow) -> None:
    """Post-call work: finish the recording, analyse, notify subscribers. Doing it again changes nothing."""
    store = resources.store
    try:
        await store.writer.flush(call_id=call.id)
    except AnycarrierError as problem:
        log.error("part of the transcript of call %s is not written yet: %s", call.public_id, problem)
    store.writer.forget(call.id)
    for recording in await store.recordings.of_call(call.id):
        if recording.status == "in_progress":
            await _finish_recording(resources, call, recording)
    if call.answered_at is not None:
        await _tell(resources, call, "transcript.final")
        if call.analysis is None:
            found = await analyze_call(await _from_store(resources.store, call))
            await store.calls.note(call.id, **_analysed(call, found))
        await _tell(resources, call, "call.analyzed")
    await store.claims.release_call(call.reference)


async def _finish_recording(resources: Resources, call: CallRow, recording: Recording) -> None:
    store, path = resources.store, resources.settings.recordings / recording.path
    try:
        seconds = await asyncio.to_thread(repair_wav, path)
        size = path.stat().st_size
    except (OSError, ValueError, AnycarrierError) as problem:
        log.warning("the recording of call %s cannot be read: %s", call.public_id, problem)
        await store.recordings.finish(recording.id, status="failed")
        return
    cut = bool(await store.calls.events(call.id, kind=agent_overrides.RECORDING))
    if cut and not seconds:
        await store.recordings.finish(recording.id, status="failed")
        return
    await store.recordings.finish(recording.id, status="cut" if cut else "completed", duration=seconds, size=size)
    await _tell(resources, call, "call.recording.available")


async def _from_store(store: Store, call: CallRow) -> FinishedCall:
    """The call as an analyzer gets it, from what was written down: its own process is gone."""
    agent = await store.agents.find(call.agent_id)
    segments = await store.transcripts.of_call(call.id)
    return FinishedCall(
        call=as_call(call),
        agent_id=agent.public_id if agent is not None else "",
        settings=settings_of(agent) if agent is not None else AgentSettings(),
        reason=EndReason(call.reason) if call.reason else EndReason.UNKNOWN,
        seconds=call.duration_seconds,
        segments=tuple(Segment(s.party, s.text, s.ts_ms) for s in segments),
        notes=(),
        latency_ms={},
        variables=call.variables,
    )


def _analysed(call: CallRow, found: Analysis) -> dict[str, Any]:
    notes: dict[str, Any] = {
        "analysis": {"outcome": found.outcome, "summary": found.summary, "source": found.source},
        "summary": found.summary,
    }
    if call.outcome is None:
        notes["outcome"] = found.outcome  # one that somebody set stands
    return notes


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "avg_ms": round(statistics.fmean(values), 1),
        "p50_ms": round(statistics.median(values), 1),
        "min_ms": round(min(values), 1),
        "max_ms": round(max(values), 1),
        "samples": len(values),
    }


async def _tell(resources: Resources, call: CallRow, kind: str) -> None:
    if not call.is_blocked:
        once = f"{call.reference}:{kind}"
        if await resources.store.outbox.publish(call.workspace_id, kind, call_id=call.id, once=once):
            resources.sender.wake()


# --- recordings that no call knows ------------------------------------------------------------------------------------


async def sweep_recordings_hourly(resources: Resources) -> None:
    """:func:`sweep_recordings`, now and once an hour, until cancelled."""
    watch = Watch("looking for recordings that no call knows")
    while True:
        try:
            if await resources.store.claims.take("sweep recordings", 60):
                await sweep_recordings(resources)
            watch.went_well()
        except Exception as problem:  # noqa: BLE001 the next look may go better
            watch.failed(problem)
        await asyncio.sleep(SWEEP_EVERY)


async def sweep_recordings(resources: Resources, *, now: float | None = None) -> tuple[int, int]:
    """Give recordings without a row to their call, once that is over, and delete those without a call; how many of
    each. Files that are not named as we name ours are left alone."""
    adopted = deleted = 0
    folder, store = resources.settings.recordings, resources.store
    at = time.time() if now is None else now
    files = await asyncio.to_thread(_idle, folder, at - IDLE)
    ids = list(files)
    for some in (ids[first : first + 200] for first in range(0, len(ids), 200)):
        recorded = await store.recordings.recorded(some)
        for call_id in (id_ for id_ in some if id_ not in recorded):
            call, name = await store.calls.find(call_id), f"{call_id.hex}.wav"
            if call is not None and call.status == CallStatus.ENDED:
                await store.recordings.begin(call.workspace_id, call.id, name, format="wav")
                await finish(resources, call)
                adopted += 1
            elif call is None and files[call_id] < at - KEPT:
                (folder / name).unlink(missing_ok=True)
                deleted += 1
    if adopted or deleted:
        log.warning("recordings that a lost process left behind: %d added to their calls, %d deleted", adopted, deleted)
    return adopted, deleted


def _idle(folder: Path, before: float) -> dict[UUID, float]:
    """The calls whose recordings nobody has written to since then, and when somebody last did."""
    found: dict[UUID, float] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if RECORDING_NAME.fullmatch(entry.name) and (changed := entry.stat().st_mtime) < before:
                found[UUID(entry.name.removesuffix(".wav"))] = changed
    return found


class WatchedCallBook:
    """A :class:`anycarrier.callbook.CallBook` that tells ``on_end`` of each call it sees end, once."""

    def __init__(self, book: SqlCallBook, on_end: Callable[[Call], None]) -> None:
        self._book = book
        self._on_end = on_end

    async def open(self, call: Call) -> Call:
        return await self._book.open(call)

    async def get(self, key: str) -> Call | None:
        return await self._book.get(key)

    async def in_progress(self) -> list[Call]:
        return await self._book.in_progress()

    async def ending(self, references: Collection[str]) -> list[Call]:
        return await self._book.ending(references)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        watched = _Watched(change)
        after = await self._book.update(key, watched)
        self._look(watched, after)
        return after

    async def update_once(self, event: str, ttl: float, key: str, change: Callable[[Call], Call]) -> Call | None:
        watched = _Watched(change)
        after = await self._book.update_once(event, ttl, key, watched)
        if after is not None:
            self._look(watched, after)
        return after

    def _look(self, watched: _Watched, after: Call) -> None:
        if after.ended and not watched.was_over:
            self._on_end(after)


class _Watched:
    """A change that remembers whether the call was over before it; it may run twice."""

    def __init__(self, change: Callable[[Call], Call]) -> None:
        self._change = change
        self.was_over = True

    def __call__(self, before: Call) -> Call:
        self.was_over = before.ended
        return self._change(before)
