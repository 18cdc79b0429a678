"""The control API of ``--sandbox``: being the other end of a call, on each carrier, without knowing which it is."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from pathlib import Path

import pytest
from running import NUMBERS, SOMEBODY, agent_server, running

from anycarrier.testing.far_end import FarEnd
from anycarrier_server import sandbox_api
from anycarrier_server.refusals import NotOffered, StoreUnreachable
from fake_speech import FakeEngine

CARRIERS = ("twilio", "telnyx")


async def test_every_installed_carrier_has_a_ready_credential_and_one_is_the_default(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        ready = (await at.ask("GET", "/v1/credentials"))["items"]
        assert at.service.sandboxes is not None
        assert {one["provider"] for one in ready} == set(at.service.sandboxes.played) >= set(CARRIERS)
        assert [one["is_default"] for one in ready].count(True) == 1
        for one in ready:
            assert one["status"] == "active"
        offered = await at.ask("GET", "/v1/phone-numbers/search?country=US&area_code=415&limit=3")
        assert [item["phone_number"][:5] for item in offered["items"]] == ["+1415"] * 3
        agent = await at.ask("POST", "/v1/agents", 201, json={"name": "Aria"})
        bought = await at.ask(
            "POST", "/v1/phone-numbers/purchase", 201,
            json={"phone_number": offered["items"][0]["phone_number"], "agent_id": agent["id"]},
        )  # fmt: skip
        assert bought["status"] == "active"
        rung = await at.ring(bought["phone_number"])
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
    async with running(tmp_path) as at:
        assert len((await at.ask("GET", "/v1/credentials"))["items"]) == len(ready)


@pytest.mark.parametrize("allow", [[], ["US"]], ids=["as it starts", "with allow"])
async def test_in_the_sandbox_every_country_may_be_called_unless_allow_says_which(
    allow: list[str], tmp_path: Path
) -> None:
    """Nobody is called there; a refusal names the setting that an account would need."""
    async with running(tmp_path, allow=allow) as at:
        mine = await at.equip("twilio")
        body = {"agent_id": mine["agent"]["id"], "from_number": mine["number"]}
        abroad = await at.http.post("/v1/calls", json={**body, "to_number": "+919876543210"})
        assert abroad.status_code == (403 if allow else 201)
        if allow:
            assert "Whoever runs this service" in abroad.json()["detail"]
            assert "add IN to ANYCARRIER_ALLOW" in abroad.json()["detail"]
        for dear in ("+19005550100", "+190055501001", "+447012345678"):
            refused = await at.ask("POST", "/v1/calls", 403, json={**body, "to_number": dear})
            assert refused["code"] == "destination_not_allowed" and "ANYCARRIER_ALLOW" in refused["detail"]
            assert dear not in refused["detail"]


@pytest.mark.parametrize("provider", CARRIERS)
async def test_the_other_end_speaks_presses_keys_hears_and_hangs_up(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server("One two three four five.") as agent:
        mine = await at.equip(provider, agent.url)
        rung = await at.ring(mine["number"], provider=provider)
        far_end = f"/sandbox/calls/{rung['call_id']}"
        assert (await at.ask("GET", f"/sandbox/calls/{rung['id']}"))["provider_call_id"] == rung["provider_call_id"]
        await at.until(far_end, lambda seen: seen["streaming"] and seen["heard_seconds"] > 0.5)
        await at.ask("POST", f"{far_end}/digits", json={"digits": "4#"})
        async with asyncio.timeout(30):
            while [event["dtmf"]["digit"] for event in agent.of("dtmf")] != ["4", "#"]:
                await asyncio.sleep(0.02)
        await at.ask("POST", f"{far_end}/audio", content=b"\x55" * 800, headers={"Content-Type": "audio/basic"})
        heard = await at.http.get(f"{far_end}/heard")
        with wave.open(io.BytesIO(heard.content)) as sound:
            assert (sound.getframerate(), sound.getnchannels()) == (8000, 1)
            assert sound.getnframes() > 4000
        over = await at.ask("POST", f"{far_end}/hangup")
        assert over["state"] == "ended"
        assert (await at.ask("POST", f"{far_end}/hangup"))["state"] == "ended"
        assert (await at.http.post(f"{far_end}/say", json={"text": "hello?"})).status_code == 409
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["end_reason"] == "user_hangup")


@pytest.mark.parametrize("provider", CARRIERS)
async def test_after_a_restart_the_ready_credentials_numbers_ring_and_are_rung_from_again(
    provider: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as at:
        ready = (await at.ask("GET", "/v1/credentials"))["items"]
        credential = next(one["id"] for one in ready if one["provider"] == provider)
        agent = await at.ask("POST", "/v1/agents", 201, json={"name": "Aria"})
        await at.ask("GET", f"/v1/phone-numbers/search?country=US&area_code=415&credential_id={credential}")
        bought = {"phone_number": "+14155550100", "credential_id": credential, "agent_id": agent["id"]}
        number = (await at.ask("POST", "/v1/phone-numbers/purchase", 201, json=bought))["id"]
    async with running(tmp_path) as at:
        assert at.service.sandboxes is not None
        await at.service.sandboxes.reconnect()
        assert (await at.ask("GET", f"/v1/phone-numbers/{number}"))["status"] == "active"
        rung = await at.ring("+14155550100")
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
        ringing = {"agent_id": agent["id"], "from_number": "+14155550100", "to_number": SOMEBODY}
        made = await at.ask("POST", "/v1/calls", 201, json=ringing)
        await at.until(f"/v1/calls/{made['id']}", lambda seen: seen["status"] == "in_progress")


async def test_it_is_the_admins_and_says_what_is_wrong(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        agent = await at.service.store.agents.list((await at.service.store.workspaces.first()).id)  # type: ignore[union-attr]
        _, key = await at.service.store.keys.create(agent[0].workspace_id, "agent's", agent_id=agent[0].id)
        body = {"to": mine["number"], "from": SOMEBODY}
        assert (await at.http.post("/sandbox/calls", json=body, headers={"Authorization": ""})).status_code == 401
        refused = await at.http.post("/sandbox/calls", json=body, headers={"Authorization": f"Bearer {key}"})
        assert refused.status_code == 403
        for wrong, status in (
            ({**body, "to": "+14155550199"}, 404),
            ({**body, "to": "4155550199"}, 422),
            ({**body, "provider": "nobody"}, 422),
            ({"to": NUMBERS["twilio"]}, 422),
            ({**body, "extra": 1}, 422),
        ):
            answer = await at.http.post("/sandbox/calls", json=wrong)
            assert answer.status_code == status, answer.text
            assert answer.json()["detail"]
        assert (await at.http.get("/sandbox/calls/call_nothing")).status_code == 404
        assert (await at.http.put("/sandbox/calls")).status_code == 405


async def test_another_workspaces_admin_rings_none_of_our_numbers(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        other = await at.service.store.workspaces.create("other")
        _, key = await at.service.store.keys.create(other.id, "their admin")
        body = {"to": mine["number"], "from": SOMEBODY}
        refused = await at.http.post("/sandbox/calls", json=body, headers={"Authorization": f"Bearer {key}"})
        assert refused.status_code == 404
        assert (await at.ask("GET", "/v1/calls"))["total"] == 0


@pytest.mark.parametrize("provider", CARRIERS)
async def test_what_the_caller_says_waits_for_the_greeting_unless_it_is_to_barge_in(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sound(service: object, text: str) -> bytes:
        return b"\x20" * 160

    monkeypatch.setattr(sandbox_api, "spoken", sound)
    greeted = asyncio.Event()
    monkeypatch.setattr(FarEnd, "wait_greeted", lambda self: greeted.wait())
    async with running(tmp_path) as at, agent_server() as agent:
        mine = await at.equip(provider, agent.url)
        waiting, barging = [await at.ring(mine["number"], say="hello", barge_in=barge_in) for barge_in in (False, True)]
        assert at.service.sandboxes is not None
        far_ends = [at.service.sandboxes.far_end(provider, one["provider_call_id"]) for one in (waiting, barging)]
        quiet, loud = [one.microphone for one in far_ends if one is not None]
        async with asyncio.timeout(30):
            while not loud.said:
                await asyncio.sleep(0.02)
        await at.ask("POST", f"/sandbox/calls/{waiting['call_id']}/say", json={"text": "and this"})
        assert not quiet.said
        greeted.set()
        async with asyncio.timeout(30):
            while len(quiet.said) < 320:
                await asyncio.sleep(0.02)
        await at.ask("POST", f"/sandbox/calls/{waiting['call_id']}/say", json={"text": "now", "barge_in": True})


async def test_the_next_engine_speaks_for_the_caller_when_the_first_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, works = FakeEngine(name="broken"), FakeEngine(name="works")
    broken.speak_fails = True
    async with running(tmp_path) as at:
        monkeypatch.setattr(at.service.agents.engines, "candidates", lambda *_: [broken, works])
        assert at.service.resources.engines.shared is at.service.agents.engines
        assert len(await sandbox_api.spoken(at.service.resources, "hello")) > 100
        works.speak_fails = True
        with pytest.raises(NotOffered, match=r"broken .*; works "):
            await sandbox_api.spoken(at.service.resources, "hello")


async def test_without_a_voice_saying_tells_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        monkeypatch.setattr(at.service.agents.engines, "candidates", lambda *_: [])
        answer = await at.http.post("/sandbox/calls", json={"to": mine["number"], "from": SOMEBODY, "say": "hello"})
        assert answer.status_code == 501
        assert "install anycarrier-speech-local" in answer.json()["detail"]


async def test_without_the_switch_there_is_no_sandbox(tmp_path: Path) -> None:
    async with running(tmp_path, sandbox=False) as at:
        assert (await at.http.post("/sandbox/calls", json={})).status_code in (401, 404)
        assert (await at.ask("GET", "/v1/credentials"))["items"] == []


async def test_no_address_of_a_far_end_is_an_internal_error(tmp_path: Path) -> None:
    """Ids that are empty, odd or long, and methods that an address does not know."""
    async with running(tmp_path) as at:
        for call_id in ("", "%20", "%00", "%FF", "a%2Fb", "..%2F", "a" * 5000):
            for way in ("", "/heard", "/say", "/audio", "/digits", "/hangup"):
                for method in ("GET", "POST", "PUT", "DELETE"):
                    answer = await at.http.request(method, f"/sandbox/calls/{call_id}{way}", json={})
                    what = f"{method} {call_id[:20]!r} {way}: {answer.text}"
                    assert answer.status_code in {404, 405, 422} and answer.text.startswith("{"), what
                    assert answer.json()["code"] in {"not_found", "method_not_allowed", "validation"}, what
                    assert answer.status_code != 405 or answer.json()["detail"].startswith("this address knows"), what


async def test_a_database_that_is_away_is_told_as_such() -> None:
    answer = sandbox_api.refuse(StoreUnreachable(), "request-1")
    assert (answer.status_code, json.loads(bytes(answer.body))["code"]) == (503, "overloaded")
