"""Twilio's webhooks, streams and calls API in front of any carrier."""

from anycarrier_twilio_front.calls import FrontCall
from anycarrier_twilio_front.front import TwilioFront
from anycarrier_twilio_front.relay_front import RelayFront

__all__ = ["FrontCall", "RelayFront", "TwilioFront"]
