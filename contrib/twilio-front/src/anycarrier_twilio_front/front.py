"""TwilioFront: the exchange as Twilio to one bot that was written for Twilio.

It holds what the bot knows Twilio by (account, token, URLs) and the bot's calls. ``verbs.py`` runs its documents,
``stream.py`` connects its media streams, ``callbacks.py`` makes the signed requests, ``rest.py`` serves its own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from starlette.routing import Route as HttpRoute

from anycarrier import (
    PCMU_8K,
    Answer,
    Call,
    CallEvent,
    Direction,
    EndReason,
    Exchange,
    IncomingCall,
    Line,
    MachineDetected,
    MediaSession,
    Reject,
    Route,
    Router,
    RoutingFailure,
    Switchboard,
    TransferProgress,
)
from anycarrier.agent import first_done, raw_agent
from anycarrier.calls import TransferStatus
from anycarrier.errors import ConfigurationError
from anycarrier_twilio.carrier_side.calls_api import EVENTS, StatusCallback
from anycarrier_twilio.carrier_side.messages import status_form
from anycarrier_twilio.carrier_side.twiml import Instructions
from anycarrier_twilio_front.account import BotAccount, require_secret
from anycarrier_twilio_front.callbacks import BotError
from anycarrier_twilio_front.calls import FrontCall
from anycarrier_twilio_front.document import fetch
from anycarrier_twilio_front.rest import CallsApi
from anycarrier_twilio_front.speech import Speech, SpeechEngines
from anycarrier_twilio_front.verbs import Program

REMEMBERED = 1000
"""Calls that are over and can still be read by REST."""

MACHINE_WAIT = 30.0
"""Seconds that a document waits for the answering-machine detection, Twilio's default."""



