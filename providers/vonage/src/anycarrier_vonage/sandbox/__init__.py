"""Vonage without an account: its REST APIs, signed webhooks and media sockets, simulated for tests and demos."""

from anycarrier_vonage.sandbox.app import VonageSandbox

__all__ = ["VonageSandbox"]
