"""Twilio for anycarrier: Programmable Voice, two-way Media Streams, phone numbers."""

from anycarrier_twilio.credential import TwilioCredential
from anycarrier_twilio.provider import TwilioProvider

__all__ = ["TwilioCredential", "TwilioProvider"]
