"""What was said on a call, as this face shows it: ``local`` is the agent, ``remote`` the other person."""

from __future__ import annotations

from uuid import uuid5

from anycarrier_server.domain import call_control, transcripts
from anycarrier_server.endpoints import Asked
from anycarrier_server.inkbox.shapes import Moment, Shown, Uuid
from anycarrier_server.store.models import Segment


class TranscriptShown(Shown):
    """One utterance; ``ts_ms`` counts from the start of the call."""

    id: Uuid
    call_id: Uuid
    seq: int
    ts_ms: int
    party: str
    text: str
    phone_number: str | None
    created_at: Moment


def segment_shown(segment: Segment, number: str | None) -> TranscriptShown:
    """The segment; its uuid is made of the call's and its place, so it stays the same."""
    return TranscriptShown(
        id=uuid5(segment.call_id, str(segment.seq)),
        call_id=segment.call_id,
        seq=segment.seq,
        ts_ms=segment.ts_ms,
        party=segment.party,
        text=segment.text,
        phone_number=number,
        created_at=segment.created_at,
    )


async def of_call(asked: Asked[None, None]) -> list[TranscriptShown]:
    """All of a call's, in order; of a call that is going on, those so far."""
    call = await call_control.get(asked.service, asked.caller, asked.path["call_id"])
    said = await transcripts.of_call(asked.service, asked.caller, call.id)
    return [segment_shown(segment, call.local_number) for segment in said]
