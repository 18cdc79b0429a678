"""Dialling by REST: what a request must have, whom it may ring, and the magic numbers it fails for."""

from __future__ import annotations

import re

from anycarrier.testing.sandbox_numbers import Login, Outcome, outcome_of
from anycarrier_twilio.sandbox.account import Account
from anycarrier_twilio.sandbox.calls import instructions_from, resource
from anycarrier_twilio.sandbox.numbers import no_funds
from anycarrier_twilio.sandbox.orders import CallOptions, Instructions
from anycarrier_twilio.sandbox.recordings import order_from
from anycarrier_twilio.sandbox.rest import BASE, Operation, Reply, Rest, RestError, throttled

EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_DIGITS = re.compile(r"[0-9A-Da-d#*wW]{1,32}")

_CREATE = {
    "To": "text",
    "From": "text",
    "CallerId": "text",
    "Url": "url",
    "Twiml": "text",
    "ApplicationSid": "text",
    "Method": "method",
    "FallbackUrl": "url",
    "FallbackMethod": "method",
    "StatusCallback": "url",
    "StatusCallbackEvent": "list",
    "StatusCallbackMethod": "method",
    "SendDigits": "text",
    "Timeout": "int",
    "TimeLimit": "int",
    "Record": "bool",
    "RecordingChannels": "text",
    "RecordingTrack": "text",
    "RecordingStatusCallback": "url",
    "RecordingStatusCallbackMethod": "method",
    "RecordingStatusCallbackEvent": "list",
    "Trim": "text",
    "MachineDetection": "text",
    "MachineDetectionTimeout": "int",
    "MachineDetectionSpeechThreshold": "int",
    "MachineDetectionSpeechEndThreshold": "int",
    "MachineDetectionSilenceTimeout": "int",
    "AsyncAmd": "text",
    "AsyncAmdStatusCallback": "url",
    "AsyncAmdStatusCallbackMethod": "method",
    "CallToken": "text",
    "CallReason": "text",
}
_NOT_MODELLED = ("ApplicationSid", "SipAuthUsername", "SipAuthPassword", "Byoc", "ClientNotificationUrl")

async def create(rest: Rest) -> Reply:
    to, from_ = rest.get("To"), rest.get("From")
    if not to:
        raise RestError(400, 21201, "No 'To' number is specified")
    if not from_:
        raise RestError(400, 21213, "No 'From' number is specified")
    for name in _NOT_MODELLED:
        if name in rest.params:
            raise RestError(400, 20001, f"{name} is not played by this sandbox")
    instructions = instructions_from(rest)
    if instructions is None:
        raise RestError(400, 21205, "Url parameter is required.")
    await _may_dial(rest, to)
    for shown in (from_, rest.get("CallerId") or from_):
        _may_show(rest.account, shown)
    options = _options(rest, instructions)
    owned = rest.account.number(from_)
    leg = rest.sandbox.place(
        rest.account,
        direction="outbound-api",
        from_=rest.get("CallerId") or from_,
        to=to,
        options=options,
        number_sid=owned["sid"] if owned else None,
    )
    return Reply(201, resource(leg))


async def _may_dial(rest: Rest, to: str) -> None:
    outcome = outcome_of(to)
    if outcome is Outcome.TIMEOUT:
        await rest.sandbox.closing.wait()
    if outcome in (Outcome.TIMEOUT, Outcome.SERVER_ERROR):
        raise RestError(500, 20500, "Internal Server Error")
    if outcome is Outcome.THROTTLED:
        raise throttled()
    if outcome is Outcome.NO_FUNDS or rest.login is Login.BROKE:
        raise no_funds()
    if outcome is Outcome.INVALID_NUMBER or not (_E164.fullmatch(to) or to.startswith(("sip:", "client:"))):
        raise RestError(400, 21211, f"The phone number you are attempting to call, {to}, is not valid.")
    if outcome is Outcome.FORBIDDEN:
        raise RestError(
            400,
            21215,
            f"Account not authorized to call {to}. Perhaps you need to enable some international permissions: "
            "https://www.twilio.com/user/account/international",
        )


def _may_show(account: Account, number: str) -> None:
    if not _E164.fullmatch(number):
        reason = "is not a valid phone number, shortcode, or SIP address."
        raise RestError(400, 21212, f"The 'From' number {number} {reason}")
    if account.number(number) is None:
        raise RestError(
            400,
            21210,
            f"The source phone number provided, {number}, is not yet verified for your account. "
            "You may only make calls from phone numbers that you've verified or purchased from Twilio.",
        )


def _options(rest: Rest, instructions: Instructions) -> CallOptions:
    digits = rest.get("SendDigits")
    if digits and not _DIGITS.fullmatch(digits):
        raise RestError(400, 20001, f"SendDigits is not valid: {digits[:40]!r}")
    events = rest.words("StatusCallbackEvent") or ["completed"]
    if unknown := sorted(set(events) - EVENTS):
        raise RestError(400, 21626, f"Invalid StatusCallbackEvent(s): {', '.join(unknown)}")
    detection = rest.get("MachineDetection")
    if detection not in ("", "Enable", "DetectMessageEnd"):
        raise RestError(400, 20001, f"MachineDetection is not valid: {detection!r}")
    timeout, limit = int(rest.get("Timeout") or 60), int(rest.get("TimeLimit") or 14400)
    if not 0 < timeout <= 600 or not 0 < limit <= 86400:
        raise RestError(400, 20001, "Timeout must be within 1 and 600 seconds, TimeLimit within 1 and 86400")
    return CallOptions(
        instructions=instructions,
        timeout=timeout,
        time_limit=limit,
        status_url=rest.get("StatusCallback"),
        status_method=rest.get("StatusCallbackMethod", "POST"),
        status_events=frozenset(events),
        send_digits=digits,
        record=order_from(rest, "OutboundAPI") if rest.flag("Record") else None,
        detection=detection,
        detection_async=rest.get("AsyncAmd").lower() == "true",
        detection_url=rest.get("AsyncAmdStatusCallback"),
        detection_method=rest.get("AsyncAmdStatusCallbackMethod", "POST"),
    )


OPERATIONS = [Operation("POST", BASE + "/Calls", create, {**_CREATE, **dict.fromkeys(_NOT_MODELLED, "text")})]
