"""What a person otherwise clicks together in the portal: applications, and what they see there: balance, profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from anycarrier_telnyx.sandbox.account import Account
from anycarrier_telnyx.sandbox.rest import Ask, data, listed
from anycarrier_telnyx.sandbox.validation import Refusal, problem, refuse
from anycarrier_telnyx.sandbox.webhooks import moment


def _application(account: Account, application_id: str) -> dict[str, Any]:
    found = account.applications.get(application_id)
    if found is None:
        raise refuse("10005", "There is no such call control application.")
    return found


def _check(account: Account, body: Mapping[str, Any]) -> None:
    profile = body.get("outbound", {}).get("outbound_voice_profile_id")
    if profile not in (None, "", account.profile_id):
        at = "/outbound/outbound_voice_profile_id"
        raise Refusal(problem("10015", "There is no such outbound voice profile.", pointer=at))


async def applications(ask: Ask) -> Response:
    """GET /call_control_applications"""
    wanted = ask.query.get("filter[application_name][contains]", "").casefold()
    rows = [row for row in ask.account.applications.values() if wanted in row["application_name"].casefold()]
    return listed(rows, ask.query)


async def create_application(ask: Ask) -> Response:
    """POST /call_control_applications"""
    _check(ask.account, ask.body)
    return data(ask.account.add_application(ask.body), 201)


async def fetch_application(ask: Ask) -> Response:
    """GET /call_control_applications/{id}"""
    return data(_application(ask.account, ask.ids["id"]))


async def update_application(ask: Ask) -> Response:
    """PATCH /call_control_applications/{id}"""
    found = _application(ask.account, ask.ids["id"])
    _check(ask.account, ask.body)
    for name, value in ask.body.items():
        if name in ("inbound", "outbound"):
            found[name].update(value)
        else:
            found[name] = value
    found["updated_at"] = moment()
    return data(found)


async def delete_application(ask: Ask) -> Response:
    """DELETE /call_control_applications/{id}"""
    found = _application(ask.account, ask.ids["id"])
    if any(number["connection_id"] == found["id"] for number in ask.account.numbers.values()):
        raise refuse("10021", "Phone numbers are assigned to this application.")
    del ask.account.applications[found["id"]]
    return data(found)


async def balance(ask: Ask) -> Response:
    """GET /balance"""
    return data(
        {
            "record_type": "balance",
            "balance": "100.00",
            "pending": "0.00",
            "credit_limit": "0.00",
            "available_credit": "100.00",
            "currency": "USD",
        }
    )


async def profiles(ask: Ask) -> Response:
    """GET /outbound_voice_profiles"""
    profile = {
        "id": ask.account.profile_id,
        "record_type": "outbound_voice_profile",
        "name": "Default",
        "connections_count": len(ask.account.applications),
        "traffic_type": "conversational",
        "service_plan": "global",
        "usage_payment_method": "rate-deck",
        "enabled": True,
        "concurrent_call_limit": None,
        "tags": [],
        "whitelisted_destinations": ["US", "CA"],
        "created_at": ask.account.created_at,
        "updated_at": ask.account.created_at,
    }
    wanted = ask.query.get("filter[name][contains]", "").casefold()
    return listed([profile] if wanted in "default" else [], ask.query)


async def active_calls(ask: Ask) -> Response:
    """GET /connections/{id}/active_calls"""
    _application(ask.account, ask.ids["id"])
    rows = [
        leg.summary(with_times=False)
        for leg in ask.account.legs.values()
        if leg.connection_id == ask.ids["id"] and leg.ended_at is None
    ]
    meta = {"total_items": len(rows), "cursors": {"after": "", "before": ""}}
    return JSONResponse({"data": rows, "meta": meta})
