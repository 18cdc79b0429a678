"""Text to speech on this machine: the hibari voice."""
