"""Twilio's API, webhooks, and media streams for tests and demos, without an account."""

from anycarrier_twilio.sandbox.app import OPERATIONS, TwilioSandbox

__all__ = ["OPERATIONS", "TwilioSandbox"]
