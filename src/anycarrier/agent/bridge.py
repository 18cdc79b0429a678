"""Connects a conversation with an agent's WebSocket, in all four modes of the protocol.

How a misbehaving agent is handled:

* *gone* (it closes, or its connection breaks): the call is hung up at once with ``agent_hangup``, and what was not
  heard yet is dropped. A ``stop`` does the same; the protocol expects an agent to wait for its own goodbye.
* *slow*: the caller never waits. Audio that the agent does not read is dropped, everything else is kept. After ten
  seconds the agent counts as gone.
* *flooding*: messages over :mod:`budget <anycarrier.agent.budget>` are dropped and answered with an ``error`` message,
  once for each flood. If the agent continues, its socket is closed (1008) and the call ends with ``agent_error``.
* *invalid*: unknown events, binary frames and broken JSON are dropped. A message of over a megabyte ends the call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

from anycarrier.agent import budget, protocol
from anycarrier.agent.agent_socket import AgentSocket, PushAgentSocket
from anycarrier.agent.agent_turn import AgentTurn
from anycarrier.agent.budget import BACKLOG, TURNS, CallBudget
from anycarrier.agent.conversation import AgentChannel, CallerTurn, Conversation
from anycarrier.agent.protocol import (
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
from anycarrier.agent.raw_audio import AgentAudio, AgentRelay, CallerRelay
from anycarrier.agent.settings import fill
from anycarrier.agent.speaker import Speaker
from anycarrier.audio_output import MARK_EVERY, RELAYED_MARK_EVERY
from anycarrier.calls import EndReason
from anycarrier.errors import AnycarrierError, StreamNotOpen
from anycarrier.speech import BargeIn

log = logging.getLogger("anycarrier")

KINDS: dict[type, str] = {
    Media: "media",
    Text: "text",
    AudioDone: "audio_done",
    Clear: "clear",
    AgentTranscript: "transcript",
    Mark: "mark",
    SendDigits: "dtmf",
    Transfer: "transfer",
}
"""The budget that a message counts against."""

STOPPED = {
    EndReason.USER_HANGUP: ("carrier_hangup", "remote"),
    EndReason.MAX_DURATION: ("max_duration", "max_duration"),
    EndReason.VOICEMAIL: ("voicemail", "voicemail"),
    EndReason.AGENT_HANGUP: ("agent_hang_up", "local"),
}
"""``reason`` and ``hangup_reason`` in ``stop`` for these end reasons; any other reason is sent by its own name."""

OURS = frozenset({EndReason.API_STOP, EndReason.END_CALL_PHRASE, EndReason.SILENCE_TIMEOUT, EndReason.TRANSFERRED})
"""Other reasons for which our side hung up. The remaining ones are failures, where nobody hung up."""


class Bridge(AgentChannel):
    """The bridge of one call. ``call_id`` identifies the call to the agent."""

    def __init__(
        self,
        conversation: Conversation,
        socket: AgentSocket,
        call_id: str,
        *,
        call_budget: CallBudget | None = None,
    ) -> None:
        self._conversation = conversation
        self._session = conversation.session
        self._socket = socket
        self._mode = socket.mode
        self._call_id = call_id
        self._stream_id = self._session.stream_id or call_id
        self._texts = TextTurns(conversation.speaker)
        self._audio = AgentAudio(self._session, conversation.turn_taking)
        self._caller_relay = CallerRelay(self._session.stream, socket, self._stream_id)
        self._budget = call_budget or CallBudget()
        self._told: dict[str, float] = {}
        self._diverted = False
        self._close_code = 1000
        self._marks: dict[AgentTurn, list[tuple[str, int]]] = {}
        self._agent_relay: AgentRelay | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        conversation.channel = self

    async def converse(self) -> EndReason:
        """Run until the call is over; returns why it ended."""
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
        self._agent_relay = self._relay_agent()
        try:
            async for frame in self._socket:
                message = protocol.read(frame)
                if isinstance(message, Stop):
                    break
                count = budget.units(len(frame))
                if self._within(message, count):
                    if message is not None:
                        await self._take(message, count)
                elif not await self._refuse(KINDS.get(type(message), "other"), count):
                    return
                await self._budget.pace(count)
            self._conversation.end(EndReason.AGENT_HANGUP)
        except StreamNotOpen:
            pass  # the caller hung up first
        finally:
            if self._agent_relay is not None:
                self._agent_relay.stop()
            self._audio.close()
            for task in self._tasks:
                task.cancel()

    def _relay_agent(self) -> AgentRelay | None:
        """Relay the agent's audio, where both connections call back."""
        stream, agent = self._session.stream, self._socket
        if self._mode.tts or stream.push is None or not isinstance(agent, PushAgentSocket):
            return None
        relay = AgentRelay(stream.output, stream.push, agent, self._audio, budget.BUFFER, self._budget)
        relay.start()
        stream.relay_stopped = relay.stop
        return relay

    # --- from the agent ----------------------------------------------------------------------------------------------

    def _within(self, message: AgentMessage | None, count: int) -> bool:
        """Whether the message is within the budget for its kind, and for what it adds to the transcript."""
        match message:
            case SendDigits(digits):
                return self._budget.take("dtmf", max(count, len(digits)))
            case AgentTranscript(text, _, True):
                return (
                    self._budget.take("transcript", count)
                    and self._budget.take("characters", len(text), budget.CHARACTERS)
                    and self._budget.take("rows", 1, budget.ROWS)
                )
            case _:
                return self._budget.take(KINDS.get(type(message), "other"), count)

    async def _take(self, message: AgentMessage, count: int) -> None:
        match message:
            case Media() if not self._mode.tts:
                await self._play(message, count)
            case Text() if self._mode.tts:
                await self._speak(message, count)
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
                pass  # not used in the agent's mode

    async def _play(self, media: Media, count: int) -> None:
        if self._conversation.voicemail.machine:
            return
        if not self._audio.room:
            await self._refuse("audio", count)
            return
        if self._diverted and self._agent_relay is not None:
            self._diverted = False
            self._agent_relay.start()
        mark_every = MARK_EVERY if media.encoded is None else RELAYED_MARK_EVERY
        await self._session.stream.output.send(media.payload, media.encoded, mark_every)
        self._audio.sent()

    async def _speak(self, text: Text, count: int) -> None:
        speaker = self._conversation.speaker
        if text.delta and (speaker.backlog + len(text.delta) > BACKLOG or speaker.turns >= TURNS):
            await self._refuse("text", count)
            return
        self._texts.text(text)

    async def _refuse(self, what: str, count: int) -> bool:
        """Drop a message and tell the agent why; False once the agent has to be disconnected."""
        if what in ("audio", "media") and self._agent_relay is not None and not self._diverted:
            self._diverted = True
            self._agent_relay.stop()
        now = self._conversation.turn_taking.clock()
        if now - self._told.get(what, -budget.TELL_EVERY) >= budget.TELL_EVERY:
            self._told[what] = now
            self._conversation.note("agent_flooding", what=what)
            message = f"{what} is being dropped: more of it comes than this call may send; see the agent's budget"
            if what in ("audio", "text"):
                message = f"{what} is being dropped: too much of it waits to be heard"
            await self._socket.send(protocol.error(self._stream_id, "flooding", message))
        if self._budget.take("dropped", count, budget.DROPPED):
            return True
        log.warning("agent %s keeps flooding its call; disconnecting it", self._session.agent_id)
        self._conversation.note("agent_flooding", what=what, given_up=True)
        self._close_code = 1008
        self._conversation.end(EndReason.AGENT_ERROR)
        return False

    def _keep(self, text: str, party: str) -> None:
        # We transcribe what we speak and recognize; the agent's copy of that would be a duplicate.
        if party == "local" and not self._mode.tts:
            self._conversation.said("local", text)
        elif party == "remote" and not self._mode.stt:
            self._conversation.said("remote", text)

    async def _mark(self, name: str) -> None:
        if not self._mode.tts:
            await self._session.mark(name)
            return
        speaker = self._conversation.speaker
        if (last := speaker.last) is None:
            await self.mark(name)
            return
        if last not in self._marks:
            self._marks[last] = []
            last.over.add_done_callback(lambda _: self._spawn(self._marks_reached(last)))
        self._marks[last].append((name, speaker.interrupted))

    async def _marks_reached(self, last: AgentTurn) -> None:
        """Report the marks after this turn, unless it or an earlier turn was cut since they were set."""
        for name, interrupted in self._marks.pop(last):
            if self._conversation.speaker.interrupted == interrupted:
                await self.mark(name)

    async def _act(self, what: str, do: Callable[[str], Awaitable[None]], value: str) -> None:
        try:
            await do(value)
        except StreamNotOpen:
            raise
        except AnycarrierError as problem:
            log.warning("agent %s asked for %s: %s", self._session.agent_id, what, problem)
            await self._socket.send(protocol.error(self._stream_id, f"{what}_failed", str(problem)))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- to the agent ------------------------------------------------------------------------------------------------

    async def interim(self, turn_id: str, text: str) -> None:
        """The caller's words so far."""
        await self._socket.send(protocol.transcript(self._stream_id, text, is_final=False, turn_id=turn_id))

    async def final(self, turn: CallerTurn) -> None:
        """What the caller said."""
        self._texts.caller_spoke()
        await self._socket.send(protocol.transcript(self._stream_id, turn.text, is_final=True, turn_id=turn.turn_id))

    async def interrupted(self, barge_in: BargeIn) -> None:
        """The caller interrupted the agent. An agent that sends its own audio clears it itself."""
        await self._socket.send(
            protocol.barge_in(
                self._stream_id, text=barge_in.text, tts_interrupted=self._mode.tts, turn_id=barge_in.turn_id
            )
        )

    async def digit(self, digit: str) -> None:
        """The caller pressed a key."""
        await self._socket.send(protocol.dtmf(self._stream_id, digit))

    async def mark(self, name: str) -> None:
        """Playback reached a mark that the agent set."""
        await self._socket.send(protocol.mark(self._stream_id, name))

    async def audio(self, payload: bytes) -> None:
        """Audio from the caller, for an agent that does its own recognition."""
        if not self._mode.stt and not self._conversation.voicemail.machine:
            untouched = not self._mode.tts and not self._conversation.recognition.exist
            await self._caller_relay.send(payload, more_untouched=untouched)

    async def over(self, reason: EndReason) -> None:
        """Send ``stop`` and close the socket."""
        word, hangup_reason = STOPPED.get(reason, (str(reason), "local" if reason in OURS else None))
        await self._socket.send(protocol.stop(self._stream_id, reason=word, hangup_reason=hangup_reason))
        if self._socket.dropped_frames:
            self._conversation.note("agent_slow", dropped_frames=self._socket.dropped_frames)
        await self._socket.close(self._close_code)


