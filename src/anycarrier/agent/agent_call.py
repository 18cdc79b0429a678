"""A call as a Python agent sees it: say, listen, gather keys, play, transfer, hang up.

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
from anycarrier.agent.engine_choice import missing
from anycarrier.agent.settings import AgentSettings, fill
from anycarrier.audio import Transcoder
from anycarrier.calls import Call, EndReason
from anycarrier.errors import StreamNotOpen
from anycarrier.session import MediaSession, run_handler
from anycarrier.wav import read_wav

WAITING_TURNS = 100
"""Caller turns kept for an agent that does not read them; then the oldest are dropped."""

WAITING_KEYS = 256
"""Keys kept in the same way."""

AFTERTHOUGHT = 2.0
"""Seconds in which a ``finish_on`` key still belongs to an answer that was complete without it."""


class AgentCall(AgentChannel):
    """One call of a Python agent. When the agent's function returns, queued speech finishes playing and the call ends.

    ``variables`` fill ``{{placeholders}}``; the agent may read and change them. ``settings`` are the agent's settings
    for this call. ``session`` is the media session, for agents that handle audio themselves.
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

    # --- about the call ----------------------------------------------------------------------------------------------

    @property
    def call(self) -> Call:
        """The call as last reported: numbers, direction, times."""
        return self.session.call

    @property
    def id(self) -> str:
        """The call's reference, our own id for it."""
        return self.session.call.reference

    @property
    def ended(self) -> bool:
        """True once the call is over."""
        return self._over or self.session.ended

    @property
    def conversation(self) -> Conversation:
        """The conversation of this call, for an agent with a protocol of its own: an :class:`AgentChannel
        <anycarrier.agent.conversation.AgentChannel>` set as its ``channel`` gets the events in place of this object.

        Raises ``StreamNotOpen`` once the call is over.
        """
        return self._live()

    @property
    def system_prompt(self) -> str:
        """The agent's system prompt, with its placeholders filled in."""
        return fill(self.settings.system_prompt, self.variables)[0]

    @property
    def greeted(self) -> Said | None:
        """What the caller heard of the first message; None while it is being spoken, or if there is none."""
        return self._greeting.over.result() if self._greeting is not None and self._greeting.over.done() else None

    # --- speaking ----------------------------------------------------------------------------------------------------

    async def say(self, text: str | AsyncIterable[str], *, interruptible: bool = True) -> Said:
        """Speak ``text``, or words as an async iterator yields them, after everything queued before.

        Returns once it was heard or interrupted; ``Said.text`` is what the caller heard of it. If interrupted, the
        iterator is closed. Raises ``StreamNotOpen`` if the call is over before it begins.
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
        """Play a WAV file, or audio in the session's format (mu-law 8 kHz). ``Said.seconds`` is how much was heard."""
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
                # Read a long answer only as fast as it is heard, and let other calls run between words.
                await self._budget.pace(units(len(delta)))
                await speaker.room(turn, BACKLOG)
            speaker.add(turn, "", complete=True)
        finally:
            if (close := getattr(words, "aclose", None)) is not None:
                with contextlib.suppress(RuntimeError):
                    await close()

    async def _heard(self, turn: AgentTurn, feeding: asyncio.Future[None] | None = None) -> Said:
        await asyncio.sleep(0)  # lets other calls run while an agent says nothing in a loop
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
        """The caller's utterances, until the call is over."""
        while (turn := await self.listen()) is not None:
            yield turn

    async def listen(self, timeout: float | None = None) -> CallerTurn | None:
        """The caller's next utterance; None if the call is over, or if the caller does not begin to speak within
        ``timeout`` seconds. A caller who has begun may finish."""
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
        """Collect keys from the caller: up to ``digits`` of them, or until ``finish_on``, which is not returned.

        ``timeout`` is the longest pause between two keys, ``first`` the wait for the first (default ``timeout``).
        Returns what was pressed when time runs out or the call ends. Keys pressed before the call to ``gather`` count.
        A ``finish_on`` key pressed right after the last of ``digits`` belongs to them, not to the next question.
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
        """Send DTMF digits to the caller."""
        await self.session.send_digits(digits)

    async def transfer(self, to: str) -> None:
        """Transfer the caller to a number or ``sip:`` address. The agent's part of the call then ends."""
        await self.session.transfer(to)

    async def hang_up(self) -> None:
        """End the call now, cutting what is being said. To say goodbye, await :meth:`say` first, or return."""
        self._live().end(EndReason.AGENT_HANGUP)
        await self.session.wait_stopped()

    # --- from the conversation ---------------------------------------------------------------------------------------

    async def converse(self, conversation: Conversation, agent: Callable[[AgentCall], Awaitable[None]]) -> EndReason:
        """Run the conversation with ``agent``."""
        self._conversation = conversation

        async def talk() -> None:
            if greeting := fill(self.settings.first_message, self.variables)[0].strip():
                self._greeting = conversation.speaker.begin()
                conversation.speaker.add(self._greeting, greeting, complete=True)
            await run_handler(agent, self)

        return await conversation.run(talk)

    async def final(self, turn: CallerTurn) -> None:
        """Keep it for :meth:`turns`, if it has words."""
        if turn.text:
            self._turns.append(turn)
            self._news.set()

    async def digit(self, digit: str) -> None:
        """Keep it for :meth:`gather`."""
        self._keys.append(digit)
        self._news.set()

    async def over(self, reason: EndReason) -> None:
        """Wake the agent if it waits for the caller."""
        self._over = True
        self._news.set()

    async def _something(self, wait: float | None) -> None:
        """Wait for news, the end of the call, or ``wait`` seconds."""
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
