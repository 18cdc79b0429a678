"""Plays BXML on a leg: asks for documents and executes their verbs.

A document that cannot be had ends the call with ``callback-error``, unless its fallback has one; one that cannot be
read with ``invalid-bxml``. When no verb is left the call ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import SILENCE
from anycarrier_bandwidth.sandbox.bxml import BxmlError, Verb, parse
from anycarrier_bandwidth.sandbox.leg import Document, End, Leg, Options
from anycarrier_bandwidth.sandbox.media_stream import MediaStream
from anycarrier_bandwidth.sandbox.recordings import Recording
from anycarrier_bandwidth.sandbox.webhooks import callback_of, event, streamed

MOST_TRACKS = 4
SILENT = frozenset({"Forward", "Hangup", "StartGather", "StopGather", "StopStream", "StopRecording", "Redirect"})
"""Verbs that do not answer an unanswered call; <Ring> may be told not to."""

Step = Document | End | None


async def run(leg: Leg, document: Document) -> Step:
    """Do what the BXML says; the next document to run, how the call ended, or None when no verb is left."""
    try:
        content, base = document.content, document.base
        if document.callback is not None:
            asked = await leg.ask(document.callback, document.event or {})
            if not asked.accepted or (asked.reply.strip() and "xml" not in asked.reply_type):
                why = asked.failure or f"the webhook answered {asked.status} {asked.reply_type}".rstrip()
                if document.fallback is not None:
                    return replace(document, callback=document.fallback, fallback=None)
                return End("callback-error", why)
            content, base = asked.reply, document.callback.url
        verbs = parse(content)
        for verb in verbs:
            if verb.name not in SILENT and (verb.name != "Ring" or verb.flag("answerCall", True)):
                leg.answer()
            step = await HANDLERS[verb.name](leg, verb, base)
            if step is not None:
                return step
    except BxmlError as failure:
        leg.sandbox.invalid.append(str(failure))
        return End("invalid-bxml", str(failure))
    return None


# --- verbs --------------------------------------------------------------------------------------------------------


async def _start_stream(leg: Leg, verb: Verb, base: str) -> None:
    stream = MediaStream(leg, verb, callback_of(verb, "streamEvent", base))
    live = [each for each in leg.streams.values() if not each.over.is_set()]
    if any(each.name == stream.name for each in live):
        cause, why = "duplicate", f"A stream with the name {stream.name} already exists"
    elif sum(len(each.tracks) for each in live) + len(stream.tracks) > MOST_TRACKS:
        cause, why = "track-limit", "The call has as many track streams as it may have"
    else:
        leg.streams[stream.name] = stream
        leg.sandbox.start(stream.run())
        return
    leg.tell(stream.callback, streamed(leg, "mediaStreamRejected", stream, cause, why))


async def _stop_stream(leg: Leg, verb: Verb, base: str) -> None:
    stream = leg.streams.get(verb.get("name"))
    if stream is None:
        return
    if not verb.flag("wait"):
        stream.stop()
        return
    await stream.over.wait()
    if stream.dropped:  # by the network: the carrier has not noticed
        await leg.gone.wait()


async def _start_gather(leg: Leg, verb: Verb, base: str) -> None:
    leg.gather = callback_of(verb, "dtmf", base)


async def _stop_gather(leg: Leg, verb: Verb, base: str) -> None:
    leg.gather = None


async def _send_dtmf(leg: Leg, verb: Verb, base: str) -> None:
    pauses = {"w": 0.5, ",": 0.5, "W": 1.0}
    for key in verb.text:
        await asyncio.sleep(pauses.get(key, leg.sandbox.digit_seconds))
        if key not in pauses:
            leg.far_end.digits += key.upper()


async def _start_recording(leg: Leg, verb: Verb, base: str) -> None:
    if leg.recording is not None and leg.recording.ended_at is None:
        raise BxmlError("the call is being recorded already")
    if verb.get("fileFormat", "wav") != "wav":
        raise BxmlError("this sandbox records WAV only")
    callback = callback_of(verb, "recordingAvailable", base)
    channels = 2 if verb.flag("multiChannel") else 1
    leg.recording = Recording(leg, callback, channels=channels, name=verb.get("recordingName"))


async def _stop_recording(leg: Leg, verb: Verb, base: str) -> None:
    if leg.recording is not None:
        leg.recording.stop()


async def _pause_recording(leg: Leg, verb: Verb, base: str) -> None:
    if leg.recording is not None:
        leg.recording.recorder.paused = verb.name == "PauseRecording"


async def _hangup(leg: Leg, verb: Verb, base: str) -> End:
    return End()


async def _wait(leg: Leg, verb: Verb, base: str) -> None:
    await asyncio.sleep(verb.seconds("duration", 5.0 if verb.name == "Ring" else 1.0))


async def _heard(leg: Leg, verb: Verb, base: str) -> None:
    leg.far_end.note(f"hears {verb.text}")


async def _redirect(leg: Leg, verb: Verb, base: str) -> Document:
    callback = callback_of(verb, "redirect", base)
    fallback = callback_of(verb, "redirectFallback", base, "fallbackUsername fallbackPassword")
    return Document(callback, fallback, event(leg, "redirect"), base=base)


async def _forward(leg: Leg, verb: Verb, base: str) -> End:
    """Another party takes the call; nobody is asked anything, and its end is told as the call's own."""
    if leg.answered_at is not None:
        return End("application-error", "<Forward> is for calls that are not answered")
    to = verb.get("to")
    _sent_on(leg, to)
    options = Options(timeout=verb.seconds("callTimeout", 30.0))
    child = leg.sandbox.place(
        leg.account, direction="outbound", from_=verb.get("from") or leg.to, to=to, application=leg.application,
        options=options, parent=leg,
    )  # fmt: skip
    return await _joined(leg, child)


