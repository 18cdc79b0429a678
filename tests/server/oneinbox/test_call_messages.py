"""What is said on calls, asked for while they go on: each utterance once, in order, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest
from house import House

SAID = [
    ("agent", "Hi there! This is Aria from Acme."),
    ("user", "Oh hi, book me in please."),
    ("agent", "You are booked for Thursday."),
]


@pytest.fixture(params=["twilio", "telnyx"])
async def staffed(request: pytest.FixtureRequest, house: House) -> House:
    house.agent_id = await house.agent()
    await house.number(request.param, house.agent_id)
    return house


async def asked(house: House, calls: str, **query: Any) -> dict[str, Any]:
    found: dict[str, Any] = await house.ask("GET", "/v1/calls/messages", params={"calls": calls, **query})
    return found


async def test_what_is_said_can_be_read_during_the_call_and_each_utterance_once(staffed: House) -> None:
    made = await staffed.call(staffed.agent_id)
    page = await staffed.said(made["id"], len(SAID))
    assert (await staffed.ask("GET", f"/v1/calls/{made['id']}"))["status"] == "in_progress"
    assert [(one["role"], one["content"]) for one in page["items"]] == SAID
    assert [one["number"] for one in page["items"]] == [0, 1, 2]
    assert page["items"][0]["at"].endswith("Z") and page["items"][0]["call_id"] == made["id"]
    assert (page["next"], page["has_more"]) == (f"{made['id']}:2", False)
    assert (await asked(staffed, page["next"])) == {"items": [], "next": page["next"], "has_more": False}


async def test_a_short_page_says_that_there_is_more_and_nothing_is_passed_over(staffed: House) -> None:
    made = [await staffed.call(staffed.agent_id) for _ in range(2)]
    for one in made:
        await staffed.said(one["id"], len(SAID))
    calls, found = ",".join(one["id"] for one in made), []
    while True:
        page = await asked(staffed, calls, limit=2)
        found += page["items"]
        calls = page["next"]
        if not page["has_more"]:
            break
    for one in made:
        assert [(s["role"], s["content"]) for s in found if s["call_id"] == one["id"]] == SAID
    assert len(found) == 6


async def test_a_call_of_another_agent_or_of_nobody_is_not_read(staffed: House) -> None:
    made = await staffed.call(staffed.agent_id)
    await staffed.said(made["id"], len(SAID))
    keys = []
    for agent_id in (staffed.agent_id, await staffed.agent("Ben")):
        body = {"label": "bot", "scoped_identity_id": agent_id}
        keys.append((await staffed.ask("POST", "/api/v1/api-keys", 201, json=body))["api_key"])
    own, other = ({"Authorization": f"Bearer {key}"} for key in keys)
    query = {"calls": made["id"]}
    read = await staffed.ask("GET", "/v1/calls/messages", params=query, headers=own)
    assert len(read["items"]) == len(SAID)
    await staffed.ask("GET", "/v1/calls/messages", 404, params=query, headers=other)
    await staffed.ask("GET", "/v1/calls/messages", 404, params={"calls": f"{made['id']},call_{'0' * 32}"})


async def test_a_call_that_a_contact_rule_refused_is_not_an_agents_to_read(staffed: House) -> None:
    made = await staffed.call(staffed.agent_id)
    await staffed.said(made["id"], len(SAID))
    body = {"label": "bot", "scoped_identity_id": staffed.agent_id}
    key = (await staffed.ask("POST", "/api/v1/api-keys", 201, json=body))["api_key"]
    row = await staffed.service.store.calls.find(made["id"])
    assert row is not None
    await staffed.service.store.calls.block(row.id)
    own = {"Authorization": f"Bearer {key}"}
    await staffed.ask("GET", "/v1/calls/messages", 404, params={"calls": made["id"]}, headers=own)


@pytest.mark.parametrize(
    "calls", ["", "x", f"call_{'0' * 32}:", f"call_{'0' * 32}:x", f"call_{'g' * 32}",
              ",".join(f"call_{n:032x}" for n in range(101))], ids=range(6),
)  # fmt: skip
async def test_what_names_no_calls_or_too_many_is_refused(house: House, calls: str) -> None:
    refused = await house.ask("GET", "/v1/calls/messages", 422, params={"calls": calls})
    assert refused["detail"][0]["loc"] == ["query", "calls"]
