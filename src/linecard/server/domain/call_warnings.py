"""What whoever made a call should hear of it although it goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from linecard.server.domain.overrides import GROUPS, unused_in
from linecard.server.store.models import CallEventRow, CallRow

if TYPE_CHECKING:
    from linecard.server.service import Service

MISSING = "variables_missing"
"""The note that a conversation makes of placeholders without a value."""


async def of_call(service: Service, call: CallRow) -> list[str]:
    """Sentences, none when all is well: overrides without a use here, and, once answered, placeholders left empty."""
    others = sorted(set(call.overrides) - {*GROUPS, "first_message"})
    found = [f"overrides.{name} has no use here" for name in (*unused_in(call.overrides), *others)]
    if call.answered_at is None:
        return found
    noted = select(CallEventRow.payload).where(CallEventRow.call_id == call.id, CallEventRow.kind == MISSING)
    async with service.store.db.read() as session:
        names = {name for payload in await session.scalars(noted) for name in payload["names"]}
    return [*found, *(f"{{{{{name}}}}} has no value on this call: it is left empty" for name in sorted(names))]
