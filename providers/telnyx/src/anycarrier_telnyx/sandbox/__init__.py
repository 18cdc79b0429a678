"""Telnyx's API, webhooks, and media streams for tests and demos, without an account."""

from anycarrier_telnyx.sandbox.app import API_KEY, TelnyxSandbox, operations

__all__ = ["API_KEY", "TelnyxSandbox", "operations"]
