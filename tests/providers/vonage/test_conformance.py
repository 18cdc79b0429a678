"""Vonage passes anycarrier's conformance kit."""

from __future__ import annotations

import json
from dataclasses import replace

from anycarrier.credentials import Credential
from anycarrier.testing.cassettes import shipped
from anycarrier.testing.conformance import ProviderConformance
from anycarrier.webhooks import WebhookRequest
from anycarrier_vonage import VonageCredential, VonageProvider
from anycarrier_vonage.sandbox.accounts import Account, hashed_part, pem_of, private_key, webhook_token

APPLICATION = "00000000-0000-0000-0000-000000000000"  # as cassettes are scrubbed
CREDENTIAL = VonageCredential(
    api_key="a1b2c3d4",
    api_secret="test-secret",
    application_id=APPLICATION,
    private_key=pem_of(private_key()),
    signature_secret="test-signature-secret",
)
ACCOUNT = Account("a1b2c3d4", signature_secret="test-signature-secret")


class TestVonage(ProviderConformance):
    provider = VonageProvider
    credential = CREDENTIAL
    cassettes = shipped("vonage")

    def sign(self, request: WebhookRequest) -> WebhookRequest:
        token = webhook_token(ACCOUNT, APPLICATION, hashed_part(request.method, request.url, request.body))
        return replace(request, headers={**request.headers, "authorization": token})

    def with_secret(self, value: str) -> Credential:
        """All secrets but the private key, which can be no other text."""
        return super().with_secret(value).model_copy(update={"private_key": self.credential.private_key})

    def mirror(self, frame: bytes | str) -> bytes | str:
        """A notify comes back as the event of that name; a clear is confirmed."""
        if isinstance(frame, bytes):
            return frame
        said = json.loads(frame)
        event = {"notify": "websocket:notify", "clear": "websocket:cleared"}[said.pop("action")]
        return json.dumps({"event": event, **said})
