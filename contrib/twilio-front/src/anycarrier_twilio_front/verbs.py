"""Runs a bot's documents on a call, verb by verb, as Twilio does; where the last one ends, so does the call."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from anycarrier import CallEvent, DigitPressed, MediaEvent, MediaSession
from anycarrier.agent import first_done
from anycarrier.calls import TransferStatus
from anycarrier.errors import AnycarrierError, NumberNotAssigned, StreamNotOpen
from anycarrier.speech import spoken_sentences
from anycarrier_twilio.carrier_side.twiml import Instructions, Verb
from anycarrier_twilio_front.callbacks import BotError
from anycarrier_twilio_front.calls import Dialled, FrontCall
from anycarrier_twilio_front.document import Document, fetch, number_of
from anycarrier_twilio_front.gather import Gather
from anycarrier_twilio_front.relay import RelayEnd
from anycarrier_twilio_front.relay_session import RelaySession, endless
from anycarrier_twilio_front.sounds import fetch_sound
from anycarrier_twilio_front.stream import BotStream

if TYPE_CHECKING:
    from anycarrier_twilio_front.front import TwilioFront

log = logging.getLogger("anycarrier.twilio_front")

HASTE = 20
"""Documents of less than a second that a call may run one after the other: a bot that only redirects is ended."""

AHEAD = 10.0
"""Seconds of speech or of a file that are sent ahead of the ear; carriers buffer some minutes at most."""

TRANSFER_PATIENCE = 180.0
"""Seconds to wait for a carrier's word on a transfer."""


class CallOver(Exception):
    """The bot wants no more of the call."""


