"""Twilio's webhooks, streams and calls API in front of any carrier."""
