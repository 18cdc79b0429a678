"""What is said in tests: no byte is the silence that carriers put in, and who says it can be told by its bytes."""

SPEECH = bytes(0x40 + n % 16 for n in range(24000))
"""Three seconds for the model to say."""

ANSWER = bytes(0x60 + n % 16 for n in range(8000))
"""One second more."""

LOUD = b"\x10\x90" * 2400
"""0.6 seconds of the caller's voice."""

QUIET = b"\x7e" * 4000
"""Half a second in which the caller says nothing."""
