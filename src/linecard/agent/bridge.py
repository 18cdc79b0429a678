"""Between a conversation and an agent's WebSocket, in all four modes of the protocol.

What becomes of an agent that misbehaves:

* *gone* (closes, or its connection breaks): the call is hung up at once, ``agent_hangup``; what was not heard yet is
  dropped. A ``stop`` does the same, as the protocol has it: agents wait for their goodbye themselves.
* *slow*: the caller never waits. Sound it does not read is dropped, everything else kept; after ten seconds it is gone.
* *flooding*: sound more than :data:`agent_audio.BUFFER` seconds ahead, and text beyond :data:`BACKLOG`, is dropped and
  answered with an ``error`` message, once for each flood.
* *junk*: unknown events, binary frames and broken JSON are dropped. A message of more than a megabyte ends the call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

from linecard.agent import agent_audio, protocol, relay
from linecard.agent.agent_audio import AgentAudio
from linecard.agent.conversation import Conversation
from linecard.agent.door import CallerTurn, Door
from linecard.agent.protocol import (
    AgentMessage,
    AgentTranscript,
    AudioDone,
    Clear,
    Mark,
    Media,
    SendDigits,
    Stop,
    Text,
    Transfer,
)
from linecard.agent.settings import fill
from linecard.agent.socket import AgentSocket, PushSocket
from linecard.agent.straight import Straight
from linecard.agent.text_turns import TextTurns
from linecard.calls import EndReason
from linecard.errors import LinecardError, StreamNotOpen
from linecard.listener import PushTransport
from linecard.speech import BargeIn

log = logging.getLogger("linecard")

BACKLOG = 20_000
"""Characters an agent may have waiting to be spoken: about twenty minutes."""

STOPPED = {
    EndReason.USER_HANGUP: ("carrier_hangup", "remote"),
    EndReason.MAX_DURATION: ("max_duration", "max_duration"),
    EndReason.VOICEMAIL: ("voicemail", "voicemail"),
    EndReason.AGENT_HANGUP: ("agent_hang_up", "local"),
}
"""What ``stop`` says of our end reasons; any other is named by its own word."""

OURS = frozenset({EndReason.API_STOP, EndReason.END_CALL_PHRASE, EndReason.SILENCE_TIMEOUT, EndReason.TRANSFERRED})
"""Those others that are our side's doing. What is left is a failure, and nobody hung up."""


