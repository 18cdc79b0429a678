"""Plivo passes the conformance kit that everybody's carrier passes."""

from __future__ import annotations

import json
from dataclasses import replace

from anycarrier.testing.cassettes import shipped
from anycarrier.testing.conformance import ProviderConformance
from anycarrier.webhooks import WebhookRequest
from anycarrier_plivo import PlivoCredential, PlivoProvider
from anycarrier_plivo.credential import NONCE, sign

TOKEN = "dGhlIGNvbmZvcm1hbmNlIGtpdCdzIG93biB0b2tl"


class TestPlivo(ProviderConformance):
    provider = PlivoProvider
    credential = PlivoCredential(auth_id="MA0123456789ABCDEFGH", auth_token=TOKEN)
    cassettes = shipped("plivo")

    def mirror(self, frame: bytes | str) -> str:
        """Plivo has other names for what it sends."""
        message = json.loads(frame)
        match message["event"]:
            case "playAudio":
                media = {"track": "inbound", "payload": message["media"]["payload"]}
                return json.dumps({"event": "media", "media": media})
            case "checkpoint":
                return json.dumps({**message, "event": "playedStream"})
        return str(frame)

    def sign(self, request: WebhookRequest) -> WebhookRequest:
        nonce = "31627761595286130198"
        signature = sign(TOKEN, nonce, request.url, request.form_items())
        return replace(request, headers={**request.headers, "x-plivo-signature-v3": signature, NONCE: nonce})
