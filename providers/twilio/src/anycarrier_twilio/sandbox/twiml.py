"""TwiML: which part of it the sandbox plays, and an interpreter that fetches documents and executes their verbs.

A document that cannot be fetched or parsed becomes an entry in the debugger. The call then ends, with a busy signal if
it was not answered, else with a spoken application error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import SILENCE
from anycarrier_twilio.carrier_side import twiml
from anycarrier_twilio.carrier_side.calls_api import StatusCallback
from anycarrier_twilio.carrier_side.twiml import XML_TYPES, Instructions, TwimlError, Verb, rule
from anycarrier_twilio.sandbox.leg import Leg
from anycarrier_twilio.sandbox.media_stream import MediaStream
from anycarrier_twilio.sandbox.models import CallOptions, End
from anycarrier_twilio.sandbox.webhooks import call_params, incoming_params

_CALLBACKS = "statusCallback statusCallbackMethod statusCallbackEvent"

VERBS = {
    "Connect": rule("action method", "Stream"),
    "Dial": rule("action method answerOnBridge callerId timeLimit timeout", "Number Sip", text=True),
    "Hangup": rule(),
    "Pause": rule("length"),
    "Play": rule("digits loop", text=True),
    "Redirect": rule("method", text=True),
    "Reject": rule("reason"),
    "Say": rule("voice language loop", text=True),
}
NOUNS = {
    "Stream": rule("url name track statusCallback statusCallbackMethod", "Parameter"),
    "Parameter": rule("name value"),
    "Number": rule(f"{_CALLBACKS} sendDigits", text=True),
    "Sip": rule(f"{_CALLBACKS} username password", text=True),
}
KNOWN_ELSEWHERE = frozenset(
    {"Start", "Stop", "Gather", "Record", "Enqueue", "Leave", "Queue", "Refer", "Pay", "Prompt"}
)
"""Verbs the carrier has and this sandbox does not play."""


def parse(document: bytes | str) -> list[Verb]:
    """The verbs of a ``<Response>``, read strictly: what the sandbox does not play is an error, never left out."""
    verbs = twiml.parse(document, VERBS, NOUNS, unplayed=KNOWN_ELSEWHERE)
    if any(len(verb.nouns) > 1 for verb in verbs if verb.name == "Dial"):
        raise TwimlError(12200, "<Dial> with several parties is not simulated by this sandbox")
    return verbs


class FetchFailed(TwimlError):
    """The webhook did not answer with instructions."""


async def run(leg: Leg, instructions: Instructions) -> Instructions | End:
    """Do what the TwiML says; the next document to run, or how the call ended."""
    try:
        verbs = parse(instructions.twiml or await fetch(leg, instructions))
    except TwimlError as failure:
        leg.sandbox.complain(failure.code, failure.message, leg)
        if leg.fallback is not None and instructions.url != leg.fallback.url:
            blame = {"ErrorCode": str(failure.code), "ErrorUrl": instructions.url}
            return replace(leg.fallback, params={**instructions.params, **blame})
        unheard = isinstance(failure, FetchFailed) and leg.answered_at is None
        return End("busy") if unheard else _apologise(leg)
    for verb in verbs:
        if leg.answered_at is None and verb.name == "Pause":
            await _pause(leg, verb)  # a first <Pause> delays the pick-up
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


def _apologise(leg: Leg) -> End:
    leg.answer()
    leg.far_end.note("hears of an application error")
    return End("completed")


async def fetch(leg: Leg, instructions: Instructions) -> bytes:
    """The document at the instructions' URL; :class:`FetchFailed` where there is none."""
    new = leg.direction == "inbound" and leg.answered_at is None
    params = {**(incoming_params if new else call_params)(leg), **instructions.params}
    if leg.answered_by is not None:
        params["AnsweredBy"] = leg.answered_by
    delivery = await leg.sandbox.ask("voice", leg, instructions.url, params, instructions.method)
    if delivery.status is None:
        raise FetchFailed(11205, f"HTTP connection failure: {delivery.failure}")
    if not delivery.accepted:
        raise FetchFailed(11200, f"HTTP retrieval failure: the webhook answered {delivery.status}")
    if delivery.reply_type.partition(";")[0].strip().lower() not in XML_TYPES:
        raise FetchFailed(12300, f"Invalid Content-Type: {delivery.reply_type or 'none'}")
    return delivery.reply


# --- verbs --------------------------------------------------------------------------------------------------------


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


async def _play(leg: Leg, verb: Verb) -> None:
    for digit in verb.get("digits"):
        await leg.sandbox.play_digit(leg, digit)
    if verb.text:
        leg.far_end.note(f"hears the file {verb.text}")


async def _say(leg: Leg, verb: Verb) -> None:
    leg.far_end.note(f"hears: {verb.text}")


async def _redirect(leg: Leg, verb: Verb) -> Instructions:
    return Instructions(url=verb.text, method=verb.get("method", "POST"))


async def _reject(leg: Leg, verb: Verb) -> End:
    return End("completed")  # not the first verb: the call was answered, so it is hung up


async def _dial(leg: Leg, verb: Verb) -> Instructions | End | None:
    noun = verb.nouns[0] if verb.nouns else Verb("Number", text=verb.text)
    shown = verb.get("callerId") or leg.from_
    # https://www.twilio.com/docs/api/errors/13214: client and SIP callers have no number that could be shown.
    ours = shown in (leg.from_, leg.to) or leg.account.number(shown) is not None
    if not (ours and shown.startswith("+")):
        leg.sandbox.complain(13214, f"Dial: Invalid callerId value {shown}", leg)
        return _dialled(leg, verb, None, "failed")
    events = frozenset(noun.get("statusCallbackEvent", "completed").split())
    callback = StatusCallback(noun.get("statusCallback"), noun.get("statusCallbackMethod", "POST"), events)
    leg.far_end.transferred_to = noun.text
    leg.far_end.note(f"transferred to {noun.text}")
    options = CallOptions(
        timeout=float(verb.get("timeout", "30")),
        time_limit=float(verb.get("timeLimit", "14400")),
        status_callback=callback if callback.url else None,
        send_digits=noun.get("sendDigits"),
    )
    child = leg.sandbox.place(
        leg.account, direction="outbound-dial", from_=shown, to=noun.text, options=options, parent=leg
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
    params = {"DialCallStatus": status, "DialBridged": "true" if child and child.answered_at else "false"}
    if child is not None:
        params |= {"DialCallSid": child.sid, "DialCallDuration": str(child.seconds)}
    following = _action(verb, params)
    if following is None and leg.answered_at is None:
        return End(status)  # answerOnBridge, and nobody bridged: the caller gets what the callee gave
    return following


def _action(verb: Verb, params: dict[str, str]) -> Instructions | None:
    if not verb.get("action"):
        return None
    return Instructions(url=verb.get("action"), method=verb.get("method", "POST"), params=params)


HANDLERS: dict[str, Callable[[Leg, Verb], Awaitable[Instructions | End | None]]] = {
    "Connect": _connect,
    "Dial": _dial,
    "Hangup": _hangup,
    "Pause": _pause,
    "Play": _play,
    "Redirect": _redirect,
    "Reject": _reject,
    "Say": _say,
}
