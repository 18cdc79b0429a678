"""LiveKit: the audio input and output of the adapter alone, beside a bare session that echoes.

LiveKit has no way to a carrier of its own that could be run beside it: its SIP bridge is a service with a server.
"""

from __future__ import annotations

from anycarrier import MediaSession
from anycarrier_livekit import CallAudioInput, CallAudioOutput
from bench.frameworks.session import echo
from bench.frameworks.subject import Row, run, session


def through(rate: int):  # type: ignore[no-untyped-def]
    async def handler(session: MediaSession) -> None:
        output = CallAudioOutput(session, rate)
        async for frame in CallAudioInput(session, rate):
            await output.capture_frame(frame)

    return handler


SUBJECTS = {
    "session": session(echo),
    "input and output, 8 kHz": session(through(8000)),
    "input and output, 24 kHz": session(through(24000)),
}
ROWS = [
    Row("LiveKit echo, 8 kHz", "input and output, 8 kHz", beside="session", most=60, difference=True),
    Row("LiveKit echo, 24 kHz", "input and output, 24 kHz", beside="session"),
    Row("LiveKit echo, no marks come back", "input and output, 8 kHz", marks=False),
]

if __name__ == "__main__":
    run(ROWS, SUBJECTS)
