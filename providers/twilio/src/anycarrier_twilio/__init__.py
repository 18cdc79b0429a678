"""Twilio for anycarrier: Programmable Voice, two-way Media Streams, phone numbers."""

from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider
from anycarrier_twilio.credential import TwilioCredential
from anycarrier_twilio.provider import TwilioProvider

__all__ = ["TwilioCredential", "TwilioProvider"]


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    """Twilio."""
    return [TwilioProvider]
