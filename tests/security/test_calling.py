"""S8, S9, S13: who may have us ring whom, and how often: clients of both faces, agents, strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from by_hand import ABROAD, OURS, ByHand
from running import ADMIN, NUMBERS, SECRETS, SOMEBODY, agent_server, running
from websockets.asyncio.server import ServerConnection

PREMIUM = "+19005550123"


@pytest.mark.parametrize("to", [ABROAD, PREMIUM, "+18765550123"])
async def test_s8_no_face_rings_where_the_policy_does_not_let_it(to: str, tmp_path: Path) -> None:
    """Abroad, at a premium rate, and a country that only looks like one's own (+1 876 is Jamaica)."""
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        body = {"agent_id": mine["agent"]["id"], "to_number": to, "from_number": mine["number"]}
        refused = await at.http.post("/v1/calls", json=body)
        assert refused.status_code in (400, 403, 422), refused.text
        later = await at.http.post("/v1/calls", json={**body, "scheduled_at": "2099-01-01T00:00:00Z"})
        assert later.status_code == refused.status_code
        other_face = {"from_number": mine["number"], "to_number": to, "client_websocket_url": "ws://127.0.0.1:9/x"}
        inkbox = await at.http.post("/api/v1/phone/place-call", json=other_face, headers={"X-API-Key": ADMIN})
        assert inkbox.status_code in (400, 403, 422), inkbox.text
        assert at.service.sandboxes is not None
        assert at.service.sandboxes.played["twilio"].far_ends == {}, "the carrier was not even asked"
        assert (await at.ask("POST", "/v1/calls", 201, json={**body, "to_number": SOMEBODY}))["id"]


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_s8_a_call_is_not_transferred_abroad_by_client_or_agent(provider: str, tmp_path: Path) -> None:
    """A model can be talked into a transfer: what an agent says on its socket is held to the policy too."""
    async def talked_into_it(socket: ServerConnection) -> None:
        for to in (ABROAD, PREMIUM, "sip:thief@example.com"):
            await socket.send(json.dumps({"event": "transfer", "to": to}))

    async with running(tmp_path) as at, agent_server(on_start=talked_into_it) as agent:
        mine = await at.equip(provider, agent.url)
        rung = await at.ring(mine["number"])
        await at.until(f"/v1/calls/{rung['call_id']}", lambda call: call["status"] == "in_progress")
        for to in (ABROAD, PREMIUM, "sip:thief@example.com"):
            asked = await at.http.post(f"/v1/calls/{rung['call_id']}/transfer", json={"to": to, "to_number": to})
            assert asked.status_code in (400, 403, 422), asked.text
        await at.until(f"/v1/calls/{rung['call_id']}", lambda call: len(agent.of("error")) >= 3)
        seen = await at.ask("GET", f"/sandbox/calls/{rung['call_id']}")
        assert (seen["state"], seen["transferred_to"]) == ("answered", None)


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_s8_whom_an_agent_may_not_ring_it_may_not_hand_calls_to(provider: str, tmp_path: Path) -> None:
    async def hands_on(socket: ServerConnection) -> None:
        await socket.send(json.dumps({"event": "transfer", "transfer": {"to": "+14155550188"}}))

    async with running(tmp_path) as at, agent_server(on_start=hands_on) as agent:
        mine = await at.equip(provider, agent.url)
        admin = {"X-API-Key": ADMIN}
        handle = next(one["agent_handle"] for one in (await at.http.get("/api/v1/identities/", headers=admin)).json())
        rule = {"action": "block", "match_type": "exact_number", "match_target": "+14155550188"}
        made = await at.http.post(f"/api/v1/identities/{handle}/phone-contact-rules", json=rule, headers=admin)
        assert made.status_code == 201, made.text
        rung = await at.ring(mine["number"])
        await at.until(f"/v1/calls/{rung['call_id']}", lambda call: len(agent.of("error")) >= 1)
        assert agent.of("error")[0]["error"]["code"] == "transfer_failed"
        asked = await at.http.post(f"/v1/calls/{rung['call_id']}/transfer", json={"to_number": "+14155550188"})
        assert asked.status_code == 403, asked.text
        seen = await at.ask("GET", f"/sandbox/calls/{rung['call_id']}")
        assert (seen["state"], seen["transferred_to"]) == ("answered", None)


