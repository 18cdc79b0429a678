"""Why a SIP call ended, as platforms see it: by both APIs, their webhooks, and asked of the carrier."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from house import OURS, House, Receiver

from anycarrier_server.store import parse_id

REFUSED = {
    "busy": (486, 600),
    "rejected": (603,),
    "marked_as_spam": (607, 608),
    "provider_permission_denied": (402, 403),
    "invalid_number": (301, 302, 404, 410, 416, 484, 485, 604),
    "no_answer": (408, 480, 504),
    "canceled": (487,),
    "provider_auth_failed": (401, 407),
    "provider_rate_limited": (429, 503),
    "provider_unavailable": (406, 415, 420, 421, 482, 483, 488, 494, 500, 501, 502, 505, 513, 580, 606),
}
"""Final answers of a telephone that has rung, by what they mean. The 503 has a Retry-After."""

CAUSES = {
    "busy": (17,),
    "rejected": (21,),
    "no_answer": (16, 18, 19, 127),
    "invalid_number": (1, 2, 3, 22, 28),
    "unreachable": (20, 27),
    "provider_unavailable": (34, 38, 41, 42, 44, 47, 58, 65, 79, 88),
    "provider_permission_denied": (50, 52, 55, 57, 87),
}
"""Q.850 causes beside a 480; those that say nothing leave it as it is."""

ENDS = [
    *((f"+15005559{status}", status, why) for why, statuses in REFUSED.items() for status in statuses),
    *((f"+15005558{cause:03}", 480, why) for why, causes in CAUSES.items() for cause in causes),
]

STANDS = {
    **dict.fromkeys(("busy", "rejected", "marked_as_spam"), ("failed", "rejected")),
    "no_answer": ("canceled", None),
    "canceled": ("canceled", "local"),
}
"""What Inkbox's API makes of them; of all others it says that the call failed."""


def stands(call: dict[str, Any]) -> tuple[str, str | None]:
    return call["status"], call["hangup_reason"]


def hook(receiver: Receiver) -> dict[str, Any]:
    return {"name": "ours", "url": f"{receiver.url}/one", "events": ["call.failed"]}


async def placed(house: House, receiver: Receiver, face: str, agent: str, number: str) -> None:
    if face == "oneinbox":
        await house.call(agent, number)
    else:
        body = {"from_number": OURS, "to_number": number, "client_websocket_url": house.line.url}
        await house.ask("POST", "/api/v1/phone/place-call", json={**body, "webhook_url": f"{receiver.url}/own"})


@pytest.mark.parametrize("face", ["oneinbox", "inkbox"])
async def test_each_end_is_told_alike_by_both_apis_their_webhooks_and_the_carrier(
    house: House, receiver: Receiver, face: str
) -> None:
    agent = await house.agent()
    await house.number("sip", agent)
    receiver.secrets["/one"] = (await house.ask("POST", "/v1/webhooks", 201, json=hook(receiver)))["secret"]
    for number, _, _ in ENDS:
        await placed(house, receiver, face, agent, number)

    async def over() -> dict[str, dict[str, Any]]:
        shown = (await house.ask("GET", "/v1/calls", params={"limit": 100}))["items"]
        return {call["to_number"]: call for call in shown if call["ended_at"]}

    async with asyncio.timeout(60):
        while len(calls := await over()) < len(ENDS):
            await asyncio.sleep(0.1)
    paths = ["/one", "/own"] if face == "inkbox" else ["/one"]
    await receiver.until(lambda: all(sum(to == path for to, _ in receiver.got) >= len(ENDS) for path in paths), 60)
    told = {body["to_number"]: body for path, body in receiver.got if path == "/one"}
    ended = [body["data"]["call"] for path, body in receiver.got if path == "/own"]
    assert len(ended) == (len(ENDS) if face == "inkbox" else 0)
    for call in ended:
        number = call["remote_phone_number"]
        assert stands(call) == STANDS.get(calls[number]["end_reason"], ("failed", None)), number
    for number, status, why in ENDS:
        call = calls[number]
        assert (call["status"], call["end_reason"], call["sip_status"]) == ("failed", why, status), number
        assert told[number]["end_reason"] == why and told[number]["sip_status"] == status
        path = f"/api/v1/phone/calls/{parse_id('call', call['id'])}"
        assert STANDS.get(why, ("failed", None)) == stands(await house.ask("GET", path)), number
        seen = await house.service.exchange.fetch_call(call["provider_call_id"])
        assert (seen.reason, seen.sip_code) == (why, status)
