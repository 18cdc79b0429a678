"""Acme passes anycarrier's conformance kit: this is the whole of a carrier author's test file."""

import hmac
from dataclasses import replace
from pathlib import Path

from anycarrier_acme import AcmeCredential, AcmeProvider

from anycarrier.testing.conformance import ProviderConformance
from anycarrier.webhooks import WebhookRequest

HERE = Path(__file__).parent


class TestAcme(ProviderConformance):
    provider = AcmeProvider
    credential = AcmeCredential(api_key="test")
    cassettes = HERE / "cassettes"

    def sign(self, request: WebhookRequest) -> WebhookRequest:
        signature = hmac.digest(b"test", request.body, "sha256").hex()
        return replace(request, headers={**request.headers, "x-acme-signature": signature})
