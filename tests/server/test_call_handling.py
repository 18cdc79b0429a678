"""How incoming calls are taken: back and forth for every kind of agent, and for one number alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from running import NUMBERS, SECRETS, Running, agent_server, running

ACTION = "/api/v1/phone/incoming-call-action"


async def two_numbers(at: Running, **agent: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """One agent with a number on each carrier."""
    mine = await at.equip("twilio", **agent)
    other = await at.ask(
        "POST", "/v1/credentials", 201, json={"name": "too", "provider": "telnyx", "api_key": SECRETS["telnyx"]}
    )
    asked = {"phone_number": NUMBERS["telnyx"], "provider": "telnyx", "agent_id": mine["agent"]["id"]}
    line = await at.ask("POST", "/v1/phone-numbers", 201, json={**asked, "credential_id": other["id"]})
    return mine["agent"], {"twilio": mine["line"], "telnyx": line}


async def explained(at: Running, number: str) -> str:
    return str((await at.ask("GET", "/ops/route", params={"to": number}))["outcome"])


DOORS: dict[str, dict[str, Any]] = {
    "handler": {"handler": "repeat"}, "socket": {"websocket_url": "ws://127.0.0.1:9/agent"}, "neither": {},
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
async def test_a_line_closed_for_the_night_is_opened_in_the_morning(door: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio", **DOORS[door])
        path = f"/v1/agents/{mine['agent']['id']}"
        for action, outcome in (("auto_reject", "reject"), ("auto_accept", "answer"), ("auto_reject", "reject")):
            changed = await at.ask("PATCH", path, json={"incoming_call_action": action})
            assert (changed["incoming_call_action"], changed["ignored"]) == (action, [])
            assert await explained(at, mine["number"]) == outcome
        assert (await at.ask("PATCH", path, json={"incoming_call_action": None}))["incoming_call_action"] is None
        assert await explained(at, mine["number"]) == "answer"
        assert (await at.ask("GET", path))["handler"] == DOORS[door].get("handler")


async def test_an_agent_with_a_handler_is_opened_again_over_the_inkbox_api_too(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("telnyx", handler="repeat")
        whose = {"agent_identity_id": mine["agent"]["id"]}
        for action in ("auto_reject", "auto_accept", "auto_reject", "auto_accept"):
            assert (await at.ask("PUT", ACTION, json={**whose, "incoming_call_action": action}))[
                "incoming_call_action"
            ] == action
        url = {"client_websocket_url": "ws://127.0.0.1:9/agent"}
        await at.ask("PUT", ACTION, json={**whose, "incoming_call_action": "auto_accept", **url})
        gone = await at.ask(
            "PUT", ACTION, json={**whose, "incoming_call_action": "auto_accept", "client_websocket_url": None}
        )
        assert gone["client_websocket_url"] is None


async def test_what_an_action_needs_is_refused_by_name_and_nothing_is_changed(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio", handler="repeat")
        path = f"/v1/agents/{mine['agent']['id']}"
        for wrong in (
            {"incoming_call_action": "webhook"}, {"incoming_call_action": "forward"}, {"incoming_call_action": "never"},
            {"forwarding_phone_number": "+12125550188", "forwarding_sip_uri": "sip:desk@pbx.example.com"},
        ):  # fmt: skip
            await at.ask("PATCH", path, 422, json=wrong)
        await at.ask("PATCH", path, json={"incoming_call_action": "forward", "forwarding_phone_number": "+12125550188"})
        assert await explained(at, mine["number"]) == "forward"


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_one_numbers_settings_are_not_its_agents_other_numbers(provider: str, tmp_path: Path) -> None:
    other = "telnyx" if provider == "twilio" else "twilio"
    async with running(tmp_path) as at, agent_server() as own:
        agent, lines = await two_numbers(at, handler="repeat")
        one = f"/api/v1/phone/numbers/{lines[provider]['id']}"
        two = f"/api/v1/phone/numbers/{lines[other]['id']}"
        before = await at.ask("GET", two)
        changed = await at.ask("PATCH", one, json={"client_websocket_url": own.url})
        assert changed["client_websocket_url"] == own.url
        assert await at.ask("GET", two) == before
        assert (await at.ask("GET", f"/v1/agents/{agent['id']}"))["websocket_url"] is None
        rung = await at.ring(NUMBERS[provider])
        async with asyncio.timeout(30):
            await own.arrived.wait()
        await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")
        assert (await at.ask("GET", f"/api/v1/phone/calls/{rung['id']}"))["client_websocket_url"] == own.url

        rung = await at.ring(NUMBERS[other])
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
        await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")
        assert len(own.calls) == 1, "the other number's calls go to the handler"

        await at.ask("PATCH", one, json={"incoming_call_action": "auto_reject"})
        assert (await explained(at, NUMBERS[provider]), await explained(at, NUMBERS[other])) == ("reject", "answer")
        told = await at.ask("GET", "/ops/route", params={"to": NUMBERS[provider]})
        own_step = next(step for step in told["steps"] if step["question"] == "number's own settings")
        assert own_step["found"] == "incoming_call_action, websocket_url" and "the number declines" in told["why"]
        shown = await at.ask("GET", f"/v1/phone-numbers/{lines[provider]['id']}")
        assert shown["call_handling"] == {"incoming_call_action": "auto_reject", "websocket_url": own.url}


async def test_a_call_dialled_from_a_number_with_a_socket_of_its_own_goes_there(tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as own, agent_server() as agents:
        agent, lines = await two_numbers(at, websocket_url=agents.url)
        path = f"/v1/phone-numbers/{lines['twilio']['id']}"
        await at.ask("PATCH", path, json={"call_handling": {"websocket_url": own.url}})
        for provider, talks in (("twilio", own), ("telnyx", agents)):
            asked = {"agent_id": agent["id"], "from_number": NUMBERS[provider], "to_number": "+12125550142"}
            made = await at.ask("POST", "/v1/calls", 201, json=asked)
            async with asyncio.timeout(30):
                await talks.arrived.wait()
            await at.ask("POST", f"/v1/calls/{made['id']}/stop")
        assert (len(own.calls), len(agents.calls)) == (1, 1)


async def test_a_number_may_leave_its_agents_socket_to_the_handler(tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as agents:
        _, lines = await two_numbers(at, websocket_url=agents.url, handler="listen")
        path = f"/api/v1/phone/numbers/{lines['telnyx']['id']}"
        await at.ask("PATCH", path, json={"client_websocket_url": None})
        rung = await at.ring(NUMBERS["telnyx"])
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
        await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")
        assert agents.calls == []


async def test_what_is_set_at_the_identity_holds_for_all_its_numbers(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        agent, lines = await two_numbers(at, handler="repeat")
        one = f"/api/v1/phone/numbers/{lines['twilio']['id']}"
        await at.ask("PATCH", one, json={"incoming_call_action": "auto_reject"})
        await at.ask("PUT", ACTION, json={"agent_identity_id": agent["id"], "incoming_call_action": "auto_accept"})
        assert (await at.ask("GET", one))["incoming_call_action"] == "auto_accept"


async def test_a_number_goes_back_to_its_agents_setting_and_takes_none_along_to_another_agent(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        _, lines = await two_numbers(at, handler="repeat")
        path = f"/v1/phone-numbers/{lines['twilio']['id']}"
        closed = {"call_handling": {"incoming_call_action": "auto_reject"}}
        assert (await at.ask("PATCH", path, json=closed))["call_handling"] == closed["call_handling"]
        assert (await at.ask("PATCH", path, json={"call_handling": None}))["call_handling"] == {}
        await at.ask("PATCH", path, json=closed)
        other = await at.ask("POST", "/v1/agents", 201, json={"name": "Other", "handler": "listen"})
        assert (await at.ask("PATCH", path, json={"agent_id": other["id"]}))["call_handling"] == {}
        assert await explained(at, NUMBERS["twilio"]) == "answer"