async def _transfer(leg: Leg, verb: Verb, base: str) -> Step:
    party = verb.nested[0]
    to = party.text
    _sent_on(leg, to)
    shown = verb.get("transferCallerId") or (leg.from_ if leg.direction == "inbound" else leg.to)
    options = Options(
        answer=callback_of(party, "transferAnswer", base),
        answer_fallback=callback_of(party, "transferAnswerFallback", base, "fallbackUsername fallbackPassword"),
        disconnect=callback_of(party, "transferDisconnect", base),
        timeout=verb.seconds("callTimeout", 30.0),
        callback_timeout=leg.options.callback_timeout,
    )
    child = leg.sandbox.place(
        leg.account, direction="outbound", from_=shown, to=to, application=leg.application, options=options,
        parent=leg, tag=party.get("tag") or leg.tag,
    )  # fmt: skip
    how = await _joined(leg, child)
    callback = callback_of(verb, "transferComplete", base)
    if callback is None:
        return None
    fallback = callback_of(verb, "transferCompleteFallback", base, "fallbackUsername fallbackPassword")
    told = event(leg, "transferComplete", cause=how.cause, errorMessage=how.error, **_transfer_fields(child))
    return Document(callback, fallback, told)


def _transfer_fields(child: Leg) -> dict[str, str]:
    return {"transferCallerId": child.from_, "transferTo": child.to}


def _sent_on(leg: Leg, to: str) -> None:
    leg.far_end.transferred_to = to
    leg.far_end.note(f"transferred to {to}")


async def _joined(leg: Leg, child: Leg) -> End:
    """Wait for the called party, and let the two talk until one is gone; the caller's end cancels this."""
    try:
        await child.ready.wait()
        if not child.over:
            leg.answer()
            await _talk(leg, child)
    finally:
        child.end(End() if child.answered_at else End("cancel", "The caller left"))
    return End(child.cause or "hangup", child.error, child.sip_code)


async def _talk(leg: Leg, child: Leg) -> None:
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


HANDLERS: dict[str, Callable[[Leg, Verb, str], Awaitable[Step]]] = {
    "Forward": _forward,
    "Hangup": _hangup,
    "Pause": _wait,
    "PauseRecording": _pause_recording,
    "PlayAudio": _heard,
    "Redirect": _redirect,
    "ResumeRecording": _pause_recording,
    "Ring": _wait,
    "SendDtmf": _send_dtmf,
    "SpeakSentence": _heard,
    "StartGather": _start_gather,
    "StartRecording": _start_recording,
    "StartStream": _start_stream,
    "StopGather": _stop_gather,
    "StopRecording": _stop_recording,
    "StopStream": _stop_stream,
    "Transfer": _transfer,
}

