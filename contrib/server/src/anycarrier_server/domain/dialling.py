"""The one request that makes a telephone ring, and what becomes of the call when the carrier says no."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from anycarrier.calls import CallStatus, EndReason, MachineDetection
from anycarrier.errors import AnycarrierError, ProviderError, ProviderUnavailable
from anycarrier_server.domain.agents import settings_of
from anycarrier_server.store import RoutedCall
from anycarrier_server.store.call_state import as_call
from anycarrier_server.store.models import Agent, CallRow

if TYPE_CHECKING:
    from anycarrier_server.service import Service

log = logging.getLogger("anycarrier")


async def ring(service: Service, routed: RoutedCall) -> CallRow:
    """Ask the carrier once. Returns when it has taken the call; it is not answered yet.

    What the carrier refuses, it has refused before anything rang: the call ends ``failed`` with the reason, its place
    in the day's limit is given back, and the typed error is raised. ``ProviderUnavailable`` leaves the call as it is
    where its outcome is unknown: a phone may be ringing.
    """
    call, agent = routed.call, routed.agent
    assert agent is not None
    try:
        await service.agents.keep_routed(routed)
        dialled = await service.exchange.dial(call=as_call(call), **_options(call, agent))
    except AnycarrierError as refused:
        await service.store.calls.note(call.id, error=error_note(refused))
        if isinstance(refused, ProviderUnavailable) and refused.outcome_unknown:
            raise
        await give_up(service, call, EndReason.UNKNOWN)
        await service.store.limits.release(call.id)
        raise
    call.carrier_id = dialled.id
    return call


async def give_up(service: Service, call: CallRow, reason: EndReason) -> None:
    """End a call that never got to the carrier. One that is over already stays as it is."""
    known = await service.store.callbook.get(call.reference)
    if known is not None and known.status is not CallStatus.ENDED:
        await service.exchange.switchboard.end_locally(known, reason)


def error_note(problem: AnycarrierError) -> dict[str, Any]:
    """What the carrier said, for the call's record: no secrets, numbers masked."""
    note: dict[str, Any] = {"type": type(problem).__name__, "message": str(problem)}
    if isinstance(problem, ProviderError):
        note |= {"code": problem.code, "status": problem.status}
    return note


def _options(call: CallRow, agent: Agent) -> dict[str, Any]:
    settings = settings_of(agent, call.options.get("settings"))
    found: dict[str, Any] = {"machine_detection": MachineDetection.OFF}
    if settings.voicemail_detection:
        waits = settings.on_voicemail == "leave_message"
        found["machine_detection"] = MachineDetection.WAIT_FOR_BEEP if waits else MachineDetection.DETECT
    if call.options.get("timeout") is not None:
        found["timeout"] = call.options["timeout"]
    return found
