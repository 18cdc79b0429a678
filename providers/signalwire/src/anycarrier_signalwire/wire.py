"""SignalWire's webhooks into call events. Pure.

They are Twilio's forms with names of their own, so they are put into Twilio's words and read as such; ``raw`` keeps
what came. What is SignalWire's alone is read here: the request for instructions of a dialled or transferred call, which
comes to a URL that says what for. https://developer.signalwire.com/compatibility-api/cxml/voice
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from anycarrier.calls import Call
from anycarrier.errors import MalformedMessage
from anycarrier.events import CallEvent, CallProgress, IncomingCall, InstructionsFor, InstructionsRequested
from anycarrier.parsing import reading
from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio import wire as twilio
from anycarrier_twilio.call_status import ANSWERED_BY, STATUSES, call_from_rest, end_reason

PROVIDER = "signalwire"

INSTRUCT, TARGET, CALLER_ID = "instruct", "target", "caller_id"
"""Query parameters of the URL at which a call's instructions are asked for; the target and who is shown to it."""

STATUS_URL = "status_url"
"""Where :attr:`InstructionsRequested.raw` has that URL without them: news of the call go there."""

_FORM = {"content-type": "application/x-www-form-urlencoded"}
_PURPOSES = {str(purpose): purpose for purpose in InstructionsFor}


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
        asked, bare = _asked(request.url)
        body = urlencode(_as_twilio(form)).encode()
        event = twilio.parse(WebhookRequest("POST", request.url, _FORM, body))
    raw: dict[str, Any] = {**form, **asked, STATUS_URL: bare} if asked else dict(form)
    if isinstance(event, IncomingCall | CallProgress):
        ours = {"provider": PROVIDER, "raw": raw, "carrier_status": form["CallStatus"]}
        call = event.call.model_copy(update=ours)
        if isinstance(event, CallProgress) and asked.get(INSTRUCT) in _PURPOSES:
            return InstructionsRequested(
                call_id=event.call_id,
                reference=event.reference,
                event_id=f"{event.call_id}:{INSTRUCT}:{urlencode(asked)}",
                raw=raw,
                call=call,
                purpose=_PURPOSES[asked[INSTRUCT]],
            )
        return msgspec.structs.replace(event, call=call, raw=raw)
    return msgspec.structs.replace(event, raw=raw)


def call_of_rest(body: Mapping[str, Any]) -> Call:
    """The call in a REST answer, whose end is judged by its SIP code too."""
    if not body["sid"] or body["status"] not in STATUSES:
        raise ValueError("an empty id, or a status that is not known")
    call = call_from_rest({**body, "answered_by": _who(str(body.get("answered_by") or ""))})
    code = str(body.get("sip_result_code") or "")
    sip_code = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else None
    reason = end_reason(call.carrier_status or "", sip_code)
    return call.model_copy(update={"provider": PROVIDER, "raw": body, "sip_code": sip_code, "reason": reason})


def _read(request: WebhookRequest) -> Mapping[str, str] | None:
    """The fields as text; None for JSON that is no call's webhook. Documents say JSON, forms are what arrives."""
    if request.method.upper() == "GET":
        own = {"ref", INSTRUCT, TARGET, CALLER_ID}
        return {name: value for name, value in request.form().items() if name not in own}
    if "json" not in (request.header("content-type") or "").lower():
        return request.form()
    body = request.json()
    if not isinstance(body.get("CallSid"), str):
        return None
    return {name: _text(value) for name, value in body.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, dict | list):
        raise MalformedMessage("signalwire webhook: a field holds more than text")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _asked(url: str) -> tuple[dict[str, str], str]:
    """What instructions are asked for at ``url``, and the URL without that."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    ours = {name: value for name, value in pairs if name in (INSTRUCT, TARGET, CALLER_ID)}
    if INSTRUCT not in ours:
        return {}, url
    rest = [(name, value) for name, value in pairs if name == "ref"]
    return ours, urlunsplit(parts._replace(query=urlencode(rest)))


def _as_twilio(form: Mapping[str, str]) -> dict[str, str]:
    known = {"SipResponseCode" if name == "SipResultCode" else name: value for name, value in form.items()}
    if "AnsweredBy" in known:
        known["AnsweredBy"] = _who(known["AnsweredBy"])
    if "CallStatus" in known and not known.keys() & {"Direction", "SipResponseCode"}:
        # A number's own callback: the time is when the call was made, and "failed" any end before the answer.
        known.pop("Timestamp", None)
        known["CallStatus"] = "no-answer" if known["CallStatus"] == "failed" else known["CallStatus"]
    return known


def _who(word: str) -> str:
    """REST says ``machine``; what a callback says is in no document, and Twilio's words are the likely ones."""
    return next((known for known in ANSWERED_BY if known.startswith(word)), word) if word == "machine" else word
