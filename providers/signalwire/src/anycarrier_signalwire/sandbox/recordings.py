"""Recordings: one of a leg, its status callbacks, and the REST resources to start, change, list, and fetch them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.testing.far_end import CallRecorder
from anycarrier_signalwire.sandbox.models import VERSION, RecordingOrder, new_id, rfc2822
from anycarrier_signalwire.sandbox.rest import BASE, PAGING, Operation, Reply, Rest, RestError, not_found, page

if TYPE_CHECKING:
    from anycarrier_signalwire.sandbox.leg import Leg

EVENTS = frozenset({"completed", "in-progress", "absent"})


class Recording:
    """One recording of one leg, running from the moment it is made."""

    def __init__(self, leg: Leg, order: RecordingOrder) -> None:
        self.leg = leg
        self.order = order
        self.sid = new_id()
        self.status = "in-progress"
        self.began = self.updated = datetime.now(UTC)
        self.ended: datetime | None = None
        self.recorder = CallRecorder(leg.far_end)
        self._tell("in-progress")

    @property
    def path(self) -> str:
        return f"{self.leg.project.path}/Recordings/{self.sid}"

    @property
    def url(self) -> str:
        """Where the file is, without an extension, as the carrier gives it."""
        return self.leg.sandbox.base_url + self.path

    @property
    def seconds(self) -> int:
        """Whole seconds; 0 while it runs."""
        return round(self.recorder.seconds) if self.ended else 0

    def pause(self, paused: bool) -> None:
        """Put silence where sound would be, or sound again."""
        self.recorder.paused = paused
        self.status = "paused" if paused else "in-progress"
        self.updated = datetime.now(UTC)

    def stop(self) -> None:
        """Finish the recording and tell; nothing happens when it is finished."""
        if self.ended is not None:
            return
        self.recorder.stop()
        self.ended = self.updated = datetime.now(UTC)
        self.status = "completed"
        self._tell("completed")

    def _tell(self, event: str) -> None:
        callback = self.order.callback
        if callback is None or event not in callback.events:
            return
        params = {
            "AccountSid": self.leg.project.sid,
            "CallSid": self.leg.sid,
            "RecordingSid": self.sid,
            "RecordingUrl": self.url,
            "RecordingStatus": event,
            "RecordingDuration": str(self.seconds),
            "RecordingChannels": str(self.order.channels),
            "RecordingSource": self.order.source,
        }
        self.leg.sandbox.notify("recording", self.leg, callback.url, params, callback.method)

    def resource(self) -> dict[str, Any]:
        """The REST resource: numbers of channels are text here, the duration is not."""
        channels = str(self.order.channels)
        return {
            "sid": self.sid,
            "account_sid": self.leg.project.sid,
            "api_version": VERSION,
            "call_sid": self.leg.sid,
            "conference_sid": None,
            "channel": channels,
            "channels": channels,
            "date_created": rfc2822(self.began),
            "date_updated": rfc2822(self.updated),
            "start_time": rfc2822(self.began),
            "end_time": rfc2822(self.ended),
            "duration": self.seconds,
            "price": None,
            "price_unit": "USD",
            "source": self.order.source,
            "status": self.status,
            "error_code": None,
            "uri": f"{self.path}.json",
            "subresource_uris": {"transcriptions": f"{self.path}/Transcriptions.json"},
            "encryption_details": None,
            "trim": self.order.trim,
        }


def order_from(rest: Rest, source: str, trim: str) -> RecordingOrder:
    """The recording parameters of a request; ``trim`` is what the operation does unless told otherwise."""
    channels = rest.get("RecordingChannels", "mono")
    if channels not in ("mono", "dual"):
        raise RestError(400, 10000, f"RecordingChannels {channels[:20]!r} is neither mono nor dual")
    if len(rest.params.get("RecordingStatusCallbackEvent", [])) > 1:
        raise RestError(400, 10000, "RecordingStatusCallbackEvent is one value, with spaces between the events")
    return RecordingOrder(
        source=source,
        channels=2 if channels == "dual" else 1,
        trim=rest.get("Trim", trim),
        callback=rest.callback("RecordingStatusCallback", EVENTS),
    )


def _call(rest: Rest) -> Leg:
    return rest.project.calls.get(rest.path["CallSid"]) or not_found(rest)


def _any(rest: Rest) -> Recording:
    return rest.project.recordings.get(rest.path["Sid"]) or not_found(rest)


async def start(rest: Rest) -> Reply:
    leg = _call(rest)
    if leg.status != "in-progress":
        raise RestError(400, 21220, "The call is not in progress")
    return Reply(200, leg.record(order_from(rest, "StartCallRecordingApi", "do-not-trim")).resource())


async def update(rest: Rest) -> Reply:
    recording = next((r for r in _call(rest).recordings if r.sid == rest.path["Sid"]), None) or not_found(rest)
    status = rest.get("Status")
    if status not in ("stopped", "paused", "in-progress"):
        raise RestError(400, 10000, f"Status {status[:20]!r} is none of paused, in-progress and stopped")
    if recording.ended is not None:
        raise RestError(400, 10000, "The recording is over")
    if status == "stopped":
        recording.stop()
    else:
        recording.pause(status == "paused")
    return Reply(200, recording.resource())


async def list_all(rest: Rest) -> Reply:
    wanted = rest.get("CallSid")
    found = [r.resource() for r in rest.project.recordings.values() if not wanted or r.leg.sid == wanted]
    return page(rest, "recordings", found)


async def fetch(rest: Rest) -> Reply:
    return Reply(200, _any(rest).resource())


async def delete(rest: Rest) -> Reply:
    recording = _any(rest)
    recording.stop()
    del rest.project.recordings[recording.sid]
    recording.leg.recordings.remove(recording)
    return Reply(204)


async def media(rest: Rest) -> Reply:
    recording = _any(rest)
    if recording.ended is None:
        not_found(rest)
    if rest.path["extension"] == ".mp3":
        raise RestError(404, 20404, "this sandbox has no MP3 encoder: fetch the .wav")
    return Reply(200, recording.recorder.wav(recording.order.channels), "audio/x-wav")


_PARAMETERS = {
    "RecordingChannels": "text",
    "RecordingStatusCallback": "url",
    "RecordingStatusCallbackEvent": "list",
    "RecordingStatusCallbackMethod": "method",
    "RecordingTrack": "text",
    "Trim": "text",
}
_OF_CALL = BASE + "/Calls/{CallSid}/Recordings"
OPERATIONS = [
    Operation("POST", _OF_CALL, start, _PARAMETERS),
    Operation("POST", _OF_CALL + "/{Sid}", update, {"Status": "text", "PauseBehavior": "text"}),
    Operation("GET", BASE + "/Recordings", list_all, {**PAGING, "CallSid": "text"}),
    Operation("GET", BASE + "/Recordings/{Sid}", fetch, extensions=(".json",)),
    Operation("DELETE", BASE + "/Recordings/{Sid}", delete),
    Operation("GET", BASE + "/Recordings/{Sid}", media, None, extensions=("", ".wav", ".mp3"), public=True),
]
