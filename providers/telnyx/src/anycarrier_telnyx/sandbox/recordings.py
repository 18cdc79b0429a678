"""Recordings of a leg as WAV files, the REST resources for them, and download links that expire.

The silence between the words of each side is left out, so the two channels are not aligned.
"""

from __future__ import annotations

import io
import secrets
import uuid
import wave
from array import array
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from anycarrier.audio import pcmu_to_pcm16
from anycarrier_telnyx.sandbox.account import Account
from anycarrier_telnyx.sandbox.rest import Ask, data, kept, listed
from anycarrier_telnyx.sandbox.validation import refuse
from anycarrier_telnyx.sandbox.webhooks import moment

if TYPE_CHECKING:
    from anycarrier_telnyx.sandbox.leg import Leg


LINK_LIVES = timedelta(minutes=10)


class Recording:
    """Runs from its making until :meth:`stop`; may be paused in between."""

    def __init__(self, leg: Leg, channels: str, recording_id: str | None = None) -> None:
        self.leg = leg
        self.channels = channels
        self.id = recording_id or str(uuid.uuid4())
        self.token = secrets.token_urlsafe(16)
        self.started_at = datetime.now(UTC)
        self.ended_at: datetime | None = None
        self.linked_at = self.started_at
        self._said = b""
        self._heard = b""
        self._from: tuple[int, int] | None = self._place()

    def _place(self) -> tuple[int, int]:
        return len(self.leg.far_end.microphone.said), len(self.leg.far_end.heard)

    def pause(self) -> None:
        """Stop listening for a while."""
        if self._from is not None:
            said, heard = self._from
            self._said += bytes(self.leg.far_end.microphone.said[said:])
            self._heard += self.leg.far_end.heard[heard:]
            self._from = None

    def resume(self) -> None:
        """Listen again."""
        if self._from is None and self.ended_at is None:
            self._from = self._place()

    def stop(self) -> None:
        """Finish; the account is told where the file is."""
        if self.ended_at is not None:
            return
        self.pause()
        self.ended_at = datetime.now(UTC)
        self.leg.account.recordings[self.id] = self
        self.leg.tell(
            "call.recording.saved",
            recording_id=self.id,
            channels=self.channels,
            recording_started_at=moment(self.started_at),
            recording_ended_at=moment(self.ended_at),
            recording_urls={"mp3": None, "wav": self.link()},
            public_recording_urls={"mp3": None, "wav": None},
        )

    def link(self) -> str:
        """A new download link, good for ten minutes."""
        self.linked_at = datetime.now(UTC)
        return f"{self.leg.sandbox.base_url}/recording-files/{self.id}.wav?token={self.token}"

    def opens(self, token: str) -> bool:
        """True while the link is good."""
        fresh = datetime.now(UTC) - self.linked_at <= LINK_LIVES
        return fresh and secrets.compare_digest(token, self.token)

    def summary(self) -> dict[str, Any]:
        """The recording as the API shows it."""
        ended_at = self.ended_at or self.started_at
        return {
            "record_type": "recording",
            "id": self.id,
            "call_control_id": self.leg.call_control_id,
            "call_leg_id": self.leg.leg_id,
            "call_session_id": self.leg.session_id,
            "connection_id": self.leg.connection_id,
            "channels": self.channels,
            "from": self.leg.from_,
            "to": self.leg.to,
            "source": "call",
            "status": "completed",
            "initiated_by": "StartCallRecordingAPI",
            "duration_millis": int((ended_at - self.started_at).total_seconds() * 1000),
            "recording_started_at": moment(self.started_at),
            "recording_ended_at": moment(ended_at),
            "created_at": moment(ended_at),
            "updated_at": moment(ended_at),
            "download_urls": {"wav": self.link()},
        }

    def wav(self) -> bytes:
        """16-bit 8 kHz; with two channels the far end is on the first."""
        said, heard = (array("h", pcmu_to_pcm16(side)) for side in (self._said, self._heard))
        samples = array("h")
        for one, other in zip_longest(said, heard, fillvalue=0):
            if self.channels == "dual":
                samples.extend((one, other))
            else:
                samples.append(max(-32768, min(32767, one + other)))
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(2 if self.channels == "dual" else 1)
            out.setsampwidth(2)
            out.setframerate(8000)
            out.writeframes(samples.tobytes())
        return file.getvalue()


def _recording(account: Account, recording_id: str) -> Recording:
    found = account.recordings.get(recording_id)
    if found is None:
        raise refuse("10005", "There is no such recording.")
    return found


async def list_recordings(ask: Ask) -> Response:
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
