"""A recording: made of a leg, told of by callback, shown as a resource."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.testing.far_end import CallRecorder
from anycarrier_twilio.sandbox.account import new_sid
from anycarrier_twilio.sandbox.orders import RecordingOrder
from anycarrier_twilio.sandbox.webhooks import API_VERSION, rfc2822

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
