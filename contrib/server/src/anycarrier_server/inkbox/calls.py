"""``/phone/calls``: listed by identity, looked at, hung up; and the older doors, by number."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from anycarrier_server.domain import call_control, numbers
from anycarrier_server.domain.callers import agent_of
from anycarrier_server.domain.refusals import Invalid, Unknown
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.inkbox import call_times, hosted_agent, transcripts
from anycarrier_server.inkbox.call_shape import CallShown, call_shown
from anycarrier_server.inkbox.shapes import PHONE, Id, Slice, YesOrNo
from anycarrier_server.inkbox.transcripts import TranscriptShown
from anycarrier_server.store import CallFilter
from anycarrier_server.store.models import CallRow

ROOT = f"{PHONE}/calls"
ONE = ROOT + "/{call_id}"
OF_NUMBER = f"{PHONE}/numbers/{{number_id}}/calls"

When = Annotated[
    str,
    Field(
        max_length=40,
        description="A date, or a date and time; without a zone it is meant in tz",
        json_schema_extra={"anyOf": [{"format": "date"}, {"format": "date-time"}]},
    ),
]


class CallsOfNumber(Slice):
    """A page of a number's calls. ``is_blocked`` absent: all that the key may see."""

    is_blocked: YesOrNo | None = None


class CallsAsked(CallsOfNumber):
    """A page of an identity's calls, by when they were made."""

    agent_identity_id: Id | None = Field(default=None, description="Required under an admin key")
    start_datetime: When | None = None
    end_datetime: When | None = None
    tz: str | None = Field(default=None, max_length=64, description="IANA zone of what has none; UTC when absent")


async def every(asked: Asked[None, CallsAsked]) -> list[CallShown]:
    """An identity's calls, newest first."""
    query, caller = asked.query, asked.caller
    if query.agent_identity_id is None and caller.admin:
        raise Invalid.field("agent_identity_id", "is required under an admin key", where="query", type="missing")
    agent = await agent_of(asked.service.store, caller, query.agent_identity_id)
    zone = call_times.zone(query.tz)
    start, end = query.start_datetime, query.end_datetime
    which = CallFilter(
        agent_id=agent.id,
        is_blocked=query.is_blocked,
        created_from=call_times.first_instant(start, zone) if start is not None else None,
        created_before=call_times.past_the_end(end, zone) if end is not None else None,
    )
    return [call_shown(call) for call in await _page(asked, which)]


async def of_number(asked: Asked[None, CallsOfNumber]) -> list[CallShown]:
    """A number's calls, newest first."""
    line = await numbers.get(asked.service, asked.caller, asked.path["number_id"])
    which = CallFilter(line_id=line.id, is_blocked=asked.query.is_blocked)
    return [call_shown(call) for call in await _page(asked, which)]


async def _page(asked: Asked[Any, Any], which: CallFilter) -> list[CallRow]:
    if which.is_blocked and not asked.caller.admin:
        return []  # an identity's key sees none of these
    page = await call_control.page(
        asked.service, asked.caller, which, limit=asked.query.limit, offset=asked.query.offset
    )
    return page.items


async def get(asked: Asked[None, None]) -> CallShown:
    """One call."""
    return call_shown(await call_control.get(asked.service, asked.caller, asked.path["call_id"]))


async def hang_up(asked: Asked[None, None]) -> CallShown:
    """End a live call. The answer may still show it live: the carrier confirms in its own time."""
    return call_shown(await call_control.hang_up(asked.service, asked.caller, asked.path["call_id"]))


async def _on_the_number(asked: Asked[None, None]) -> None:
    """404 unless the call in the path is one of the number in the path."""
    line = await numbers.get(asked.service, asked.caller, asked.path["number_id"])
    call = await call_control.get(asked.service, asked.caller, asked.path["call_id"])
    if call.line_id != line.id:
        raise Unknown("call on that number")


async def get_of_number(asked: Asked[None, None]) -> CallShown:
    """One call, addressed by its number too."""
    await _on_the_number(asked)
    return await get(asked)


async def transcripts_of_number(asked: Asked[None, None]) -> list[TranscriptShown]:
    """What was said on it, addressed by its number too."""
    await _on_the_number(asked)
    return await transcripts.of_call(asked)


ENDPOINTS = [
    Endpoint("GET", ROOT, every, "List an identity's calls", query=CallsAsked, answer=list[CallShown],
             refusals=(403, 404)),
    Endpoint("GET", ONE, get, "Look at a call", answer=CallShown, refusals=(403, 404)),
    Endpoint("POST", f"{ONE}/hangup", hang_up, "Hang up", answer=CallShown, refusals=(403, 404, 409, 501, 502)),
    Endpoint("GET", f"{ONE}/transcripts", transcripts.of_call, "What was said", answer=list[TranscriptShown],
             refusals=(403, 404)),
    Endpoint("GET", f"{ONE}/tool-invocations", hosted_agent.invocations, "What Voice AI did: nothing here",
             query=Slice, answer=hosted_agent.Invocations, refusals=(403, 404)),
    Endpoint("GET", OF_NUMBER, of_number, "List a number's calls", query=CallsOfNumber, answer=list[CallShown],
             refusals=(403, 404), hidden=True),
    Endpoint("GET", f"{OF_NUMBER}/{{call_id}}", get_of_number, "Look at a number's call", answer=CallShown,
             refusals=(403, 404), hidden=True),
    Endpoint("GET", f"{OF_NUMBER}/{{call_id}}/transcripts", transcripts_of_number, "What was said on it",
             answer=list[TranscriptShown], refusals=(403, 404), hidden=True),
]  # fmt: skip
