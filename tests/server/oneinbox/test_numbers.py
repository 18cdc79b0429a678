"""Numbers and credentials: registered, told to the carrier, moved, searched, bought and given up."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from house import API_KEYS, CALLER, OURS, House

from anycarrier import Capability, get_provider, provider_names
from anycarrier.numbers import NumberQuery, PendingOrder
from anycarrier.testing.sandbox_numbers import PENDING_NUMBER
from anycarrier_server.domain import manage_numbers
from anycarrier_server.store import parse_id
from anycarrier_telnyx.sandbox import phone_numbers

SID = "AC00000000000000000000000000000007"
SIGNALWIRE = {"space": "example", "project_id": "0f1e2d3c-4b5a-4697-8877-665544332211", "signing_key": "PSK01"}


@pytest.fixture(params=["twilio", "telnyx"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def credential(house: House, provider: str, **more: Any) -> dict[str, Any]:
    body = {"name": "Main", "provider": provider, "api_key": API_KEYS[provider], **more}
    made: dict[str, Any] = await house.ask("POST", "/v1/credentials", 201, json=body)
    return made


async def test_every_installed_carrier_says_what_it_can_do_and_what_not(house: House, provider: str) -> None:
    listed = await house.ask("GET", "/v1/providers")
    assert listed["total"] == len(listed["items"]) == len(provider_names())
    shown = next(item for item in listed["items"] if item["name"] == provider)
    assert set(shown["capabilities"]) == {str(capability) for capability in Capability}
    able = {name for name, there in shown["capabilities"].items() if there}
    assert able == {str(capability) for capability in get_provider(provider).capabilities}
    assert shown["title"] == get_provider(provider).title
    page = await house.ask("GET", "/v1/providers", params={"limit": 1, "offset": 1})
    assert page["items"] == listed["items"][1:2]


async def test_a_key_is_never_shown_and_both_names_of_the_collection_are_one(house: House, provider: str) -> None:
    made = await credential(house, provider)
    secret = API_KEYS[provider].rpartition(":")[2]
    for path in ("/v1/credentials", "/v1/integrations"):
        listed = await house.ask("GET", path, params={"limit": 100})
        assert made["id"] in [one["id"] for one in listed["items"]]
        assert await house.ask("GET", f"{path}/{made['id']}") == made
        assert secret not in str(listed)
    assert made["masked_key"] == f"…{secret[-4:]}"


async def test_a_credential_says_what_it_lacks_and_takes_it_later(house: House) -> None:
    made = await credential(house, "twilio", api_key="only-the-auth-token")
    assert (made["status"], made["missing"]) == ("incomplete", ["account_sid"])
    refused = await house.ask("POST", f"/v1/credentials/{made['id']}/verify", 400)
    assert refused["code"] == "credential_incomplete"
    agent_id = await house.agent()
    body = {"phone_number": OURS, "provider": "twilio", "agent_id": agent_id, "credential_id": made["id"]}
    assert (await house.ask("POST", "/v1/phone-numbers", 400, json=body))["code"] == "credential_incomplete"
    details = {"account_sid": "AC00000000000000000000000000000003"}
    changed = await house.ask("PATCH", f"/v1/credentials/{made['id']}", json={"metadata": details})
    assert (changed["status"], changed["missing"]) == ("active", [])
    assert changed["account"] == details["account_sid"]
    assert (await house.ask("POST", f"/v1/credentials/{made['id']}/verify"))["ok"] is True


@pytest.mark.parametrize("spelling", ["metadata", "account_sid", "key"])
async def test_the_second_half_of_a_login_may_come_three_ways(house: House, spelling: str) -> None:
    account = "AC00000000000000000000000000000004"
    more: dict[str, Any] = {"api_key": "the-auth-token"}
    if spelling == "metadata":
        more["metadata"] = {"account_sid": account}
    elif spelling == "account_sid":
        more["account_sid"] = account
    else:
        more["api_key"] = f"{account}:the-auth-token"
    made = await credential(house, "twilio", **more)
    assert (made["status"], made["account"]) == ("active", account)


async def test_a_login_the_carrier_refuses_is_an_answer_and_rotating_the_key_mends_it(
    house: House, provider: str
) -> None:
    wrong = {"twilio": "AC00000000000000000000000000000005:wrong-token", "telnyx": "KEYwrong"}[provider]
    made = await credential(house, provider, api_key=wrong)
    path = f"/v1/credentials/{made['id']}"
    verified = await house.ask("POST", path + "/verify")
    assert verified["ok"] is False
    assert verified["error"]
    assert "wrong" not in verified["error"]
    await house.ask("PATCH", path, json={"api_key": API_KEYS[provider], "name": "Rotated"})
    assert (await house.ask("POST", path + "/verify"))["ok"] is True
    assert (await house.ask("GET", path))["name"] == "Rotated"


async def test_a_new_token_is_for_the_account_that_the_old_key_named(house: House) -> None:
    account = "AC00000000000000000000000000000006"
    made = await credential(house, "twilio", api_key=f"{account}:the-first-token")
    path = f"/v1/credentials/{made['id']}"
    rotated = await house.ask("PATCH", path, json={"api_key": "the-second-token"})
    assert (rotated["status"], rotated["missing"], rotated["account"]) == ("active", [], account)
    assert rotated["masked_key"] == "…oken"
    assert (await house.ask("POST", path + "/verify"))["ok"] is True
    cleared = await house.ask("PATCH", path, json={"metadata": {"account_sid": None}})
    assert (cleared["status"], cleared["missing"]) == ("incomplete", ["account_sid"])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"provider": "brook"}, ["body", "provider"]),
        ({"api_key": "naïve"}, ["body", "api_key"]),
        ({"api_key": ""}, ["body", "api_key"]),
        ({"api_key": "to\u200bken"}, ["body", "api_key"]),
        ({"api_key": "SK" + "0" * 32, "account_sid": SID}, ["body", "api_key"]),
        ({"api_key": f"SK{'0' * 32}:secret", "account_sid": SID}, ["body", "api_key"]),
        ({"metadata": {"account_sid": SID, "api_key_sid": "SK" + "0" * 32}}, ["body", "metadata", "api_key_secret"]),
        ({"name": ""}, ["body", "name"]),
        ({"metadata": {"account_sid": "not one"}}, ["body", "metadata", "account_sid"]),
        ({"metadata": {"base_url": "http://169.254.169.254"}}, ["body", "metadata"]),
        ({"account_sid": "AC1", "metadata": {"account_sid": "AC2"}}, ["body", "account_sid"]),
        # Slips, which would be free details that nobody reads.
        ({"metadata": {"acount_sid": SID}}, ["body", "metadata"]),
        ({"metadata": {"account_sid": SID, "apiKeySid": "SK" + "0" * 32}}, ["body", "metadata"]),
        ({"provider": "vonage", "api_key": "the-secret", "metadata": {"api_key": "abcd1234"}}, ["body", "metadata"]),
        # A second secret is a detail: it is not what was given as the key.
        ({"provider": "signalwire", "metadata": {**SIGNALWIRE, "signing_key": "PT" + "0" * 48}},
         ["body", "metadata", "signing_key"]),
        ({"provider": "signalwire", "api_key": "PSK" + "0" * 48, "metadata": SIGNALWIRE}, ["body", "api_key"]),
    ],
)
async def test_a_credential_that_cannot_be_is_refused_and_none_is_kept(
    house: House, change: dict[str, Any], where: list[str]
) -> None:
    before = (await house.ask("GET", "/v1/credentials"))["total"]
    body = {"name": "Main", "provider": "twilio", "api_key": "token", **change}
    refused = await house.ask("POST", "/v1/credentials", 422, json=body)
    assert refused["detail"][0]["loc"] == where
    assert (await house.ask("GET", "/v1/credentials"))["total"] == before


async def test_a_key_pasted_with_a_line_end_is_kept_without_it(house: House, provider: str) -> None:
    made = await credential(house, provider, api_key=f'\ufeff"{API_KEYS[provider]}"\r\n')
    assert made["masked_key"] == f"…{API_KEYS[provider][-4:]}"
    assert (await house.ask("POST", f"/v1/credentials/{made['id']}/verify"))["ok"] is True


async def test_half_an_api_key_is_replaced_beside_the_other_half(house: House) -> None:
    whole = {"account_sid": SID, "api_key_sid": "SK" + "0" * 32, "api_key_secret": "the-first-secret"}
    made = await credential(house, "twilio", api_key="the-auth-token", metadata=whole)
    path = f"/v1/credentials/{made['id']}"
    await house.ask("PATCH", path, json={"metadata": {"api_key_secret": "the-second-secret"}})
    refused = await house.ask("PATCH", path, 422, json={"metadata": {"api_key_sid": None}})
    assert refused["detail"][0]["msg"].startswith("twilio api_key_sid is missing")
    none = {"metadata": {"api_key_sid": None, "api_key_secret": None}}
    assert (await house.ask("PATCH", path, json=none))["status"] == "active"


async def test_a_credential_in_use_stays_until_its_numbers_are_gone(house: House, provider: str) -> None:
    number = await house.number(provider, await house.agent())
    path = f"/v1/credentials/{number['credential_id']}"
    refused = await house.ask("DELETE", path, 409)
    assert refused["code"] == "credential_in_use"
    assert number["id"] in refused["detail"]
    await house.ask("DELETE", f"/v1/phone-numbers/{number['id']}", 204)
    await house.ask("DELETE", path, 204)
    for method in ("GET", "DELETE", "PATCH"):
        await house.ask(method, path, 404, json={} if method == "PATCH" else None)


async def test_registering_configures_the_carrier_and_says_where_it_posts(house: House, provider: str) -> None:
    number = await house.number(provider, await house.agent(), friendly_name="Sales Line")
    assert number["status"] == "active"
    assert number["provider_sync"]["ok"] is True
    assert number["provider_sync"]["at"].endswith("Z")
    assert number["webhook_url"] == f"{house.url}/{provider}/{number['credential_id']}"
    assert number["friendly_name"] == "Sales Line"
    assert await house.ask("GET", f"/v1/phone-numbers/{number['id']}") == number
    listed = await house.ask("GET", "/v1/phone-numbers")
    assert (listed["items"], listed["total"]) == ([number], 1)
    twice = {"phone_number": OURS, "provider": provider, "agent_id": number["agent_id"]}
    twice["credential_id"] = number["credential_id"]
    assert (await house.ask("POST", "/v1/phone-numbers", 409, json=twice))["code"] == "number_already_registered"


async def test_a_carrier_that_cannot_be_configured_leaves_an_inactive_number_and_the_reason(house: House) -> None:
    made = await credential(house, "telnyx", api_key="KEYwrong")
    agent_id = await house.agent()
    body = {"phone_number": OURS, "provider": "telnyx", "agent_id": agent_id, "credential_id": made["id"]}
    number = await house.ask("POST", "/v1/phone-numbers", 201, json=body)
    assert number["status"] == "inactive"
    assert number["provider_sync"]["ok"] is False
    assert number["provider_sync"]["message"]
    refused = await house.call(agent_id, status=400)
    assert refused["code"] == "number_inactive"
    await house.ask("PATCH", f"/v1/credentials/{made['id']}", json={"api_key": API_KEYS["telnyx"]})
    again = await house.ask("POST", "/v1/phone-numbers", 201, json=body)
    assert (again["id"], again["status"]) == (number["id"], "active")


async def test_the_carrier_named_must_be_the_credentials(house: House) -> None:
    made = await credential(house, "telnyx")
    body = {"phone_number": OURS, "provider": "twilio", "agent_id": await house.agent(), "credential_id": made["id"]}
    assert (await house.ask("POST", "/v1/phone-numbers", 400, json=body))["code"] == "provider_mismatch"


async def test_routing_is_merged_and_null_clears_only_the_fallback(house: House) -> None:
    first, second, third = [await house.agent(name) for name in ("One", "Two", "Three")]
    whole = {"agent_id": second, "fallback": {"agent_id": third}, "voicemail_message": "Bye"}
    number = await house.number("telnyx", first, inbound_routing=whole)
    path = f"/v1/phone-numbers/{number['id']}"
    assert number["inbound_routing"] == whole
    kept = await house.ask("PATCH", path, json={"friendly_name": "Desk", "inbound_routing": {}})
    assert kept["inbound_routing"] == whole
    said = await house.ask("PATCH", path, json={"inbound_routing": {"voicemail_message": "Later"}})
    assert said["inbound_routing"] == {**whole, "voicemail_message": "Later"}
    cleared = await house.ask("PATCH", path, json={"inbound_routing": {"fallback": None}})
    assert cleared["inbound_routing"] == {"agent_id": second, "fallback": None, "voicemail_message": "Later"}
    assert cleared["agent_id"] == first
    await house.sandbox("telnyx").ring(OURS, CALLER)
    await house.line.calls(1)
    assert house.line.contexts[0]["agent_id"] == second
    await house.ask("PATCH", path, 404, json={"inbound_routing": {"agent_id": "agt_nobody"}})


async def test_the_routings_agent_is_cleared_by_null_and_then_the_numbers_own_takes_its_calls(
    house: House, provider: str
) -> None:
    first, second = await house.agent("One"), await house.agent("Two")
    number = await house.number(provider, first, inbound_routing={"agent_id": second})
    path = f"/v1/phone-numbers/{number['id']}"
    cleared = await house.ask("PATCH", path, json={"inbound_routing": {"agent_id": None}})
    assert (cleared["agent_id"], cleared["inbound_routing"]["agent_id"]) == (first, None)
    await house.sandbox(provider).ring(OURS, CALLER)
    await house.line.calls(1)
    assert house.line.contexts[0]["agent_id"] == first


async def test_detaching_a_number_detaches_its_routings_agent_too_unless_another_is_named(
    house: House, provider: str
) -> None:
    first, second = await house.agent("One"), await house.agent("Two")
    number = await house.number(provider, first, inbound_routing={"agent_id": second, "voicemail_message": "Later"})
    path = f"/v1/phone-numbers/{number['id']}"
    kept = await house.ask("PATCH", path, json={"agent_id": None, "inbound_routing": {"agent_id": first}})
    assert (kept["agent_id"], kept["inbound_routing"]["agent_id"]) == (None, first)
    gone = await house.ask("PATCH", path, json={"agent_id": None})
    assert gone["inbound_routing"] == {"agent_id": None, "fallback": None, "voicemail_message": "Later"}
    far_end = await house.sandbox(provider).ring(OURS, CALLER)
    await far_end.wait_for("ended")
    assert not house.line.contexts


async def test_a_number_is_registered_once_whichever_credential_or_workspace_asks(house: House, provider: str) -> None:
    number = await house.number(provider, await house.agent())
    second = await credential(house, provider, name="The same account again")
    body = {"phone_number": OURS, "provider": provider, "agent_id": number["agent_id"], "credential_id": second["id"]}
    refused = await house.ask("POST", "/v1/phone-numbers", 409, json=body)
    assert refused["code"] == "number_already_registered"
    other = await house.service.store.workspaces.create("other")
    _, secret = await house.service.store.keys.create(other.id, "theirs", style="oi_sk")
    theirs = {"Authorization": f"Bearer {secret}"}
    agent = await house.ask("POST", "/v1/agents", 201, json={"name": "Theirs"}, headers=theirs)
    account = {"name": "T", "provider": provider, "api_key": API_KEYS[provider]}
    made = await house.ask("POST", "/v1/credentials", 201, json=account, headers=theirs)
    body |= {"agent_id": agent["id"], "credential_id": made["id"]}
    refused = await house.ask("POST", "/v1/phone-numbers", 409, json=body, headers=theirs)
    assert refused["code"] == "number_already_registered"
    assert (await house.ask("GET", "/v1/phone-numbers", headers=theirs))["total"] == 0


async def test_a_carrier_nobody_installed_is_named_as_such_with_those_there_are(house: House) -> None:
    body = {"phone_number": OURS, "provider": "brook", "agent_id": await house.agent()}
    for more in ({}, {"credential_id": (await credential(house, "telnyx"))["id"]}):
        refused = await house.ask("POST", "/v1/phone-numbers", 422, json={**body, **more})
        assert refused["detail"][0]["loc"] == ["body", "provider"]
        assert "twilio" in refused["detail"][0]["msg"] and "telnyx" in refused["detail"][0]["msg"]


async def test_with_several_accounts_and_none_the_default_the_one_meant_must_be_said(house: House) -> None:
    other = await house.service.store.workspaces.create("other")
    _, secret = await house.service.store.keys.create(other.id, "theirs", style="oi_sk")
    theirs = {"Authorization": f"Bearer {secret}"}

    async def search(status: int) -> Any:
        return await house.ask("GET", "/v1/phone-numbers/search?country=US", status, headers=theirs)

    assert (await search(400))["code"] == "credential_required"  # there is none
    ids = []
    for provider in ("twilio", "telnyx"):
        account = {"name": "T", "provider": provider, "api_key": API_KEYS[provider]}
        ids.append((await house.ask("POST", "/v1/credentials", 201, json=account, headers=theirs))["id"])
        if provider == "twilio":
            assert (await search(200))["credential_id"] == ids[0]
    refused = await search(400)
    assert refused["code"] == "credential_required"
    assert all(one in refused["detail"] for one in ids)


async def test_a_detached_number_declines_its_calls_and_still_dials(house: House, provider: str) -> None:
    agent_id = await house.agent()
    number = await house.number(provider, agent_id)
    before = len(house.sandbox(provider).requests)
    detached = await house.ask("PATCH", f"/v1/phone-numbers/{number['id']}", json={"agent_id": None})
    assert (detached["agent_id"], detached["status"]) == (None, "active")
    assert house.sandbox(provider).requests[before:] == [], "the carrier was told, though nothing changes for it"
    rung = await ring(house, provider)
    assert (await house.until(rung["call_id"], "failed"))["end_reason"] == "rejected"
    assert not house.line.contexts
    assert (await house.call(agent_id))["status"] == "initiated"


async def ring(house: House, provider: str) -> dict[str, Any]:
    """Somebody rings our number; the far end, once the call has come to us."""
    body = {"provider": provider, "to": OURS, "from": CALLER}
    rung: dict[str, Any] = await house.ask("POST", "/sandbox/calls", 201, json=body)
    return rung


async def points_to(house: House, credential_id: str, url: str, number: str = OURS) -> bool:
    """True when the carrier sends the number's calls to ``url``: there would be nothing to write."""
    provider = await house.service.exchange.switchboard.provider(credential_id)
    would = await provider.configure_number(number, webhook_url=url, dry_run=True)
    assert would.ok, "the account does not hold the number any more"
    return not would.changed


