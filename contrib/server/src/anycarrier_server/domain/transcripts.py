"""What was said on calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from anycarrier_server.auth import Caller
from anycarrier_server.domain import call_control, numbers
from anycarrier_server.refusals import Unknown
from anycarrier_server.store.models import Segment

if TYPE_CHECKING:
    from anycarrier_server.service import Service


async def of_call(service: Service, caller: Caller, call_id: str | UUID) -> Sequence[Segment]:
    """A call's utterances in order, those of a call that is going on too."""
    return await service.store.transcripts.of_call((await call_control.get(service, caller, call_id)).id)


async def since(service: Service, caller: Caller, after: Mapping[UUID, int], *, limit: int) -> Sequence[Segment]:
    """What was said on these calls after the utterance of that number, each call's in order; ``Unknown`` when one of
    the calls is not the caller's to see."""
    if await service.store.calls.seen(caller.workspace_id, after, agent_id=caller.agent_id) < len(after):
        raise Unknown("call")
    return await service.store.transcripts.since(caller.workspace_id, after, limit=limit)


async def search(
    service: Service, caller: Caller, line_id: str | UUID, query: str, *, party: str | None = None, limit: int = 50
) -> Sequence[Segment]:
    """Utterances on one number's calls that hold all words of ``query``, best match first."""
    line = await numbers.get(service, caller, line_id)
    return await service.store.transcripts.search(caller.workspace_id, query, line_id=line.id, party=party, limit=limit)
