"""The REST resource of calls: dial, read, list, and change (hang up, or run other BXML)."""

from __future__ import annotations

import re
from typing import Any

from anycarrier.testing.sandbox_numbers import Outcome, outcome_of
from anycarrier_bandwidth.sandbox.account import Login, stamp
from anycarrier_bandwidth.sandbox.bxml import BxmlError, parse
from anycarrier_bandwidth.sandbox.leg import Detection, Document, End, Options
from anycarrier_bandwidth.sandbox.recordings import leg_of
from anycarrier_bandwidth.sandbox.rest import VOICE, Operation, Refusal, Reply, Rest, check
from anycarrier_bandwidth.sandbox.webhooks import Callback, event, may_log_in

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_LOGINS = dict.fromkeys(("username", "password", "fallbackUsername", "fallbackPassword"), "text")
_CREATE = {
    "to": "text", "from": "text", "applicationId": "text", "answerUrl": "url", "answerMethod": "method",
    "answerFallbackUrl": "url", "answerFallbackMethod": "method", "disconnectUrl": "url", "disconnectMethod": "method",
    "callTimeout": "number", "callbackTimeout": "number", "machineDetection": "object", "priority": "number",
    "privacy": "flag", "displayName": "text", "uui": "text", "tag": "text", **_LOGINS,
}  # fmt: skip
_DETECTION = {
    "mode": "text", "detectionTimeout": "number", "silenceTimeout": "number", "speechThreshold": "number",
    "speechEndThreshold": "number", "machineSpeechEndThreshold": "number", "delayResult": "flag", "callbackUrl": "url",
    "callbackMethod": "method", "fallbackUrl": "url", "fallbackMethod": "method", **_LOGINS,
}  # fmt: skip
_UPDATE = {
    "state": "text", "redirectUrl": "url", "redirectMethod": "method", "redirectFallbackUrl": "url",
    "redirectFallbackMethod": "method", "tag": "text", **_LOGINS,
}  # fmt: skip
_DEFAULTS = {
    "callTimeout": 30, "callbackTimeout": 15, "answerMethod": "POST", "disconnectMethod": "POST", "priority": 5
}  # fmt: skip
_RANGES = {"callTimeout": (1, 300), "callbackTimeout": (1, 25), "priority": (1, 5)}


async def create(rest: Rest) -> Reply:
    body = {name: value for name, value in rest.body.items() if value is not None}
    for name in ("from", "to", "applicationId", "answerUrl"):
        if not body.get(name):
            raise Refusal(400, f"{name} is required")
    for name, (least, most) in _RANGES.items():
        if name in body and not least <= body[name] <= most:
            raise Refusal(400, f"Invalid {name}: must be from {least} to {most}")
    await _may_dial(rest, body)
    options = Options(
        answer=_callback(body, "answer"),
        answer_fallback=_callback(body, "answerFallback", "fallback"),
        disconnect=_callback(body, "disconnect"),
        timeout=float(body.get("callTimeout", 30)),
        callback_timeout=float(body.get("callbackTimeout", 15)),
        detection=_detection(body.get("machineDetection")),
    )
    leg = rest.sandbox.place(
        rest.account, direction="outbound", from_=body["from"], to=body["to"], application=body["applicationId"],
        options=options, tag=body.get("tag", ""),
    )  # fmt: skip
    if body.get("uui"):
        leg.far_end.headers["User-to-User"] = body["uui"]
    unsaid = ("machineDetection", "uui", "privacy", "displayName")
    told = {name: value for name, value in {**_DEFAULTS, **body}.items() if name not in unsaid}
    told |= {"accountId": rest.account.id, "callId": leg.id, "callUrl": leg.url, "enqueuedTime": stamp(leg.created)}
    return Reply(201, told, {"Location": leg.url})  # the password too: the carrier repeats it


