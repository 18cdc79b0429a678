"""Twilio for linecard: Programmable Voice, two-way Media Streams, phone numbers."""

from linecard_twilio.credential import TwilioCredential
from linecard_twilio.provider import TwilioProvider

__all__ = ["TwilioCredential", "TwilioProvider"]
