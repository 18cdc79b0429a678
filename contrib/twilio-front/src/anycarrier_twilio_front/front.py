"""TwilioFront: the exchange as Twilio to one bot that was written for Twilio.

It holds what the bot knows Twilio by (account, token, URLs) and the bot's calls. ``verbs.py`` runs its documents,
``stream.py`` connects its media streams, ``callbacks.py`` makes the signed requests, ``rest.py`` serves its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from starlette.routing import Route as HttpRoute

from anycarrier import Answer, Call, Exchange, IncomingCall, Line, MediaSession, Route
from anycarrier.speech import SpeechEngine
from anycarrier_twilio_front.calls import FrontCall, Instructions, StatusCallback

log = logging.getLogger("anycarrier.twilio_front")

REMEMBERED = 1000
"""Calls that are over and can still be read by REST."""


class TwilioFront:
    """Twilio, to one bot. ``account_sid`` and ``auth_token`` are what the bot has in its settings: made up for it.

    The front takes the calls of lines of ``agent_id``: inbound ones ask ``voice_url`` what to do, and so do outbound
    ones that the platform dials. ``status_callback`` is posted how they go. ``speech`` plays ``<Say>`` and hears
    ``<Gather input="speech">``. Only ``hosts`` are fetched and dialled: ``bot.example.com``, or with a port
    ``127.0.0.1:5050``; default: the host of ``voice_url``.
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
        speech: SpeechEngine | str | None = None,
        hosts: Iterable[str] | None = None,
    ) -> None:
        self.exchange = exchange
        self.account_sid = account_sid
        self.auth_token = auth_token
        self.agent_id = agent_id
        self.fallback_url = fallback_url
        fallback = Instructions(fallback_url) if fallback_url else None
        self.voice = Instructions(voice_url, voice_method, fallback=fallback)
        self.status_callback = status_callback
        self._calls: dict[str, FrontCall] = {}
        board = exchange.switchboard
        self._other_router = board.router
        board.router = self.router
        board.on_change.append(self._changed)

    # --- calls --------------------------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[FrontCall]:
        """The bot's calls, the oldest first: open ones and the last that are over."""
        return list(self._calls.values())

    def call(self, sid: str) -> FrontCall | None:
        """The call with that CallSid, None when it is none of the bot's."""
        return self._calls.get(sid)

    def open(self, call: Call, instructions: Instructions, callback: StatusCallback | None = None) -> FrontCall:
        """Enter a call before it is dialled, with what it is to run and where its progress is posted."""
        opened = FrontCall(self.account_sid, call, instructions, callback)
        self._calls[opened.sid] = opened
        over = [known.sid for known in self._calls.values() if known.call.ended]
        for sid in over[: max(0, len(over) - REMEMBERED)]:
            del self._calls[sid]
        return opened

    def _changed(self, call: Call) -> None:
        """The exchange has news of a call, which may be one of the bot's."""

    # --- what the exchange asks ---------------------------------------------------------------------------------------

    async def router(self, event: IncomingCall, line: Line | None) -> Route:
        """Ask the bot while the caller hears it ring: ``<Reject>`` declines, all else answers."""
        if line is None or line.agent_id != self.agent_id:
            return await self._other_router(event, line)
        return Answer(self.agent_id)

    async def handler(self, session: MediaSession) -> None:
        """Run the bot's document, verb by verb."""

    __call__ = handler

    def routes(self) -> list[HttpRoute]:
        """What the bot calls as ``https://api.twilio.com``: add them to the app that serves the exchange."""
        return []
