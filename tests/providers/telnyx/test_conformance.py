"""Telnyx passes the conformance kit that everybody's carrier passes."""

from __future__ import annotations

import base64
import time
from dataclasses import replace

from nacl.signing import SigningKey

from anycarrier.testing.cassettes import shipped
from anycarrier.testing.conformance import ProviderConformance
from anycarrier.webhooks import WebhookRequest
from anycarrier_telnyx import TelnyxCredential, TelnyxProvider

KEY = SigningKey(b"the conformance kit's own key...")


def problem(code: str, title: str) -> dict[str, object]:
    return {"errors": [{"code": code, "title": title, "detail": title}]}


class TestTelnyx(ProviderConformance):
    provider = TelnyxProvider
    credential = TelnyxCredential(
        api_key="kit-api-key",
        public_key=base64.b64encode(bytes(KEY.verify_key)).decode(),
        connection_id="1684641123236054244",
    )
    cassettes = shipped("telnyx")
    error_bodies = {
        401: problem("10009", "Authentication failed"),
        404: problem("10005", "Resource not found"),
        429: problem("10011", "Too many requests"),
        500: problem("10007", "Unexpected error"),
    }

    def sign(self, request: WebhookRequest) -> WebhookRequest:
        stamp = str(int(time.time()))
        signature = base64.b64encode(KEY.sign(f"{stamp}|".encode() + request.body).signature).decode()
        headers = {"telnyx-signature-ed25519": signature, "telnyx-timestamp": stamp}
        return replace(request, headers={**request.headers, **headers})
