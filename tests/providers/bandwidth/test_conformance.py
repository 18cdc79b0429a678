"""Bandwidth passes the conformance kit that everybody's carrier passes."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

from anycarrier.testing.cassettes import shipped
from anycarrier.testing.conformance import ProviderConformance
from anycarrier.webhooks import WebhookRequest
from anycarrier_bandwidth import BandwidthCredential, BandwidthProvider


def problem(kind: str, description: str) -> dict[str, object]:
    return {"type": kind, "description": description, "id": None}


class TestBandwidth(ProviderConformance):
    provider = BandwidthProvider
    credential = BandwidthCredential(
        account_id="0000000",
        client_id="kit-client",
        client_secret="kit-client-secret",
        application_id="04e88489-df02-4e34-a0ee-27a91849555f",
        callback_password="kit-callback-password",
        site_id="7001",
        vcp_id="5f0a9a4c-6f0e-4b8e-9d54-0a1c6f3a7b21",
    )
    cassettes = shipped("bandwidth")
    recording_id = "c-95ac8d6e-1a31c52e-b38f-4198-93c1-51633ec68f8d:r-115da407-e3d9-4ea7-889f-5f4ad7386a80"
    error_bodies = {
        401: problem("authentication-error", "The credentials provided were invalid"),
        404: problem("validation", "Call not found"),
        429: problem("system-overloaded", "Account call creation rate limit exceeded"),
        500: problem("internal-error", "Internal server error"),
    }

    def sign(self, request: WebhookRequest) -> WebhookRequest:
        login = base64.b64encode(b"anycarrier:kit-callback-password").decode()
        return replace(request, headers={**request.headers, "authorization": f"Basic {login}"})

    def mirror(self, frame: bytes | str) -> str:
        payload = json.loads(frame)["media"]["payload"]
        return json.dumps({"track": "inbound", "payload": payload, "sequenceNumber": "1", "eventType": "media"})
