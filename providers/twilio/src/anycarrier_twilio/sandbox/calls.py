"""The REST resource of calls: read, list, and change (hang up or other TwiML)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from anycarrier_twilio.sandbox.leg import Leg
from anycarrier_twilio.sandbox.numbers import friendly
from anycarrier_twilio.sandbox.orders import Instructions
from anycarrier_twilio.sandbox.rest import BASE, PAGING, Operation, Reply, Rest, RestError, not_found, page
from anycarrier_twilio.sandbox.webhooks import API_VERSION, rfc2822

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


def instructions_from(rest: Rest) -> Instructions | None:
    """What a request wants run; ``Twiml`` wins over ``Url``."""
    url, twiml = rest.get("Url"), rest.get("Twiml")
    fallback_url = rest.get("FallbackUrl")
    fallback = Instructions(url=fallback_url, method=rest.get("FallbackMethod", "POST")) if fallback_url else None
    if twiml:
        return Instructions(twiml=twiml, fallback=fallback)
    if url:
        return Instructions(url=url, method=rest.get("Method", "POST"), fallback=fallback)
    return None


async def update(rest: Rest) -> Reply:
    leg, status = _leg(rest), rest.get("Status")
    instructions = instructions_from(rest)
    if rest.get("Url") and rest.get("Twiml"):
        raise RestError(400, 20001, "Url and Twiml exclude each other")
    if status not in ("", "completed", "canceled"):
        raise RestError(400, 20001, f"Invalid status {status!r}: completed or canceled")
    if leg.over:
        raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
    leg.change(
        status_url=rest.get("StatusCallback") or None,
        status_method=rest.get("StatusCallbackMethod") or None,
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
            on_day(rest, name, when) for name, when in (("StartTime", leg.answered_at), ("EndTime", leg.ended_at))
        )

    newest_first = reversed(rest.account.calls.values())
    return page(rest, "calls", [resource(leg) for leg in newest_first if fits(leg)])


def on_day(rest: Rest, name: str, when: datetime | None) -> bool:
    day = when.date().isoformat() if when else ""
    holds: dict[str, Callable[[str, str], bool]] = {"": str.__eq__, "<": str.__le__, ">": str.__ge__}
    asked = {sign: rest.get(name + sign)[:10] for sign in holds}
    return all(not limit or (day != "" and holds[sign](day, limit)) for sign, limit in asked.items())


def resource(leg: Leg) -> dict[str, Any]:
    """The call as the carrier's API shows it."""
    path = f"/{API_VERSION}/Accounts/{leg.account.sid}/Calls/{leg.sid}"
    links = "events notifications payments recordings siprec streams transcriptions".split()
    links += ["user_defined_message_subscriptions", "user_defined_messages"]
    return {
        "sid": leg.sid,
        "date_created": rfc2822(leg.created),
        "date_updated": rfc2822(leg.updated),
        "parent_call_sid": leg.parent.sid if leg.parent else None,
        "account_sid": leg.account.sid,
        "to": leg.to,
        "to_formatted": friendly(leg.to),
        "from": leg.from_,
        "from_formatted": friendly(leg.from_),
        "phone_number_sid": leg.number_sid,
        "status": leg.status,
        "start_time": rfc2822(leg.answered_at),
        "end_time": rfc2822(leg.ended_at),
        "duration": str(leg.seconds) if leg.over else None,
        "price": None,
        "price_unit": "USD",
        "direction": leg.direction,
        "answered_by": leg.answered_by,
        "api_version": API_VERSION,
        "forwarded_from": None,
        "group_sid": None,
        "caller_name": None,
        "queue_time": "0",
        "trunk_sid": None,
        "uri": f"{path}.json",
        "subresource_uris": {link: f"{path}/{_file(link)}.json" for link in links},
    }


def _file(link: str) -> str:
    return "".join(word.title() for word in link.split("_"))


_DAYS = {f"{name}{sign}": "text" for name in ("StartTime", "EndTime") for sign in ("", "<", ">")}
_FILTERS = {"To": "text", "From": "text", "ParentCallSid": "text", "Status": "text", **_DAYS}
OPERATIONS = [
    Operation("GET", BASE + "/Calls", list_calls, {**PAGING, **_FILTERS}),
    Operation("GET", BASE + "/Calls/{Sid}", fetch),
    Operation("POST", BASE + "/Calls/{Sid}", update, _UPDATE),
    Operation("DELETE", BASE + "/Calls/{Sid}", delete),
]
