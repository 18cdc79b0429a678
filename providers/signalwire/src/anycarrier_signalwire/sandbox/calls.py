"""The REST resource of calls: dial, read, list, change (hang up, or ask elsewhere what to do), and forget."""

from __future__ import annotations

import math
import re
from typing import Any

from anycarrier.testing.sandbox_numbers import Login, Outcome, outcome_of
from anycarrier_signalwire.sandbox.leg import Leg
from anycarrier_signalwire.sandbox.models import Callback, CallOptions, Instructions, Project, rfc2822
from anycarrier_signalwire.sandbox.phone_numbers import friendly, no_funds
from anycarrier_signalwire.sandbox.recordings import order_from
from anycarrier_signalwire.sandbox.rest import (
    BASE,
    CALL_EVENTS,
    PAGING,
    Operation,
    Reply,
    Rest,
    RestError,
    not_found,
    page,
    throttled,
)

PRICE_A_MINUTE = 0.00928
"""A captured one. A charge is positive here."""
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_KEYS = re.compile(r"[\d#*wW]{0,32}")
_UNKNOWN = (
    "annotation answered_by audio_in_mos audio_out_jitter_avg audio_out_jitter_max audio_out_jitter_min audio_out_lost "
    "audio_rtt_avg audio_rtt_max audio_rtt_min caller_name forwarded_from group_sid"
).split()

_CREATE = {
    "To": "text",
    "From": "text",
    "CallerId": "text",
    "Url": "url",
    "Method": "method",
    "FallbackUrl": "url",
    "FallbackMethod": "method",
    "StatusCallback": "url",
    "StatusCallbackMethod": "method",
    "StatusCallbackEvent": "list",
    "SendDigits": "text",
    "Timeout": "int",
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
    "MachineWordsThreshold": "int",
    "AsyncAmd": "bool",
    "AsyncAmdStatusCallback": "url",
    "AsyncAmdStatusCallbackMethod": "method",
    "AsyncAmdPartialResults": "bool",
    "MaxPricePerMinute": "text",
}
"""There is no Twiml, Laml or TimeLimit in the document, so they are refused here."""
_UPDATE = {
    "Status": "text",
    "Url": "url",
    "Method": "method",
    "FallbackUrl": "url",
    "FallbackMethod": "method",
    "StatusCallback": "url",
    "StatusCallbackMethod": "method",
}


def _instructions(rest: Rest) -> Instructions | None:
    fallback_url, url = rest.get("FallbackUrl"), rest.get("Url")
    fallback = Instructions(fallback_url, rest.get("FallbackMethod", "POST")) if fallback_url else None
    return Instructions(url, rest.get("Method", "POST"), fallback=fallback) if url else None


async def create(rest: Rest) -> Reply:
    to, from_ = rest.get("To"), rest.get("From")
    if not to:
        raise RestError(400, 21211, "To is missing")
    if not from_:
        raise RestError(400, 21213, "From is missing")
    instructions = _instructions(rest)
    if instructions is None:
        raise RestError(400, 21205, "Url is missing")
    await _may_dial(rest, to)
    for shown in (from_, rest.get("CallerId") or from_):
        _may_show(rest.project, shown)
    detection = rest.get("MachineDetection", "none")
    if detection not in ("Enable", "DetectMessageEnd", "none"):
        raise RestError(400, 21234, f"MachineDetection has no {detection[:40]!r}")
    if rest.flag("AsyncAmd") and not rest.get("AsyncAmdStatusCallback"):
        raise RestError(400, 21262, "AsyncAmdStatusCallback is missing")
    if not _KEYS.fullmatch(rest.get("SendDigits")):
        raise RestError(400, 10000, "SendDigits: 1 to 32 of 0-9 # * w W")
    timeout = rest.number("Timeout", 60)
    if timeout < 1:
        raise RestError(400, 10000, "Timeout must be above 0")
    amd = rest.get("AsyncAmdStatusCallback")
    options = CallOptions(
        instructions=instructions,
        timeout=timeout,
        status_callback=rest.callback("StatusCallback", CALL_EVENTS),
        send_digits=rest.get("SendDigits"),
        detection="" if detection == "none" else detection,
        detection_async=rest.flag("AsyncAmd"),
        detection_callback=Callback(amd, rest.get("AsyncAmdStatusCallbackMethod", "POST")) if amd else None,
        record=order_from(rest, "OutBoundApi", "trim-silence") if rest.flag("Record") else None,
        shown=rest.get("CallerId"),
    )
    leg = rest.sandbox.place(rest.project, direction="outbound-api", from_=from_, to=to, options=options)
    return Reply(200, resource(leg))


