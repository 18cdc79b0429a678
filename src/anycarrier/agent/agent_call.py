"""A call as a Python agent has it: say, listen, gather keys, play, transfer, hang up.

    async def agent(call):
        await call.say("Good morning. How can I help?")
        async for turn in call.turns():
            await call.say(f"You said: {turn.text}")
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from anycarrier.agent.agent_turn import AgentTurn, Said
from anycarrier.agent.budget import BACKLOG, CallBudget, units
from anycarrier.agent.conversation import AgentChannel, CallerTurn, Conversation
from anycarrier.agent.settings import AgentSettings, fill
from anycarrier.agent.shared_engines import missing
from anycarrier.audio import Transcoder
from anycarrier.calls import Call, EndReason
from anycarrier.errors import StreamNotOpen
from anycarrier.session import MediaSession
from anycarrier.wav import read_wav

WAITING_TURNS = 100
"""Caller turns kept for an agent that does not ask for them; the oldest go first."""

WAITING_KEYS = 256
"""Keys kept that way."""


AFTERTHOUGHT = 2.0
"""Seconds in which a finishing key still belongs to an answer that was complete without it."""


class AgentCall(AgentChannel):
    """One call, for as long as the agent's function runs: returning from it hangs up, once all said was heard.

    ``variables`` fill ``{{placeholders}}`` and are the agent's to read; ``settings`` are how it was registered.
    ``session`` is the raw audio, for those who bring their own speech.
    """

    leaving = 1.0

    def __init__(
        self,
        session: MediaSession,
        settings: AgentSettings,
        variables: Mapping[str, Any],
        *,
        call_budget: CallBudget | None = None,
    ) -> None:
        self.session = session
        self._budget = call_budget or CallBudget()
        self.settings = settings
        self.variables = dict(variables)
        self._conversation: Conversation | None = None
        self._turns: deque[CallerTurn] = deque(maxlen=WAITING_TURNS)
        self._keys: deque[str] = deque(maxlen=WAITING_KEYS)
        self._finishing, self._finishing_until = "", 0.0
        self._news = asyncio.Event()
        self._over = False
        self._greeting: AgentTurn | None = None

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def call(self) -> Call:
        """The call as last heard of: numbers, direction, times."""
        return self.session.call

    @property
    def id(self) -> str:
        """Our own id of the call."""
        return self.session.call.reference

    @property
    def ended(self) -> bool:
        """True once there is nobody to talk to."""
        return self._over or self.session.ended

    @property
    def system_prompt(self) -> str:
        """The agent's prompt, placeholders filled in."""
        return fill(self.settings.system_prompt, self.variables)[0]

    @property
    def greeted(self) -> Said | None:
        """What the caller heard of the first message; None while it is being said, or when there is none."""
        return self._greeting.over.result() if self._greeting is not None and self._greeting.over.done() else None

    # --- speaking ----------------------------------------------------------------------------------------------------

    async def say(self, text: str | AsyncIterable[str], *, interruptible: bool = True) -> Said:
        """Speak ``text``, or words as they come from an async iterator, after what was said before.

        Returns when it was heard, or cut: ``Said.text`` is what the caller heard of it. An iterator that is cut is
        closed. Raises ``StreamNotOpen`` when the call is over before it begins.
        """
        speaker = self._live().speaker
        turn = speaker.begin(interruptible=interruptible, patient=True)
        if isinstance(text, str):
            speaker.add(turn, text, complete=True)
            return await self._heard(turn)
        feeding = asyncio.ensure_future(self._feed(turn, text))
        try:
            return await self._heard(turn, feeding)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def play(self, sound: str | os.PathLike[str] | bytes, *, interruptible: bool = True) -> Said:
        """Play a WAV file, or sound in the session's format (mu-law 8 kHz). ``Said.seconds`` is how much was heard."""
        speaker = self._live().speaker
        if not isinstance(sound, bytes):
            format, audio = await asyncio.to_thread(read_wav, sound)
            line = Transcoder(format, self.session.format)
            sound = line.convert(audio) + line.flush()
        turn = speaker.begin(interruptible=interruptible, patient=True)
        speaker.add(turn, sound, complete=True)
        return await self._heard(turn)

    async def _feed(self, turn: AgentTurn, text: AsyncIterable[str]) -> None:
        speaker = self._live().speaker
        words = aiter(text)
        try:
            async for delta in words:
                speaker.add(turn, delta)
                # A model that rambles is read as fast as it is heard, and one that never waits stops nobody else.
                await self._budget.pace(units(len(delta)))
                await speaker.room(turn, BACKLOG)
            speaker.add(turn, "", complete=True)
        finally:
            if (close := getattr(words, "aclose", None)) is not None:
                with contextlib.suppress(RuntimeError):
                    await close()

    async def _heard(self, turn: AgentTurn, feeding: asyncio.Future[None] | None = None) -> Said:
        await asyncio.sleep(0)  # so that an agent who speaks into nothing, in a loop, stops nobody else
        try:
            waiting: set[asyncio.Future[Any]] = {turn.over, feeding} if feeding else {turn.over}
            while not turn.over.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if feeding in done and feeding is not None:
                    feeding.result()
            return turn.over.result()
        except BaseException:
            if self._conversation is not None:
                self._conversation.speaker.drop(turn.id)
            raise

    # --- listening ---------------------------------------------------------------------------------------------------

    async def turns(self) -> AsyncIterator[CallerTurn]:
        """What the caller says, utterance by utterance, until the call is over."""
        while (turn := await self.listen()) is not None:
            yield turn

    async def listen(self, timeout: float | None = None) -> CallerTurn | None:
        """The next thing the caller says; None when the call is over, or nobody began to speak within ``timeout``
        seconds. A caller who has begun to speak may finish."""
        conversation = self._conversation
        if conversation is None or (self.ended and not self._turns):
            return None
        if not conversation.hears_words:
            raise missing("listen")
        due = None if timeout is None else conversation.turn_taking.clock() + timeout
        while not self._turns:
            if self.ended:
                return None
            wait = None if due is None else due - conversation.turn_taking.clock()
            if wait is not None and wait <= 0:
                if conversation.turn_taking.turns.listening_to is None:
                    return None
                wait = 0.1
            await self._something(wait)
        return self._turns.popleft()

    async def gather(
        self, digits: int | None = None, *, finish_on: str = "#", timeout: float = 10.0, first: float | None = None
    ) -> str:
        """Keys the caller presses: up to ``digits`` of them, or until ``finish_on`` (not part of the answer).

        ``timeout`` is the longest pause between two keys, ``first`` the wait for the first (the same unless given).
        Gives what was pressed when time or the call is over; keys pressed before asking count. A ``finish_on`` pressed
        after the last of ``digits`` belongs to them, and is no answer to the next question.
        """
        clock = asyncio.get_running_loop().time
        finishing, self._finishing = self._finishing, ""
        if finishing and self._keys and self._keys[0] in finishing:
            self._keys.popleft()
            finishing = ""
        pressed = ""
        while digits is None or len(pressed) < digits:
            if not self._keys:
                if self.ended:
                    break
                wait = timeout if pressed or first is None else first
                try:
                    async with asyncio.timeout(wait):
                        while not self._keys and not self.ended:
                            await self._something(None)
                except TimeoutError:
                    break
                continue
            key = self._keys.popleft()
            late, finishing = finishing, ""
            if key in late and clock() < self._finishing_until:
                continue
            if key in finish_on:
                break
            pressed += key
        else:
            self._finishing, self._finishing_until = finish_on, clock() + AFTERTHOUGHT
        return pressed

    # --- acting ------------------------------------------------------------------------------------------------------

    async def send_digits(self, digits: str) -> None:
        """Press keys for the far end."""
        await self.session.send_digits(digits)

    async def transfer(self, to: str) -> None:
        """Hand the caller to a number or ``sip:`` address; the agent's part is over with that."""
        await self.session.transfer(to)

    async def hang_up(self) -> None:
        """End the call now; what is being said is cut. To say goodbye, await :meth:`say` first, or just return."""
        self._live().end(EndReason.AGENT_HANGUP)
        await self.session.wait_stopped()

    # --- told by the conversation ------------------------------------------------------------------------------------

    async def converse(self, conversation: Conversation, agent: Callable[[AgentCall], Awaitable[None]]) -> EndReason:
        """Have the conversation, with ``agent`` on our side."""
        self._conversation = conversation

        async def talk() -> None:
            if greeting := fill(self.settings.first_message, self.variables)[0].strip():
                self._greeting = conversation.speaker.begin()
                conversation.speaker.add(self._greeting, greeting, complete=True)
            await agent(self)

        return await conversation.run(talk)

    async def final(self, turn: CallerTurn) -> None:
        """Kept for :meth:`turns`; an utterance without words is nobody's turn."""
        if turn.text:
            self._turns.append(turn)
            self._news.set()

    async def digit(self, digit: str) -> None:
        """Kept for :meth:`gather`."""
        self._keys.append(digit)
        self._news.set()

    async def over(self, reason: EndReason) -> None:
        """Whoever waits is let go."""
        self._over = True
        self._news.set()

    async def _something(self, wait: float | None) -> None:
        """Until there is news, the call is over, or ``wait`` seconds are."""
        news = asyncio.ensure_future(self._news.wait())
        over = asyncio.ensure_future(self.session.wait_stopped())
        try:
            await asyncio.wait({news, over}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            over.cancel()
        self._news.clear()

    def _live(self) -> Conversation:
        if self._conversation is None or self.ended:
            raise StreamNotOpen("the call is over")
        return self._conversation
