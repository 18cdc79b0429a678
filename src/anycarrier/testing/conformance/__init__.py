"""ProviderConformance: the tests that every provider must pass, ours included.

    class TestAcme(ProviderConformance):
        provider = AcmeProvider
        credential = AcmeCredential(api_key="test")
        cassettes = HERE / "cassettes"

        def sign(self, request): ...

Checks are skipped by capability only, never by name. Speech engines have :class:`EngineConformance`.
"""

from __future__ import annotations

from anycarrier.testing.conformance.capabilities import CapabilityChecks
from anycarrier.testing.conformance.contract import CassetteChecks, ContractChecks
from anycarrier.testing.conformance.engines import EngineConformance
from anycarrier.testing.conformance.listeners import ListenerChecks
from anycarrier.testing.conformance.live_calls import LiveCallChecks
from anycarrier.testing.conformance.rest import RequestOptionChecks, RestChecks
from anycarrier.testing.conformance.streams import StreamChecks
from anycarrier.testing.conformance.webhooks import WebhookChecks


class ProviderConformance(
    ContractChecks,
    WebhookChecks,
    StreamChecks,
    RestChecks,
    RequestOptionChecks,
    CapabilityChecks,
    ListenerChecks,
    LiveCallChecks,
    CassetteChecks,
):
    """Name a provider, a credential and a cassette folder, write ``sign``: pytest does the rest."""


__all__ = ["EngineConformance", "ProviderConformance"]