class TwilioFront(BotAccount):
    """Twilio, to one bot. ``account_sid`` and ``auth_token`` are what the bot has in its settings: made up for it.

    The front takes the calls of lines whose agent is ``agent_id``: inbound ones ask ``voice_url`` what to do (and
    ``fallback_url`` where that fails), and so do outbound ones that the platform dials. ``status_callback`` is posted
    how they go. ``speech`` (one engine or several, or their names) speaks ``<Say>`` and hears ``<Gather>``. Only the
    host of ``voice_url`` is asked, and ``hosts``: ``media.example.com``, or with a port ``127.0.0.1:5050``.
    ``api_keys`` (secret by SID) may log in to the calls API beside the account.

    >>> front = TwilioFront(exchange, account_sid=f"AC{32 * '0'}", auth_token="made-up", voice_url="https://bot/voice")
    >>> app = create_app(exchange, {"twilio-bot": front})
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        account_sid: str,
        auth_token: str,
        voice_url: str,
        agent_id: str = "twilio-bot",
        voice_method: str = "POST",
        fallback_url: str = "",
        status_callback: str = "",
        speech: SpeechEngines | None = None,
        hosts: Iterable[str] = (),
        api_keys: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(exchange, Exchange):
            raise ConfigurationError("exchange must be the Exchange of the bot's calls: TwilioFront(exchange, ...)")
        super().__init__(
            account_sid=account_sid, auth_token=auth_token, voice_url=voice_url, voice_method=voice_method,
            fallback_url=fallback_url, hosts=hosts,
        )  # fmt: skip
        self.exchange = exchange
        self.api_keys = dict(api_keys or {})
        for key, secret in self.api_keys.items():
            require_secret("a SID in api_keys", key)
            require_secret("a secret in api_keys", secret)
        if status_callback:
            self.hosts.require("status_callback", status_callback)
        self.agent_id = agent_id
        self.status_callback = status_callback
        self.speech: Speech = Speech(speech)
        self._calls: dict[str, FrontCall] = {}
        self.handler = raw_agent(audio=PCMU_8K)(self.__call__)
        """For ``Agents.add(handler=...)``; the front itself is a handler too."""
        board = exchange.switchboard
        if any(isinstance(other, TwilioFront) and other.agent_id == agent_id for other in _routers(board.router)):
            raise ConfigurationError(f"another front has the calls of agent {agent_id!r}: give each its own agent_id")
        self._other_router = board.router
        board.router = self.router
        board.on_change.append(self._changed)
        board.observers.append(self._observed)

    # --- the bot's calls ----------------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[FrontCall]:
        """The bot's calls, the oldest first: open ones and the last that are over."""
        return list(self._calls.values())

    def call(self, sid: str) -> FrontCall | None:
        """The call with that CallSid, None when it is none of the bot's."""
        return self._calls.get(sid)

    def enter(self, call: Call, instructions: Instructions, callback: StatusCallback | None = None) -> FrontCall:
        """Enter a call before it is dialled, with what it is to run and where its progress is posted."""
        opened = FrontCall(self.account_sid, call, instructions, callback)
        self._calls[opened.sid] = opened
        over = [known.sid for known in self._calls.values() if known.call.ended]
        for sid in over[: max(0, len(over) - REMEMBERED)]:
            del self._calls[sid]
        return opened

    def place(self, call: FrontCall) -> None:
        """Tell the bot of a call whose progress was held back: the carrier has taken it, or may have."""
        held, call.unplaced = call.unplaced or [], None
        for snapshot in held:
            self._changed(snapshot)

    def forget(self, call: FrontCall) -> None:
        """Take out a call that was never dialled."""
        self._calls.pop(call.sid, None)
        call.unplaced = None

    def _known(self, call: Call) -> FrontCall:
        """The call; one that nobody has entered asks the voice URL."""
        known = self._calls.get(f"CA{call.reference}")
        if known is None:
            callback = None
            if self.status_callback:  # a number's callback tells the end of an inbound call alone, as Twilio's does
                inbound = call.direction is Direction.INBOUND
                events = frozenset({"completed"}) if inbound else EVENTS
                callback = StatusCallback(self.status_callback, events=events)
            known = self.enter(call, self.voice, callback)
        return known

    def _changed(self, call: Call) -> None:
        """The exchange has news of a call, which may be one of the bot's: tell the bot what it has not been told."""
        if f"CA{call.reference}" not in self._calls and (call.agent_id != self.agent_id or call.ended):
            return
        known = self._known(call)
        known.call = call
        if call.ended:
            known.document = None
        if known.unplaced is not None:
            known.unplaced.append(call)
            return
        word = known.status
        if word in known.told:
            return
        known.told.append(word)
        event = "completed" if call.ended else "answered" if word == "in-progress" else word
        if known.callback is not None and event in known.callback.events:
            seconds = math.ceil(call.duration) if call.ended else None
            form = {**known.form(), **status_form(word, known.posted, datetime.now(UTC), seconds=seconds)}
            if call.ended and known.error is not None:
                form |= {"ErrorCode": str(known.error.code), "ErrorMessage": known.error.message}
            known.posted += 1
            self.post(known, known.callback.url, form, known.callback.method)
        if call.ended and known.dialled is not None:
            action = known.dialled.ended(bridged=call.transfer is TransferStatus.ANSWERED)
            known.dialled = None
            if action is not None:
                self.post_action(known, action)

    def _observed(self, event: CallEvent, call: Call | None) -> None:
        """What a carrier says of a transfer, for a ``<Dial>``, and of who has picked up."""
        known = self._calls.get(f"CA{call.reference}") if call is not None else None
        if known is None:
            return
        if isinstance(event, TransferProgress) and known.dialled is not None:
            known.dialled.status = event.status.replace("_", "-")
        if isinstance(event, MachineDetected) and (detection := known.detection) and detection.found(event):
            if (callback := detection.callback) is not None:
                self.post(known, callback.url, known.form(), callback.method)

    # --- what the exchange asks ---------------------------------------------------------------------------------------

    async def router(self, event: IncomingCall, line: Line | None) -> Route:
        """Ask the bot while the caller hears it ring: ``<Reject>`` declines, all else answers."""
        if line is None or line.agent_id != self.agent_id:
            return await self._other_router(event, line)
        call = self._known(event.call)
        asked = replace(self.voice, params=_incoming(event))
        try:
            try:
                document = await fetch(self, call, asked)
            except BotError as failure:
                document = await fetch(self, call, self.fall_back(call, asked, failure))
        except BotError as failure:
            self._fail(call, failure)
            unreachable = RoutingFailure.AGENT_UNREACHABLE
            return Reject(EndReason.AGENT_ERROR, why=str(failure), failure=unreachable, agent_id=self.agent_id)
        if document.verbs and document.verbs[0].name == "Reject":
            busy = document.verbs[0].get("reason") == "busy"
            return Reject(EndReason.BUSY if busy else EndReason.REJECTED)
        call.document = document if not call.call.ended else None
        return Answer(self.agent_id)

    async def __call__(self, session: MediaSession) -> None:
        """Run the bot's document, verb by verb; where it cannot be run, the call ends with ``agent_error``."""
        if session.format != PCMU_8K:  # all that Twilio's streams know
            session.set_format(PCMU_8K)
        call = self._known(session.call)
        try:
            if call.detection is not None and call.detection.awaited:
                await first_done(call.detection.known.wait(), session.wait_stopped(), asyncio.sleep(MACHINE_WAIT))
            await Program(self, call, session).run()
        except BotError as failure:
            self._fail(call, failure)
            await session.hang_up(EndReason.AGENT_ERROR)

    async def open(self, switchboard: Switchboard) -> None:
        """Start the speech engines, before the first call."""
        self._closed = False
        await self.speech.start()

    async def aclose(self) -> None:
        """Close the connections to the bot and the speech engines. Callbacks that wait are not posted any more."""
        await super().aclose()
        await self.speech.aclose()

    def routes(self) -> list[HttpRoute]:
        """What the bot calls as ``https://api.twilio.com``: add them to the app that serves the exchange."""
        return CallsApi(self).routes()

    def _fail(self, call: FrontCall, failure: BotError) -> None:
        self.complain(call, failure)
        call.error = failure


def _routers(router: Router) -> Iterator[object]:
    """Whose methods ask each other for a route."""
    owner = getattr(router, "__self__", None)
    while isinstance(owner, TwilioFront):
        yield owner
        owner = getattr(owner._other_router, "__self__", None)


def _incoming(event: IncomingCall) -> dict[str, str]:
    """What the voice webhook of a call that has just come in says besides the call."""
    form = {"CallStatus": "ringing"}
    if event.verified:
        form["StirVerstat"] = f"TN-Validation-Passed-{event.verified}"
    if event.forwarded_from:
        form["ForwardedFrom"] = event.forwarded_from
    return {**form, **{f"SipHeader_{name}": value for name, value in event.headers.items()}}
