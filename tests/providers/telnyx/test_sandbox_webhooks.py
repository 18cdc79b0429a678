"""The Telnyx sandbox's webhooks: signed so that the vendor's own check takes them, retried, doubled, reordered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nacl.signing import SigningKey

from anycarrier_telnyx.sandbox.account import public_key
from anycarrier_telnyx.sandbox.webhooks import signature_headers
from shared_documents import shared_path
from telnyx_platform import OURS, STATE, THEIRS, Line, Posted, open_line


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with open_line() as line:
        yield line


def test_the_signature_is_byte_for_byte_that_of_the_known_vectors() -> None:
    vectors = json.loads(shared_path("recordings", "telnyx", "signatures", "vectors_derived.json").read_text())
    # RFC 8032, test 1: the key the vectors were made with.
    key = SigningKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    valid = [vector for vector in vectors if vector["valid"]]
    assert valid
    for vector in valid:
        headers = signature_headers(key, vector["raw_body"].encode(), int(vector["timestamp"]))
        assert headers["telnyx-signature-ed25519"] == vector["signature"].strip(), vector["name"]


async def test_the_vendors_own_check_takes_our_webhooks_and_refuses_forged_ones(line: Line) -> None:
    await line.sandbox.ring(OURS, THEIRS)
    await line.sandbox.webhooks.wait_for("call.initiated")
    good: Posted = line.platform.posted.items[0]
    event: Any = line.client.webhooks.unwrap(good.body.decode(), headers=good.headers, key=public_key("KEYsandbox"))
    assert event.data.event_type == "call.initiated"

    await line.sandbox.forge(0)
    forged: Posted = line.platform.posted.items[1]
    assert forged.body == good.body
    with pytest.raises(Exception, match=r"(?i)signature"):
        line.client.webhooks.unwrap(forged.body.decode(), headers=forged.headers, key=public_key("KEYsandbox"))


async def test_an_incoming_call_is_told_as_captured(line: Line) -> None:
    path = shared_path("recordings", "telnyx", "webhooks", "inbound_pstn_call_initiated.json")
    captured = json.loads(path.read_text())
    await line.sandbox.ring(OURS, THEIRS)
    payload = await line.platform.event("call.initiated")
    message = line.platform.posted.items[0].message
    assert set(captured["data"]) == set(message["data"])
    assert message["meta"] == {"attempt": 1, "delivered_to": line.platform.url}
    assert set(captured["data"]["payload"]) <= set(payload)
    assert {name: type(value) for name, value in captured["data"]["payload"].items()} == {
        name: type(payload[name]) for name in captured["data"]["payload"]
    }
    assert (payload["direction"], payload["state"]) == ("incoming", "parked")
    assert (payload["from"], payload["to"], payload["connection_id"]) == (THEIRS, OURS, line.connection)


async def test_a_webhook_nobody_takes_is_tried_again_with_the_attempt_counted_and_signed_anew(line: Line) -> None:
    line.platform.reply = lambda posted: 200 if posted.message["meta"]["attempt"] == 3 else 503
    await line.sandbox.ring(OURS, THEIRS)
    await line.platform.posted.until(lambda posted: posted.message["meta"]["attempt"] == 3)
    tries: list[Posted] = line.platform.posted.items
    assert [posted.message["meta"]["attempt"] for posted in tries] == [1, 2, 3]
    assert len({posted.message["data"]["id"] for posted in tries}) == 1
    for posted in tries:
        line.client.webhooks.unwrap(posted.body.decode(), headers=posted.headers, key=public_key("KEYsandbox"))


async def test_a_refused_webhook_is_not_tried_again(line: Line) -> None:
    line.platform.reply = lambda posted: 403 if posted.kind == "call.initiated" else 503
    far_end = await line.sandbox.ring(OURS, THEIRS)
    await line.platform.event("call.initiated")
    await far_end.hang_up()
    await line.platform.event("call.hangup", count=3)  # by now the refused one would have been tried again as well
    assert line.platform.kinds()[:4] == ["call.initiated", *["call.hangup"] * 3]
    assert line.platform.kinds().count("call.initiated") == 1


async def test_a_calls_own_retry_policy_replaces_the_carriers(line: Line) -> None:
    line.platform.reply = lambda posted: 500
    await line.dial(webhook_retries_policies={"call.initiated": {"retries_ms": [10]}})
    await line.platform.posted.until(lambda p: p.kind == "call.initiated" and p.message["meta"]["attempt"] == 2)
    await line.platform.posted.until(lambda p: p.kind == "call.answered" and p.message["meta"]["attempt"] == 4)
    initiated = [posted for posted in line.platform.posted.items if posted.kind == "call.initiated"]
    assert [posted.message["meta"]["attempt"] for posted in initiated] == [1, 2]


async def test_after_all_tries_the_failover_address_gets_it(line: Line) -> None:
    failover = f"{line.platform.url}?second"
    line.platform.reply = lambda posted: 200 if posted.message["meta"]["delivered_to"] == failover else 500
    await line.client.call_control_applications.update(
        line.connection,
        application_name="Voice",
        webhook_event_url=line.platform.url,
        webhook_event_failover_url=failover,
    )
    await line.sandbox.ring(OURS, THEIRS)
    await line.platform.event("call.initiated", count=5)
    urls = [posted.message["meta"]["delivered_to"] for posted in line.platform.posted.items]
    assert urls == [line.platform.url] * 4 + [failover]


async def test_duplicates_keep_their_id(line: Line) -> None:
    line.sandbox.quirks.add("duplicate")
    await line.sandbox.ring(OURS, THEIRS)
    await line.platform.event("call.initiated", count=2)
    first, second = line.platform.posted.items
    assert first.body == second.body


async def test_reordered_webhooks_overtake_each_other(line: Line) -> None:
    line.sandbox.quirks.add("reorder")
    far_end = await line.sandbox.ring(OURS, THEIRS)
    await far_end.hang_up()
    await line.platform.event("call.initiated")
    assert line.platform.kinds() == ["call.hangup", "call.initiated"]


async def test_an_application_left_at_its_default_speaks_the_old_envelope(line: Line) -> None:
    made = await line.client.call_control_applications.create(
        application_name="Old", webhook_event_url=line.platform.url
    )
    assert made.data is not None
    number = (await line.client.phone_numbers.list(filter={"phone_number": OURS})).data[0]
    await line.client.phone_numbers.update(number.id, connection_id=made.data.id or "")
    await line.sandbox.ring(OURS, THEIRS)
    posted = await line.platform.posted.until(lambda item: True)
    assert "data" not in posted.message and posted.message["event_type"] == "call_initiated"


async def test_client_state_comes_back_in_every_later_webhook_until_replaced(line: Line) -> None:
    call_id = await line.dial(client_state=STATE)
    assert (await line.platform.event("call.initiated"))["client_state"] == STATE
    assert (await line.platform.event("call.answered"))["client_state"] == STATE
    await line.client.calls.actions.update_client_state(call_id, client_state="bmV3")
    await line.client.calls.actions.hangup(call_id)
    assert (await line.platform.event("call.hangup"))["client_state"] == "bmV3"


async def test_a_commands_webhook_url_takes_over_from_the_applications(line: Line) -> None:
    await line.sandbox.ring(OURS, THEIRS)
    call_id = (await line.platform.event("call.initiated"))["call_control_id"]
    await line.client.calls.actions.answer(call_id, webhook_url=f"{line.platform.url}?ref=1")
    await line.platform.event("call.answered")
    urls = [posted.message["meta"]["delivered_to"] for posted in line.platform.posted.items]
    assert urls == [line.platform.url, f"{line.platform.url}?ref=1"]


async def test_a_replay_is_the_same_bytes_and_the_same_signature(line: Line) -> None:
    await line.sandbox.ring(OURS, THEIRS)
    await line.sandbox.webhooks.wait_for("call.initiated")
    await line.sandbox.redeliver(0)
    first, second = line.platform.posted.items
    assert (first.body, first.headers["telnyx-signature-ed25519"], first.headers["telnyx-timestamp"]) == (
        second.body,
        second.headers["telnyx-signature-ed25519"],
        second.headers["telnyx-timestamp"],
    )
