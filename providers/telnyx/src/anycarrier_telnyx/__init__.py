"""Telnyx for anycarrier: Call Control by REST, Ed25519 webhooks, media streaming over a WebSocket."""

from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider
from anycarrier_telnyx.credential import TelnyxCredential
from anycarrier_telnyx.provider import TelnyxProvider

__all__ = ["TelnyxCredential", "TelnyxProvider"]


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    """Telnyx."""
    return [TelnyxProvider]