async def test_s8_incoming_calls_are_not_forwarded_abroad(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        rule = {"inbound_routing": {"fallback": {"forward_to": ABROAD}}}
        set_ = await at.http.patch(f"/v1/phone-numbers/{mine['line']['id']}", json=rule)
        forward = {"incoming_call_action": "forward", "forward_to": ABROAD}
        action = await at.http.patch(f"/v1/agents/{mine['agent']['id']}", json=forward)
        rung = await at.ring(mine["number"])
        seen = await at.until(f"/sandbox/calls/{rung['call_id']}", lambda seen: seen["state"] != "ringing")
        assert seen["transferred_to"] is None, (set_.text, action.text)
        assert at.service.sandboxes is not None
        assert not any(far.to == ABROAD for far in at.service.sandboxes.played["twilio"].far_ends.values())


async def test_s9_no_address_of_the_api_opens_without_a_key(served: ByHand) -> None:
    """Every operation of the API document, with no key, a wrong one, and the right one in the wrong place."""
    async with httpx.AsyncClient(base_url=served.origin, trust_env=False, timeout=60) as nobody:
        document = (await nobody.get("/openapi.json")).json()
        operations = [(method, path) for path, methods in document["paths"].items() for method in methods]
        assert len(operations) > 60
        for method, path in operations:
            bare = path.replace("{", "").replace("}", "")
            assert (await nobody.request(method, bare)).status_code == 401, f"{method} {path}"
        key = served.admin["Authorization"].split()[1]
        dial = {"agent_id": served.agent, "to_number": "+12125550199", "from_number": OURS}
        strangers: list[dict[str, Any]] = [
            {"headers": {"Authorization": "Bearer wrong"}},
            {"headers": {"X-API-Key": key[:-1]}},
            {"headers": {"Authorization": f"Basic {key}"}},
            {"params": {"api_key": key, "token": key}},
            {"cookies": {"Authorization": key}},
        ]
        for how in strangers:
            for path in ("/v1/calls", "/api/v1/phone/place-call", "/sandbox/calls"):
                given = {name: value for name, value in how.items() if name != "cookies"}
                async with httpx.AsyncClient(
                    base_url=served.origin, trust_env=False, cookies=how.get("cookies")
                ) as one:
                    assert (await one.post(path, json=dial, **given)).status_code == 401, (how, path)
        rung = await nobody.get("/v1/calls", params={"to_number": "+12125550199"}, headers=served.admin)
        assert rung.status_code == 200 and rung.json()["items"] == []


async def test_s9_the_library_opens_two_routes_and_none_that_dials(library: ByHand) -> None:
    async with httpx.AsyncClient(base_url=library.origin, trust_env=False) as nobody:
        for path in ("/call", "/calls", "/v1/calls", "/dial", "/docs", "/openapi.json", "/"):
            assert (await nobody.post(path, json={"to": "+12125550199"})).status_code in (404, 405), path


async def test_s13_caps_are_per_credential_and_workspace_not_per_address(tmp_path: Path) -> None:
    """One account is full; from the same address another's calls go through. The workspace's own cap holds both."""
    async with running(tmp_path, max_concurrent=1, calls_per_day=3) as at:
        mine = {provider: await at.equip(provider) for provider in SECRETS}

        async def dial(provider: str) -> int:
            body = {"agent_id": mine[provider]["agent"]["id"], "to_number": SOMEBODY, "from_number": NUMBERS[provider]}
            return (await at.http.post("/v1/calls", json=body)).status_code

        assert [await dial("twilio"), await dial("twilio"), await dial("telnyx")] == [201, 429, 201]
        assert await dial("telnyx") == 429


@pytest.mark.parametrize("cap", ["max_concurrent_per_number", "calls_per_day_per_number"])
async def test_s8_s13_a_number_has_a_cap_of_its_own(cap: str, tmp_path: Path) -> None:
    """One number has had its calls; another of the same workspace still has its own."""
    async with running(tmp_path, **{cap: 1}) as at:
        mine = {provider: await at.equip(provider) for provider in SECRETS}

        async def dial(provider: str) -> int:
            body = {"agent_id": mine[provider]["agent"]["id"], "to_number": SOMEBODY, "from_number": NUMBERS[provider]}
            return (await at.http.post("/v1/calls", json=body)).status_code

        assert [await dial("twilio"), await dial("twilio"), await dial("telnyx")] == [201, 429, 201]
