"""The door anycarrier comes in by: entry point ``twilio`` of the group ``anycarrier``."""

from __future__ import annotations

from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider
from anycarrier_twilio.provider import TwilioProvider


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    """Twilio."""
    return [TwilioProvider]
