"""RelayFront: a bot written for ConversationRelay as a Python agent, with the agent's own engines and settings.

    bot = RelayFront(account_sid=f"AC{32 * '0'}", auth_token="made-up", voice_url="https://bot/twiml")
    agents.add("front-desk", handler=bot)
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from anycarrier.agent import AgentCall
from anycarrier.errors import AgentUnreachable, StreamNotOpen
from anycarrier_twilio.carrier_side.twiml import Instructions, TwimlError, Verb
from anycarrier_twilio_front.account import BotAccount
from anycarrier_twilio_front.callbacks import BotError, joined
from anycarrier_twilio_front.calls import FrontCall
from anycarrier_twilio_front.document import Document, fetch, number_of
from anycarrier_twilio_front.relay_session import RelaySession
from anycarrier_twilio_front.sounds import fetch_sound

MOST_DOCUMENTS = 100
"""Documents of one call: a bot that redirects for ever is ended."""


class _Playable:
    """What a :class:`RelayFront` plays of TwiML: what an agent can do by itself, and ``<ConversationRelay>``."""

    def check(self, verb: Verb) -> None:
        """Raise ``TwimlError`` for anything else."""
        if verb.name == "Gather" or (verb.name == "Connect" and verb.nouns[0].name != "ConversationRelay"):
            name = verb.nouns[0].name if verb.name == "Connect" else verb.name
            raise TwimlError(12200, f"<{name}> cannot be played by a RelayFront: use a TwilioFront")


class RelayFront(BotAccount):
    """Twilio's ConversationRelay, to one bot: a Python agent whose words come from the bot's WebSocket.

    ``account_sid`` and ``auth_token`` are what the bot has in its settings, made up for it. ``voice_url`` is asked for
    each call once it is answered, and has to lead to ``<Connect><ConversationRelay>``. ``<Say>``, ``<Play>``,
    ``<Pause>``, ``<Dial>``, ``<Redirect>`` and ``<Hangup>`` are played too, before it and in its ``action``. Only the
    host of ``voice_url`` is asked, and ``hosts``. What cannot be run ends the call with ``agent_error``.
    """

    speech = _Playable()

    async def __call__(self, call: AgentCall) -> None:
        """Handle one call."""
        known = FrontCall(self.account_sid, call.call, self.voice)
        step: Instructions | None = self.voice
        try:
            for _ in range(MOST_DOCUMENTS):
                if step is None or call.ended:
                    return
                known.call = call.call
                running = step
                try:
                    step = await self._run(call, known, await fetch(self, known, running))
                except BotError as failure:
                    step = self.fall_back(known, running, failure)
            raise BotError(11200, f"{MOST_DOCUMENTS} documents that do nothing but lead to the next")
        except StreamNotOpen:
            pass  # the caller hung up first
        except BotError as failure:
            self.complain(known, failure)
            host = urlsplit(self.voice.url).hostname or ""
            raise AgentUnreachable(call.session.agent_id, host, str(failure)) from None

    async def _run(self, call: AgentCall, known: FrontCall, document: Document) -> Instructions | None:
        """Play a document; what is to be run after it."""
        for verb in document.verbs:
            match verb.name:
                case "Connect":
                    if (following := await self._relay(call, known, document, verb)) is not None:
                        return following
                case "Say":
                    await call.say(verb.text)
                case "Play" if verb.text:
                    url = joined(document.url, verb.text)
                    await call.play(await fetch_sound(self.requests, url, known.cookies, call.session.format))
                case "Pause":
                    await asyncio.sleep(float(verb.get("length", "1")))
                case "Dial":
                    await call.transfer(number_of(verb))
                    return None
                case "Redirect":
                    return document.instructions(verb, verb.text)
                case "Hangup" | "Reject":
                    return None
        return None

    async def _relay(self, call: AgentCall, known: FrontCall, document: Document, verb: Verb) -> Instructions | None:
        relay = RelaySession(self, known, call.session, verb.nouns[0], document.url)
        end = await relay.run(call.conversation)
        known.call = call.call
        if not verb.get("action"):
            return None
        after = document.instructions(verb, verb.get("action"), relay.form(end))
        if not call.ended:
            return after
        self.post_action(known, after)
        return None
