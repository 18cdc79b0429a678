"""ConversationRelay: a bot sends and gets text over a WebSocket, and we speak and listen for it.

:class:`Relay` is one session over a :class:`~anycarrier.agent.conversation.Conversation`, whoever runs that.
https://www.twilio.com/docs/voice/conversationrelay/websocket-messages names the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from anycarrier.agent import first_done
from anycarrier.agent.agent_turn import AgentTurn
from anycarrier.agent.budget import BACKLOG, TURNS
from anycarrier.agent.conversation import AgentChannel, CallerTurn, Conversation
from anycarrier.errors import AnycarrierError, ConfigurationError, StreamNotOpen
from anycarrier.speech import BargeIn
from anycarrier_twilio_front.callbacks import BotError
from anycarrier_twilio_front.relay_messages import (
    ANY,
    End,
    Language,
    Play,
    RelaySettings,
    SendDigits,
    Text,
    flag,
    inputs,
    read,
)

MOST_NONSENSE = 100
"""Messages of a session that cannot be read; the bot is then disconnected."""

STALLED = 10.0
"""Seconds a bot may not read before it counts as gone."""

LONGEST_PLAY = 600
"""Seconds that a repeated ``play`` lasts at most."""

LOADING = 20
"""Files that a session may be fetching at once: each may have 16 MB."""

LOST, INVALID = 64105, 64107
"""https://www.twilio.com/docs/api/errors/64105: the socket ended. 64107: a message is not valid."""


@dataclass(frozen=True, slots=True)
class RelayEnd:
    """How a session ended: ``ended`` by the bot, ``completed`` by the caller's hang-up, or ``failed``."""

    status: str = "completed"
    handoff_data: str | None = None
    error: BotError | None = None

    def fields(self) -> dict[str, str]:
        """What the ``action`` URL is told of it."""
        fields = {"SessionStatus": self.status}
        if self.handoff_data is not None:
            fields["HandoffData"] = self.handoff_data
        if self.error is not None:
            fields |= {"ErrorCode": str(self.error.code), "ErrorMessage": self.error.message}
        return fields


def failed(code: int, message: str) -> RelayEnd:
    """A session that could not go on."""
    return RelayEnd("failed", error=BotError(code, message))


