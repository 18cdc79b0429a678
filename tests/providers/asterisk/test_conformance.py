"""Asterisk passes the conformance kit that every carrier passes: its media on frames, its calls on its sandbox."""

from __future__ import annotations

import json

from anycarrier.testing.cassettes import shipped
from anycarrier.testing.conformance import ProviderConformance
from anycarrier_asterisk import AsteriskCredential, AsteriskProvider


class TestAsterisk(ProviderConformance):
    provider = AsteriskProvider
    credential = AsteriskCredential(
        base_url="http://127.0.0.1:9", username="kit", password="kit-password", endpoint="PJSIP/{number}@trunk"
    )
    cassettes = shipped("asterisk")

    def mirror(self, frame: bytes | str) -> bytes | str:
        """Audio comes back as it is; a mark, as the event that it was reached."""
        if isinstance(frame, bytes):
            return frame
        told = json.loads(frame)
        if told["command"] == "MARK_MEDIA":
            return json.dumps({"event": "MEDIA_MARK_PROCESSED", "correlation_id": told["correlation_id"]})
        return frame
