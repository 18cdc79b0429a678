"""What is still to do once a call is over: the recording made whole, its words analysed, subscribers told.

Runs in the process that held the call, or, when that one died, in the one that reconciled it. Each announcement is
made once, however many processes try.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
from typing import TYPE_CHECKING, Any

from linecard.agent import analysis
from linecard.agent.finished import Analysis, FinishedCall
from linecard.agent.record import Segment
from linecard.agent.settings import AgentSettings
from linecard.calls import EndReason
from linecard.errors import LinecardError
from linecard.server import unsettled
from linecard.server.domain.agents import settings_of
from linecard.server.store.models import CallRow, Recording
from linecard.server.store.snapshots import as_call
from linecard.wav import repair_wav

if TYPE_CHECKING:
    from linecard.server.service import Service

log = logging.getLogger("linecard")


async def file_away(service: Service, call: CallRow, finished: FinishedCall) -> None:
    """Keep what a conversation of ours found out, then :func:`settle`."""
    notes: dict[str, Any] = {}
    if finished.latency_ms:
        notes["latency"] = {kind: _spread(values) for kind, values in finished.latency_ms.items() if values}
    if finished.analysis is not None:
        notes |= _analysed(call, finished.analysis)
    if notes:
        call = await service.store.calls.note(call.id, **notes) or call
    await settle(service, call)


async def settle(service: Service, call: CallRow) -> None:
    """Finish an ended call's papers. Doing it again changes nothing."""
    store = service.store
    try:
        await store.writer.flush(call_id=call.id)
    except LinecardError as problem:
        log.error("some words of call %s are not kept yet: %s", call.public_id, problem)
    store.writer.forget(call.id)
    for recording in await store.recordings.of_call(call.id):
        if recording.status == "in_progress":
            await _finish(service, call, recording)
    if call.answered_at is not None:
        await _tell(service, call, "transcript.final")
        if call.analysis is None:
            found = await analysis.analyse(await _from_store(service, call))
            await store.calls.note(call.id, **_analysed(call, found))
        await _tell(service, call, "call.analyzed")
    await unsettled.done(store, call.reference)


async def _finish(service: Service, call: CallRow, recording: Recording) -> None:
    path = service.settings.recordings / recording.path
    try:
        seconds = await asyncio.to_thread(repair_wav, path)
        size = path.stat().st_size
    except (OSError, ValueError, LinecardError) as problem:
        log.warning("the recording of call %s is not to be had: %s", call.public_id, problem)
        await service.store.recordings.finish(recording.id, status="failed")
        return
    await service.store.recordings.finish(recording.id, duration=seconds, size=size)
    await _tell(service, call, "call.recording.available")


async def _from_store(service: Service, call: CallRow) -> FinishedCall:
    """The call as an analyzer gets it, from what was written down: its own process is gone."""
    agent = await service.store.agents.find(call.agent_id)
    segments = await service.store.transcripts.of_call(call.id)
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


async def _tell(service: Service, call: CallRow, kind: str) -> None:
    if not call.is_blocked:
        once = f"{call.reference}:{kind}"
        if await service.store.outbox.publish(call.workspace_id, kind, call_id=call.id, once=once):
            service.sender.wake()