async def _may_dial(rest: Rest, to: str) -> None:
    outcome = outcome_of(to)
    if outcome is Outcome.TIMEOUT:
        await rest.sandbox.closing.wait()
    if outcome in (Outcome.TIMEOUT, Outcome.SERVER_ERROR):
        raise RestError(500, 20001, "Internal server error")
    if outcome is Outcome.THROTTLED:
        raise throttled()
    if outcome is Outcome.NO_FUNDS or rest.login is Login.BROKE:
        raise no_funds()
    if outcome is Outcome.INVALID_NUMBER or not (_E164.fullmatch(to) or to.startswith(("sip:", "client:"))):
        raise RestError(400, 21217, f"{to[:40]} is not a valid phone number")
    if outcome is Outcome.FORBIDDEN:
        raise RestError(400, 21219, f"{to} is not verified for this project")


def _may_show(project: Project, number: str) -> None:
    if not _E164.fullmatch(number):
        raise RestError(400, 21212, f"From must be E.164, and is {number[:40]}")
    if project.number(number) is None:
        raise RestError(400, 21210, f"{number} is neither owned nor verified by this project")


async def update(rest: Rest) -> Reply:
    leg, status, instructions = _leg(rest), rest.get("Status"), _instructions(rest)
    if status not in ("", "completed", "canceled"):
        raise RestError(400, 10000, f"Status has no {status[:40]!r}")
    if leg.over:
        raise RestError(400, 10000, "The call is over")
    if status == "completed":
        if not leg.answered_at:
            raise RestError(400, 21220, "The call is not in progress")
        leg.end("completed")
    elif status == "canceled":
        if leg.answered_at:
            raise RestError(400, 10000, "A call in progress cannot be canceled")
        leg.end("canceled", 487)
    elif instructions is not None:
        if leg.status != "in-progress":
            raise RestError(400, 21220, "The call is not in progress")
        leg.redirect(instructions)
    return Reply(200, resource(leg))


def _leg(rest: Rest) -> Leg:
    return rest.project.calls.get(rest.path["Sid"]) or not_found(rest)


async def fetch(rest: Rest) -> Reply:
    return Reply(200, resource(_leg(rest)))


async def delete(rest: Rest) -> Reply:
    """The record of a call that is over; a call that is not is left alone."""
    leg = _leg(rest)
    if not leg.over:
        raise RestError(400, 20009, "The call is not over: its record cannot be deleted")
    del rest.project.calls[leg.sid]
    return Reply(204)


async def list_calls(rest: Rest) -> Reply:
    def fits(leg: Leg) -> bool:
        told = {"To": leg.to, "From": leg.from_, "Status": leg.status, "ParentCallSid": leg.parent_sid or ""}
        return all(rest.get(name) in ("", value) for name, value in told.items())

    newest_first = reversed(rest.project.calls.values())
    return page(rest, "calls", [resource(leg) for leg in newest_first if fits(leg)])


def resource(leg: Leg) -> dict[str, Any]:
    """The call as the carrier's API shows it: the duration is a number, and the direction one of two words."""
    uri = f"{leg.project.path}/Calls/{leg.sid}"
    owned = leg.project.number(leg.to if leg.direction == "inbound" else leg.from_)
    return {
        **dict.fromkeys(_UNKNOWN),
        "sid": leg.sid,
        "account_sid": leg.project.sid,
        "date_created": rfc2822(leg.created),
        "date_updated": rfc2822(leg.updated),
        "parent_call_sid": leg.parent_sid,
        "to": leg.to,
        "formatted_to": friendly(leg.to),
        "to_formatted": friendly(leg.to),
        "from": leg.from_,
        "formatted_from": friendly(leg.from_),
        "from_formatted": friendly(leg.from_),
        "phone_number_sid": owned["sid"] if owned else None,
        "status": leg.status,
        "start_time": rfc2822(leg.answered_at),
        "end_time": rfc2822(leg.ended_at),
        "duration": leg.seconds if leg.over else 0,
        "price": PRICE_A_MINUTE * math.ceil(leg.seconds / 60) if leg.over and leg.answered_at else None,
        "price_unit": "USD",
        "direction": "inbound" if leg.direction == "inbound" else "outbound",
        "answered_by": {"human": "human", "machine_start": "machine", "machine_end_beep": "machine"}.get(
            leg.answered_by or ""
        ),
        "api_version": "2010-04-01",
        "uri": uri,
        "subresource_uris": {"notifications": None, "recordings": f"{uri}/Recordings"},
        "sip_result_code": str(leg.sip_code) if leg.over and leg.sip_code else None,
    }


_FILTERS = {"To": "text", "From": "text", "ParentCallSid": "text", "Status": "text"}
OPERATIONS = [
    Operation("POST", BASE + "/Calls", create, _CREATE, lists_errors=True),
    Operation("GET", BASE + "/Calls", list_calls, {**PAGING, **_FILTERS}),
    Operation("GET", BASE + "/Calls/{Sid}", fetch),
    Operation("POST", BASE + "/Calls/{Sid}", update, _UPDATE),
    Operation("DELETE", BASE + "/Calls/{Sid}", delete),
]
