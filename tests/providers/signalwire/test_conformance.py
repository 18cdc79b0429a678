"""SignalWire passes the conformance kit that everybody's carrier passes."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace

from anycarrier.testing.cassettes import shipped
from anycarrier.testing.conformance import ProviderConformance
from anycarrier.webhooks import WebhookRequest
from anycarrier_signalwire import SignalWireCredential, SignalWireProvider


def error(status: int, code: int, message: str) -> dict[str, object]:
    return {"code": code, "message": message, "more_info": "", "status": status}


class TestSignalWire(ProviderConformance):
    provider = SignalWireProvider
    credential = SignalWireCredential(
        space="example.signalwire.com",
        project_id="00000000-0000-0000-0000-000000000000",
        api_token="kit-api-token",
        signing_key="kit-signing-key",
    )
    cassettes = shipped("signalwire")
    error_bodies = {
        401: error(401, 20003, "Authentication failed"),
        404: error(404, 20404, "The requested resource was not found"),
        429: error(429, 20429, "Too many requests"),
        500: error(500, 20001, "Internal server error"),
    }

    def sign(self, request: WebhookRequest) -> WebhookRequest:
        if "json" in (request.header("content-type") or ""):
            signature = hmac.new(b"kit-signing-key", request.url.encode() + request.body, hashlib.sha1).hexdigest()
        else:
            pairs = sorted(request.form_items(), key=lambda pair: pair[0])
            text = request.url + "".join(key + value for key, value in pairs)
            signature = base64.b64encode(hmac.new(b"kit-signing-key", text.encode(), hashlib.sha1).digest()).decode()
        return replace(request, headers={**request.headers, "x-signalwire-signature": signature})