async def rings_here(house: House, provider: str) -> bool:
    """Ring our number: did the carrier tell us? What it tells the caller otherwise is its own."""
    before = len(house.sandbox(provider).deliveries)
    body = {"provider": provider, "to": OURS, "from": CALLER}
    answer = await house.client.post("/sandbox/calls", json=body)
    assert answer.status_code == 404 or answer.json()["state"] == "ended"
    return len(house.sandbox(provider).deliveries) > before or answer.json().get("call_id") is not None


async def test_a_number_given_up_is_sent_elsewhere_by_its_carrier_and_may_come_back(
    house: House, provider: str
) -> None:
    agent_id = await house.agent()
    number = await house.number(provider, agent_id)
    assert await points_to(house, number["credential_id"], number["webhook_url"])
    await house.ask("DELETE", f"/v1/phone-numbers/{number['id']}", 204)
    assert not await points_to(house, number["credential_id"], number["webhook_url"])
    assert not await rings_here(house, provider)
    checked = await house.ask("GET", "/ops/checkup")
    assert "number" not in {one["check"] for one in checked["items"]}, "what is not in service cannot drift"
    body = {"phone_number": OURS, "provider": provider, "agent_id": agent_id, "credential_id": number["credential_id"]}
    again = await house.ask("POST", "/v1/phone-numbers", 201, json=body)
    assert (again["status"], again["id"] == number["id"]) == ("active", False)
    rung = await ring(house, provider)
    await house.line.calls(1)
    assert (await house.until(rung["call_id"], "in_progress"))["agent_id"] == agent_id


