"""The agent's sound straight to the caller: a callback on the agent's connection writes to the carrier's.

No task, no queue and no copy of the sound. Only plain ``media`` messages go this way; everything else, and sound that
may not be played, takes the bridge's ordinary one, and nothing overtakes it. While the carrier does not take what was
written, the agent is left unread: what an agent says is not lost, and it is not piled up either.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pybase64

from linecard.agent.protocol import Media
from linecard.agent.socket import PushSocket
from linecard.errors import StreamNotOpen
from linecard.listener import PushTransport
from linecard.session import MediaSession


class _Audio(msgspec.Struct, gc=False):
    payload: str


class _PlainMedia(msgspec.Struct, gc=False, tag_field="event", tag="media"):
    media: _Audio


_decode = msgspec.json.Decoder(_PlainMedia).decode


def plain_media(message: bytes) -> Media | None:
    """What is in nearly every message of an agent that speaks itself; None for all others."""
    try:
        encoded = _decode(message).media.payload
        payload = pybase64.b64decode(encoded, validate=True)
    except (msgspec.MsgspecError, ValueError):
        return None
    return Media(payload, encoded) if payload else None


class Straight:
    """``may`` is asked for each message whether it can be played now, ``sent`` told when it was."""

    def __init__(
        self,
        session: MediaSession,
        carrier: PushTransport,
        agent: PushSocket,
        may: Callable[[Media], bool],
        sent: Callable[[], None],
    ) -> None:
        self._session = session
        self._carrier = carrier
        self._agent = agent
        self._may = may
        self._sent = sent

    def start(self) -> None:
        """From now on."""
        self._carrier.resumed = self._resumed
        self._agent.look_first(self._spoke)

    def stop(self) -> None:
        """No longer."""
        self._agent.look_first(None)
        self._carrier.resumed = None
        self._resumed()

    def _spoke(self, message: bytes) -> bool:
        media = plain_media(message)
        if media is None or not self._may(media):
            return False
        try:
            self._session.send_now(media.payload, media.encoded)
        except StreamNotOpen:
            return False  # the ordinary way knows what to do about it
        self._sent()
        if self._carrier.paused:
            self._agent.hold(True)
        return True

    def _resumed(self) -> None:
        self._agent.hold(False)
