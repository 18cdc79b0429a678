"""What a carrier's event changes about a call in the call book, and who is told of it.

Which call an event is about is decided by the credential that vouches for it; how a call moves is in ``calls.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from anycarrier.call_commands import CallCommands
from anycarrier.calls import Call, CallStatus, EndReason, TransferStatus, advance, advance_transfer
from anycarrier.events import CallEvent, CallProgress, DigitReported, MachineDetected, StreamProgress, TransferProgress
from anycarrier.switchboard import Switchboard


async def moved_on(
    switchboard: Switchboard, credential_id: str, event: CallProgress, call: Call, once: tuple[str, float]
) -> None:
    """Move ``call`` on, if this is the first use of the key ``once`` (and its seconds)."""
    seen, when, unnamed = event.call, _when(event), not call.id
    moved = await switchboard.update_once(*once, call.reference, lambda c: advance(c, seen, when))
    if moved is None:
        return
    if unnamed:
        await _now_named(switchboard, credential_id, moved, seen)
    await switchboard.observe(event, moved)


async def _now_named(switchboard: Switchboard, credential_id: str, call: Call, seen: Call) -> None:
    """Hang up a call that was to be hung up, or was given up, while nobody knew what to call it."""
    if call.id and not seen.ended and (call.ended or call.intent is not None):
        provider = await switchboard.provider(credential_id)
        switchboard.spawn(provider.hang_up(call.id), "hang up a call the carrier has just named")


async def progressed(switchboard: Switchboard, commands: CallCommands, credential_id: str, event: CallEvent) -> None:
    """Take in news of any kind, seen for the first time."""
    call = await call_of(switchboard, credential_id, event)
    if call is None:
        # A leg we do not keep (a transfer's other half), or a call from before we were started.
        switchboard.tell_observers(event, None, None)
        return
    key = call.reference
    match event:
        case CallProgress(call=seen):
            unnamed = not call.id
            call = await switchboard.update(key, lambda c: advance(c, seen, _when(event)))
            if unnamed:
                await _now_named(switchboard, credential_id, call, seen)
        case MachineDetected(answered_by=who):
            call = await switchboard.update(key, lambda c: c.model_copy(update={"answered_by": who}))
        case TransferProgress(status=status):
            call = await _transfer_moved(switchboard, credential_id, call, status, _when(event))
        case StreamProgress(status="failed") if call.status is not CallStatus.ENDED:
            switchboard.spawn(commands.hang_up(call, EndReason.MEDIA_ERROR), "end a call whose audio failed")
        case _:
            pass
    await switchboard.observe(event, call)
    session = switchboard.sessions.get(key)
    if session is not None and isinstance(event, DigitReported | MachineDetected | TransferProgress):
        session.stream.deliver(event)
        if call.transfer is TransferStatus.ANSWERED:
            session.stream.stop("transferred")  # not every carrier ends our stream when others talk


async def _transfer_moved(switchboard: Switchboard, credential_id: str, call: Call, status: str, at: datetime) -> Call:
    provider = await switchboard.provider(credential_id)
    abandoned = False

    def moved(c: Call) -> Call:
        nonlocal abandoned
        after = advance_transfer(c, status, at)
        given_back = c.transfer is not None and after.transfer is None and not after.ended
        abandoned = given_back and after.intent is not None
        if not given_back or after.intent is EndReason.API_STOP:
            return after
        if status == "canceled":
            # Mostly the far end left, whose hang-up is about to be told: the agent's wish to leave is not its reason.
            return after.model_copy(update={"intent": None})
        if after.intent is None and provider.answers_in_reply:
            # Such a carrier took our stream away for the transfer, and its call ends with the reply to this event.
            return after.model_copy(update={"intent": EndReason.AGENT_HANGUP})
        return after

    call = await switchboard.update(call.reference, moved)
    if abandoned:
        switchboard.spawn(provider.hang_up(call.id), "hang up a call whose transfer failed after its agent had left")
    return call


def _when(event: CallEvent) -> datetime:
    """When it happened: the carrier's time, read as the second it names where it names no finer one."""
    now = datetime.now(UTC)
    if event.occurred_at is None:
        return now
    if event.occurred_at.microsecond == 0:
        return max(event.occurred_at, min(now, event.occurred_at + timedelta(seconds=0.999)))
    return event.occurred_at


async def call_of(switchboard: Switchboard, credential_id: str, event: CallEvent) -> Call | None:
    """The call the event is about; None when we keep none."""
    for key in (event.call_id, event.reference):
        call = await switchboard.calls.get(key) if key else None
        # A reference is only as good as the credential that vouches for it, and it names one leg.
        if call is not None and call.credential_id == credential_id and call.id in ("", event.call_id):
            return call
    return None
