"""SIP and RTP for anycarrier: trunks, PBXs and softphones."""

from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.provider import SipProvider
from anycarrier_sip.settings import SipSettings

__all__ = ["SipCredential", "SipProvider", "SipSettings"]


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    """SIP."""
    return [SipProvider]
