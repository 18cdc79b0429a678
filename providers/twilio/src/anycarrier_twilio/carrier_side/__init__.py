"""Twilio's side of its wire, for what plays Twilio: the sandbox, and a front for Twilio's own applications."""
