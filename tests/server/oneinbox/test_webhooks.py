"""Webhooks out: what a receiver on this machine gets of a call, signed, in order, once, and again when it failed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from house import OURS, House, Receiver

EVENTS = ["call.started", "call.ended", "call.analyzed", "call.failed", "call.recording.available", "transcript.final"]


ALWAYS = {
    "id", "event", "call_id", "agent_id", "from_number", "to_number", "direction", "created_at", "metadata",
    "variables",
}  # fmt: skip
OF_EACH = {
    "call.started": {"status"},
    "call.ended": {"status", "end_reason", "duration_seconds", "outcome", "summary", "recording_url"},
    "call.failed": {"status", "end_reason", "outcome", "provider", "provider_status", "sip_status", "error"},
    "call.analyzed": {"status", "outcome", "summary", "analysis"},
    "call.recording.available": {"recording_url", "recording_status", "expires_at"},
    "transcript.final": {"status", "messages"},
    "transcript.partial": {"role", "content", "final"},
}
"""The contract's fields: flat, and these only."""


@pytest.fixture(params=["twilio", "telnyx"])
async def staffed(request: pytest.FixtureRequest, house: House) -> House:
    house.agent_id = await house.agent(enable_recording=True)
    await house.number(request.param, house.agent_id)
    return house


@pytest.fixture
async def quick(house: House) -> House:
    house.agent_id = await house.agent()
    await house.number("telnyx", house.agent_id)
    return house


async def subscribe(
    house: House, receiver: Receiver, path: str = "/hook", events: list[str] = EVENTS
) -> dict[str, Any]:
    body = {"name": "ours", "url": receiver.url + path, "events": events}
    made: dict[str, Any] = await house.ask("POST", "/v1/webhooks", 201, json=body)
    receiver.secrets[path] = made["secret"]
    return made


async def workspace_secret(house: House) -> str:
    workspace = await house.service.store.workspaces.first()
    assert workspace is not None
    return (await house.service.store.webhooks.ensure_signing_key(workspace.id))[0]


async def test_one_call_is_told_signed_in_order_and_its_end_once(staffed: House, receiver: Receiver) -> None:
    await subscribe(staffed, receiver)
    receiver.secrets["/own"] = await workspace_secret(staffed)
    made = await staffed.call(
        staffed.agent_id, webhook_url=receiver.url + "/own", metadata={"crm": 7}, variables={"customer_name": "Sama"}
    )
    await staffed.line.calls(1)
    await staffed.ask("POST", f"/v1/calls/{made['id']}/stop")
    expected = {"call.started", "call.ended", "transcript.final", "call.recording.available", "call.analyzed"}
    for path in ("/hook", "/own"):
        await receiver.until(lambda path=path: set(receiver.kinds(path)) >= expected)  # type: ignore[misc]
        kinds = [kind for kind in receiver.kinds(path) if kind != "transcript.partial"]  # of which a test below
        assert sorted(kinds) == sorted(expected), "something was told twice, or should not be told at all"
        assert kinds[:2] == ["call.started", "call.ended"]
        assert kinds.index("transcript.final") < kinds.index("call.analyzed")
    told = {body["event"]: body for path, body in receiver.got if path == "/own"}
    for body in told.values():
        assert set(body) == ALWAYS | OF_EACH[body["event"]]
        assert {"call_id": made["id"], "agent_id": staffed.agent_id, "from_number": OURS}.items() <= body.items()
        assert (body["metadata"], body["variables"], body["direction"]) == (
            {"crm": 7},
            {"customer_name": "Sama"},
            "outbound",
        )
        assert body["id"].startswith("evt_")
        assert body["created_at"].endswith("Z")
    assert (told["call.ended"]["status"], told["call.ended"]["end_reason"]) == ("completed", "api_stop")
    assert told["call.ended"]["duration_seconds"] > 0
    assert told["call.analyzed"]["outcome"] == "Appointment Booked"
    assert told["transcript.final"]["messages"][0] == {"role": "agent", "content": "Hi Sama! This is Aria from Acme."}
    found = await staffed.client.get(told["call.recording.available"]["recording_url"])
    assert found.status_code == 200