async def test_a_number_somebody_has_pointed_elsewhere_stays_there(house: House, provider: str) -> None:
    number = await house.number(provider, await house.agent())
    at_carrier = await house.service.exchange.switchboard.provider(number["credential_id"])
    theirs = "https://elsewhere.example.com/hook"
    assert (await at_carrier.configure_number(OURS, webhook_url=theirs)).ok
    await house.ask("DELETE", f"/v1/phone-numbers/{number['id']}", 204)
    assert await points_to(house, number["credential_id"], theirs)


async def test_a_carrier_out_of_reach_keeps_the_number_in_service_until_asked_again(
    house: House, provider: str
) -> None:
    number = await house.number(provider, await house.agent())
    path, account = f"/v1/phone-numbers/{number['id']}", f"/v1/credentials/{number['credential_id']}"
    sandbox = house.sandbox(provider)
    there, sandbox.base_url = sandbox.base_url, "http://127.0.0.1:1"  # where nobody listens
    await house.ask("PATCH", account, json={"api_key": API_KEYS[provider]})
    assert (await house.ask("DELETE", path, 504))["code"] == "provider_timeout"
    sandbox.base_url = there
    await house.ask("PATCH", account, json={"api_key": API_KEYS[provider] + "-throttled"})
    assert (await house.ask("DELETE", path, 429))["provider"]["name"] == provider
    assert await house.ask("GET", path) == number
    await house.ask("PATCH", account, json={"api_key": API_KEYS[provider]})
    await house.ask("DELETE", path, 204)
    await house.ask("GET", path, 404)


