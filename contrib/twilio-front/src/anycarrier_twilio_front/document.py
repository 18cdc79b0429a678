"""A bot's TwiML: fetched with a signed form, read into verbs, and refused as a whole where it cannot be run."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from anycarrier.redaction import redact
from anycarrier_twilio.carrier_side import twiml
from anycarrier_twilio.carrier_side.twiml import XML_TYPES, Instructions, TwimlError, Verb, rule
from anycarrier_twilio_front.account import BotAccount
from anycarrier_twilio_front.callbacks import BotError, joined, shown
from anycarrier_twilio_front.calls import FrontCall
from anycarrier_twilio_front.relay_messages import RELAY_ATTRIBUTES

log = logging.getLogger("anycarrier.twilio_front")

_SPOKEN = {
    "Say": rule("voice language loop", text=True, markup=True),
    "Play": rule("digits loop", text=True),
    "Pause": rule("length"),
}
VERBS = {
    **_SPOKEN,
    "Connect": rule("action method", "Stream ConversationRelay"),
    "Dial": rule("action method callerId", "Number Sip", text=True),
    "Gather": rule(
        "action method input timeout speechTimeout numDigits finishOnKey actionOnEmptyResult language hints",
        "Say Play Pause",
    ),
    "Hangup": rule(),
    "Redirect": rule("method", text=True),
    "Reject": rule("reason"),
}
"""What is played. Attributes that Twilio has besides change nothing here, and the log says so."""

NOUNS = {
    "Stream": rule("url name track statusCallback statusCallbackMethod", "Parameter"),
    "ConversationRelay": rule(" ".join(RELAY_ATTRIBUTES), "Parameter Language"),
    "Language": rule("code voice"),
    "Parameter": rule("name value"),
    "Number": rule(text=True),
    "Sip": rule(text=True),
}
UNPLAYED = frozenset(
    "Start Stop Record Enqueue Leave Queue Refer Pay Prompt Sms Message Conference Client Application Sim Siprec "
    "Conversation VirtualAgent Autopilot AiSession Assistant Transcription Recording".split()
)


@dataclass(frozen=True, slots=True)
class Document:
    """The verbs to run, in order, and the URL they came from, which URLs in them are relative to."""

    verbs: tuple[Verb, ...]
    url: str = ""

    def instructions(self, verb: Verb, url: str, params: dict[str, str] | None = None) -> Instructions:
        """To go on at ``url``, as ``verb`` has it."""
        method = verb.get("method", "POST").upper()
        return Instructions(joined(self.url, url), "GET" if method == "GET" else "POST", params=params or {})


def number_of(dial: Verb) -> str:
    """Whom a ``<Dial>`` calls: a number, or a ``sip:`` address."""
    target = dial.nouns[0] if dial.nouns else dial
    bare = target.name == "Sip" and not target.text.lower().startswith(("sip:", "sips:"))
    return f"sip:{target.text}" if bare else target.text


async def fetch(front: BotAccount, call: FrontCall, instructions: Instructions) -> Document:
    """The document of ``instructions``; :class:`BotError` where it cannot be had or run."""
    if instructions.twiml:
        return read(front, instructions.twiml, of=call.sid)
    form = {**call.form(), **instructions.params}
    reply = await front.requests.send(instructions.url, form, instructions.method, cookies=call.cookies)
    if reply.content_type.partition(";")[0].strip().lower() not in XML_TYPES:
        said = reply.content_type[:40] or "none"
        raise BotError(12300, f"Invalid Content-Type: {said!r}: {shown(reply.url)}")
    return read(front, reply.body, of=call.sid, url=reply.url)


def read(front: BotAccount, text: bytes | str, *, of: str = "", url: str = "") -> Document:
    """``text`` read, in the call ``of``; what is unknown in it is a warning if it changes nothing, else raises
    :class:`BotError`."""

    def ignored(sentence: str) -> None:
        log.warning("call %s: 12200: %s: ignored", of, redact(sentence))

    try:
        verbs = twiml.parse(text, VERBS, NOUNS, unplayed=UNPLAYED, ignored=ignored)
        for verb in verbs:
            front.speech.check(verb)
    except TwimlError as wrong:
        where = f": {shown(url)}" if url else ""
        raise BotError(wrong.code, f"{redact(wrong.message)}{where}") from None
    return Document(tuple(verbs), url)