async def test_what_is_said_is_told_while_the_call_goes_on(staffed: House, receiver: Receiver) -> None:
    await subscribe(staffed, receiver, events=["transcript.partial"])
    await subscribe(staffed, receiver, "/others", events=["call.ended"])
    made = await staffed.call(staffed.agent_id, webhook_url=receiver.url + "/own")
    said = [
        ("agent", "Hi there! This is Aria from Acme."),
        ("user", "Oh hi, book me in please."),
        ("agent", "You are booked for Thursday."),
    ]
    for path in ("/hook", "/own"):
        await receiver.until(lambda path=path: receiver.kinds(path).count("transcript.partial") == 3)  # type: ignore[misc]
        told = [body for where, body in receiver.got if (where, body["event"]) == (path, "transcript.partial")]
        assert [(body["role"], body["content"]) for body in told] == said
        assert all(body["call_id"] == made["id"] and body["final"] for body in told)
    assert (await staffed.ask("GET", f"/v1/calls/{made['id']}"))["status"] == "in_progress"
    assert receiver.kinds("/others") == []


async def test_a_call_that_did_not_connect_is_told_as_failed_and_nothing_else(
    staffed: House, receiver: Receiver
) -> None:
    await subscribe(staffed, receiver)
    made = await staffed.call(staffed.agent_id, "+15005550101")
    await receiver.until(lambda: bool(receiver.got))
    await staffed.until(made["id"], "failed")
    await staffed.service.sender.run_once()
    assert receiver.kinds() == ["call.failed"]
    body = receiver.got[0][1]
    assert set(body) == ALWAYS | OF_EACH["call.failed"]
    assert (body["end_reason"], body["status"], body["outcome"]) == ("busy", "failed", "Not Connected")
    assert body["provider"]
    assert body["provider_status"]


async def test_a_webhook_gets_the_events_it_asked_for_and_none_while_paused(quick: House, receiver: Receiver) -> None:
    await subscribe(quick, receiver, "/failures", ["call.failed"])
    quiet = await subscribe(quick, receiver, "/paused", EVENTS)
    await quick.ask("PATCH", f"/v1/webhooks/{quiet['id']}", json={"status": "paused"})
    await subscribe(quick, receiver, "/ended", ["call.ended"])
    made = await quick.call(quick.agent_id, "+15005550101")
    await quick.until(made["id"], "failed")
    await receiver.until(lambda: bool(receiver.got))
    await quick.service.sender.run_once()
    assert [path for path, _ in receiver.got] == ["/failures"]


async def test_the_calls_own_address_is_not_told_what_a_webhook_there_is_told_already(
    quick: House, receiver: Receiver
) -> None:
    await subscribe(quick, receiver)
    made = await quick.call(quick.agent_id, "+15005550101", webhook_url=receiver.url + "/hook")
    await quick.until(made["id"], "failed")
    await receiver.until(lambda: bool(receiver.got))
    await quick.service.sender.run_once()
    assert receiver.kinds() == ["call.failed"]


async def test_the_calls_own_address_hears_what_a_webhook_there_did_not_ask_for(
    staffed: House, receiver: Receiver
) -> None:
    await subscribe(staffed, receiver, "/hook", ["call.ended"])
    del receiver.secrets["/hook"]  # one address, two senders' secrets
    made = await staffed.call(staffed.agent_id, webhook_url=receiver.url + "/hook")
    await staffed.line.calls(1)
    await staffed.ask("POST", f"/v1/calls/{made['id']}/stop")
    await receiver.until(lambda: "call.analyzed" in receiver.kinds())
    await staffed.service.sender.run_once()
    kinds = receiver.kinds()
    assert kinds.count("call.ended") == 1
    assert {"call.started", "transcript.final", "call.recording.available"} <= set(kinds)


async def test_a_receiver_that_fails_hears_the_same_event_again(quick: House, receiver: Receiver) -> None:
    hook = await subscribe(quick, receiver)
    receiver.answers = [500]
    await quick.call(quick.agent_id, "+15005550101")
    await receiver.until(lambda: len(receiver.got) == 2)
    assert receiver.got[0] == receiver.got[1]
    ids = {headers["x-oneinbox-event-id"] for headers in receiver.headers}
    assert ids == {receiver.got[0][1]["id"]}
    log = await quick.ask("GET", f"/v1/webhooks/{hook['id']}/deliveries")
    assert {one["event"] for one in log["items"]} == {"call.failed"}
    assert json.loads(log["items"][-1]["payload"]) == receiver.got[0][1]
    assert log["items"][-1]["status_code"] == 500