class Program:
    """What a bot does with one call: documents, one after the other, until one ends or the far end hangs up."""

    def __init__(self, front: TwilioFront, call: FrontCall, session: MediaSession) -> None:
        self._front = front
        self._call = call
        self._session = session
        self._early: deque[DigitPressed] = deque(maxlen=64)
        """Keys that were pressed while the first verb was still to begin. Callers know only that they are connected."""
        self._listener: Callable[[MediaEvent | CallEvent], None] | None = self._keep_key

    async def run(self) -> None:
        """Until the bot or the far end is done. Raises :class:`BotError` for what cannot be run."""
        reader = asyncio.ensure_future(self._listen())
        self._call.redirected.clear()
        step: Instructions | None = self._call.instructions
        hasty, clock = 0, asyncio.get_running_loop().time
        try:
            while step is not None:
                began = clock()
                running = step
                try:
                    step = await self._until_interrupted(running, reader)
                except BotError as failure:
                    step = self._front.fall_back(self._call, running, failure)
                hasty = hasty + 1 if clock() - began < 1.0 else 0
                if hasty > HASTE:
                    raise BotError(11200, f"{HASTE} documents one after the other that do nothing but lead to the next")
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _until_interrupted(self, step: Instructions, reader: asyncio.Future[None]) -> Instructions | None:
        """Run ``step``; what is to be run after it, or in its place when a REST request says so."""
        work = asyncio.ensure_future(self._obey(step))
        await first_done(work, self._call.redirected.wait(), asyncio.wait({reader}))
        if self._call.redirected.is_set():  # maybe more than once since
            self._call.redirected.clear()
            if not self._session.ended:
                await self._session.clear()
            return self._call.instructions
        return None if work.cancelled() else work.result()

    async def _listen(self) -> None:
        async for event in self._session:
            if self._listener is not None:
                self._listener(event)

    def _keep_key(self, event: MediaEvent | CallEvent) -> None:
        if isinstance(event, DigitPressed):
            self._early.append(event)

    @contextlib.contextmanager
    def _heard_by(self, listener: Callable[[MediaEvent | CallEvent], None]) -> Iterator[None]:
        self._listener = listener
        for key in self._early:
            listener(key)
        self._early.clear()
        try:
            yield
        finally:
            self._listener = None

    async def _obey(self, step: Instructions) -> Instructions | None:
        document, self._call.document = self._call.document, None
        if document is None:
            document = await fetch(self._front, self._call, step)
        try:
            for verb in document.verbs:
                if verb.name in ("Pause", "Play", "Say"):  # keys over these go nowhere, as at Twilio
                    self._listener = None
                    self._early.clear()
                following = await VERBS[verb.name](self, document, verb)
                if following is not None:
                    return following
        except CallOver:
            pass
        return None

    # --- verbs: each returns what is to be run in place of the rest of its document -----------------------------------

    async def _connect(self, document: Document, verb: Verb) -> Instructions | None:
        noun, action, result = verb.nouns[0], verb.get("action"), dict[str, str]()
        if noun.name == "ConversationRelay":
            relay = RelaySession(self._front, self._call, self._session, noun, document.url)
            events: asyncio.Queue[MediaEvent | CallEvent] = asyncio.Queue()
            with self._heard_by(events.put_nowait):
                try:
                    result = relay.form(await relay.converse(self._front.speech.engines, endless(events)))
                finally:
                    if action and self._session.ended:
                        over = document.instructions(verb, action, relay.form(RelayEnd()))
                        self._front.post_action(self._call, over)
            if self._session.ended:
                return None
        else:
            stream = BotStream(self._front, self._call, self._session, noun, document.url)
            with self._heard_by(stream.hear):
                await stream.run()
        return document.instructions(verb, action, result) if action else None

    async def _say(self, document: Document, verb: Verb) -> None:
        synthesis = self._front.speech.synthesis(verb, self._session.format)
        sentences = spoken_sentences(verb.text, verb.get("language", "en-US"))
        try:
            for _ in _loop(verb, bool(sentences)):
                for sentence in sentences:
                    async with contextlib.aclosing(synthesis.speak(sentence)) as sound:
                        async for piece in sound:
                            await self._play_out(piece)
                await self._heard_out()
        finally:
            await synthesis.aclose()

    async def _play(self, document: Document, verb: Verb) -> None:
        if digits := verb.get("digits"):
            try:
                await self._session.send_digits(digits)
            except StreamNotOpen:
                raise
            except AnycarrierError as refused:
                self._front.complain(self._call, BotError(12200, f"Play: {refused}"))
        elif verb.text:
            url = document.instructions(verb, verb.text).url
            audio = await fetch_sound(self._front.requests, url, self._call.cookies, self._session.format)
            for _ in _loop(verb, bool(audio)):
                await self._play_out(audio)
                await self._heard_out()
        await self._heard_out()

    async def _play_out(self, audio: bytes) -> None:
        second = self._session.format.bytes_per_second
        for start in range(0, len(audio), second):
            if (ahead := self._session.ahead) > AHEAD:
                await asyncio.sleep(ahead - AHEAD)
            await self._session.send_audio(audio[start : start + second])

    async def _heard_out(self) -> None:
        await self._session.flush()
        await self._session.drain()

    async def _pause(self, document: Document, verb: Verb) -> None:
        await asyncio.sleep(float(verb.get("length", "1")))

    async def _gather(self, document: Document, verb: Verb) -> Instructions | None:
        async def prompt() -> None:
            for nested in verb.nouns:
                await VERBS[nested.name](self, document, nested)

        gather = Gather(verb, self._session, *self._front.speech.listeners(verb))
        with self._heard_by(gather.hear):
            result = await gather.run(prompt)
        if not result and verb.get("actionOnEmptyResult") != "true":
            return None
        if not verb.get("action") and not document.url:
            return None  # TwiML that came without a URL has nowhere to go back to
        return document.instructions(verb, verb.get("action"), result)

    async def _dial(self, document: Document, verb: Verb) -> Instructions | None:
        action = document.instructions(verb, verb.get("action")) if verb.get("action") else None
        dialled = self._call.dialled = Dialled(action)
        exchange = self._front.exchange
        try:
            shown_number = await self._caller_id(verb.get("callerId"))
            await exchange.transfer(self._session.call, number_of(verb), caller_id=shown_number)
        except BotError as refused:
            self._front.complain(self._call, refused)
        except StreamNotOpen:
            raise
        except AnycarrierError as refused:
            self._front.complain(self._call, BotError(13224, f"Dial: {refused}"))
        else:
            try:
                taken = await self._session.wait_for_transfer(TRANSFER_PATIENCE)
            except TimeoutError:  # to hang up now would only be kept for the case that the target does not answer
                raise CallOver from None
            if taken is TransferStatus.ANSWERED or self._session.call.ended:
                raise CallOver
        self._call.dialled = None
        return dialled.ended() if action else None

    async def _caller_id(self, wanted: str) -> str | None:
        """``wanted`` if it is a number of the call's, or of another line of its agent's at its carrier."""
        call = self._session.call
        if not wanted or wanted in (call.from_, call.to):
            return wanted or None
        with contextlib.suppress(NumberNotAssigned):
            line = await self._front.exchange.switchboard.registry.lookup(wanted)
            if (line.agent_id, line.credential_id) == (call.agent_id, call.credential_id):
                return wanted
        raise BotError(13214, "Dial: Invalid callerId: it must be a number of the call, or another line of its agent's")

    async def _redirect(self, document: Document, verb: Verb) -> Instructions:
        return document.instructions(verb, verb.text)

    async def _hangup(self, document: Document, verb: Verb) -> None:
        raise CallOver  # also <Reject> that is not the first verb: the call was answered


VERBS: dict[str, Callable[[Program, Document, Verb], Awaitable[Instructions | None]]] = {
    "Connect": Program._connect,
    "Dial": Program._dial,
    "Gather": Program._gather,
    "Hangup": Program._hangup,
    "Pause": Program._pause,
    "Play": Program._play,
    "Redirect": Program._redirect,
    "Reject": Program._hangup,
    "Say": Program._say,
}


def _loop(verb: Verb, audible: bool) -> Iterable[int]:
    """``loop`` times, 0 for ever; once where there is nothing to be heard."""
    times = verb.number("loop")
    if not audible or times is None:
        return range(1)
    return range(times) if times else itertools.count()
