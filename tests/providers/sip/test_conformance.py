"""SIP passes the conformance kit that everybody's carrier passes: its media on frames, its calls on its sandbox."""

from __future__ import annotations

from pathlib import Path

from anycarrier.testing.conformance import ProviderConformance
from anycarrier_sip import SipCredential, SipProvider, SipSettings


class TestSip(ProviderConformance):
    provider = SipProvider
    credential = SipCredential(preset="pbx", host="127.0.0.1", username="201", password="kit-password")
    cassettes = Path(__file__).parent / "frames"
    any_letters = frozenset({"password"})

    def settings_at(self, port: int) -> SipSettings:
        return SipSettings(listen=(f"udp:127.0.0.1:{port}",))
