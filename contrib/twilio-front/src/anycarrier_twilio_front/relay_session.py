"""One ``<ConversationRelay>`` on a call: connects the bot, runs its session, and says how it ended."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from anycarrier import CallEvent, Direction, MediaEvent, MediaSession
from anycarrier.agent import AgentSettings, Engines, MemoryTranscript, first_done
from anycarrier.agent.conversation import AgentChannel, Conversation
from anycarrier_twilio.carrier_side.twiml import Verb
from anycarrier_twilio_front.account import BotAccount
from anycarrier_twilio_front.callbacks import BotError, joined
from anycarrier_twilio_front.calls import FrontCall
from anycarrier_twilio_front.relay import Relay, RelayEnd, failed
from anycarrier_twilio_front.relay_messages import RelaySettings
from anycarrier_twilio_front.sounds import fetch_sound
from anycarrier_twilio_front.stream import open_socket

DEFAULT_LANGUAGE = "en-US"
"""Twilio's, where a document names none."""

LONGEST_CALL = 14400
"""Seconds of a session in a call without a limit of its own: Twilio's default for a call."""

UNREACHABLE = 64102
"""https://www.twilio.com/docs/api/errors/64102: no connection to the bot's WebSocket."""


async def endless(queue: asyncio.Queue[MediaEvent | CallEvent]) -> AsyncIterator[MediaEvent | CallEvent]:
    """The events of a session that somebody else iterates. Who reads them is cancelled with the call."""
    while True:
        yield await queue.get()


class RelaySession:
    """One ``noun`` of a document; URLs in it are relative to ``base``."""

    def __init__(self, front: BotAccount, call: FrontCall, session: MediaSession, noun: Verb, base: str) -> None:
        self.id = f"VX{uuid.uuid4().hex}"
        self._front = front
        self._call = call
        self._session = session
        self._settings = RelaySettings.of(noun)
        self._base = base
        self._began = time.monotonic()

    async def converse(self, engines: Engines, events: AsyncIterable[MediaEvent | CallEvent]) -> RelayEnd:
        """On a call that has no conversation: one is made for as long as the session lasts, and the call goes on."""
        settings = self._settings
        wanted = AgentSettings(
            language=settings.listening or DEFAULT_LANGUAGE,
            voice=settings.voice(settings.speaking),
            phrases=tuple(hint.strip() for hint in settings.get("hints").split(",") if hint.strip()),
            max_duration_seconds=self._session.call.time_limit or LONGEST_CALL,
        )
        if engines.lacks(wanted, ("listen",)) is not None:
            wanted = wanted.model_copy(update={"language": DEFAULT_LANGUAGE})
        conversation = Conversation(
            self._session, wanted, AgentChannel(), engines=engines, transcript=MemoryTranscript(), events=events
        )
        finished: asyncio.Future[RelayEnd] = asyncio.get_running_loop().create_future()

        async def talk() -> None:
            finished.set_result(await self.run(conversation))
            await asyncio.get_running_loop().create_future()  # to return would hang up

        await first_done(conversation.run(talk), finished)
        return RelayEnd() if finished.cancelled() else finished.result()

    async def run(self, conversation: Conversation) -> RelayEnd:
        """In a conversation that runs: the bot gets its events until the session is over."""
        try:
            url = joined(self._base, self._settings.get("url"))
            if urlsplit(url).scheme not in ("ws", "wss"):
                raise BotError(UNREACHABLE, "Unable to connect: the url of <ConversationRelay> begins with wss://")
            self._front.hosts.check(url, UNREACHABLE)
            socket = await open_socket(url, self._front.auth_token)
        except BotError as failure:
            self._front.complain(self._call, failure)
            return failed(UNREACHABLE, failure.message)
        relay = Relay(conversation, socket, self._settings, setup=self._setup(), load=self._load)
        before, conversation.channel = conversation.channel, relay
        try:
            end = await relay.run()
        finally:
            conversation.channel = before
        if end.error is not None:
            self._front.complain(self._call, end.error)
        return end

    def form(self, end: RelayEnd) -> dict[str, str]:
        """What the ``action`` URL is told besides the call, when the session ends."""
        seconds = round(time.monotonic() - self._began)
        return {"SessionId": self.id, "SessionDuration": str(seconds), **end.fields()}

    def _setup(self) -> dict[str, Any]:
        call = self._call.call
        return {
            "sessionId": self.id,
            "accountSid": self._call.account_sid,
            "parentCallSid": "",
            "callSid": self._call.sid,
            "from": call.from_,
            "to": call.to,
            "forwardedFrom": "",
            "callType": "PSTN",
            "callerName": "",
            "direction": "inbound" if call.direction is Direction.INBOUND else "outbound",
            "callStatus": self._call.status.upper(),
            "customParameters": dict(self._settings.parameters),
        }

    async def _load(self, source: str) -> bytes:
        url = joined(self._base, source)
        return await fetch_sound(self._front.requests, url, self._call.cookies, self._session.format)
