"""Acting on a call that is there: looking at it, stopping it, handing it on, pressing keys, naming its outcome."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import update

from anycarrier.calls import CallStatus, EndReason
from anycarrier.errors import AnycarrierError
from anycarrier.sip import destination
from anycarrier_server.domain.access import Caller, agent_of, need_scope
from anycarrier_server.domain.resources import Resources
from anycarrier_server.refusals import CallOver, Invalid, Unknown
from anycarrier_server.store import CallFilter, Page, Store, parse_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import CallEventRow, CallRow

DIGITS = re.compile(r"[0-9A-Da-d#*wW]{1,64}")
STOP_WAIT = 1.0
"""Seconds a stop waits for the carrier's word, so that the answer usually shows the end."""


async def get(store: Store, caller: Caller, call_id: str | UUID) -> CallRow:
    """The call. Agents' keys see their own, and none that a contact rule refused."""
    parsed = parse_id("call", call_id)
    call = await store.calls.get(caller.workspace_id, parsed)
    if call is None:
        raise Unknown("call", foreign=await store.calls.exists(parsed))
    if call.is_blocked and not caller.admin:
        raise Unknown("call")
    need_scope(caller, call.agent_id, "that call")
    return call


async def page(
    store: Store,
    caller: Caller,
    which: CallFilter,
    *,
    limit: int = 50,
    offset: int = 0,
    cursor: str | None = None,
) -> Page[CallRow]:
    """Calls, newest first; an agent's key gets its own only."""
    return await store.calls.page(
        caller.workspace_id, seen_by(caller, which), limit=limit, offset=offset, cursor=cursor
    )


async def total(store: Store, caller: Caller, which: CallFilter) -> int:
    """How many there are."""
    return await store.calls.total(caller.workspace_id, seen_by(caller, which))


def seen_by(caller: Caller, which: CallFilter) -> CallFilter:
    """The filter narrowed to what the caller may see."""
    if caller.admin:
        return which
    need_scope(caller, which.agent_id or caller.agent_id)
    return replace(which, agent_id=caller.agent_id, is_blocked=False)


async def events(store: Store, caller: Caller, call_id: str | UUID) -> Sequence[CallEventRow]:
    """What happened on the call, in order."""
    return await store.calls.events((await get(store, caller, call_id)).id)


async def stop(resources: Resources, caller: Caller, call_id: str | UUID) -> CallRow:
    """End the call, in whichever process its audio is. One that has ended already is returned as it is."""
    call = await get(resources.store, caller, call_id)
    if call.status == CallStatus.ENDED:
        return call
    if not await cancel_scheduled(resources, call):
        await resources.exchange.hang_up(call.reference)
        try:
            await resources.exchange.wait_for(call.reference, CallStatus.ENDED, STOP_WAIT)
        except TimeoutError:
            pass  # the carrier's word comes by webhook, perhaps to another process
    return await get(resources.store, caller, call.id)


async def cancel_scheduled(resources: Resources, call: CallRow) -> bool:
    """End a call that was to be made later; False when it was not, or when it is being dialled already."""
    if call.scheduled_at is None or not await _unschedule(resources.store, call):
        return False
    known = await resources.store.callbook.get(call.reference)
    if known is not None:
        await resources.exchange.switchboard.end_locally(known, EndReason.CANCELED)
    return True


async def hang_up(resources: Resources, caller: Caller, call_id: str | UUID) -> CallRow:
    """End the call; :class:`CallOver` when it is over, or the carrier has no leg of it yet."""
    call = await get(resources.store, caller, call_id)
    if call.status == CallStatus.ENDED:
        raise CallOver("the call has ended already")
    if not call.carrier_id:
        raise CallOver("the carrier has no leg of this call yet: try again in a moment")
    return await stop(resources, caller, call.id)


async def transfer(resources: Resources, caller: Caller, call_id: str | UUID, to: str) -> CallRow:
    """Hand the far end to a number or ``sip:`` address. The same rules hold as for dialling."""
    call = await _live(resources.store, caller, call_id)
    to = destination(to)
    try:
        await resources.exchange.transfer(call.reference, to)
    except AnycarrierError as refused:
        resources.store.writer.event(call.id, "call.transfer_refused", {"error": str(refused)})
        raise
    return await get(resources.store, caller, call.id)


async def send_digits(resources: Resources, caller: Caller, call_id: str | UUID, digits: str) -> CallRow:
    """Press keys for the far end: 0-9 A-D * #, ``w`` waits half a second."""
    if not DIGITS.fullmatch(digits):
        raise Invalid.field("digits", "1 to 64 of 0-9 A-D * # and w (half a second's pause)")
    call = await _live(resources.store, caller, call_id)
    await resources.exchange.send_digits(call.reference, digits)
    resources.store.writer.event(call.id, "call.digits_sent", {"count": len(digits)})
    return call


async def set_outcome(store: Store, caller: Caller, call_id: str | UUID, outcome: str | None) -> CallRow:
    """Name what came of the call; stored as it should read (``appointment_booked`` -> "Appointment Booked")."""
    call = await get(store, caller, call_id)
    label = " ".join(word.capitalize() for word in outcome.replace("_", " ").split()) if outcome else None
    return await store.calls.note(call.id, outcome=label) or call


async def _live(store: Store, caller: Caller, call_id: str | UUID) -> CallRow:
    call = await get(store, caller, call_id)
    if call.status != CallStatus.ANSWERED:
        raise CallOver("the call is not connected: this works between answer and end only")
    return call


async def _unschedule(store: Store, call: CallRow) -> bool:
    """Take a scheduled call before any process dials it; False when one does already."""
    async with store.db.write() as session:
        mine = (
            update(CallRow)
            .where(CallRow.id == call.id, CallRow.dial_claimed_at.is_(None), CallRow.status == "queued")
            .values(dial_claimed_at=utc_now())
            .returning(CallRow.id)
        )
        return (await session.execute(mine)).scalar_one_or_none() is not None


async def agent_filter(store: Store, caller: Caller, agent_id: str | UUID | None) -> UUID | None:
    """The agent a listing is for: None is all for an admin, itself for an agent's key."""
    if agent_id is None and caller.admin:
        return None
    return (await agent_of(store, caller, agent_id)).id


NOT_CONNECTED = "Not Connected"
VOICEMAIL = "Voicemail"


def shown_outcome(call: CallRow) -> str | None:
    """The outcome somebody set or the analysis found; for calls nobody talked on, what their end says."""
    if call.outcome is not None or call.status != "ended":
        return call.outcome
    if call.answered_at is None:
        return NOT_CONNECTED
    return VOICEMAIL if call.reason == "voicemail" else None
