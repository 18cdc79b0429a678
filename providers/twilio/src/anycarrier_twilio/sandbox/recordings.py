"""The REST resources of recordings: start, pause, stop, list, fetch, delete, and the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anycarrier_twilio.sandbox.calls import on_day
from anycarrier_twilio.sandbox.orders import RecordingOrder
from anycarrier_twilio.sandbox.recording import Recording
from anycarrier_twilio.sandbox.rest import BASE, PAGING, Operation, Reply, Rest, RestError, not_found, page

if TYPE_CHECKING:
    from anycarrier_twilio.sandbox.leg import Leg


def order_from(rest: Rest, source: str) -> RecordingOrder:
    """The recording parameters of a request, which have the same names wherever they appear."""
    channels = rest.get("RecordingChannels", "mono")
    if channels not in ("mono", "dual"):
        raise RestError(400, 21220, f"RecordingChannels {channels!r} is neither mono nor dual")
    return RecordingOrder(
        source=source,
        channels=2 if channels == "dual" else 1,
        track=rest.get("RecordingTrack", "both"),
        callback=rest.get("RecordingStatusCallback"),
        method=rest.get("RecordingStatusCallbackMethod", "POST"),
        events=frozenset(rest.words("RecordingStatusCallbackEvent") or ["completed"]),
    )


def _call(rest: Rest) -> Leg:
    return rest.account.calls.get(rest.path["CallSid"]) or not_found(rest)


def _of_call(rest: Rest) -> Recording:
    leg = _call(rest)
    running = [recording for recording in leg.recordings if recording.status != "completed"]
    if rest.path["Sid"] == "Twilio.CURRENT" and running:
        return running[-1]
    return next((r for r in leg.recordings if r.sid == rest.path["Sid"]), None) or not_found(rest)


def _any(rest: Rest) -> Recording:
    return rest.account.recordings.get(rest.path["Sid"]) or not_found(rest)


async def start(rest: Rest) -> Reply:
    leg = _call(rest)
    if leg.status != "in-progress":
        raise RestError(400, 21220, "Requested resource is not eligible for recording")
    recording = leg.record(order_from(rest, "StartCallRecordingAPI"))
    return Reply(201, recording.resource(of_call=True))


async def update(rest: Rest) -> Reply:
    recording = _of_call(rest)
    status = rest.get("Status")
    if status not in ("stopped", "paused", "in-progress"):
        raise RestError(400, 21220, f"Invalid status {status!r}")
    if recording.status == "completed":
        raise RestError(400, 21220, "Recording is not in-progress. Cannot update.")
    if status == "stopped":
        recording.stop()
    else:
        recording.pause(status == "paused")
    return Reply(200, recording.resource(of_call=True))


def _made_on(rest: Rest, recording: Recording) -> bool:
    return on_day(rest, "DateCreated", recording.began)


async def list_of_call(rest: Rest) -> Reply:
    return page(rest, "recordings", [r.resource(of_call=True) for r in _call(rest).recordings if _made_on(rest, r)])


async def fetch_of_call(rest: Rest) -> Reply:
    return Reply(200, _of_call(rest).resource(of_call=True))


async def list_all(rest: Rest) -> Reply:
    wanted = rest.get("CallSid")
    found = [r for r in rest.account.recordings.values() if (not wanted or r.leg.sid == wanted) and _made_on(rest, r)]
    return page(rest, "recordings", [r.resource(of_call=False) for r in found])


async def fetch(rest: Rest) -> Reply:
    return Reply(200, _any(rest).resource(of_call=False))


async def delete(rest: Rest) -> Reply:
    recording = _any(rest)
    recording.stop()
    del rest.account.recordings[recording.sid]
    recording.leg.recordings.remove(recording)
    return Reply(204)


async def media(rest: Rest) -> Reply:
    recording = _any(rest)
    if recording.status != "completed":
        return not_found(rest)
    if rest.path["extension"] == ".mp3":
        raise RestError(404, 20404, "this sandbox has no MP3 encoder: fetch the .wav")
    channels = int(rest.get("RequestedChannels") or recording.order.channels)
    return Reply(200, recording.recorder.wav(channels), "audio/x-wav")


_DAYS = {f"DateCreated{sign}": "text" for sign in ("", "<", ">")}
_UNPLAYED = {"IncludeSoftDeleted": "unplayed", "ConferenceSid": "unplayed"}
OPERATIONS = [
    Operation(
        "POST",
        BASE + "/Calls/{CallSid}/Recordings",
        start,
        {
            "RecordingStatusCallbackEvent": "list",
            "RecordingStatusCallback": "url",
            "RecordingStatusCallbackMethod": "method",
            "Trim": "text",
            "RecordingChannels": "text",
            "RecordingTrack": "text",
        },
    ),
    Operation("GET", BASE + "/Calls/{CallSid}/Recordings", list_of_call, {**PAGING, **_DAYS}),
    Operation("GET", BASE + "/Calls/{CallSid}/Recordings/{Sid}", fetch_of_call),
    Operation("POST", BASE + "/Calls/{CallSid}/Recordings/{Sid}", update, {"Status": "text", "PauseBehavior": "text"}),
    Operation("GET", BASE + "/Recordings", list_all, {**PAGING, **_DAYS, **_UNPLAYED, "CallSid": "text"}),
    Operation("GET", BASE + "/Recordings/{Sid}", fetch, {"IncludeSoftDeleted": "unplayed"}, extensions=(".json",)),
    Operation("DELETE", BASE + "/Recordings/{Sid}", delete),
    Operation("GET", BASE + "/Recordings/{Sid}", media, {"RequestedChannels": "int"}, extensions=("", ".wav", ".mp3")),
]
