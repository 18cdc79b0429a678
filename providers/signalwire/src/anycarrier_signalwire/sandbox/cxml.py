"""cXML: read strictly, fetched from a platform, and played verb by verb.

A document that cannot be fetched or read becomes an entry of the log. The call then ends, with a busy signal if it was
not answered, else after a spoken apology.
"""

from __future__ import annotations

import asyncio
import re
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import SILENCE
from anycarrier_signalwire.sandbox.leg import Leg
from anycarrier_signalwire.sandbox.media_stream import CODECS, MediaStream
from anycarrier_signalwire.sandbox.models import Callback, CallOptions, End, Instructions
from anycarrier_signalwire.sandbox.webhooks import call_params, incoming_params

MOST_BYTES = 64_000
XML_TYPES = ("text/xml", "application/xml")
_NUMBER = re.compile(r"[0-9]{1,9}")

_CALLBACKS = "statusCallback statusCallbackMethod statusCallbackEvent"
ATTRIBUTES = {
    "Response": "",
    "Connect": "action method",
    "Dial": "action method answerOnBridge callerId timeLimit timeout",
    "Hangup": "",
    "Pause": "length",
    "Redirect": "method",
    "Reject": "reason",
    "Say": "voice language loop",
    "Stream": "url name track statusCallback statusCallbackMethod codec realtime authBearerToken",
    "Parameter": "name value",
    "Number": f"{_CALLBACKS} sendDigits method url",
    "Sip": f"{_CALLBACKS} username password codecs method url",
}
NESTED = {"Response": {"Connect", "Dial", "Hangup", "Pause", "Redirect", "Reject", "Say"}, "Connect": {"Stream"},
          "Dial": {"Number", "Sip"}, "Stream": {"Parameter"}}  # fmt: skip
TEXTS = {"Dial", "Redirect", "Say", "Number", "Sip"}
UNPLAYED = {"Start", "Stop", "Gather", "Record", "Enqueue", "Leave", "Queue", "Refer", "Pay", "Play", "Denoise", "Echo"}
"""Verbs the carrier has and this sandbox does not play."""


class CxmlError(Exception):
    """A document that cannot be run, with the code of the carrier's log."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class FetchFailed(CxmlError):
    """The webhook did not answer with instructions."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One element: ``name``, its attributes, text and what is nested in it."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    nouns: tuple[Verb, ...] = ()

    def get(self, attribute: str, default: str = "") -> str:
        return self.attributes.get(attribute, default)


# --- reading ------------------------------------------------------------------------------------------------------


def parse(document: bytes | str) -> list[Verb]:
    """The verbs of a ``<Response>``: 12100 for what is no XML, 12200 for what is not allowed in it."""
    if len(document) > MOST_BYTES:
        raise CxmlError(11750, f"Response body too large: over {MOST_BYTES} bytes")
    text = document.decode("utf-8", "replace") if isinstance(document, bytes) else document
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CxmlError(12100, "Document parse failure: a document type declaration is not allowed")
    try:
        root = ET.fromstring(text.strip())  # noqa: S314 no DTD means no entities to expand
    except (ET.ParseError, RecursionError) as failure:
        raise CxmlError(12100, f"Document parse failure: {failure}") from None
    if root.tag != "Response":
        raise CxmlError(12100, f"Document parse failure: the root element is <{root.tag[:40]}>, not <Response>")
    return list(_read(root).nouns)


def _read(element: ET.Element) -> Verb:
    name = element.tag
    for unknown in sorted(set(element.attrib) - set(ATTRIBUTES[name].split())):
        raise CxmlError(12200, f"attribute {unknown[:40]!r} is not allowed on <{name}>")
    text = (element.text or "").strip()
    if text and name not in TEXTS:
        raise CxmlError(12200, f"text is not allowed in <{name}>")
    for child in element:
        if child.tag not in NESTED.get(name, ()):
            why = "a part of cXML that this sandbox does not play" if child.tag in UNPLAYED else f"not for <{name}>"
            raise CxmlError(12200, f"<{child.tag[:40]}> is {why}")
    verb = Verb(name, dict(element.attrib), text, tuple(_read(child) for child in element))
    _check(verb)
    return verb


def _check(verb: Verb) -> None:
    def must(holds: object, sentence: str) -> None:
        if not holds:
            raise CxmlError(12200, sentence)

    match verb.name:
        case "Connect":
            must(len(verb.nouns) == 1, "<Connect> takes exactly one noun")
        case "Stream":
            must(verb.get("url"), "<Stream> needs a url")
            must(verb.get("track", "inbound_track") == "inbound_track", "a two-way <Stream> has the inbound track only")
            must(verb.get("codec", "PCMU") in CODECS, f"<Stream> has no codec {verb.get('codec')[:20]!r}")
        case "Parameter":
            must(verb.get("name"), "<Parameter> needs a name")
        case "Reject":
            must(verb.get("reason", "rejected") in ("rejected", "busy"), "<Reject> has the reasons rejected and busy")
        case "Dial":
            must(len(verb.nouns) + bool(verb.text) == 1, "<Dial> takes a number or one noun here")
            must(verb.get("action", "http://").startswith(("http://", "https://")), "action is an absolute URL")
        case "Redirect" | "Number" | "Sip":
            must(verb.text, f"<{verb.name}> is empty")
    for attribute in ("timeLimit", "timeout", "length"):
        must(_NUMBER.fullmatch(verb.get(attribute, "0")), f"{attribute} of <{verb.name}> is not a number")


# --- running ------------------------------------------------------------------------------------------------------


