"""Signing keys, subscriptions, ``call.ended``, the log and replay, by the real SDK and its own ``verify_webhook``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from desk import CALLEE, CALLER, Desk, open_desk
from inkbox import InkboxAPIError, verify_webhook

BUSY = "+15005550101"


async def ended_call(desk: Desk, identity: Any) -> Any:
    """A call on which two things were said."""
    before = len(desk.agent.of("start"))
    call = await desk.do(identity.place_call, to_number=CALLEE)
    socket = await desk.agent.started(before + 1)
    for party, text in (("local", "Hello, this is Aria."), ("remote", "Wrong number.")):
        await socket.send(json.dumps({"event": "transcript", "party": party, "text": text, "is_final": True}))
    await socket.send(json.dumps({"event": "stop"}))
    return await desk.until(call.id, "completed")


async def test_a_signing_key_is_shown_once_and_replaced_on_request(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    assert not (await desk.do(identity.get_signing_key_status)).configured
    assert not (await desk.do(desk.inkbox.signing_keys.get_status)).configured
    first = await desk.do(identity.create_signing_key)
    second = await desk.do(desk.inkbox.signing_keys.create_or_rotate, "support-bot")
    assert first.signing_key.startswith("whsec_") and first.signing_key != second.signing_key
    status = await desk.do(identity.get_signing_key_status)
    assert status.configured and status.created_at == second.created_at
    shown = await desk.ask("GET", "/api/v1/identities/support-bot")
    assert shown["signing_key_configured"] and shown["signing_key_created_at"]
    assert second.signing_key not in json.dumps(await desk.ask("GET", "/api/v1/identities"))
    assert (await desk.do(desk.inkbox.signing_keys.get_status)).configured
    with pytest.raises(InkboxAPIError) as admin:
        await desk.do(desk.inkbox.signing_keys.create_or_rotate)
    assert admin.value.status_code == 409
    own = await desk.agent_key(identity)
    third = await desk.do(own.signing_keys.create_or_rotate)
    assert third.signing_key != second.signing_key
    assert (await desk.do(own.signing_keys.get_status)).created_at == third.created_at


async def test_a_call_that_ended_is_told_once_signed_and_whole(desk: Desk) -> None:
    identity = await desk.identity()
    made = await desk.do(
        desk.inkbox.webhooks.subscriptions.create,
        url=f"{desk.receiver.url}/ended",
        event_types=["call.ended"],
        agent_identity_id=identity.id,
        auth_token="t0ken",
    )
    assert made.signing_key is not None and made.signing_key.startswith("whsec_")
    call = await ended_call(desk, identity)
    (told,) = await desk.receiver.until("/ended")
    assert verify_webhook(payload=told.raw, headers=told.headers, secret=made.signing_key)
    assert told.headers["authorization"] == "Bearer t0ken"
    body = told.body
    assert (body["event_type"], body["id"].startswith("evt_")) == ("call.ended", True)
    data = body["data"]
    assert set(data) == {
        "call", "contacts", "agent_identities", "transcript", "transcript_url", "outcome", "post_call_action_items",
    }  # fmt: skip
    assert (data["contacts"], data["agent_identities"], data["post_call_action_items"]) == ([], [], [])
    assert data["call"]["id"] == str(call.id) and "is_blocked" not in data["call"]
    assert (data["call"]["status"], data["call"]["hangup_reason"]) == ("completed", "local")
    assert isinstance(data["call"]["duration_seconds"], int)
    assert [(one["party"], one["text"]) for one in data["transcript"]["entries"]] == [
        ("local", "Hello, this is Aria."),
        ("remote", "Wrong number."),
    ]
    assert (data["transcript"]["abridged"], data["outcome"]) == (False, None)
    said = await desk.http.get(data["transcript_url"])
    assert [one["text"] for one in said.json()] == ["Hello, this is Aria.", "Wrong number."]
    failed = await desk.do(identity.place_call, to_number=BUSY)
    await desk.until(failed.id, "failed")
    _, second = await desk.receiver.until("/ended", 2)
    assert second.body["data"]["call"]["id"] == str(failed.id)
    assert second.body["data"]["call"]["duration_seconds"] is None
    assert second.body["data"]["transcript"] is None


async def test_blocked_calls_are_told_to_nobody(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    await desk.do(
        desk.inkbox.webhooks.subscriptions.create,
        url=f"{desk.receiver.url}/ended",
        event_types=["call.ended"],
        phone_number_id=identity.phone_number.id,
    )
    await desk.do(identity.create_phone_contact_rule, action="block", match_target="+12125550166")
    blocked = await desk.ring(identity, "+12125550166")
    await blocked.wait_for("ended")
    passed = await desk.ring(identity, CALLER)
    await passed.wait_for("answered")
    await passed.hang_up()
    (told,) = await desk.receiver.until("/ended")
    assert told.body["data"]["call"]["remote_phone_number"] == CALLER


async def test_a_receiver_that_fails_is_tried_again_and_a_delivery_can_be_replayed(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    subscriptions, deliveries = desk.inkbox.webhooks.subscriptions, desk.inkbox.webhooks.deliveries
    made = await desk.do(
        subscriptions.create,
        url=f"{desk.receiver.url}/ended",
        event_types=["call.ended"],
        agent_identity_id=identity.id,
    )
    desk.receiver.answers["/ended"] = [404]
    await ended_call(desk, identity)
    first, second = await desk.receiver.until("/ended", 2)
    assert first.raw == second.raw
    assert first.headers["x-inkbox-request-id"] != second.headers["x-inkbox-request-id"]
    for sent in (first, second):
        assert verify_webhook(payload=sent.raw, headers=sent.headers, secret=made.signing_key or "")
    log: list[Any] = []
    while len(log) < 2:
        log = await desk.do(deliveries.list, subscription_id=made.id)
    good, bad = log
    assert (good.response_status, bad.response_status, good.event_id) == (200, 404, bad.event_id)
    assert (good.request_payload, good.is_replay, good.replayable) == (first.raw.decode(), False, True)
    assert [one.id for one in await desk.do(deliveries.list, success=False)] == [bad.id]
    assert [one.id for one in await desk.do(deliveries.list, success=True, limit=1)] == [good.id]
    assert await desk.do(deliveries.list, event_type="phone.incoming_call") == []
    await desk.do(subscriptions.update, made.id, url=f"{desk.receiver.url}/moved")
    replayed = await desk.do(deliveries.replay, bad.id)
    assert (replayed.is_replay, replayed.event_id, replayed.response_status) == (True, bad.event_id, 200)
    (moved,) = await desk.receiver.until("/moved")
    assert moved.raw == first.raw
    assert verify_webhook(payload=moved.raw, headers=moved.headers, secret=made.signing_key or "")
    await desk.do(subscriptions.delete, made.id)
    with pytest.raises(InkboxAPIError) as gone:
        await desk.do(deliveries.replay, bad.id)
    assert gone.value.status_code == 409
    assert not any(one.replayable for one in await desk.do(deliveries.list))


async def test_subscriptions_are_made_listed_changed_and_ended(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    subscriptions = desk.inkbox.webhooks.subscriptions
    url = f"{desk.receiver.url}/ended"
    made = await desk.do(
        subscriptions.create,
        url=url,
        event_types=["call.ended"],
        phone_number_id=identity.phone_number.id,
        context_config={"calls": {"mode": "count", "count": 3}},
    )
    assert made.owner_identity_id == identity.id and made.signing_key is not None
    assert (made.context_config or {})["calls"] == {"mode": "count", "count": 3}
    second = await desk.do(
        subscriptions.create, url=url, event_types=["call.ended"], agent_identity_id=identity.id
    )
    assert second.signing_key is None, "a signing key is told once"
    listed = await desk.do(subscriptions.list, url=url, event_type="call.ended")
    assert {one.id for one in listed} == {made.id, second.id}
    assert [one.id for one in await desk.do(subscriptions.list, phone_number_id=identity.phone_number.id)] == [made.id]
    assert [one.id for one in await desk.do(subscriptions.list, agent_identity_id=identity.id, scope="identity")] == [
        second.id
    ]
    changed = await desk.do(subscriptions.update, made.id, auth_token="abc", context_config=None)
    assert (changed.auth_token, changed.has_auth_token, changed.context_config) == ("abc", True, None)
    cleared = await desk.do(subscriptions.update, made.id, auth_token=None)
    assert (cleared.has_auth_token, cleared.auth_token) == (False, None)
    await desk.do(subscriptions.delete, made.id)
    with pytest.raises(InkboxAPIError) as gone:
        await desk.do(subscriptions.get, made.id)
    assert gone.value.status_code == 404
    path = "/api/v1/webhooks/subscriptions"
    good = {"url": url, "event_types": ["call.ended"], "agent_identity_id": str(identity.id)}
    for wrong in (
        {"event_types": []},
        {"event_types": ["call.ended", "call.ended"]},
        {"event_types": ["phone.incoming_call"]},
        {"url": "ftp://example.com/x"},
        {"url": "http://example.com/x"},
        {"phone_number_id": str(identity.phone_number.id)},
        {"agent_identity_id": None},
        {"context_config": {"calls": {"mode": "count", "count": 51}}},
    ):
        await desk.ask("POST", path, 422, json={**good, **wrong})


async def test_a_call_may_name_a_receiver_of_its_own(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    body = {
        "to_number": BUSY,
        "from_number": identity.phone_number.number,
        "webhook_url": f"{desk.receiver.url}/mine",
    }
    call = await desk.ask("POST", "/api/v1/phone/place-call", json=body)
    (told,) = await desk.receiver.until("/mine")
    assert (told.body["event_type"], told.body["data"]["call"]["id"]) == ("call.ended", call["id"])
    log: list[Any] = []
    async with asyncio.timeout(30):
        while not log:
            log = await desk.do(desk.inkbox.webhooks.deliveries.list)
    assert (log[0].webhook_subscription_id, log[0].replayable) == (None, False)
    refused = await desk.ask("POST", f"/api/v1/webhooks/deliveries/{log[0].id}/replay", 422)
    assert "its call brought along" in refused["detail"][0]["msg"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_on_postgresql_a_call_is_made_told_listed_and_searched_too(tmp_path: Path, database: str) -> None:
    async with open_desk(tmp_path, "telnyx", database=database) as desk:
        identity = await desk.identity()
        await desk.do(
            desk.inkbox.webhooks.subscriptions.create,
            url=f"{desk.receiver.url}/ended",
            event_types=["call.ended"],
            agent_identity_id=identity.id,
        )
        call = await ended_call(desk, identity)
        (told,) = await desk.receiver.until("/ended")
        assert told.body["data"]["call"]["id"] == str(call.id)
        assert [one.id for one in await desk.do(identity.list_calls, start_datetime="2020-01-01")] == [call.id]
        found = await desk.do(desk.inkbox.phone_numbers.search_transcripts, identity.phone_number.id, q="aria")
        assert [one.text for one in found] == ["Hello, this is Aria."]
        rule = await desk.do(identity.create_phone_contact_rule, action="block", match_target=CALLER)
        assert [one.id for one in await desk.do(identity.list_phone_contact_rules)] == [rule.id]


async def test_one_subscription_too_many_is_409_and_names_the_limit(desk: Desk) -> None:
    desk.service.settings.max_webhooks = 1
    identity = await desk.identity()
    create = desk.inkbox.webhooks.subscriptions.create
    wanted = {"event_types": ["call.ended"], "agent_identity_id": identity.id}
    await desk.do(create, url=f"{desk.receiver.url}/one", **wanted)
    with pytest.raises(InkboxAPIError) as refused:
        await desk.do(create, url=f"{desk.receiver.url}/two", **wanted)
    assert refused.value.status_code == 409
    assert refused.value.detail["error"] == "webhook_limit"