@pytest.mark.parametrize("lost", ["login", "number"])
async def test_a_number_whose_account_is_lost_to_us_is_given_up_all_the_same(
    house: House, provider: str, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    number = await house.number(provider, await house.agent())
    if lost == "login":
        wrong = {"api_key": API_KEYS[provider] + "-wrong"}
        await house.ask("PATCH", f"/v1/credentials/{number['credential_id']}", json=wrong)
    else:
        await (await house.service.exchange.switchboard.provider(number["credential_id"])).release_number(OURS)
    await given_up(house, number, caplog)


async def test_a_number_whose_login_is_incomplete_is_given_up_all_the_same(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    number = await house.number("twilio", await house.agent())
    half = {"api_key": "a-token-alone", "metadata": {"account_sid": None}}
    changed = await house.ask("PATCH", f"/v1/credentials/{number['credential_id']}", json=half)
    assert changed["status"] == "incomplete"
    await given_up(house, number, caplog)


async def given_up(house: House, number: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Give the number up; our log says why the carrier may not know."""
    await house.ask("DELETE", f"/v1/phone-numbers/{number['id']}", 204)
    await house.ask("GET", f"/v1/phone-numbers/{number['id']}", 404)
    (told,) = [one.getMessage() for one in caplog.records if "may still send the calls" in one.getMessage()]
    assert OURS not in told
    assert "wrong" not in told


async def test_an_order_that_comes_after_its_number_was_given_up_puts_nothing_in_service(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manage_numbers, "EVERY", 0.05)
    finish, come = phone_numbers._complete, asyncio.Event()

    async def finished_later(ask: Any, made: Any, takes: float) -> None:
        await come.wait()
        await finish(ask, made, 0)

    monkeypatch.setattr(phone_numbers, "_complete", finished_later)
    other = await house.number("telnyx", await house.agent())  # its account's application posts to us already
    at_carrier = await house.service.exchange.switchboard.provider(other["credential_id"])
    await at_carrier.search_numbers(NumberQuery(area_code="500", contains=PENDING_NUMBER[-7:]))
    order = await at_carrier.buy_number(PENDING_NUMBER, timeout=0.05)
    assert isinstance(order, PendingOrder)
    store = house.service.store
    workspace = await store.workspaces.first()
    assert workspace is not None
    row = await store.credentials.get(workspace.id, parse_id("credential", other["credential_id"]))
    assert row is not None
    line = await store.lines.create(row, PENDING_NUMBER, status="inactive", bought=True)
    await manage_numbers.finish_order(house.service, line, order)
    (waiting,) = [task for task in asyncio.all_tasks() if task.get_name() == "finish a number order"]
    await house.ask("DELETE", f"/v1/phone-numbers/{line.public_id}", 204)
    come.set()
    await asyncio.wait_for(waiting, 30)
    assert await store.lines.by_number(PENDING_NUMBER) is None
    assert not await points_to(house, other["credential_id"], other["webhook_url"], PENDING_NUMBER)
    assert await points_to(house, other["credential_id"], other["webhook_url"]), "another number was unconfigured"


@pytest.mark.parametrize("status", ["success", "failure"])
async def test_an_order_that_waited_for_papers_is_finished_by_the_carriers_own_word(
    house: House, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(manage_numbers, "EVERY", 3600.0)  # nobody asks: as after days, or in another process
    other = await house.number("telnyx", await house.agent())
    store = house.service.store
    workspace = await store.workspaces.first()
    assert workspace is not None
    row = await store.credentials.get(workspace.id, parse_id("credential", other["credential_id"]))
    assert row is not None
    late = "+16505550142"
    line = await store.lines.create(row, late, status="inactive", bought=True)
    await manage_numbers.finish_order(house.service, line, PendingOrder(id="ord-1", number=late, provider="telnyx"))
    sandbox: Any = house.sandbox("telnyx")
    account = sandbox.account(API_KEYS["telnyx"])
    account.add_number(late)
    for order_id in ("ord-2", "ord-1"):  # of another's order nothing follows
        told = {"id": order_id, "status": status, "phone_numbers": [{"phone_number": late, "status": status}]}
        sandbox.tell(account, "number_order.complete", told, url=other["webhook_url"], connection_id="")
    path = f"/v1/phone-numbers/{line.public_id}"
    async with asyncio.timeout(30):
        while (seen := await house.ask("GET", path))["provider_sync"]["message"].startswith("the carrier has not"):
            await asyncio.sleep(0.02)
    if status == "success":
        assert (seen["status"], seen["provider_sync"]["ok"]) == ("active", True)
    else:
        assert (seen["status"], seen["provider_sync"]["ok"]) == ("inactive", False)
        assert "order ord-1 failed" in seen["provider_sync"]["message"]


async def test_a_released_number_rings_here_no_more_and_is_kept_or_given_back(house: House, provider: str) -> None:
    agent_id = await house.agent()
    number = await house.number(provider, agent_id)
    live = await house.call(agent_id)
    await house.until(live["id"], "in_progress")
    path = f"/v1/phone-numbers/{number['id']}"
    assert (await house.ask("DELETE", path, 409))["code"] == "calls_live"
    await house.ask("POST", f"/v1/calls/{live['id']}/stop")
    await house.until(live["id"], "completed")
    await house.ask("DELETE", path, 422, params={"release": "perhaps"})
    await house.ask("DELETE", path, 204)
    await house.ask("GET", path, 404)
    body = {"phone_number": OURS, "provider": provider, "agent_id": agent_id, "credential_id": number["credential_id"]}
    again = await house.ask("POST", "/v1/phone-numbers", 201, json=body)
    assert again["status"] == "active"
    await house.ask("DELETE", f"/v1/phone-numbers/{again['id']}", 204, params={"release": "true"})
    with pytest.raises(LookupError):  # it is nobody's number at the carrier
        await house.sandbox(provider).ring(OURS, CALLER)


async def test_numbers_are_searched_and_bought_on_the_clients_own_account(house: House, provider: str) -> None:
    made = await credential(house, provider)
    query = {"country": "US", "area_code": "415", "limit": 3, "credential_id": made["id"]}
    offers = await house.ask("GET", "/v1/phone-numbers/search", params=query)
    assert (offers["provider"], offers["credential_id"], len(offers["items"])) == (provider, made["id"], 3)
    offer = offers["items"][0]
    assert offer["capabilities"]["voice"] is True
    assert offer["country"] == "US"
    body = {"phone_number": offer["phone_number"], "credential_id": made["id"], "agent_id": await house.agent()}
    bought = await house.ask("POST", "/v1/phone-numbers/purchase", 201, json=body)
    assert (bought["phone_number"], bought["purchased"]) == (offer["phone_number"], True)
    refused = await house.ask("POST", "/v1/phone-numbers/purchase", 409, json=body)
    assert refused["code"] == "number_already_registered"
    gone = {"phone_number": "+15005550120", "credential_id": made["id"]}
    refused = await house.ask("POST", "/v1/phone-numbers/purchase", 409, json=gone)
    assert refused["code"] == "number_unavailable"
    first = await house.ask(
        "POST", "/v1/phone-numbers/purchase", 201, json={"area_code": "212", "credential_id": made["id"]}
    )
    assert first["phone_number"].startswith("+1212")


async def test_just_any_number_is_not_bought(house: House) -> None:
    await house.ask("POST", "/v1/phone-numbers/purchase", 422, json={"friendly_name": "Surprise"})
    assert (await house.ask("GET", "/v1/phone-numbers"))["total"] == 0


@pytest.mark.parametrize("missing", ["trunk_address", "auth_username", "auth_password"])
async def test_half_a_trunk_login_is_refused_unless_the_environment_has_the_rest(
    house: House, provider: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await credential(house, provider)
    trunk = {"trunk_address": "sip.example.com", "auth_username": "u", "auth_password": "p", "transport": "tls"}
    body = {
        "phone_number": OURS,
        "provider": provider,
        "agent_id": await house.agent(),
        "credential_id": made["id"],
        "provider_config": trunk,
    }
    for nothing in (None, "", " ", 7):
        trunk[missing] = nothing  # type: ignore[assignment]
        refused = await house.ask("POST", "/v1/phone-numbers", 400, json=body)
        assert (refused["code"], missing in refused["detail"]) == ("SIP_TRUNK_PROVISION_FAILED", True)
    del trunk[missing]
    name = {"trunk_address": "TRUNK_ADDRESS", "auth_username": "SIP_USERNAME", "auth_password": "SIP_PASSWORD"}[missing]
    monkeypatch.setenv(f"{provider.upper()}_{name}", "from the environment")
    assert (await house.ask("POST", "/v1/phone-numbers", 201, json=body))["status"] == "active"


async def test_a_trunks_password_is_neither_kept_nor_logged_nor_shown(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    trunk = {"trunk_address": "sip.example.com", "auth_username": "u", "auth_password": "s3cret-of-a-trunk"}
    number = await house.number("telnyx", await house.agent(), provider_config=trunk)
    assert trunk["auth_password"] not in str(number)
    assert trunk["auth_password"] not in caplog.text
    kept = database_files(tmp_path)
    assert OURS.encode() in kept, "the number itself is there, so these are the right files"
    assert trunk["auth_password"].encode() not in kept


def database_files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("anycarrier.db*"))


async def test_a_number_is_found_by_itself(house: House) -> None:
    found = await house.number("telnyx", await house.agent())
    for asked in (OURS, f" {OURS[1:]}"):  # a plus sign that was not percent-encoded is a space
        page = await house.ask("GET", "/v1/phone-numbers", params={"phone_number": asked})
        assert [one["id"] for one in page["items"]] == [found["id"]]
    assert (await house.ask("GET", "/v1/phone-numbers", params={"phone_number": CALLER}))["total"] == 0
