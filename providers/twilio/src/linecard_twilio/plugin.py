"""The door linecard comes in by: entry point ``twilio`` of the group ``linecard``."""

from __future__ import annotations

from linecard.hookspecs import hookimpl
from linecard.provider import Provider
from linecard_twilio.provider import TwilioProvider


@hookimpl
def linecard_providers() -> list[type[Provider]]:
    """Twilio."""
    return [TwilioProvider]