async def _may_dial(rest: Rest, body: dict[str, Any]) -> None:
    to, from_ = body["to"], body["from"]
    outcome = outcome_of(to)
    if outcome is Outcome.TIMEOUT:
        await rest.sandbox.closing.wait()
    if outcome in (Outcome.TIMEOUT, Outcome.SERVER_ERROR):
        raise Refusal(500, "Internal server error", kind="internal-error")
    if outcome is Outcome.THROTTLED:
        raise Refusal(429, "Account call creation rate limit exceeded", kind="system-overloaded")
    if outcome is Outcome.NO_FUNDS:
        raise Refusal(402, "The account is out of credits", kind="error")
    if outcome is Outcome.INVALID_NUMBER or not (_E164.fullmatch(to) or to.startswith("sip:")):
        raise Refusal(400, "Invalid to: must be an E164 telephone number")
    if not _E164.fullmatch(from_):
        raise Refusal(400, "Invalid from: must be an E164 telephone number")
    if outcome is Outcome.FORBIDDEN:
        raise Refusal(403, "The account is not allowed to call this destination", kind="authorization-error")
    if from_ not in rest.account.numbers:
        raise Refusal(403, "The account does not hold the from number", kind="authorization-error")
    if body["applicationId"] not in rest.account.applications:
        raise Refusal(400, "Invalid applicationId: no such application")


def _callback(body: dict[str, Any], prefix: str, login: str = "") -> Callback | None:
    url = body.get(f"{prefix}Url")
    if not url:
        return None
    names = ("fallbackUsername", "fallbackPassword") if login else ("username", "password")
    user, password = (body.get(name) or "" for name in names)
    if user and not may_log_in(url):
        raise Refusal(400, f"Invalid {prefix}Url: must be https when a username is given")
    return Callback(url, body.get(f"{prefix}Method") or "POST", Login(user, password))


def _detection(asked: dict[str, Any] | None) -> Detection | None:
    if asked is None:
        return None
    check(asked, _DETECTION, "machineDetection.")
    mode = asked.get("mode") or "async"
    if mode not in ("async", "sync"):
        raise Refusal(400, "Invalid machineDetection.mode: must be async or sync")
    callback = _callback(asked, "callback")
    if mode == "async" and callback is None:
        raise Refusal(400, "machineDetection.callbackUrl is required in async mode")
    return Detection(mode, bool(asked.get("delayResult")), callback)


async def update(rest: Rest) -> Reply:
    leg, state = leg_of(rest), rest.body.get("state") or "active"
    if state not in ("active", "completed"):
        raise Refusal(400, "Invalid state: must be active or completed")
    if leg.over:
        raise Refusal(409, "Call cannot be modified in its current state")
    if state == "completed":
        leg.end(End() if leg.answered_at or leg.direction == "inbound" else End("cancel"))
        return Reply(200)
    callback = _callback(rest.body, "redirect")
    if callback is None:
        raise Refusal(400, "redirectUrl is required unless state is completed")
    if leg.state != "answered" and leg.direction == "outbound":
        raise Refusal(409, "Call cannot be modified in its current state")
    leg.tag = rest.body.get("tag") or leg.tag
    leg.redirect(Document(callback, _callback(rest.body, "redirectFallback", "fallback"), event(leg, "redirect")))
    return Reply(200)


async def update_bxml(rest: Rest) -> Reply:
    leg = leg_of(rest)
    if leg.over or (leg.state != "answered" and leg.direction == "outbound"):
        raise Refusal(409, "Call cannot be modified in its current state")
    try:
        parse(rest.raw)
    except BxmlError as failure:
        raise Refusal(400, f"Invalid BXML: {failure}") from None
    base = (leg.options.answer or Callback("")).url
    leg.redirect(Document(content=rest.raw, base=base))
    return Reply(204)


async def fetch(rest: Rest) -> Reply:
    return Reply(200, leg_of(rest).resource())


async def list_calls(rest: Rest) -> Reply:
    """The calls that fit, newest first; pages and times are not simulated."""
    wanted = {"to": rest.get("to"), "from": rest.get("from"), "disconnectCause": rest.get("disconnectCause")}
    if unknown := set(rest.query) - {*wanted, "pageSize"}:
        raise Refusal(400, f"{min(unknown)[:40]} is not simulated by this sandbox")
    found = [leg.resource() for leg in reversed(rest.account.calls.values())]
    return Reply(200, [call for call in found if all(value in ("", call[name]) for name, value in wanted.items())])


OPERATIONS = [
    Operation("POST", VOICE, create, takes=_CREATE),
    Operation("GET", VOICE, list_calls),
    Operation("GET", VOICE + "/{call}", fetch),
    Operation("POST", VOICE + "/{call}", update, takes=_UPDATE),
    Operation("PUT", VOICE + "/{call}/bxml", update_bxml, xml="*"),
]
