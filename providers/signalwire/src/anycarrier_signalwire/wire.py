"""SignalWire's webhooks into call events. Pure.

They are Twilio's forms with names of their own, so they are put into Twilio's words and read as such; ``raw`` keeps
what came. What is SignalWire's alone is read here: the request for instructions of a dialled or transferred call, which
comes to a URL that says what for. https://developer.signalwire.com/compatibility-api/cxml/voice
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

import msgspec

from anycarrier.errors import MalformedMessage
from anycarrier.events import CallEvent, CallProgress, IncomingCall, InstructionsFor, InstructionsRequested
from anycarrier.parsing import reading
from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio import wire as twilio

INSTRUCT, TARGET, CALLER_ID = "instruct", "target", "caller_id"
"""Query parameters of the URL at which a call's instructions are asked for; the target and who is shown to it."""

STATUS_URL = "status_url"
"""Where :attr:`InstructionsRequested.raw` has that URL without them: news of the call go there."""

_OURS = frozenset({INSTRUCT, TARGET, CALLER_ID})


def instructions_url(status_url: str, purpose: InstructionsFor, **more: str | None) -> str:
    """``status_url`` as the place where instructions are asked for."""
    pairs = [(INSTRUCT, str(purpose)), *((name, value) for name, value in more.items() if value)]
    return f"{status_url}{'&' if urlsplit(status_url).query else '?'}{urlencode(pairs)}"


def parse(request: WebhookRequest) -> CallEvent:
    """The event in a verified webhook; what has no name here is an ``UnknownEvent``."""
    with reading("signalwire webhook", request.body):
        form = _read(request)
        if form is None:
            return twilio.parse(request)
        asked = {name: value for name, value in request.query().items() if name in _OURS}
        raw = {**form, **asked, STATUS_URL: re.split(rf"[?&]{INSTRUCT}=", request.url)[0]} if asked else dict(form)
        if "CallStatus" in form and not form.keys() & {"Direction", "SipResultCode"}:
            # A number's own callback: the time is when the call was made, and "failed" any end before the answer.
            status = "no-answer" if form["CallStatus"] == "failed" else form["CallStatus"]
            form = {**form, "Timestamp": "", "CallStatus": status}
        event = twilio.parse(WebhookRequest("POST", request.url, {}, urlencode(form).encode()), "signalwire")
    if isinstance(event, IncomingCall) and not event.call.to:
        raise MalformedMessage("signalwire webhook: a call that rings nobody's number", request.body)
    if not isinstance(event, IncomingCall | CallProgress):
        return msgspec.structs.replace(event, raw=raw)
    ours = {"raw": raw, "carrier_status": raw["CallStatus"]}
    event = msgspec.structs.replace(event, call=event.call.model_copy(update=ours), raw=raw)
    if not isinstance(event, CallProgress) or asked.get(INSTRUCT) not in list(InstructionsFor):
        return event
    told = {name: getattr(event, name) for name in event.__struct_fields__}
    event_id = f"{event.call_id}:{INSTRUCT}:{urlencode(asked)}"
    return InstructionsRequested(**{**told, "event_id": event_id}, purpose=InstructionsFor(asked[INSTRUCT]))


def _read(request: WebhookRequest) -> Mapping[str, str] | None:
    """The fields as text; None for JSON that is no call's webhook. Documents say JSON, forms are what arrives."""
    if request.method.upper() == "GET":
        return {name: value for name, value in request.form().items() if name != twilio.REFERENCE}
    if "json" not in (request.header("content-type") or "").lower():
        return request.form()
    body = request.json()
    if not isinstance(body.get("CallSid"), str) or any(isinstance(value, dict | list) for value in body.values()):
        return None
    return {name: str(value) for name, value in body.items() if value is not None}