class Relay(AgentChannel):
    """One session, while it is its conversation's ``channel``.

    ``setup`` is the first message, without its type; ``load`` fetches the audio of a URL, in the session's
    format.
    """

    leaving = 1.0

    def __init__(
        self,
        conversation: Conversation,
        socket: ClientConnection,
        settings: RelaySettings,
        *,
        setup: Mapping[str, Any],
        load: Callable[[str], Awaitable[bytes]],
    ) -> None:
        self._conversation = conversation
        self._session = conversation.session
        self._speaker = conversation.speaker
        self._socket = socket
        self._settings = settings
        self._setup = setup
        self._load = load
        usual = conversation.settings.language
        self._speaking, self._listening = settings.speaking or usual, settings.listening or usual
        self._turns: deque[AgentTurn] = deque(maxlen=64)
        self._by: dict[AgentTurn, frozenset[str]] = {}
        """What may interrupt each turn that is not over."""
        self._preemptible: set[AgentTurn] = set()
        self._cycle: AgentTurn | None = None
        self._closed_to_speech: deque[tuple[int, int]] = deque(maxlen=64)
        """When, in ms of the call, something was said that the caller could not interrupt by speaking."""
        self._outbox: asyncio.Queue[str] = asyncio.Queue(maxsize=1000)
        self._loading: set[asyncio.Task[None]] = set()

    async def run(self) -> RelayEnd:
        """Until the bot ends it, its socket closes, or the caller is gone. Closes the socket."""
        self._tell("setup", **self._setup)
        if greeting := self._settings.get("welcomeGreeting").strip():
            by = inputs(self._settings.get("welcomeGreetingInterruptible"))
            self._speaker.add(self._begin(by, False, None), greeting, complete=True)
        try:
            reading = asyncio.ensure_future(self._read())
            await first_done(reading, self._write(), self._session.wait_stopped(), during=self._session)
            if self._session.ended:
                return RelayEnd()
            end = failed(LOST, "The bot does not read its WebSocket.") if reading.cancelled() else reading.result()
            if end.error is not None:
                await self._speaker.cut()
            return end
        finally:
            for task in self._loading:
                task.cancel()
            # The end of the call may cancel this while it ends by itself: the bot's socket is closed all the same.
            closing = asyncio.ensure_future(self._socket.close())
            await asyncio.shield(asyncio.gather(*self._loading, closing, return_exceptions=True))

    # --- from the bot -------------------------------------------------------------------------------------------------

    async def _read(self) -> RelayEnd:
        nonsense = 0
        with contextlib.suppress(ConnectionClosed, StreamNotOpen):
            async for frame in self._socket:
                try:
                    message = read(frame)
                except ValueError as problem:
                    nonsense += 1
                    if nonsense > MOST_NONSENSE:
                        return failed(INVALID, "Too many messages that are not valid.")
                    self._error(f"Invalid message received: {str(frame)[:200]}: {problem}")
                    continue
                if isinstance(message, End):
                    await self._speaker.idle()
                    return RelayEnd("ended", message.handed_over)
                try:
                    await self._take(message)
                except StreamNotOpen:
                    raise
                except (AnycarrierError, ValueError) as problem:
                    self._error(f"{type(message).__name__} was not carried out: {problem}")
        return failed(LOST, "The WebSocket to the bot ended before its session.")

    async def _take(self, message: Text | Play | SendDigits | Language) -> None:
        match message:
            case Text():
                await self._speak(message)
            case Play(source, loop):
                if self._speaker.turns >= TURNS or len(self._loading) >= LOADING:
                    self._error(f"{source[:200]} was not played: too much waits to be heard.")
                    return
                await self._preempt()
                turn = self._begin(*self._manners(message), None)
                task = asyncio.ensure_future(self._play(turn, source, loop))
                self._loading.add(task)
                task.add_done_callback(self._loading.discard)
            case SendDigits(digits):
                await self._session.send_digits(digits)
            case Language(speaking, listening):
                if listening and listening != self._listening:
                    await self._conversation.listen_in(listening)
                    self._listening = listening
                self._speaking = speaking or self._speaking

    async def _speak(self, text: Text) -> None:
        if text.token and (self._speaker.backlog + len(text.token) > BACKLOG or self._speaker.turns >= TURNS):
            self._error("Too much text waits to be heard; this token was dropped.")
            return
        turn = self._cycle
        if turn is not None and turn.complete and not turn.dropped:
            turn = None  # spoken as it was, since nothing more came for a second
        if turn is None:
            if not text.token:
                return
            await self._preempt()
            turn = self._begin(*self._manners(text), text.lang)
        # Tokens of a cycle that was interrupted are dropped up to its last one, or up to the caller's next words.
        self._speaker.add(turn, text.token, complete=text.last)
        self._cycle = None if text.last else turn

    async def _play(self, turn: AgentTurn, source: str, loop: int) -> None:
        sound = b""
        try:
            sound = await self._load(source)
            most = max(1, round(LONGEST_PLAY * self._session.format.bytes_per_second) // max(1, len(sound)))
            sound *= min(loop if loop > 0 else most, most)
        except (AnycarrierError, BotError) as problem:
            self._error(f"{source[:200]} cannot be played: {problem}")
        finally:
            self._speaker.add(turn, sound, complete=True)

    def _manners(self, message: Text | Play) -> tuple[frozenset[str], bool]:
        """What may interrupt it, and whether what comes next may replace it."""
        usual = inputs(self._settings.get("interruptible"))
        preemptible = message.preemptible
        if preemptible is None:
            preemptible = flag(self._settings.get("preemptible"))
        return (usual if message.interruptible is None else inputs(message.interruptible, usual)), preemptible

    async def _preempt(self) -> None:
        """Something new is to be said: drop what may give way to it."""
        unheard = self._speaker.unheard
        giving_way = [turn for turn in unheard if turn in self._preemptible]
        if giving_way and len(giving_way) == len(unheard):
            await self._speaker.cut()
            return
        for turn in giving_way:
            if turn.starts is None:  # else clearing would cut the others as well
                self._speaker.drop(turn.id)

    def _begin(self, by: frozenset[str], preemptible: bool, language: str | None) -> AgentTurn:
        language = language or self._speaking
        synthesis = None
        try:
            synthesis = self._conversation.synthesis_in(language, self._settings.voice(language))
        except ConfigurationError as unknown:  # said in the call's own language rather than not at all
            self._error(str(unknown))
        turn = self._speaker.begin(interruptible="speech" in by, synthesis=synthesis)
        self._turns.append(turn)
        self._by[turn] = by
        if preemptible:
            self._preemptible.add(turn)
        turn.over.add_done_callback(lambda _: self._over(turn))
        return turn

    def _over(self, turn: AgentTurn) -> None:
        self._preemptible.discard(turn)
        by = self._by.pop(turn, ANY)
        if "speech" not in by and turn.began is not None:
            self._closed_to_speech.append((self._conversation.now_ms(turn.began), self._conversation.now_ms()))

    # --- to the bot ---------------------------------------------------------------------------------------------------

    async def interim(self, turn_id: str, text: str) -> None:
        """The caller's words so far, for a bot that asked for them."""
        if text and flag(self._settings.get("partialPrompts")) and not self._speaks_on("speech"):
            self._tell("prompt", voicePrompt=text, lang=self._listening, last=False)

    async def final(self, turn: CallerTurn) -> None:
        """What the caller said, unless it was said while the caller was not to be listened to."""
        began = turn.began * 1000
        if "speech" not in self._reported and (
            self._speaks_on("speech") or any(start <= began <= end for start, end in self._closed_to_speech)
        ):
            return
        if self._cycle is not None and self._cycle.dropped:
            self._cycle = None
        if turn.text:
            self._tell("prompt", voicePrompt=turn.text, lang=self._listening, last=True)

    async def interrupted(self, barge_in: BargeIn) -> None:
        """The caller spoke over the bot."""
        self._tell_interrupt()

    async def digit(self, digit: str) -> None:
        """The caller pressed a key, which may interrupt the bot."""
        playing = self._playing
        if playing is not None and "dtmf" in self._by.get(playing, ANY):
            await self._speaker.cut()
            self._tell_interrupt()
        elif playing is not None and "dtmf" not in self._reported:
            return
        if flag(self._settings.get("dtmfDetection")):
            self._tell("dtmf", digit=digit)

    @property
    def _reported(self) -> frozenset[str]:
        return inputs(self._settings.get("reportInputDuringAgentSpeech"), frozenset())

    @property
    def _playing(self) -> AgentTurn | None:
        return next((turn for turn in self._speaker.unheard if turn.starts is not None), None)

    def _speaks_on(self, kind: str) -> bool:
        """Whether something is being said that this kind of input does not interrupt."""
        return self._playing is not None and kind not in self._by.get(self._playing, ANY)

    def _tell_interrupt(self) -> None:
        """What the caller heard of the turns that were cut."""
        over = [turn.over.result() for turn in self._turns if turn.over.done()]
        self._turns = deque((turn for turn in self._turns if not turn.over.done()), maxlen=self._turns.maxlen)
        cut = [said for said in over if said.interrupted]
        heard = " ".join(said.text for said in cut if said.text)
        milliseconds = round(sum(said.seconds for said in cut) * 1000)
        self._tell("interrupt", utteranceUntilInterrupt=heard, durationUntilInterruptMs=milliseconds)

    def _error(self, description: str) -> None:
        self._tell("error", description=description)

    def _tell(self, kind: str, **fields: Any) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # a bot that does not read is disconnected soon
            self._outbox.put_nowait(json.dumps({"type": kind, **fields}))

    async def _write(self) -> None:
        """Ends when the bot does not read; a socket that is closed ends the reading first."""
        while True:
            message = await self._outbox.get()
            try:
                async with asyncio.timeout(STALLED):
                    await self._socket.send(message)
            except TimeoutError:
                return
            except Exception:  # noqa: BLE001 closed: the reader has it too
                await asyncio.get_running_loop().create_future()
