"""The REST resource of calls: dial, read, list, and change (hang up or run other TwiML)."""

from __future__ import annotations

import math
import re
from typing import Any

from anycarrier.testing.sandbox_numbers import Login, Outcome, outcome_of
from anycarrier_twilio.carrier_side.calls_api import (
    RestError,
    call_resource,
    read_callback,
    read_instructions,
    read_options,
)
from anycarrier_twilio.sandbox.leg import Leg
from anycarrier_twilio.sandbox.models import Account, CallOptions
from anycarrier_twilio.sandbox.phone_numbers import friendly, no_funds
from anycarrier_twilio.sandbox.recordings import order_from
from anycarrier_twilio.sandbox.rest import (
    BASE,
    PAGING,
    Operation,
    Reply,
    Rest,
    not_found,
    page,
    throttled,
)

PRICE_A_MINUTE = -0.0085
"""Invented. A charge is negative; the carrier adds it to the resource some time after the call."""
_E164 = re.compile(r"\+[1-9]\d{6,14}")

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
_UNSUPPORTED = ("ApplicationSid", "SipAuthUsername", "SipAuthPassword", "Byoc", "ClientNotificationUrl")
_UPDATE = {
    "Status": "text",
    "Url": "url",
    "Twiml": "text",
    "Method": "method",
    "FallbackUrl": "url",
    "FallbackMethod": "method",
    "StatusCallback": "url",
    "StatusCallbackMethod": "method",
    "TimeLimit": "int",
}


async def create(rest: Rest) -> Reply:
    to, from_ = rest.get("To"), rest.get("From")
    if not to:
        raise RestError(400, 21201, "No 'To' number is specified")
    if not from_:
        raise RestError(400, 21213, "No 'From' number is specified")
    for name in _UNSUPPORTED:
        if name in rest.params:
            raise RestError(400, 20001, f"{name} is not simulated by this sandbox")
    if read_instructions(rest) is None:
        raise RestError(400, 21205, "Url parameter is required.")
    await _may_dial(rest, to)
    for shown in (from_, rest.get("CallerId") or from_):
        _may_show(rest.account, shown)
    options = read_options(rest, CallOptions, record=order_from(rest, "OutboundAPI") if rest.flag("Record") else None)
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


async def update(rest: Rest) -> Reply:
    leg, status = _leg(rest), rest.get("Status")
    instructions = read_instructions(rest)
    if rest.get("Url") and rest.get("Twiml"):
        raise RestError(400, 20001, "Url and Twiml exclude each other")
    if status not in ("", "completed", "canceled"):
        raise RestError(400, 20001, f"Invalid status {status!r}: completed or canceled")
    if leg.over:
        raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
    leg.change(
        status_callback=read_callback(rest, "StatusCallback"),
        time_limit=float(rest.get("TimeLimit")) if rest.get("TimeLimit") else None,
    )
    if status == "completed":
        leg.end("completed" if leg.answered_at else "canceled")
    elif status == "canceled":
        if not leg.answered_at:  # an answered call is left alone
            leg.end("canceled")
    elif instructions is not None:
        if leg.status != "in-progress":
            raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
        leg.redirect(instructions)
    return Reply(200, resource(leg))


def _leg(rest: Rest) -> Leg:
    return rest.account.calls.get(rest.path["Sid"]) or not_found(rest)


async def fetch(rest: Rest) -> Reply:
    return Reply(200, resource(_leg(rest)))


async def delete(rest: Rest) -> Reply:
    leg = _leg(rest)
    if not leg.over:
        raise RestError(400, 20001, "a call in progress cannot be deleted")
    del rest.account.calls[leg.sid]
    return Reply(204)


async def list_calls(rest: Rest) -> Reply:
    def fits(leg: Leg) -> bool:
        texts = {"To": leg.to, "From": leg.from_, "Status": leg.status}
        texts["ParentCallSid"] = leg.parent.sid if leg.parent else ""
        return all(rest.get(name) in ("", value) for name, value in texts.items()) and all(
            rest.on_day(name, when) for name, when in (("StartTime", leg.answered_at), ("EndTime", leg.ended_at))
        )

    newest_first = reversed(rest.account.calls.values())
    return page(rest, "calls", [resource(leg) for leg in newest_first if fits(leg)])


def resource(leg: Leg) -> dict[str, Any]:
    """The call as the carrier's API shows it."""
    ends = {"to": leg.to, "to_formatted": friendly(leg.to), "from": leg.from_, "from_formatted": friendly(leg.from_)}
    return call_resource(
        leg.account.sid,
        leg.sid,
        created=leg.created,
        updated=leg.updated,
        answered=leg.answered_at,
        ended=leg.ended_at,
        parent_call_sid=leg.parent.sid if leg.parent else None,
        phone_number_sid=leg.number_sid,
        status=leg.status,
        duration=str(leg.seconds) if leg.over else None,
        price=f"{PRICE_A_MINUTE * math.ceil(leg.seconds / 60):.5f}" if leg.over and leg.answered_at else None,
        direction=leg.direction,
        answered_by=leg.answered_by,
        **ends,
    )


_DAYS = {f"{name}{sign}": "text" for name in ("StartTime", "EndTime") for sign in ("", "<", ">")}
_FILTERS = {"To": "text", "From": "text", "ParentCallSid": "text", "Status": "text", **_DAYS}
OPERATIONS = [
    Operation("POST", BASE + "/Calls", create, {**_CREATE, **dict.fromkeys(_UNSUPPORTED, "text")}),
    Operation("GET", BASE + "/Calls", list_calls, {**PAGING, **_FILTERS}),
    Operation("GET", BASE + "/Calls/{Sid}", fetch),
    Operation("POST", BASE + "/Calls/{Sid}", update, _UPDATE),
    Operation("DELETE", BASE + "/Calls/{Sid}", delete),
]
