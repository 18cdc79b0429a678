"""Any carrier as the audio of a LiveKit agent session, without a LiveKit server."""
