"""The agent's sound straight to the caller: a callback on the agent's connection writes to the carrier's.

No task, no queue and no copy of the sound. Only plain ``media`` messages go this way; everything else, and sound that
may not be played, takes the bridge's ordinary one, and nothing overtakes it. While the carrier does not take what was
written, the agent is left unread: what an agent says is not lost, and it is not piled up either.
"""

from __future__ import annotations

import msgspec

from anycarrier.agent.agent_audio import AgentAudio
from anycarrier.agent.agent_socket import PushAgentSocket
from anycarrier.agent.budget import CallBudget, units
from anycarrier.errors import StreamNotOpen
from anycarrier.listener import PushTransport
from anycarrier.outlet import Outlet
from anycarrier.serializer import Frame


class _Text(msgspec.Struct, gc=False):
    payload: str


class _TextMedia(msgspec.Struct, gc=False, tag_field="event", tag="media"):
    media: _Text


class _Sound(msgspec.Struct, gc=False):
    payload: bytes


class _SoundMedia(msgspec.Struct, gc=False, tag_field="event", tag="media"):
    media: _Sound


# Read twice, once for the base64 and once for what it stands for: msgspec undoes it in a fifth of a library's time.
_decode_text = msgspec.json.Decoder(_TextMedia).decode
_decode_sound = msgspec.json.Decoder(_SoundMedia).decode


GRANT = 256
"""What is taken from the budget at once: a frame costs a subtraction."""


class Straight:
    """Sound goes at most ``most`` seconds ahead of what is heard, and within the call's budget; beyond, the bridge has
    to deal with it."""

    __slots__ = ("_agent", "_audio", "_budget", "_carrier", "_most", "_outlet", "_units")

    def __init__(
        self,
        outlet: Outlet,
        carrier: PushTransport,
        agent: PushAgentSocket,
        audio: AgentAudio,
        most: float,
        budget: CallBudget,
    ) -> None:
        self._outlet = outlet
        self._carrier = carrier
        self._agent = agent
        self._audio = audio
        self._most = most
        self._budget = budget
        self._units = 0

    def start(self) -> None:
        """From now on."""
        self._carrier.resumed = self._resumed
        self._agent.look_first(self._spoke)

    def stop(self) -> None:
        """No longer."""
        self._agent.look_first(None)
        self._carrier.resumed = None
        self._resumed()

    def _spoke(self, message: Frame) -> bool:
        try:
            payload = _decode_sound(message).media.payload
            audio = _decode_text(message).media.payload
            if not payload or not self._within_budget(len(message)):
                return False
            if not self._outlet.send(payload, audio, self._most):
                return False
        except (msgspec.MsgspecError, ValueError, RecursionError, StreamNotOpen):
            return False  # the ordinary way knows what to do about it
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
