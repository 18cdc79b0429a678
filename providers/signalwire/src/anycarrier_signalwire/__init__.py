"""SignalWire for anycarrier: the Compatibility API, cXML, two-way streams with keys and wideband audio."""

from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider
from anycarrier_signalwire.credential import SignalWireCredential
from anycarrier_signalwire.provider import SignalWireProvider

__all__ = ["SignalWireCredential", "SignalWireProvider"]


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    """SignalWire."""
    return [SignalWireProvider]
