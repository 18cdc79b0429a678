"""Telnyx for linecard: Call Control by REST, Ed25519 webhooks, media streaming over a WebSocket."""

from linecard_telnyx.credential import TelnyxCredential
from linecard_telnyx.provider import TelnyxProvider

__all__ = ["TelnyxCredential", "TelnyxProvider"]
