"""Raw audio through a bridge: the caller's to the agent, the agent's to the caller, re-encoded only where it must be.

This is the hot path of agents that bring their own speech. Base64 passes untouched when the carrier's stream is in the
agent's format; a recording, when there is one, is the only thing that looks inside.
"""

from __future__ import annotations

import pybase64

from anycarrier.agent.agent_socket import AgentSocket, PushAgentSocket
from anycarrier.agent.protocol import Media, MediaHead
from anycarrier.listener import PushTransport
from anycarrier.serializer import Frame
from anycarrier.session import MAX_FRAME, MediaSession


class CallerAudio:
    """Sound from the caller as ``media`` messages, timestamped from the first of them."""

    # Those that a frame touches, and few: see anycarrier.fast.websocket.
    __slots__ = ("_bytes", "_head", "_post", "_serializer", "_session", "_socket", "_template")

    def __init__(self, session: MediaSession, socket: AgentSocket, stream_id: str) -> None:
        self._session = session
        self._serializer = session.serializer
        self._socket = socket
        self._head = MediaHead(stream_id)
        self._template = self._head.template
        self._bytes = 0
        at_once = isinstance(session.transport, PushTransport)
        self._post = socket.post if at_once and isinstance(socket, PushAgentSocket) else None

    async def send(self, payload: bytes, *, more_untouched: bool) -> None:
        """One frame of sound; with ``more_untouched`` those that follow are taken from the wire as they are."""
        await self._pass_on(pybase64.b64encode(payload), len(payload))
        # Only once nothing waits: what is on the wire now must not overtake what is still in the queue.
        if more_untouched and self._session.relays and not self._session.waiting:
            if self._post is None:
                self._session.relay = self.untouched
            else:
                self._session.relay_pushed(self.untouched_now, self.frame)

    def frame(self, frame: Frame) -> bool:
        """A frame of the carrier's, just arrived: passed on if it is plain sound."""
        audio = self._serializer.relay(frame) if len(frame) <= MAX_FRAME else None
        if audio is None:
            return False
        self.untouched_now(audio)
        return True

    async def untouched(self, base64_audio: str) -> None:
        """One frame of sound as the carrier encoded it."""
        if self._session.tap is not None:
            self._session.tap.caller(pybase64.b64decode(base64_audio))
        await self._pass_on(base64_audio.encode(), decoded_size(base64_audio))

    def untouched_now(self, base64_audio: str) -> None:
        """The same by callbacks; the session tells the recorder itself."""
        assert self._post is not None
        at = self._bytes
        self._bytes = at + decoded_size(base64_audio)
        self._post(self._template % (at // 8, base64_audio.encode()))

    async def _pass_on(self, base64_audio: bytes, size: int) -> None:
        frame = self._head.frame(base64_audio, self._bytes // 8)
        self._bytes += size
        sent = self._socket.post(frame)
        if sent is not None:
            await sent


async def to_caller(session: MediaSession, media: Media) -> None:
    """Sound from the agent, in the carrier's frame around the agent's own base64 where the carrier takes that."""
    starts_in = session.remaining
    if not await session.send_relayed(media.encoded, len(media.payload)):
        await session.send_audio(media.payload)
    elif session.tap is not None:
        session.tap.agent(media.payload, starts_in)


def decoded_size(base64_audio: str) -> int:
    """Bytes that base64 text stands for."""
    return len(base64_audio.rstrip("=")) * 3 // 4
