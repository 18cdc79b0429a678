"""Recordings: one of a leg, and the REST resources to pause one, list and fetch them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.testing.far_end import CallRecorder
from anycarrier_bandwidth.sandbox.account import new_id, stamp
from anycarrier_bandwidth.sandbox.rest import VOICE, Operation, Refusal, Reply, Rest
from anycarrier_bandwidth.sandbox.webhooks import Callback, recorded

if TYPE_CHECKING:
    from anycarrier_bandwidth.sandbox.leg import Leg


class Recording:
    """One recording of one leg, running from the moment it is made."""

    def __init__(self, leg: Leg, callback: Callback | None, *, channels: int, name: str) -> None:
        self.leg = leg
        self.id = new_id("r")
        self.callback = callback
        self.channels = channels
        self.name = name
        self.began = datetime.now(UTC)
        self.ended_at: datetime | None = None
        self.recorder = CallRecorder(leg.far_end)
        leg.account.recordings[self.id] = self

    @property
    def status(self) -> str:
        return "complete" if self.ended_at else "processing"

    @property
    def duration(self) -> str:
        return f"PT{self.recorder.seconds:.3f}S"

    @property
    def media_url(self) -> str:
        return f"{self.leg.url}/recordings/{self.id}/media"

    def stop(self) -> None:
        """Finish the recording and tell; nothing happens when it is finished."""
        if self.ended_at is None:
            self.recorder.stop()
            self.ended_at = datetime.now(UTC)
            self.leg.tell(self.callback, recorded(self))

    def resource(self) -> dict[str, Any]:
        """The recording as REST shows it."""
        leg = self.leg
        return {
            "applicationId": leg.application, "accountId": leg.account.id, "callId": leg.id,
            "recordingId": self.id, "to": leg.to, "from": leg.from_, "direction": leg.direction,
            "channels": self.channels, "startTime": stamp(self.began), "endTime": stamp(self.ended_at or self.began),
            "duration": self.duration, "fileFormat": "wav", "status": self.status, "mediaUrl": self.media_url,
        }  # fmt: skip


def leg_of(rest: Rest) -> Leg:
    """The call of a path."""
    leg = rest.account.calls.get(rest.path["call"])
    if leg is None:
        raise Refusal(404, f"Call {rest.path['call'][:80]} not found")
    return leg


def _recording(rest: Rest) -> Recording:
    found = rest.account.recordings.get(rest.path["recording"])
    if found is None or found.leg.id != rest.path["call"]:
        raise Refusal(404, f"Recording {rest.path['recording'][:80]} not found")
    return found


async def change(rest: Rest) -> Reply:
    """Pause the call's recording, or go on."""
    leg, state = leg_of(rest), rest.body.get("state")
    if state not in ("paused", "recording"):
        raise Refusal(400, "Invalid state: must be paused or recording")
    if leg.recording is None or leg.recording.ended_at:
        raise Refusal(404, "The call is not being recorded")
    leg.recording.recorder.paused = state == "paused"
    return Reply(200)


async def list_of_call(rest: Rest) -> Reply:
    leg = leg_of(rest)
    return Reply(200, [each.resource() for each in rest.account.recordings.values() if each.leg is leg])


async def fetch(rest: Rest) -> Reply:
    return Reply(200, _recording(rest).resource())


async def delete(rest: Rest) -> Reply:
    recording = _recording(rest)
    recording.stop()
    del rest.account.recordings[recording.id]
    return Reply(204)


async def media(rest: Rest) -> Reply:
    recording = _recording(rest)
    if recording.ended_at is None:
        raise Refusal(404, "The media is not available yet")
    return Reply(200, recording.recorder.wav(recording.channels), media_type="audio/vnd.wave")


_ONE = VOICE + "/{call}/recordings/{recording}"
OPERATIONS = [
    Operation("PUT", VOICE + "/{call}/recording", change, takes={"state": "text"}),
    Operation("GET", VOICE + "/{call}/recordings", list_of_call),
    Operation("GET", _ONE, fetch),
    Operation("DELETE", _ONE, delete),
    Operation("GET", _ONE + "/media", media),
]
