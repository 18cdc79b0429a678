"""What becomes of a ring, by the identity's action, watched at the carrier's sandbox."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from desk import CALLER, Desk, open_desk
from inkbox import verify_webhook

TARGET = "+12125550199"


async def webhook_identity(desk: Desk, answer: Any, **socket: str) -> Any:
    """An identity that asks ``/incoming``, which answers so."""
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    number = await desk.do(identity.provision_phone_number)
    desk.receiver.answers["/incoming"] = answer
    await desk.do(
        desk.inkbox.phone_numbers.update,
        number.id,
        incoming_call_action="webhook",
        incoming_call_webhook_url=f"{desk.receiver.url}/incoming",
        **socket,
    )
    return await desk.do(desk.inkbox.get_identity, "support-bot")


async def test_auto_reject_declines_and_asks_nobody(desk: Desk) -> None:
    identity = await desk.identity(answers=False)
    far_end = await desk.ring(identity)
    await far_end.wait_for("ended")
    call = await desk.call_of(far_end)
    call = await desk.until(call.id, "failed")
    assert (call.hangup_reason, call.is_blocked, call.direction) == ("rejected", False, "inbound")
    assert (call.started_at, desk.agent.handshakes, desk.receiver.got) == (None, [], [])


async def test_auto_accept_opens_the_socket_first_and_answers_then(desk: Desk) -> None:
    identity = await desk.identity()
    far_end = await desk.ring(identity)
    await far_end.wait_for("answered")
    await desk.agent.started()
    call = await desk.call_of(far_end)
    context = desk.agent.contexts()[0]
    assert (context["call_id"], context["direction"]) == (str(call.id), "inbound")
    assert (context["phone_number"], context["remote_phone_number"]) == (identity.phone_number.number, CALLER)
    await far_end.hang_up()
    done = await desk.until(call.id, "completed")
    assert (done.hangup_reason, done.client_websocket_url) == ("remote", desk.agent.url)
    await desk.agent.until(lambda: bool(desk.agent.of("stop")))
    assert desk.agent.of("stop")[0]["reason"] == "carrier_hangup"
    # Where it was streamed to, wherever the next call goes.
    moved = desk.agent.url + "&moved=1"
    await desk.do(desk.inkbox.phone_numbers.update, identity.phone_number.id, client_websocket_url=moved)
    assert (await desk.do(desk.inkbox.calls.get, call.id)).client_websocket_url == desk.agent.url


async def test_an_agent_that_declines_its_socket_has_the_call_rejected(desk: Desk) -> None:
    identity = await desk.identity()
    desk.agent.refuse = 403
    far_end = await desk.ring(identity)
    await far_end.wait_for("ended")
    call = await desk.call_of(far_end)
    done = await desk.until(call.id, "failed")
    assert done.started_at is None
    assert "answered" not in [what for _, what in far_end.log]


async def test_the_webhook_answers_with_a_socket_of_its_own(desk: Desk) -> None:
    answer = {"action": "answer", "client_websocket_url": desk.agent.url + "&for=this-call"}
    identity = await webhook_identity(desk, answer)
    key = (await desk.do(identity.create_signing_key)).signing_key
    far_end = await desk.ring(identity)
    await desk.agent.started()
    asked = (await desk.receiver.until("/incoming"))[0]
    assert verify_webhook(payload=asked.raw, headers=asked.headers, secret=key)
    assert not verify_webhook(payload=asked.raw + b" ", headers=asked.headers, secret=key)
    assert asked.headers["content-type"] == "application/json"
    assert abs(int(asked.headers["x-inkbox-timestamp"]) - time.time()) < 60
    call = await desk.call_of(far_end)
    body = asked.body
    assert body["id"] == str(call.id) and "event_type" not in body and "data" not in body
    assert set(body) == {
        "id", "local_phone_number", "remote_phone_number", "direction", "status", "client_websocket_url",
        "use_inkbox_tts", "use_inkbox_stt", "hangup_reason", "started_at", "ended_at", "created_at", "updated_at",
        "rate_limit", "contacts", "agent_identities", "phone_number_id",
    }  # fmt: skip
    assert (body["status"], body["direction"], body["remote_phone_number"]) == ("initiated", "inbound", CALLER)
    assert body["rate_limit"]["calls_used"] == 1 and len(body["rate_limit"]) == 6
    assert isinstance(body["rate_limit"]["minutes_limit"], int)
    assert desk.agent.paths == ["/agent?token=t-1&for=this-call"]
    handshake = desk.agent.handshakes[0]
    assert verify_webhook(payload=handshake["X-Call-Context"].encode(), headers=handshake, secret=key)
    logged = (await desk.do(desk.inkbox.webhooks.deliveries.list, phone_number_id=identity.phone_number.id))[0]
    assert (logged.event_type, logged.request_payload) == ("phone.incoming_call", asked.raw.decode())
    assert (logged.replayable, logged.webhook_subscription_id, logged.response_status) == (False, None, 200)
    with pytest.raises(Exception, match="422"):
        await desk.do(desk.inkbox.webhooks.deliveries.replay, logged.id)


async def test_the_webhook_answers_with_the_stored_socket(any_desk: Desk) -> None:
    desk = any_desk
    identity = await webhook_identity(desk, {"action": "answer"}, client_websocket_url=desk.agent.url)
    far_end = await desk.ring(identity)
    await far_end.wait_for("answered")
    await desk.agent.started()
    assert "x-inkbox-signature" not in desk.receiver.got[0].headers, "signed before there was a key"
    assert "X-Inkbox-Signature" not in desk.agent.handshakes[0]


@pytest.mark.parametrize(
    "answer",
    [
        {"action": "reject"},
        {"action": "dance"},
        {"action": "answer"},
        {"action": "answer", "client_websocket_url": "https://agent.example.com"},
        "this is no JSON",
        [500],
        [404],
    ],
    ids=["reject", "unknown", "no-url", "no-socket-url", "no-json", "500", "404"],
)
async def test_the_webhook_rejects_and_so_does_every_failure_of_it(any_desk: Desk, answer: Any) -> None:
    desk = any_desk
    identity = await webhook_identity(desk, answer)
    far_end = await desk.ring(identity)
    await far_end.wait_for("ended")
    call = await desk.call_of(far_end)
    done = await desk.until(call.id, "failed")
    assert (done.hangup_reason, done.is_blocked) == ("rejected", False)
    assert len(desk.receiver.got) == 1, "an incoming-call webhook is never tried again"


async def test_the_webhook_says_reject_on_each_carrier(desk: Desk) -> None:
    identity = await webhook_identity(desk, {"action": "reject"})
    far_end = await desk.ring(identity)
    await far_end.wait_for("ended")
    call = await desk.call_of(far_end)
    assert (await desk.until(call.id, "failed")).hangup_reason == "rejected"


async def test_the_webhook_says_ignore_and_it_rings_until_the_caller_gives_up(desk: Desk) -> None:
    identity = await webhook_identity(desk, {"action": "ignore"}, client_websocket_url=desk.agent.url)
    far_end = await desk.ring(identity)
    await desk.receiver.until("/incoming")
    call = await desk.call_of(far_end)
    await asyncio.sleep(0.3)  # nothing is to happen: there is no event to wait for
    assert far_end.state == "ringing" and desk.agent.handshakes == []
    await far_end.hang_up()
    done = await desk.until(call.id, "canceled", "failed", "completed")
    assert (done.status, done.hangup_reason) == ("canceled", "remote")


async def test_a_call_that_is_left_ringing_is_canceled_by_who_hangs_it_up(desk: Desk) -> None:
    identity = await webhook_identity(desk, {"action": "ignore"}, client_websocket_url=desk.agent.url)
    far_end = await desk.ring(identity)
    await desk.receiver.until("/incoming")
    call = await desk.call_of(far_end)
    await desk.do(identity.hangup_call, call.id)
    done = await desk.until(call.id, "canceled", "failed", "completed")
    assert (done.status, done.hangup_reason) == ("canceled", "local")


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_a_webhook_that_takes_too_long_is_a_reject(provider: str, tmp_path: Path) -> None:
    async with open_desk(tmp_path, provider, inbound_webhook_timeout=0.3) as desk:
        identity = await webhook_identity(desk, {"action": "answer"}, client_websocket_url=desk.agent.url)
        desk.receiver.hold = asyncio.Event()
        far_end = await desk.ring(identity)
        await far_end.wait_for("ended")  # though the receiver goes on holding
        call = await desk.call_of(far_end)
        assert (await desk.until(call.id, "failed")).hangup_reason == "rejected"
        logged = (await desk.do(desk.inkbox.webhooks.deliveries.list))[0]
        assert (logged.response_status, "0.3 s" in (logged.error_detail or "")) == (None, True)
        desk.receiver.hold.set()


async def test_forward_sends_the_caller_on(desk: Desk) -> None:
    identity = await desk.identity()
    await desk.do(
        identity.set_incoming_call_action,
        incoming_call_action="forward",
        forwarding_target_type="phone",
        forwarding_phone_number=TARGET,
    )
    far_end = await desk.ring(identity)
    async with asyncio.timeout(30):
        while far_end.transferred_to is None:
            await asyncio.sleep(0.02)
    assert far_end.transferred_to == TARGET and desk.agent.handshakes == []
    call = await desk.call_of(far_end)
    (attempt,) = call.forwardings
    assert (attempt.target_type.value, attempt.target, attempt.trigger.value) == ("phone", TARGET, "incoming_action")
    await far_end.hang_up()
    done = await desk.until(call.id, "completed", "canceled")
    assert done.client_websocket_url is None  # no agent ever heard of it


async def test_a_forward_abroad_is_refused_like_a_call_abroad(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    await desk.do(
        identity.set_incoming_call_action,
        incoming_call_action="forward",
        forwarding_target_type="phone",
        forwarding_phone_number="+4930901820",
    )
    far_end = await desk.ring(identity)
    await far_end.wait_for("ended")
    assert far_end.transferred_to is None


async def test_voice_ai_is_not_here_so_its_action_declines(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    await desk.do(identity.set_incoming_call_action, incoming_call_action="hosted_agent")
    far_end = await desk.ring(identity)
    await far_end.wait_for("ended")
    assert (await desk.until((await desk.call_of(far_end)).id, "failed")).hangup_reason == "rejected"