async def run(leg: Leg, instructions: Instructions) -> Instructions | End:
    """Do what the document says; the next one to run, or how the call ended."""
    try:
        verbs = parse(await fetch(leg, instructions))
    except CxmlError as failure:
        leg.sandbox.complain(failure.code, failure.message, leg)
        if leg.fallback is not None and instructions.url != leg.fallback.url:
            return replace(leg.fallback, params=instructions.params)
        if isinstance(failure, FetchFailed) and leg.answered_at is None:
            return End("busy")
        leg.answer()
        leg.far_end.note("hears of an application error")
        return End("completed")
    for verb in verbs:
        if leg.answered_at is None and verb.name == "Pause":
            await _pause(leg, verb)  # a first <Pause> delays the answer
            continue
        if leg.answered_at is None and verb.name == "Reject":
            return End("busy", 486) if verb.get("reason") == "busy" else End("no-answer", 603)
        if verb.get("answerOnBridge") != "true":
            leg.answer()  # every other verb answers the call
        step = await HANDLERS[verb.name](leg, verb)
        if step is not None:
            return step
    leg.answer()
    return End("completed")


async def fetch(leg: Leg, instructions: Instructions) -> bytes:
    """The document at the instructions' URL; :class:`FetchFailed` where there is none."""
    new = leg.direction == "inbound" and leg.answered_at is None
    params = {**(incoming_params if new else call_params)(leg), **instructions.params}
    delivery = await leg.sandbox.ask("voice", leg, instructions.url, params, instructions.method)
    if delivery.status is None:
        raise FetchFailed(11200, f"Connection or read timeout: {delivery.failure}")
    if not delivery.accepted:
        code = 11217 if delivery.status >= 400 else 11215
        raise FetchFailed(code, f"HTTP retrieval failure: the webhook answered {delivery.status}")
    if delivery.reply and delivery.reply_type.partition(";")[0].strip().lower() not in XML_TYPES:
        raise FetchFailed(12300, f"Invalid Content-Type: {delivery.reply_type or 'none'}")
    return delivery.reply


async def _connect(leg: Leg, verb: Verb) -> Instructions | None:
    stream = MediaStream(leg, verb.nouns[0])
    leg.stream = stream
    try:
        await stream.run()
    finally:
        leg.stream = None
    return _action(verb, {})


async def _hangup(leg: Leg, verb: Verb) -> End:
    return End("completed")


async def _pause(leg: Leg, verb: Verb) -> None:
    await asyncio.sleep(float(verb.get("length", "1")))


async def _say(leg: Leg, verb: Verb) -> None:
    leg.far_end.note(f"hears: {verb.text}")


async def _redirect(leg: Leg, verb: Verb) -> Instructions:
    return Instructions(verb.text, verb.get("method", "POST"))


async def _dial(leg: Leg, verb: Verb) -> Instructions | End | None:
    noun = verb.nouns[0] if verb.nouns else Verb("Number", text=verb.text)
    shown = verb.get("callerId") or leg.from_
    ours = shown in (leg.from_, leg.to) or leg.project.number(shown) is not None
    if not (ours and shown.startswith("+")):
        leg.sandbox.complain(13214, f"Dial: callerId {shown} is neither owned nor verified", leg)
        return _dialled(leg, verb, None, "failed")
    events = frozenset(noun.get("statusCallbackEvent", "completed").split())
    callback = Callback(noun.get("statusCallback"), noun.get("statusCallbackMethod", "POST"), events)
    leg.far_end.transferred_to = noun.text
    leg.far_end.note(f"transferred to {noun.text}")
    options = CallOptions(
        timeout=float(verb.get("timeout", "30")),
        status_callback=callback if callback.url else None,
        send_digits=noun.get("sendDigits"),
    )
    child = leg.sandbox.place(
        leg.project, direction="outbound-dial", from_=shown, to=noun.text, options=options, parent=leg
    )
    try:
        await child.settled.wait()
        if not child.over:
            leg.answer()
            await _bridge(leg, child)
    finally:
        child.end("completed" if child.answered_at else "canceled")
    return _dialled(leg, verb, child, child.status)


async def _bridge(leg: Leg, child: Leg) -> None:
    """Let the two hear each other until the dialled one is gone; the caller's end cancels this."""
    leg.bridged, child.bridged = child, leg
    talk = [
        asyncio.ensure_future(here.far_end.microphone.speak(partial(_pass_on, there.far_end)))
        for here, there in ((leg, child), (child, leg))
    ]
    try:
        await child.gone.wait()
    finally:
        leg.bridged = child.bridged = None
        for side in talk:
            side.cancel()
        await asyncio.wait(talk)


def _pass_on(ear: FarEnd, frame: bytes) -> None:
    if frame != SILENCE:
        ear.playback.play(frame)


def _dialled(leg: Leg, verb: Verb, child: Leg | None, status: str) -> Instructions | End | None:
    params = {"DialCallStatus": status}
    if child is not None:
        params |= {"DialCallSid": child.sid, "DialCallDuration": str(child.seconds)}
    following = _action(verb, params)
    if following is None and leg.answered_at is None:
        return End(status)  # answerOnBridge, and nobody bridged: the caller gets what the callee gave
    return following


def _action(verb: Verb, params: dict[str, str]) -> Instructions | None:
    if not verb.get("action"):
        return None
    return Instructions(verb.get("action"), verb.get("method", "POST"), params)


HANDLERS: dict[str, Callable[[Leg, Verb], Awaitable[Instructions | End | None]]] = {
    "Connect": _connect,
    "Dial": _dial,
    "Hangup": _hangup,
    "Pause": _pause,
    "Redirect": _redirect,
    "Reject": _hangup,  # not the first verb: the call was answered, so it is hung up
    "Say": _say,
}
