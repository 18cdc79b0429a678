"""Raw audio through a bridge, for agents that do their own speech: re-encoded only where necessary.

This is the hot path. Base64 passes untouched both ways while the carrier's stream is in the agent's format; only a
recording looks inside. Where both connections call back, the agent's audio needs no task, no queue and no copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable

import msgspec
import pybase64

from anycarrier.agent import budget
from anycarrier.agent.agent_socket import AgentSocket, PushAgentSocket
from anycarrier.agent.budget import CallBudget, units
from anycarrier.agent.protocol import media_template
from anycarrier.agent.turn_taking import TurnTaking
from anycarrier.audio_output import AudioOutput
from anycarrier.errors import StreamNotOpen
from anycarrier.listener import PushTransport
from anycarrier.media_stream import MediaStream
from anycarrier.serializer import Frame
from anycarrier.session import MediaSession

GRANT = 256
"""Units taken from the budget at once, so that most frames cost only a subtraction."""


class CallerRelay:
    """Audio from the caller as ``media`` messages, timestamped from the first of them."""

    # What a frame touches, and little else: see anycarrier.fast.websocket.
    __slots__ = ("_bytes", "_can_relay", "_post", "_stream", "_template")

    def __init__(self, stream: MediaStream, socket: AgentSocket, stream_id: str) -> None:
        self._stream = stream
        self._template = media_template(stream_id)
        self._bytes = 0
        self._post = socket.post
        self._can_relay = stream.push is None or isinstance(socket, PushAgentSocket)
        """A transport that pushes cannot wait for a socket that has to be awaited."""

    async def send(self, payload: bytes, *, more_untouched: bool) -> None:
        """Send audio; with ``more_untouched`` the audio after it is relayed as it arrives from the carrier."""
        sent = self.relay(pybase64.b64encode_as_string(payload))
        if sent is not None:
            await sent
        if more_untouched and self._can_relay:
            self._stream.relay_to(self.relay)

    def relay(self, base64_audio: str) -> Awaitable[object] | None:
        """Send audio that is base64 already."""
        at = self._bytes
        self._bytes = at + decoded_size(base64_audio)
        return self._post(self._template % (at // 8, base64_audio.encode()))


def decoded_size(base64_audio: str) -> int:
    """How many bytes the base64 text decodes to."""
    return len(base64_audio.rstrip("=")) * 3 // 4


class _Text(msgspec.Struct, gc=False):
    payload: str


class _TextMedia(msgspec.Struct, gc=False, tag_field="event", tag="media"):
    media: _Text


class _Sound(msgspec.Struct, gc=False):
    payload: bytes


class _SoundMedia(msgspec.Struct, gc=False, tag_field="event", tag="media"):
    media: _Sound


# Each message is decoded twice, as base64 and as bytes: msgspec decodes base64 five times as fast as a library does.
_decode_text = msgspec.json.Decoder(_TextMedia).decode
_decode_sound = msgspec.json.Decoder(_SoundMedia).decode


class AgentRelay:
    """The agent's audio to the caller: a callback on the agent's connection writes to the carrier's.

    Audio goes at most ``most`` seconds ahead of what is heard, and within the call's budget. Only plain ``media``
    messages go this way; the bridge handles everything else, and nothing overtakes it. While the carrier does
    not take what was written, the agent's socket is not read, so that its audio is neither lost nor queued here.
    """

    __slots__ = ("_agent", "_audio", "_budget", "_carrier", "_most", "_output", "_units")

    def __init__(
        self,
        output: AudioOutput,
        carrier: PushTransport,
        agent: PushAgentSocket,
        audio: AgentAudio,
        most: float,
        budget: CallBudget,
    ) -> None:
        self._output = output
        self._carrier = carrier
        self._agent = agent
        self._audio = audio
        self._most = most
        self._budget = budget
        self._units = 0

    def start(self) -> None:
        """Relay from now on."""
        self._output.resumed = self._resumed
        self._agent.look_first(self._spoke)

    def stop(self) -> None:
        """Relay no longer."""
        self._agent.look_first(None)
        self._output.resumed = None
        self._resumed()

    def _spoke(self, message: Frame) -> bool:
        try:
            payload = _decode_sound(message).media.payload
            audio = _decode_text(message).media.payload
            if not payload or not self._within_budget(len(message)):
                return False
            if not self._output.send_now(payload, audio, self._most):
                return False
        except (msgspec.MsgspecError, ValueError, RecursionError, StreamNotOpen):
            return False  # the bridge handles it
        if self._audio.turn is None:
            self._audio.sent()
        if self._carrier.paused:
            self._agent.hold(True)
        return True

    def _within_budget(self, size: int) -> bool:
        self._units -= units(size)
        if self._units < 0:
            grant = max(GRANT, -self._units)
            if not self._budget.take("media", grant):
                self._units = 0
                return False
            self._units += grant
        return True

    def _resumed(self) -> None:
        self._agent.hold(False)


GAP = 0.1
"""Seconds of silence that end a turn; an agent that speaks in real time is often a little late with a frame."""


class AgentAudio:
    """Reports to turn-taking when the agent's own audio is heard. Audio without a gap is one turn.

    When it is interrupted, the agent itself clears its audio.
    """

    __slots__ = ("_loop", "_names", "_session", "_timer", "_turn_taking", "turn")

    def __init__(self, session: MediaSession, turn_taking: TurnTaking) -> None:
        self._session = session
        self._turn_taking = turn_taking
        self._names = (f"m{number}" for number in itertools.count(1))
        self.turn: str | None = None
        """The turn that is being heard."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def room(self) -> bool:
        """Whether more audio may be sent: what is sent is not too far ahead of what is heard."""
        return self._session.remaining < budget.BUFFER

    def sent(self) -> None:
        """Audio was sent, by the bridge or by the relay."""
        if self.turn is None:
            self.turn = next(self._names)
            now, turns = self._turn_taking.clock(), self._turn_taking.turns
            self._turn_taking.follow([*turns.speech_queued(now, self.turn), *turns.playback_started(now, self.turn)])
            self._timer = self._loop.call_later(GAP, self._look)

    async def clear(self) -> None:
        """Drop what has not been heard yet."""
        with contextlib.suppress(StreamNotOpen):
            await self._session.clear()
        self._over()

    def close(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """End the turn if it has been heard, else look again later."""
        wait = max(self._session.remaining - 0.02, 0.0, GAP - self._session.stream.output.silent_for)
        if wait > 0:
            self._timer = self._loop.call_later(min(wait + GAP / 10, 1.0), self._look)
        else:
            self._over()

    def _over(self) -> None:
        self.close()
        if self.turn is not None:
            turn, self.turn = self.turn, None
            self._turn_taking.follow(self._turn_taking.turns.playback_ended(self._turn_taking.clock(), turn))