async def test_what_was_sent_about_a_call_is_shown_with_the_call_its_own_address_included(
    quick: House, receiver: Receiver
) -> None:
    await subscribe(quick, receiver, events=["call.ended"])
    nobody = "http://127.0.0.1:9/own"
    made = await quick.call(quick.agent_id, webhook_url=nobody)
    other = await quick.call(quick.agent_id)
    for one in (made, other):
        await quick.until(one["id"], "in_progress")
        await quick.ask("POST", f"/v1/calls/{one['id']}/stop")
    await receiver.until(lambda: receiver.kinds("/hook").count("call.ended") == 2)
    path = f"/v1/calls/{made['id']}/deliveries"
    async with asyncio.timeout(30):
        while len(sent := (await quick.ask("GET", path, params={"limit": 100}))["items"]) < 2:
            await asyncio.sleep(0.02)
    assert {one["call_id"] for one in sent} == {made["id"]}
    assert {(one["url"], one["success"]) for one in sent} == {(nobody, False), (receiver.url + "/hook", True)}
    failed = next(one for one in sent if not one["success"])
    assert failed["webhook_id"] is None and failed["status_code"] is None and failed["error"]
    page = await quick.ask("GET", path, params={"limit": 1})
    assert (page["has_more"], len(page["items"])) == (True, 1)
    key = (await quick.ask("POST", "/api/v1/api-keys", 201, json={
        "label": "other", "scoped_identity_id": await quick.agent("Ben")}))["api_key"]  # fmt: skip
    others = {"Authorization": f"Bearer {key}"}
    await quick.ask("GET", path, 403, headers=others)


async def test_a_delivery_is_sent_again_when_asked_with_the_same_event_id(quick: House, receiver: Receiver) -> None:
    hook = await subscribe(quick, receiver)
    await quick.call(quick.agent_id, "+15005550101")
    await receiver.until(lambda: bool(receiver.got))
    await quick.service.sender.stop()  # so that the log is written
    (first,) = (await quick.ask("GET", f"/v1/webhooks/{hook['id']}/deliveries"))["items"]
    again = await quick.ask("POST", f"/v1/webhooks/{hook['id']}/deliveries/{first['id']}/replay")
    assert (again["is_replay"], again["success"], again["event_id"]) == (True, True, first["event_id"])
    assert receiver.got[0] == receiver.got[1]
    other = await subscribe(quick, receiver, "/other")
    for webhook, delivery in ((other["id"], first["id"]), (hook["id"], "dlv_nonsense"), ("wh_nonsense", first["id"])):
        await quick.ask("POST", f"/v1/webhooks/{webhook}/deliveries/{delivery}/replay", 404)


async def test_a_webhook_is_tried_out_changed_and_removed_and_its_secret_shown_once(
    quick: House, receiver: Receiver
) -> None:
    hook = await subscribe(quick, receiver)
    assert hook["secret"].startswith("whsec_")
    path = f"/v1/webhooks/{hook['id']}"
    tried = await quick.ask("POST", path + "/test")
    assert (tried["ok"], tried["status_code"], receiver.got[0][1]["id"]) == (True, 200, tried["event_id"])
    receiver.answers = [403]
    assert (await quick.ask("POST", path + "/test"))["error"] == "answered 403"
    assert (await quick.ask("GET", path))["secret"] is None
    assert [one["id"] for one in (await quick.ask("GET", "/v1/webhooks"))["items"]] == [hook["id"]]
    changed = await quick.ask("PATCH", path, json={"name": "theirs", "events": ["call.ended"]})
    assert (changed["name"], changed["events"], changed["url"]) == ("theirs", ["call.ended"], hook["url"])
    await quick.ask("DELETE", path, 204)
    for method, where in (("GET", path), ("DELETE", path), ("POST", path + "/test"), ("GET", path + "/deliveries")):
        await quick.ask(method, where, 404)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://example.com/hook"},
        {"url": "https://169.254.169.254/latest"},
        {"url": "https://2130706433/"},
        {"url": "not a url"},
        {"events": []},
        {"events": ["call.dreamt"]},
        {"events": ["call.ended"] * 21},
        {"name": ""},
        {"name": "n" * 256},
        {"url": None},
    ],
)
async def test_a_webhook_that_cannot_be_is_refused(quick: House, change: dict[str, Any]) -> None:
    body = {"name": "ours", "url": "http://127.0.0.1:9/", "events": ["call.ended"], **change}
    refused = await quick.ask("POST", "/v1/webhooks", 422, json=body)
    assert refused["detail"][0]["loc"][:2] == ["body", next(iter(change))]
    assert (await quick.ask("GET", "/v1/webhooks"))["total"] == 0


async def test_one_webhook_too_many_is_409_and_names_the_limit(house: House, receiver: Receiver) -> None:
    house.service.settings.max_webhooks = 1
    await subscribe(house, receiver)
    body = {"name": "more", "url": receiver.url + "/more", "events": EVENTS}
    refused = await house.ask("POST", "/v1/webhooks", 409, json=body)
    assert refused["code"] == "webhook_limit" and "ANYCARRIER_MAX_WEBHOOKS" in refused["detail"]
