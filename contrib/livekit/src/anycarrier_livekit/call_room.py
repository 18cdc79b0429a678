"""Just enough of a LiveKit room for what asks a job context for one, such as ``GetDtmfTask`` and ``send_dtmf_events``.

There is no LiveKit server behind it: only keys pass.
"""

from livekit import rtc

from anycarrier import MediaSession


class CallRoom(rtc.EventEmitter[str]):
    """For ``fake_job_context(room=CallRoom(session))`` around :func:`run_call`, which emits ``sip_dtmf_received`` here.

    It is its own local participant.
    """

    def __init__(self, session: MediaSession) -> None:
        super().__init__()
        self._session = session
        self.name = session.call.reference
        self.identity = session.agent_id
        self.local_participant = self

    def isconnected(self) -> bool:
        """Whether the call's audio is connected."""
        return not self._session.ended

    async def publish_dtmf(self, *, code: int, digit: str) -> None:
        """Press one key towards the far end."""
        await self._session.send_digits(digit)
