"""Recordings: both sides as WAV, told by webhook and kept by id."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from anycarrier.testing.far_end import CallRecorder

if TYPE_CHECKING:
    from anycarrier_plivo.sandbox.leg import Leg


class Recording:
    def __init__(self, leg: Leg, *, url: str, method: str, limit: float, channels: int = 2) -> None:
        self.leg = leg
        self.id = str(uuid.uuid4())
        self.callback, self.method, self.channels = url, method, channels
        self.recorder = CallRecorder(leg.far_end)
        self.running = True
        self.url = f"{leg.sandbox.base_url}/recordings/{self.id}.wav"
        leg.recordings.append(self)
        leg.sandbox.recordings[self.id] = self
        leg.sandbox.after(limit, self.stop)

    def stop(self) -> None:
        if not self.running:
            return
        self.running = False
        self.recorder.stop()
        if self.callback:
            milliseconds = round(self.recorder.seconds * 1000)
            fields = {
                "CallUUID": self.leg.id,
                "RecordUrl": self.url,
                "RecordingID": self.id,
                "RecordingDuration": str(round(milliseconds / 1000)),
                "RecordingDurationMs": str(milliseconds),
                "RecordingStartMs": self.leg.sandbox.now(1000 - milliseconds),
                "RecordingEndMs": self.leg.sandbox.now(1000),
            }
            self.leg.tell("recording", self.callback, self.method, fields)

    def told(self) -> dict[str, object]:
        """The recording in Plivo's JSON: the duration is text, with five places."""
        return {
            "add_time": f"{self.leg.sandbox.time():%Y-%m-%d %H:%M:%S}+00:00",
            "call_uuid": self.leg.id,
            "conference_name": None,
            "recording_id": self.id,
            "recording_url": self.url,
            "recording_format": "wav",
            "recording_type": "call",
            "recording_duration_ms": f"{self.recorder.seconds * 1000:.5f}",
        }
