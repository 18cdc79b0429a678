"""Calls, by the real SDK: made, refused, listed, hung up, and what was said on them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from desk import CALLEE, FRAME, Desk, open_desk
from inkbox import InkboxAPIError
from inkbox.exceptions import RecipientBlockedError

BUSY, DECLINES, NO_SUCH, FAILS, MACHINE, HANGS_UP, NO_ANSWER = (
    f"+150055501{n}" for n in ("01", "03", "04", "08", "05", "12", "02")
)


async def refused(desk: Desk, status: int, **request: Any) -> Any:
    """The SDK's exception for a call that must be refused so."""
    with pytest.raises(InkboxAPIError) as caught:
        await desk.do(desk.inkbox.calls.place, **request)
    assert caught.value.status_code == status, caught.value
    return caught.value


async def test_a_call_is_placed_answered_talked_on_hung_up_and_leaves_a_transcript(desk: Desk) -> None:
    identity = await desk.identity()
    number = identity.phone_number.number
    call = await desk.do(identity.place_call, to_number=CALLEE)
    assert (call.status, call.direction, call.local_phone_number, call.remote_phone_number) == (
        "initiated", "outbound", number, CALLEE,
    )  # fmt: skip
    assert (call.rate_limit.calls_used, call.rate_limit.calls_remaining) == (1, 9999)
    assert (call.use_inkbox_tts, call.use_inkbox_stt, call.started_at, call.is_blocked) == (None, None, None, False)
    socket = await desk.agent.started()
    assert desk.agent.contexts()[0] | {"agent_id": ""} == {
        "call_id": str(call.id),
        "phone_number": number,
        "remote_phone_number": CALLEE,
        "direction": "outbound",
        "contacts": [],
        "agent_id": "",
    }
    assert desk.agent.paths == ["/agent?token=t-1"]
    start = desk.agent.of("start")[0]
    assert start["start"]["media_format"] == {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
    for party, text in (("local", "Good morning, this is Aria."), ("remote", "I would like a table for two.")):
        await socket.send(json.dumps({"event": "transcript", "party": party, "text": text, "is_final": True}))
    await socket.send(json.dumps({"event": "transcript", "party": "remote", "text": "for", "is_final": False}))
    for _ in range(10):
        await socket.send(json.dumps({"event": "media", "media": {"payload": FRAME, "track": "outbound"}}))
    far_end = await desk.far_end(call)
    await far_end.wait_heard(0.2)
    live = await desk.until(call.id, "answered")
    assert (live.use_inkbox_tts, live.use_inkbox_stt, live.client_websocket_url) == (False, False, desk.agent.url)
    ended = await desk.do(identity.hangup_call, call.id)
    assert ended.id == call.id
    done = await desk.until(call.id, "completed")
    assert (done.hangup_reason, done.forwardings, done.connections) == ("local", [], [])
    assert done.started_at is not None and done.ended_at is not None and done.ended_at >= done.started_at
    await desk.agent.until(lambda: bool(desk.agent.of("stop")))
    said = await desk.do(identity.list_transcripts, call.id)
    assert [(one.seq, one.party, one.text) for one in said] == [
        (0, "local", "Good morning, this is Aria."),
        (1, "remote", "I would like a table for two."),
    ]
    assert {one.call_id for one in said} == {call.id} and said[0].phone_number == number
    found = await desk.do(desk.inkbox.phone_numbers.search_transcripts, identity.phone_number.id, q="table two")
    assert [(one.text, one.id) for one in found] == [("I would like a table for two.", said[1].id)]
    by_party = await desk.do(
        desk.inkbox.phone_numbers.search_transcripts, identity.phone_number.id, q="table", party="local"
    )
    assert by_party == []
    page = await desk.do(identity.list_tool_invocations, call.id)
    assert (page.items, page.has_more, page.limit) == ([], False, 50)
    with pytest.raises(InkboxAPIError) as twice:
        await desk.do(desk.inkbox.calls.hangup, call.id)
    assert twice.value.status_code == 409


@pytest.mark.parametrize(
    ("callee", "status", "reason"),
    [(BUSY, "failed", "rejected"), (DECLINES, "failed", "rejected"), (HANGS_UP, "completed", "remote")],
)
async def test_how_a_call_ended_is_told_in_the_contracts_words(
    desk: Desk, callee: str, status: str, reason: str
) -> None:
    identity = await desk.identity()
    call = await desk.do(identity.place_call, to_number=callee)
    done = await desk.until(call.id, "failed", "completed", "canceled")
    assert (done.status, done.hangup_reason) == (status, reason)


async def test_a_call_hung_up_before_the_answer_is_canceled_by_us(desk: Desk) -> None:
    identity = await desk.identity()
    call = await desk.do(identity.place_call, to_number=NO_ANSWER)
    await desk.do(identity.hangup_call, call.id)
    done = await desk.until(call.id, "canceled", "failed", "completed")
    assert (done.status, done.hangup_reason, done.started_at) == ("canceled", "local", None)


async def test_a_machine_is_hung_up_on_unless_told_to_ignore_it(desk: Desk) -> None:
    identity = await desk.identity()
    call = await desk.do(identity.place_call, to_number=MACHINE)
    assert (call.on_voicemail.value, call.voicemail_detection.value) == ("hang_up", "enabled")
    done = await desk.until(call.id, "completed", "failed")
    assert (done.status, done.hangup_reason) == ("completed", "voicemail")
    ignoring = await desk.do(identity.place_call, to_number=CALLEE, voicemail_detection="disabled")
    assert (ignoring.on_voicemail.value, ignoring.voicemail_detection.value) == ("ignore", "disabled")


async def test_the_agent_ends_the_call_by_stop_and_by_closing_but_not_by_hangup(desk: Desk) -> None:
    identity = await desk.identity()
    for count, end in enumerate(("stop", "close"), 1):
        call = await desk.do(identity.place_call, to_number=CALLEE)
        socket = await desk.agent.started(count)
        await socket.send(json.dumps({"event": "hangup"}))
        pong = await socket.ping()
        await pong
        assert (await desk.until(call.id, "answered")).hangup_reason is None
        if end == "stop":
            await socket.send(json.dumps({"event": "stop"}))
        else:
            await socket.close()
        done = await desk.until(call.id, "completed", "failed")
        assert (done.status, done.hangup_reason) == ("completed", "local")


async def test_an_agent_that_cannot_be_reached_fails_the_call(desk: Desk) -> None:
    identity = await desk.identity()
    desk.agent.refuse = 503
    call = await desk.do(identity.place_call, to_number=CALLEE)
    done = await desk.until(call.id, "completed", "failed", "canceled")
    assert (done.status, done.hangup_reason) == ("failed", None)


async def test_the_longest_call_is_configurable_and_ends_with_max_duration(tmp_path: Path) -> None:
    # The carrier's own limit is half a minute at least, so that ours is the first to be reached.
    async with open_desk(tmp_path, "telnyx", max_duration_seconds=1.2) as desk:
        identity = await desk.identity()
        call = await desk.do(identity.place_call, to_number=CALLEE)
        done = await desk.until(call.id, "completed", "failed")
        assert (done.status, done.hangup_reason) == ("completed", "max_duration")
        assert 1.0 <= (done.ended_at - done.started_at).total_seconds() < 30
        await desk.agent.until(lambda: bool(desk.agent.of("stop")))
        stop = desk.agent.of("stop")[0]
        assert stop["hangup_reason"] == "max_duration"


async def test_what_the_carrier_refuses_is_502_and_costs_no_call_of_the_day(desk: Desk) -> None:
    identity = await desk.identity()
    number = identity.phone_number.number
    for callee in (NO_SUCH, FAILS):
        await refused(desk, 502, to_number=callee, from_number=number)
    call = await desk.do(identity.place_call, to_number=CALLEE)
    used = call.rate_limit.calls_used
    # A 500 leaves open whether the phone rings, so that one stays counted.
    assert used == 2


async def test_every_combination_the_contract_forbids_is_422(any_desk: Desk) -> None:
    desk = any_desk
    number = (await desk.identity()).phone_number.number
    ours = {"to_number": CALLEE, "from_number": number}
    for wrong in (
        {"to_number": CALLEE},
        {"to_number": "212 555 0142", "from_number": number},
        {**ours, "reason": "buy milk"},
        {**ours, "mode": "hosted_agent"},
        {**ours, "mode": "hosted_agent", "reason": "buy milk", "client_websocket_url": desk.agent.url},
        {**ours, "hosted_agent_authority_mode": "yolo"},
        {**ours, "voicemail_message": "hello"},
        {**ours, "on_voicemail": "ignore", "voicemail_detection": "enabled"},
        {**ours, "on_voicemail": "leave_message", "voicemail_message": "x" * 1001},
        {**ours, "mode": "by_pigeon"},
        {**ours, "client_websocket_url": "https://agent.example.com"},
    ):
        error = await refused(desk, 422, **wrong)
        assert all(set(one) == {"loc", "msg", "type"} for one in error.detail), error.detail
    assert (await refused(desk, 422, to_number=CALLEE)).detail[0]["loc"] == ["body", "from_number"]


async def test_what_is_not_offered_is_refused_in_the_contracts_words(any_desk: Desk) -> None:
    desk = any_desk
    number = (await desk.identity()).phone_number.number
    hosted = await refused(desk, 503, to_number=CALLEE, from_number=number, mode="hosted_agent", reason="buy milk")
    assert hosted.detail["error"] == "hosted_agent_unavailable"
    for origination in ("shared_imessage_number", "dedicated_imessage_number"):
        error = await refused(desk, 409, to_number=CALLEE, origination=origination)
        assert error.detail["error"] == "no_shared_connection"
    with pytest.raises(InkboxAPIError) as config:
        await desk.do(desk.inkbox.hosted_agent.get_config)
    assert config.value.status_code == 501


async def test_whose_number_it_is_decides_who_may_call_from_it(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    await refused(desk, 403, to_number=CALLEE, from_number="+12125550199", client_websocket_url=desk.agent.url)
    other = await desk.do(desk.inkbox.create_identity, "other-bot")
    theirs = await desk.agent_key(other)
    with pytest.raises(InkboxAPIError) as foreign:
        await desk.do(theirs.calls.place, to_number=CALLEE, from_number=identity.phone_number.number)
    assert foreign.value.status_code == 403
    line = await desk.service.store.lines.by_number(identity.phone_number.number)
    assert line is not None
    await desk.service.store.lines.change(line.id, status="inactive")
    await refused(desk, 400, to_number=CALLEE, from_number=identity.phone_number.number)


async def test_a_number_without_a_socket_needs_one_in_the_request(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.do(desk.inkbox.create_identity, "mute-bot")
    await desk.do(identity.provision_phone_number)
    with pytest.raises(InkboxAPIError) as mute:
        await desk.do(identity.place_call, to_number=CALLEE)
    assert mute.value.status_code == 422
    call = await desk.do(identity.place_call, to_number=CALLEE, client_websocket_url=desk.agent.url)
    await desk.agent.started()
    assert (await desk.until(call.id, "answered")).client_websocket_url == desk.agent.url


async def test_destinations_abroad_are_refused_by_policy_and_blocked_ones_by_rule(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    number = identity.phone_number.number
    abroad = await refused(desk, 403, to_number="+4930901820", from_number=number)
    assert abroad.detail["error"] == "destination_not_allowed" and "add DE to ANYCARRIER_ALLOW" in str(abroad.detail)
    rule = await desk.do(identity.create_phone_contact_rule, action="block", match_target=CALLEE)
    with pytest.raises(RecipientBlockedError) as blocked:
        await desk.do(identity.place_call, to_number=CALLEE)
    assert (blocked.value.matched_rule_id, blocked.value.address) == (rule.id, CALLEE)
    await desk.do(desk.inkbox.phone_numbers.update, identity.phone_number.id, filter_mode="whitelist")
    with pytest.raises(RecipientBlockedError) as unlisted:
        await desk.do(identity.place_call, to_number="+12125550177")
    assert unlisted.value.matched_rule_id is None and "whitelist" in unlisted.value.reason


async def test_an_idempotency_key_makes_one_call_of_two_requests(any_desk: Desk) -> None:
    desk = any_desk
    number = (await desk.identity()).phone_number.number
    body = {"to_number": CALLEE, "from_number": number}
    headers = {"Idempotency-Key": "k-1"}
    path = "/api/v1/phone/place-call"
    first, second = await asyncio.gather(
        *(desk.ask("POST", path, json=body, headers=headers) for _ in range(2))
    )
    assert first["id"] == second["id"]
    other = await desk.ask("POST", path, 409, json={**body, "on_voicemail": "ignore"}, headers=headers)
    assert other["detail"]["error"] == "idempotency_key_reused"


async def test_calls_are_listed_by_identity_newest_first_in_a_range(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    placed = []
    for _ in range(3):
        call = await desk.do(identity.place_call, to_number=BUSY)
        await desk.until(call.id, "failed")
        placed.append(call.id)
    assert [call.id for call in await desk.do(identity.list_calls)] == placed[::-1]
    assert [call.id for call in await desk.do(identity.list_calls, limit=1, offset=1)] == [placed[1]]
    with pytest.raises(InkboxAPIError) as whose:
        await desk.do(desk.inkbox.calls.list)
    assert whose.value.status_code == 422
    today = datetime.now(UTC)
    listing = desk.inkbox.calls.list
    for which, count in (
        ({"start_datetime": today.date().isoformat(), "end_datetime": today.date().isoformat()}, 3),
        ({"end_datetime": (today - timedelta(days=2)).date().isoformat()}, 0),
        ({"start_datetime": (today + timedelta(days=2)).date().isoformat(), "tz": "Pacific/Auckland"}, 0),
        ({"start_datetime": (today - timedelta(minutes=5)).isoformat()}, 3),
        ({"start_datetime": (today + timedelta(minutes=5)).isoformat(), "tz": "Asia/Tokyo"}, 0),
    ):
        found = await desk.do(listing, agent_identity_id=identity.id, **which)
        assert len(found) == count, which
    never = {"end_datetime": "2026-02-30"}
    for wrong in ({"tz": "Mars/Olympus"}, {"start_datetime": "yesterday"}, never, {"limit": 0}):
        with pytest.raises(InkboxAPIError) as bad:
            await desk.do(listing, agent_identity_id=identity.id, **wrong)
        assert bad.value.status_code == 422, wrong


async def test_calls_that_are_not_there_are_404_and_those_of_others_403(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    call = await desk.do(identity.place_call, to_number=BUSY)
    await desk.until(call.id, "failed")
    for call_id, status in ((uuid4(), 404), ("nonsense", 404)):
        for ask in (desk.inkbox.calls.get, desk.inkbox.calls.transcripts, desk.inkbox.calls.hangup):
            with pytest.raises(InkboxAPIError) as missing:
                await desk.do(ask, call_id)
            assert missing.value.status_code == status
    stranger = await desk.service.store.workspaces.create("another organization")
    _, secret = await desk.service.store.keys.create(stranger.id, "theirs")
    theirs = desk.client(secret)
    for ask in (theirs.calls.get, theirs.calls.transcripts, theirs.calls.hangup):
        with pytest.raises(InkboxAPIError) as foreign:
            await desk.do(ask, call.id)
        assert foreign.value.status_code == 403
    with pytest.raises(InkboxAPIError) as number:
        await desk.do(theirs.phone_numbers.get, identity.phone_number.id)
    assert number.value.status_code == 403


async def test_a_blocked_caller_is_refused_recorded_and_hidden_from_the_identitys_own_key(desk: Desk) -> None:
    identity = await desk.identity()
    await desk.do(identity.create_phone_contact_rule, action="block", match_target="+12125550166", direction="inbound")
    far_end = await desk.ring(identity, "+12125550166")
    await far_end.wait_for("ended")
    call = await desk.call_of(far_end)
    assert (call.status, call.hangup_reason, call.is_blocked) == ("failed", "rejected", True)
    assert (call.started_at, desk.agent.handshakes) == (None, [])
    async with asyncio.timeout(30):  # until the carrier has said, too, that it is over
        while (row := await desk.service.store.calls.find(call.id)) is None or row.ended_at is None:
            await asyncio.sleep(0.01)
    assert (await desk.do(desk.inkbox.calls.get, call.id)).ended_at is None
    listing = desk.inkbox.calls.list
    assert [c.id for c in await desk.do(listing, agent_identity_id=identity.id)] == [call.id]
    assert [c.id for c in await desk.do(listing, agent_identity_id=identity.id, is_blocked=True)] == [call.id]
    assert await desk.do(listing, agent_identity_id=identity.id, is_blocked=False) == []
    own = await desk.agent_key(identity)
    for blocked in (None, True, False):
        assert await desk.do(own.calls.list, is_blocked=blocked) == []
    with pytest.raises(InkboxAPIError) as hidden:
        await desk.do(own.calls.get, call.id)
    assert hidden.value.status_code == 404
    passed = await desk.ring(identity)
    await passed.wait_for("answered")
    seen = await desk.do(own.calls.list)
    assert [c.is_blocked for c in seen] == [False] and isinstance(seen[0].id, UUID)
