"""Telnyx for anycarrier: Call Control by REST, Ed25519 webhooks, media streaming over a WebSocket."""

from anycarrier_telnyx.credential import TelnyxCredential
from anycarrier_telnyx.provider import TelnyxProvider

__all__ = ["TelnyxCredential", "TelnyxProvider"]