OPEN = 64
"""Turns an agent may leave without ``done``; the oldest are forgotten."""


class TextTurns:
    """Assigns the agent's streamed text to turns, with or without turn ids.

    A turn ends at its ``done``; later words with the same id start a new turn. Late words of a turn that was cut are
    dropped: by its id until its ``done``; without an id until its ``done``, or until the caller has spoken, since the
    next words answer that.
    """

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._open: dict[str | None, AgentTurn] = {}

    def text(self, message: Text) -> AgentTurn | None:
        """Add the agent's words; returns their turn, or None if they are dropped."""
        turn = self._open.get(message.turn_id)
        if turn is not None and turn.complete and not turn.dropped:
            turn = None  # completed by the time-out; what comes now is spoken after it
        if turn is None:
            if not message.delta:
                return None
            turn = self._open[message.turn_id] = self._speaker.begin()
            if len(self._open) > OPEN:
                del self._open[next(iter(self._open))]
        if message.done:
            self._open.pop(message.turn_id, None)
        if turn.dropped:
            return None
        self._speaker.add(turn, message.delta, complete=message.done)
        return turn

    def caller_spoke(self) -> None:
        """The caller spoke: words without an id are now an answer, not the rest of a turn that was cut."""
        if (turn := self._open.get(None)) is not None and turn.dropped:
            del self._open[None]
