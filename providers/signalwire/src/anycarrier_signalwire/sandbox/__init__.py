"""SignalWire's Compatibility API, webhooks, and media streams for tests and demos, without an account."""

from anycarrier_signalwire.sandbox.app import OPERATIONS, SignalWireSandbox

__all__ = ["OPERATIONS", "SignalWireSandbox"]
