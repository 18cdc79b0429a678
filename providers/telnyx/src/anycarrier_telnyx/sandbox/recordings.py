"""Recordings over REST, and their files behind links that need no login but do not live long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.responses import Response

from anycarrier_telnyx.sandbox.account import Account
from anycarrier_telnyx.sandbox.errors import refuse
from anycarrier_telnyx.sandbox.recording import Recording
from anycarrier_telnyx.sandbox.rest import Ask, data, kept, listed


def _recording(account: Account, recording_id: str) -> Recording:
    found = account.recordings.get(recording_id)
    if found is None:
        raise refuse("10005", "There is no such recording.")
    return found


async def recordings(ask: Ask) -> Response:
    """GET /recordings"""
    names = ("call_control_id", "call_leg_id", "call_session_id", "connection_id", "from", "to")
    fields = {name: name for name in names}
    times = {"created_at": "created_at", "start_time": "recording_started_at", "end_time": "recording_ended_at"}
    fields |= {f"{name}][{how}": field for name, field in times.items() for how in ("gte", "lte")}
    rows = [recording.summary() for recording in ask.account.recordings.values()]
    return listed([row for row in rows if kept(row, ask.query, fields)], ask.query)


async def fetch_recording(ask: Ask) -> Response:
    """GET /recordings/{id}"""
    return data(_recording(ask.account, ask.ids["id"]).summary())


async def delete_recording(ask: Ask) -> Response:
    """DELETE /recordings/{id}"""
    found = _recording(ask.account, ask.ids["id"])
    del ask.account.recordings[found.id]
    return data(found.summary())


def download(accounts: Iterable[Account], name: str, query: Mapping[str, str]) -> Response:
    """The file of a link: 403 when the link is stale or wrong."""
    recording_id, _, kind = name.partition(".")
    for account in accounts:
        recording = account.recordings.get(recording_id)
        if recording is not None and kind == "wav":
            if not recording.opens(query.get("token", "")):
                return Response("the link has expired", status_code=403)
            return Response(recording.wav(), media_type="audio/wav")
    return Response("no such file", status_code=404)
