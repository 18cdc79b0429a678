"""What whoever made a call should hear of it although it goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from anycarrier_server.domain.overrides import GROUPS, unused_in
from anycarrier_server.store.models import CallEventRow, CallRow

if TYPE_CHECKING:
    from anycarrier_server.service import Service

MISSING = "variables_missing"
"""The note that a conversation makes of placeholders without a value."""

VOICE = "voice_unknown"
"""And of a voice that its engine did not know."""

RECORDING = "recording_failed"
"""And of a recording that could not be written on."""


async def of_call(service: Service, call: CallRow) -> list[str]:
    """Sentences, none when all is well: overrides without a use here, and, once answered, placeholders left empty, a
    voice that was not to be had, and a recording that is cut."""
    others = sorted(set(call.overrides) - {*GROUPS, "first_message"})
    found = [f"overrides.{name} has no use here" for name in (*unused_in(call.overrides), *others)]
    if call.answered_at is None:
        return found
    noted = select(CallEventRow.kind, CallEventRow.payload).where(
        CallEventRow.call_id == call.id, CallEventRow.kind.in_((MISSING, VOICE, RECORDING))
    )
    async with service.store.db.read() as session:
        notes = [(kind, payload) for kind, payload in await session.execute(noted)]
    names = {name for kind, payload in notes if kind == MISSING for name in payload["names"]}
    found += [f"{{{{{name}}}}} has no value on this call: it is left empty" for name in sorted(names)]
    for kind, heard in notes:
        if kind == VOICE:
            found.append(f"{heard['engine']} has no voice {heard['voice']!r}: its own for {heard['instead']!r} spoke")
        if kind == RECORDING:
            found.append(f"the recording was cut after {heard['seconds']:g} s, and the call went on: {heard['why']}")
    return found
