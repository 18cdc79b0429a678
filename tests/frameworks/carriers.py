"""The carriers whose calls the adapters for frameworks are tested on.

An adapter sees a ``MediaSession``, which is the same on all. These differ in what it is made of: JSON frames with
marks, the same with tails that wait, and RTP; the tests compare mu-law byte for byte. ``./dev demo frameworks`` calls
on every carrier.
"""

CARRIERS = ("acme", "sip", "telnyx", "twilio")
