"""Recordings: one of a leg, its status callbacks, and the REST resources to start, change, list, and fetch them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.testing.far_end import CallRecorder
from anycarrier_twilio.carrier_side.calls_api import RestError
from anycarrier_twilio.carrier_side.messages import API_VERSION, rfc2822
from anycarrier_twilio.sandbox.models import RecordingOrder, new_sid
from anycarrier_twilio.sandbox.rest import BASE, PAGING, Operation, Reply, Rest, not_found, page

if TYPE_CHECKING:
    from anycarrier_twilio.sandbox.leg import Leg


class Recording:
    """One recording of one leg, running from the moment it is made."""

    def __init__(self, leg: Leg, order: RecordingOrder) -> None:
        self.leg = leg
        self.order = order
        self.sid = new_sid("RE")
        self.status = "in-progress"
        self.began = self.updated = datetime.now(UTC)
        self.recorder = CallRecorder(leg.far_end)
        self._tell("in-progress")

    @property
    def url(self) -> str:
        """Where the file is, without an extension, as the carrier gives it."""
        return self.leg.sandbox.base_url + self.path

    @property
    def path(self) -> str:
        return f"/{API_VERSION}/Accounts/{self.leg.account.sid}/Recordings/{self.sid}"

    @property
    def duration(self) -> str | None:
        """Whole seconds as text; None while it runs."""
        return str(round(self.recorder.seconds)) if self.status == "completed" else None

    def pause(self, paused: bool) -> None:
        """Put silence where sound would be, or sound again."""
        self.recorder.paused = paused
        self.status = "paused" if paused else "in-progress"
        self.updated = datetime.now(UTC)

    def stop(self) -> None:
        """Finish the recording and tell; nothing happens when it is finished."""
        if self.status == "completed":
            return
        self.recorder.stop()
        self.status = "completed"
        self.updated = datetime.now(UTC)
        self._tell("completed")

    def _tell(self, event: str) -> None:
        if not self.order.callback or event not in self.order.events:
            return
        params = {
            "RecordingSource": self.order.source,
            "RecordingTrack": self.order.track,
            "RecordingSid": self.sid,
            "RecordingUrl": self.url,
            "RecordingStatus": event,
            "RecordingChannels": str(self.order.channels),
            "ErrorCode": "0",
            "CallSid": self.leg.sid,
            "AccountSid": self.leg.account.sid,
            "RecordingStartTime": rfc2822(self.began) or "",
        }
        if self.duration is not None:
            params["RecordingDuration"] = self.duration
        self.leg.sandbox.notify("recording", self.leg, self.order.callback, params, self.order.method)

    def resource(self, *, of_call: bool) -> dict[str, Any]:
        """The REST resource; under a call it lacks two keys and has two others."""
        body: dict[str, Any] = {
            "account_sid": self.leg.account.sid,
            "api_version": API_VERSION,
            "call_sid": self.leg.sid,
            "conference_sid": None,
            "date_created": rfc2822(self.began),
            "date_updated": rfc2822(self.updated),
            "start_time": rfc2822(self.began),
            "duration": self.duration,
            "sid": self.sid,
            "price": None,
            "price_unit": "USD",
            "status": self.status,
            "channels": self.order.channels,
            "source": self.order.source,
            "error_code": None,
            "encryption_details": None,
        }
        if of_call:
            call = f"/{API_VERSION}/Accounts/{self.leg.account.sid}/Calls/{self.leg.sid}"
            return {**body, "track": self.order.track, "uri": f"{call}/Recordings/{self.sid}.json"}
        links = {
            "add_on_results": f"{self.path}/AddOnResults.json",
            "transcriptions": f"{self.path}/Transcriptions.json",
        }
        return {**body, "uri": f"{self.path}.json", "subresource_uris": links, "media_url": self.url}


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
    return rest.on_day("DateCreated", recording.began)


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
_UNSUPPORTED = {"IncludeSoftDeleted": "unsupported", "ConferenceSid": "unsupported"}
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
    Operation("GET", BASE + "/Recordings", list_all, {**PAGING, **_DAYS, **_UNSUPPORTED, "CallSid": "text"}),
    Operation("GET", BASE + "/Recordings/{Sid}", fetch, {"IncludeSoftDeleted": "unsupported"}, extensions=(".json",)),
    Operation("DELETE", BASE + "/Recordings/{Sid}", delete),
    Operation("GET", BASE + "/Recordings/{Sid}", media, {"RequestedChannels": "int"}, extensions=("", ".wav", ".mp3")),
]