class Bridge(Door):
    """One call's. ``call_id`` is what the agent knows the call by."""

    def __init__(self, conversation: Conversation, socket: AgentSocket, call_id: str) -> None:
        self._conversation = conversation
        self._session = conversation.session
        self._socket = socket
        self._mode = socket.mode
        self._call_id = call_id
        self._stream_id = self._session.stream_id or call_id
        self._texts = TextTurns(conversation.speaker)
        self._audio = AgentAudio(self._session, conversation.floor)
        self._caller_audio = relay.CallerAudio(self._session, socket, self._stream_id)
        self._flooding = False
        self._straight: Straight | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        conversation.door = self

    async def converse(self) -> EndReason:
        """Until the call is over, for whichever reason."""
        carrier_call_id = self._session.call.id
        await self._socket.send(
            protocol.start(self._stream_id, call_id=self._call_id, carrier_call_id=carrier_call_id)
        )
        self._conversation.note("mode", tts=self._mode.tts, stt=self._mode.stt)
        return await self._conversation.run(self._talk)

    async def _talk(self) -> None:
        speaker = self._conversation.speaker
        if greeting := fill(self._conversation.settings.first_message, self._conversation.variables)[0].strip():
            speaker.add(speaker.begin(), greeting, complete=True)
        self._straight = self._short_way()
        try:
            async for frame in self._socket:
                message = protocol.read(frame)
                if isinstance(message, Stop):
                    break
                if message is not None:
                    await self._take(message)
            self._conversation.end(EndReason.AGENT_HANGUP)
        except StreamNotOpen:
            pass  # the caller was quicker
        finally:
            if self._straight is not None:
                self._straight.stop()
            self._audio.close()
            for task in self._tasks:
                task.cancel()

    def _short_way(self) -> Straight | None:
        """The short way for the agent's sound, where both connections call back."""
        carrier, agent = self._session.transport, self._socket
        outlet = self._session.outlet
        if self._mode.tts or outlet is None or not isinstance(agent, PushSocket):
            return None
        assert isinstance(carrier, PushTransport)  # where there is an outlet
        straight = Straight(outlet, carrier, agent, self._audio, agent_audio.BUFFER)
        straight.start()
        self._session.relay_stopped = straight.stop
        return straight

    # --- from the agent ---------------------------------------------------------------------------------------------

    async def _take(self, message: AgentMessage) -> None:
        match message:
            case Media() if not self._mode.tts:
                await self._play(message)
            case Text() if self._mode.tts:
                await self._speak(message)
            case AudioDone():
                await self._session.flush()
            case Clear():
                if self._mode.tts:
                    await self._conversation.speaker.cut()
                else:
                    await self._audio.clear()
            case AgentTranscript(text, party, True):
                self._keep(text, party)
            case Mark(name):
                await self._mark(name)
            case SendDigits(digits):
                await self._act("dtmf", self._session.send_digits, digits)
            case Transfer(to):
                await self._act("transfer", self._session.transfer, to)
            case _:
                pass  # speech that is not this agent's to do

    async def _play(self, media: Media) -> None:
        if self._conversation.voicemail.machine:
            return
        if not self._audio.room(len(media.payload)):
            await self._flood("audio")
            return
        if self._flooding:
            self._flooding = False
            if self._straight is not None:
                self._straight.start()
        await relay.to_caller(self._session, media)
        self._audio.sent()

    async def _speak(self, text: Text) -> None:
        if self._conversation.speaker.backlog > BACKLOG:
            await self._flood("text")
            return
        self._flooding = False
        self._texts.text(text)

    async def _flood(self, what: str) -> None:
        if not self._flooding:
            self._flooding = True
            if self._straight is not None:
                self._straight.stop()
            self._conversation.note("agent_flooding", what=what)
            message = f"{what} is being dropped: too much of it waits to be heard"
            await self._socket.send(protocol.error(self._stream_id, "flooding", message))

    def _keep(self, text: str, party: str) -> None:
        # What we speak and what we hear we write down ourselves; the agent's copy would be a second one.
        if party == "local" and not self._mode.tts:
            self._conversation.said("local", text)
        elif party == "remote" and not self._mode.stt:
            self._conversation.said("remote", text)

    async def _mark(self, name: str) -> None:
        if self._mode.tts:
            self._spawn(self._mark_when_said(name))
        else:
            await self._session.mark(name)

    async def _mark_when_said(self, name: str) -> None:
        said = await asyncio.gather(*(asyncio.shield(turn.over) for turn in self._conversation.speaker.unheard))
        if not any(one.interrupted for one in said):
            await self.mark(name)

    async def _act(self, what: str, do: Callable[[str], Awaitable[None]], value: str) -> None:
        try:
            await do(value)
        except StreamNotOpen:
            raise
        except LinecardError as problem:
            log.warning("agent %s asked for %s: %s", self._session.agent_id, what, problem)
            await self._socket.send(protocol.error(self._stream_id, f"{what}_failed", str(problem)))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- to the agent -------------------------------------------------------------------------------------------------

    async def interim(self, turn_id: str, text: str) -> None:
        """The caller's words so far."""
        await self._socket.send(protocol.transcript(self._stream_id, text, is_final=False, turn_id=turn_id))

    async def final(self, turn: CallerTurn) -> None:
        """What the caller said."""
        self._texts.caller_spoke()
        await self._socket.send(protocol.transcript(self._stream_id, turn.text, is_final=True, turn_id=turn.turn_id))

    async def interrupted(self, barge_in: BargeIn) -> None:
        """The caller spoke over the agent; in its own voice, it is the agent who clears."""
        await self._socket.send(
            protocol.barge_in(
                self._stream_id, text=barge_in.text, tts_interrupted=self._mode.tts, turn_id=barge_in.turn_id
            )
        )

    async def digit(self, digit: str) -> None:
        """A key of the caller's."""
        await self._socket.send(protocol.dtmf(self._stream_id, digit))

    async def mark(self, name: str) -> None:
        """Playback reached a mark of the agent's."""
        await self._socket.send(protocol.mark(self._stream_id, name))

    async def audio(self, payload: bytes) -> None:
        """Sound from the caller, for an agent that listens itself."""
        if not self._mode.stt and not self._conversation.voicemail.machine:
            untouched = not self._mode.tts and not self._conversation.ears.exist
            await self._caller_audio.send(payload, more_untouched=untouched)

    async def over(self, reason: EndReason) -> None:
        """Say so, and close."""
        word, hangup_reason = STOPPED.get(reason, (str(reason), "local" if reason in OURS else None))
        await self._socket.send(protocol.stop(self._stream_id, reason=word, hangup_reason=hangup_reason))
        if self._socket.dropped_frames:
            self._conversation.note("agent_slow", dropped_frames=self._socket.dropped_frames)
        await self._socket.close()
