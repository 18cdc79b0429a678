"""Calls: how they end, what is shown of them, what a second request does."""

from __future__ import annotations

import asyncio
import errno
import io
import wave
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from house import CALLEE, CALLER, OURS, House, open_house
from running import never_too_late

from anycarrier.provider import Provider
from anycarrier_server.domain import recordings_and_transcripts
from anycarrier_server.store import parse_id
from anycarrier_server.work.store_agents import StoreAgents
from anycarrier_telnyx import TelnyxProvider


@pytest.fixture(params=["twilio", "telnyx", "sip"])
async def staffed(request: pytest.FixtureRequest, house: House) -> House:
    """The house with a number of that carrier and an agent; ``house.agent_id`` is its id."""
    house.agent_id = await house.agent()
    await house.number(request.param, house.agent_id)
    return house


@pytest.fixture
async def quick(house: House) -> House:
    """The same on one carrier, for what no carrier has a part in."""
    house.agent_id = await house.agent()
    await house.number("telnyx", house.agent_id)
    return house


@pytest.mark.parametrize(
    ("to", "reason"),
    [("+15005550101", "busy"), ("+15005550103", "rejected"), ("+15005550114", "invalid_number")],
)
async def test_a_call_that_does_not_connect_is_failed_with_its_reason_and_costs_no_minutes(
    staffed: House, to: str, reason: str
) -> None:
    made = await staffed.call(staffed.agent_id, to)
    over = await staffed.until(made["id"], "failed")
    assert over["end_reason"] == reason
    assert (over["duration_seconds"], over["credits_used"], over["answered_at"]) == (0, 0, None)
    assert (over["messages"], over["outcome"]) == ([], "Not Connected")
    assert over["provider_status"]


async def test_stopping_a_ringing_call_cancels_it_and_stopping_again_changes_nothing(staffed: House) -> None:
    made = await staffed.call(staffed.agent_id, "+15005550102")
    await staffed.ask("POST", f"/v1/calls/{made['id']}/stop")
    over = await staffed.until(made["id"], "failed")
    assert over["end_reason"] == "canceled"
    again = await staffed.ask("POST", f"/v1/calls/{made['id']}/stop")
    assert (again["status"], again["end_reason"], again["ended_at"]) == ("failed", "canceled", over["ended_at"])


async def test_a_call_the_caller_ended_stays_so_when_it_is_stopped_afterwards(staffed: House) -> None:
    made = await staffed.call(staffed.agent_id)
    await staffed.until(made["id"], "in_progress")
    await staffed.line.calls(1)
    await (await staffed.far_end(made)).hang_up()
    over = await staffed.until(made["id"], "completed")
    assert over["end_reason"] == "user_hangup"
    assert over["started_at"] == over["answered_at"] is not None
    stopped = await staffed.ask("POST", f"/v1/calls/{made['id']}/stop")
    assert (stopped["status"], stopped["end_reason"]) == ("completed", "user_hangup")


async def test_the_field_named_for_a_carrier_holds_that_carriers_id_and_nobody_elses(staffed: House) -> None:
    made = await staffed.call(staffed.agent_id, "+15005550101")
    call = await staffed.until(made["id"], "failed")
    assert call["provider_call_id"]
    assert call["twilio_call_sid"] == (call["provider_call_id"] if call["provider"] == "twilio" else None)


async def test_an_incoming_call_is_shown_like_any_other(staffed: House) -> None:
    provider = (await staffed.ask("GET", "/v1/phone-numbers"))["items"][0]["provider"]
    far_end = await staffed.sandbox(provider).ring(OURS, CALLER)
    await staffed.line.calls(1)
    (shown,) = (await staffed.ask("GET", "/v1/calls?direction=inbound"))["items"]
    assert (shown["type"], shown["direction"], shown["status"]) == ("inbound", "inbound", "in_progress")
    assert (shown["from_number"], shown["to_number"], shown["agent_id"]) == (CALLER, OURS, staffed.agent_id)
    await far_end.hang_up()
    assert (await staffed.until(shown["id"], "completed"))["end_reason"] == "user_hangup"


async def test_keys_are_pressed_and_calls_handed_on_while_they_last_and_refused_after(staffed: House) -> None:
    made = await staffed.call(staffed.agent_id)
    await staffed.until(made["id"], "in_progress")
    await staffed.line.calls(1)
    far_end = await staffed.far_end(made)
    await staffed.ask("POST", f"/v1/calls/{made['id']}/dtmf", json={"digits": "12#"})
    target = {"to_number": "+12125550177"}
    await staffed.ask("POST", f"/v1/calls/{made['id']}/transfer", json=target)

    async def kinds() -> list[str]:
        log = await staffed.ask("GET", f"/v1/calls/{made['id']}/events")
        return [event["event"] for event in log["items"]]

    async with asyncio.timeout(30):
        while "call.transferred" not in await kinds():
            await asyncio.sleep(0.01)
    assert far_end.transferred_to == "+12125550177"
    await far_end.hang_up()
    assert (await staffed.until(made["id"], "completed"))["end_reason"] == "transferred"
    for action, body in (("dtmf", {"digits": "1"}), ("transfer", target)):
        refused = await staffed.ask("POST", f"/v1/calls/{made['id']}/{action}", 409, json=body)
        assert refused["code"] == "call_not_active"
    happened = await kinds()
    assert happened[0] == "call.created"
    assert {"call.answered", "call.digits_sent", "call.transfer_requested", "call.ended"} <= set(happened)


async def test_an_event_keeps_the_name_that_clients_know(quick: House) -> None:
    made = await quick.call(quick.agent_id)
    id_ = parse_id("call", made["id"])
    assert id_ is not None
    store = quick.service.store
    store.writer.event(id_, "no_recognition", {"why": "no engine listens"})
    await store.writer.flush(call_id=id_)
    log = await quick.ask("GET", f"/v1/calls/{made['id']}/events")
    (shown,) = [event for event in log["items"] if event["details"] == {"why": "no engine listens"}]
    assert shown["event"] == "deaf"


async def test_a_transfer_obeys_the_rules_of_dialling_and_only_cold_ones_are_done(quick: House) -> None:
    made = await quick.call(quick.agent_id)
    await quick.until(made["id"], "in_progress")
    path = f"/v1/calls/{made['id']}/transfer"
    assert (await quick.ask("POST", path, 403, json={"to": "+442079460100"}))["code"] == "destination_not_allowed"
    foreign = await quick.ask("POST", path, 403, json={"to": "sip:desk@pbx.example.com?X-Case=42"})
    assert "add sip:pbx.example.com to ANYCARRIER_ALLOW" in foreign["detail"]
    for unreadable in ("sip:a@other.example?x=@pbx.example.com", "sip:a@b.example,sip:c@d.example", "sip:a@b.c<x>"):
        assert (await quick.ask("POST", path, 422, json={"to": unreadable}))["code"] == "validation"
    warm = {"transfer_to": "+12125550177", "transfer_mode": "warm"}
    assert (await quick.ask("POST", path, 501, json=warm))["code"] == "not_supported_by_provider"


@pytest.mark.parametrize(
    ("to", "status", "code", "reason"),
    [
        ("+15005550107", 429, "rate_limited", "provider_rate_limited"),
        ("+15005550104", 502, "provider_error", "invalid_number"),
        ("+15005550110", 502, "provider_error", "provider_permission_denied"),
    ],
)
async def test_what_the_carrier_refuses_is_told_in_its_words_and_on_the_call(
    staffed: House, to: str, status: int, code: str, reason: str
) -> None:
    response = await staffed.client.post(
        "/v1/calls", json={"agent_id": staffed.agent_id, "to_number": to, "from_number": OURS}
    )
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code)
    assert body["provider"]["message"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert to not in response.text
    if status == 429:
        assert int(response.headers["retry-after"]) >= 1
    (call,) = (await staffed.ask("GET", "/v1/calls"))["items"]
    assert (call["status"], call["end_reason"]) == ("failed", reason)
    assert call["provider_error"]["message"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"from_number": "+14155550188"}, 403, "from_number_not_owned"),
        ({"to_number": "+442079460100"}, 403, "destination_not_allowed"),
        ({"agent_id": "agt_00000000000000000000000000000000"}, 404, "not_found"),
        ({"agent_id": "nonsense"}, 404, "not_found"),
        ({"to_number": "4155550100"}, 422, "validation"),
        ({"to_number": "+1٤155550100"}, 422, "validation"),
        ({"variables": {"who": {"first": "Sama"}}}, 422, "validation"),
        ({"scheduled_at": "2020-01-01T00:00:00Z"}, 422, "validation"),
        ({"scheduled_at": "tomorrow"}, 422, "validation"),
        ({"scheduled_at": "2126-01-01T00:00:00Z"}, 422, "validation"),
        ({"scheduled_at": "9999-12-31T23:59:59Z"}, 422, "validation"),
        ({"webhook_url": "https://10.0.0.8/hook"}, 422, "validation"),
        ({"webhook_url": "ftp://example.com/hook"}, 422, "validation"),
        ({"overrides": {"tts": {"speed": 9}}}, 422, "validation"),
        ({"agent_id": 7}, 422, "validation"),
        ({"metadata": ["a"]}, 422, "validation"),
    ],
)
async def test_a_call_that_cannot_be_is_refused_before_anything_rings(
    quick: House, change: dict[str, object], status: int, code: str
) -> None:
    body = {"agent_id": quick.agent_id, "to_number": CALLEE, "from_number": OURS, **change}
    refused = await quick.ask("POST", "/v1/calls", status, json=body)
    assert refused["code"] == code
    if status == 422:
        assert all({"loc", "msg", "type"} <= set(complaint) for complaint in refused["detail"])
    assert (await quick.ask("GET", "/v1/calls"))["total"] == 0
    assert not quick.sandbox("telnyx").far_ends


async def test_the_same_key_and_body_is_the_same_call_and_another_body_a_conflict(quick: House) -> None:
    body = {"agent_id": quick.agent_id, "to_number": CALLEE, "from_number": OURS, "metadata": {"order": 1, "of": "us"}}
    headers = {"Idempotency-Key": "order-1"}
    answers = await asyncio.gather(
        *(quick.client.post("/v1/calls", json=body, headers=headers) for _ in range(8))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(quick.sandbox("telnyx").far_ends) == 1, "somebody was rung twice"
    shuffled = {**body, "metadata": {"of": "us", "order": 1}}
    again = await quick.ask("POST", "/v1/calls", 201, json=shuffled, headers=headers)
    assert again["id"] == answers[0].json()["id"]
    refused = await quick.ask("POST", "/v1/calls", 409, json={**body, "metadata": {}}, headers=headers)
    assert refused["code"] == "idempotency_conflict"


async def test_a_scheduled_call_waits_queued_and_can_be_called_off(quick: House) -> None:
    at = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    local = at.astimezone().isoformat()
    made = await quick.call(quick.agent_id, scheduled_at=local)
    assert (made["status"], made["scheduled_at"]) == ("queued", at.isoformat().replace("+00:00", "Z"))
    over = await quick.ask("POST", f"/v1/calls/{made['id']}/stop")
    assert (over["status"], over["end_reason"]) == ("failed", "canceled")
    assert not quick.sandbox("telnyx").far_ends


async def test_calls_that_wait_on_a_number_are_called_off_with_it(quick: House) -> None:
    far = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    made = [(await quick.call(quick.agent_id, scheduled_at=far))["id"] for _ in range(3)]
    (number,) = (await quick.ask("GET", "/v1/phone-numbers"))["items"]
    await quick.ask("DELETE", f"/v1/phone-numbers/{number['id']}", 204)
    for call_id in made:
        call = await quick.ask("GET", f"/v1/calls/{call_id}")
        assert (call["status"], call["end_reason"]) == ("failed", "canceled")


async def test_a_call_lasts_no_longer_than_there_are_minutes(tmp_path: Path) -> None:
    async with open_house(tmp_path, minutes_per_day=0.02) as house:
        agent_id = await house.agent()
        await house.number("telnyx", agent_id)
        dialled = await house.call(agent_id)
        row = await house.service.store.calls.find(dialled["id"])
        assert row is not None and row.time_limit == pytest.approx(1.2)
        over = await house.until(dialled["id"], "completed")
        assert over["end_reason"] == "max_duration"
        assert 1 <= over["duration_seconds"] < 100  # 1.2 s of minutes, and what a busy machine adds; else it were 600
        refused = await house.call(agent_id, status=429)
        assert refused["code"] == "daily_limit"


async def test_a_scheduled_call_is_dialled_when_its_time_comes(quick: House, monkeypatch: pytest.MonkeyPatch) -> None:
    never_too_late(monkeypatch)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    made = await quick.call(quick.agent_id, scheduled_at=soon)
    assert made["status"] == "queued"
    live = await quick.until(made["id"], "in_progress")
    assert live["started_at"] >= made["scheduled_at"]


async def test_a_scheduled_call_lasts_no_longer_than_there_are_minutes_when_it_is_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_too_late(monkeypatch)
    async with open_house(tmp_path, minutes_per_day=0.02) as house:
        agent_id = await house.agent()
        await house.number("telnyx", agent_id)
        made = await house.call(agent_id, scheduled_at=(datetime.now(UTC) + timedelta(seconds=0.5)).isoformat())
        over = await house.until(made["id"], "completed")
        row = await house.service.store.calls.find(made["id"])
        assert row is not None and row.time_limit == pytest.approx(1.2)
        assert over["end_reason"] == "max_duration"


async def test_every_call_is_on_exactly_one_page_by_offset_and_by_cursor(quick: House) -> None:
    far = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = [(await quick.call(quick.agent_id, scheduled_at=far))["id"] for _ in range(7)]
    newest_first = list(reversed(made))
    by_offset: list[str] = []
    for offset in (0, 3, 6):
        page = await quick.ask("GET", f"/v1/calls?limit=3&offset={offset}")
        assert (page["total"], page["limit"], page["offset"]) == (7, 3, offset)
        by_offset += [call["id"] for call in page["items"]]
    assert by_offset == newest_first
    by_cursor: list[str] = []
    query = {"limit": "3"}
    while True:
        page = await quick.ask("GET", "/v1/calls/cursor", params=query)
        by_cursor += [call["id"] for call in page["items"]]
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert by_cursor == newest_first


async def test_lists_are_filtered_by_what_a_call_is(quick: House) -> None:
    other = await quick.agent("Nova")
    far = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    waiting = await quick.call(quick.agent_id, scheduled_at=far)
    failed = await quick.call(other, "+15005550101")
    await quick.until(failed["id"], "failed")
    for query, ids in (
        ("status=queued", [waiting["id"]]),
        ("status=failed", [failed["id"]]),
        (f"agent_id={other}", [failed["id"]]),
        ("direction=inbound", []),
        ("to_number=%2B15005550101", [failed["id"]]),
        ("to_number=+15005550101", [failed["id"]]),
        (f"created_after={failed['created_at']}", [failed["id"]]),
        (f"created_before={failed['created_at']}", [waiting["id"]]),
        ("created_after=2020-01-01T00:00:00%2B02:00", [failed["id"], waiting["id"]]),
    ):
        for path in ("/v1/calls", "/v1/calls/cursor"):
            page = await quick.ask("GET", f"{path}?{query}")
            assert [call["id"] for call in page["items"]] == ids, query


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=x", "offset=-1", "offset=99999999999999999999", "status=busy", "direction=up",
        "created_after=yesterday", "created_after=2026-01-01", "created_before=0001-01-01T00:00:00%2B14:00",
    ],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_told_where(quick: House, query: str) -> None:
    refused = await quick.ask("GET", f"/v1/calls?{query}", 422)
    assert refused["detail"][0]["loc"] == ["query", query.partition("=")[0]]


@pytest.mark.parametrize("cursor", ["x", "0", "AAAA", "%00", "é", "f" + "_" * 31, "A" * 5000])
async def test_a_cursor_we_did_not_make_is_refused(quick: House, cursor: str) -> None:
    refused = await quick.ask("GET", f"/v1/calls/cursor?cursor={cursor}", 422)
    assert refused["detail"][0]["loc"][0] == "query"


async def test_an_outcome_is_stored_as_it_reads_and_taken_back_by_null(quick: House) -> None:
    made = await quick.call(quick.agent_id, "+15005550101")
    await quick.until(made["id"], "failed")
    path = f"/v1/calls/{made['id']}"
    named = await quick.ask("PATCH", path, json={"outcome": "appointment_booked"})
    assert (named["outcome"], named["analysis"]["outcome"]) == ("Appointment Booked", "Appointment Booked")
    assert (await quick.ask("PATCH", path, json={"outcome": None}))["outcome"] == "Not Connected"
    await quick.ask("PATCH", path, 422, json={})
    await quick.ask("PATCH", path, 422, json={"outcome": 3})


async def test_overrides_and_variables_reach_the_agent_and_are_found_on_the_call(quick: House) -> None:
    spoken = await quick.ask("POST", "/v1/agents", 201, json={"name": "Listener", "handler": "listen"})
    overrides = {"first_message": "Hi {{name}}", "llm": {"system_prompt": "Sell.", "model": "m"}, "tts": {"speed": 1.5}}
    made = await quick.call(
        spoken["id"], "+15005550101", variables={"name": "Sama"}, metadata={"crm": 7}, overrides=overrides
    )
    assert (made["variables"], made["metadata"], made["overrides"]) == ({"name": "Sama"}, {"crm": 7}, overrides)
    row = await quick.service.store.calls.find(made["id"])
    assert row is not None
    assert row.options["settings"] == {"first_message": "Hi {{name}}", "system_prompt": "Sell.", "speed": 1.5}


async def test_a_recording_is_downloaded_by_key_and_by_an_address_that_expires(
    quick: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_id = await quick.agent("Recorded", enable_recording=True)
    made = await quick.call(agent_id)
    await quick.line.calls(1)
    await asyncio.sleep(0.3)  # something to record
    await quick.ask("POST", f"/v1/calls/{made['id']}/stop")
    call = await quick.recorded(made["id"])
    path = f"/v1/calls/{made['id']}/recording"
    wav = await quick.client.get(path, params={"format": "wav"})
    assert (wav.status_code, wav.headers["content-type"]) == (200, "audio/wav")
    with wave.open(io.BytesIO(wav.content)) as sound:
        assert (sound.getnchannels(), sound.getframerate()) == (2, 8000)
    with monkeypatch.context() as disk:

        def full(wav: Path, mp3: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        disk.setattr(recordings_and_transcripts, "wav_to_mp3", full)
        for address in (path, call["recording_url"]):
            refused = await quick.client.get(address)
            assert refused.status_code == 503 and "ask for .wav" in refused.json()["detail"]
    assert (await quick.client.get(path)).headers["content-type"] == "audio/mpeg"
    async with httpx.AsyncClient(trust_env=False) as anybody:
        assert (await anybody.get(call["recording_url"])).status_code == 200
        assert (await anybody.get(f"{quick.url}{path}")).status_code == 401
        assert (await anybody.get(call["recording_url"][:-1])).status_code == 404
        assert (await anybody.get(call["recording_url"].replace("expires=", "expires=1"))).status_code == 404
        monkeypatch.setattr(recordings_and_transcripts, "GOOD_FOR", -1)
        late = (await quick.ask("GET", f"/v1/calls/{made['id']}"))["recording_url"]
        assert (await anybody.get(late)).status_code == 404


async def test_a_call_without_a_recording_has_none_to_download(quick: House) -> None:
    made = await quick.call(quick.agent_id, "+15005550101")
    over = await quick.until(made["id"], "failed")
    assert over["recording_url"] is None
    refused = await quick.ask("GET", f"/v1/calls/{made['id']}/recording", 404)
    assert refused["code"] == "not_found"


async def test_a_call_from_a_browser_is_honestly_not_offered(quick: House) -> None:
    assert (await quick.ask("POST", "/v1/calls/web", 501, json={"agent_id": quick.agent_id}))["code"] == "not_supported"
    assert (await quick.ask("POST", "/v1/web-calls/token", 501, json={}))["code"] == "not_supported"


async def test_the_days_limit_is_told_with_when_to_come_back_and_usage_counts_to_it(tmp_path: Path) -> None:
    async with open_house(tmp_path, calls_per_day=2) as house:
        agent_id = await house.agent()
        await house.number("telnyx", agent_id)
        body = {"agent_id": agent_id, "to_number": "+15005550101", "from_number": OURS}
        tomorrow = datetime.now(UTC).timestamp() + 24 * 3600
        for left in ("1", "0"):
            made = await house.client.post("/v1/calls", json=body)
            assert (made.status_code, made.headers["x-ratelimit-remaining"]) == (201, left)
            assert made.headers["x-ratelimit-limit"] == "2"
            assert float(made.headers["x-ratelimit-reset"]) == pytest.approx(tomorrow, abs=60)
        used = await house.ask("GET", "/v1/usage")
        assert (used["calls_made_today"], used["max_calls_per_day"], used["calls_remaining_today"]) == (2, 2, 0)
        refused = await house.client.post("/v1/calls", json=body)
        assert (refused.status_code, refused.json()["code"]) == (429, "daily_limit")
        assert int(refused.headers["retry-after"]) > 3600
        assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("2", "0")


async def test_minutes_that_are_used_up_are_the_limit_that_is_shown(tmp_path: Path) -> None:
    async with open_house(tmp_path, minutes_per_day=0) as house:
        agent_id = await house.agent()
        await house.number("telnyx", agent_id)
        body = {"agent_id": agent_id, "to_number": CALLEE, "from_number": OURS}
        refused = await house.client.post("/v1/calls", json=body)
        assert (refused.status_code, refused.json()["code"]) == (429, "daily_limit")
        assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("0", "0")
        assert not house.sandbox("telnyx").far_ends


async def test_usage_has_the_contracts_fields_and_a_month_of_whole_calendar(house: House) -> None:
    used = await house.ask("GET", "/v1/usage")
    assert set(used) >= {
        "calls_made_today", "max_calls_per_day", "calls_remaining_today", "calls_this_month",
        "minutes_used_this_month", "cost_cents_this_month", "kb_token_budget", "period_start",
    }  # fmt: skip
    assert used["period_start"] == datetime.now(UTC).strftime("%Y-%m-01T00:00:00Z")


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"max_concurrent": 1}, "concurrency_limit"),
        ({"max_concurrent_per_number": 1}, "concurrency_limit"),
        ({"calls_per_second": 0.01}, "rate_limited"),
        ({"calls_per_day_per_number": 1}, "daily_limit"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
async def test_a_call_without_room_is_refused_with_when_to_come_back_and_a_scheduled_one_waits(
    tmp_path: Path, provider: str, limit: dict[str, float], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_too_late(monkeypatch)
    async with open_house(tmp_path, **limit) as house:
        agent_id = await house.agent()
        await house.number(provider, agent_id)
        first = await house.call(agent_id)
        await house.until(first["id"], "in_progress")
        response = await house.client.post(
            "/v1/calls", json={"agent_id": agent_id, "to_number": CALLEE, "from_number": OURS}
        )
        assert (response.status_code, response.json()["code"]) == (429, code)
        assert int(response.headers["retry-after"]) >= 1
        newest = (await house.ask("GET", "/v1/calls"))["items"][0]
        assert (newest["status"], newest["end_reason"]) == ("failed", "concurrency_limit")
        waiting = await house.call(agent_id, scheduled_at=datetime.now(UTC).isoformat())
        assert await house.service.scheduler.round() == 0
        assert (await house.ask("GET", f"/v1/calls/{waiting['id']}"))["status"] == "queued"
        assert len(house.sandbox(provider).far_ends) == 1
        assert (await house.ask("GET", "/v1/usage"))["calls_made_today"] == 1, "what was refused costs nothing"
        if limit.get("max_concurrent") or limit.get("max_concurrent_per_number"):
            await house.ask("POST", f"/v1/calls/{first['id']}/stop")
            await house.until(waiting["id"], "in_progress")


@pytest.mark.parametrize(
    ("to", "status", "code"), [("+15005550108", 502, "provider_error"), ("+15005550109", 504, "provider_timeout")]
)
async def test_a_carrier_that_fails_in_the_middle_is_asked_once_and_the_same_key_does_not_ask_again(
    staffed: House, to: str, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = (await staffed.ask("GET", "/v1/phone-numbers"))["items"][0]["provider"]
    if provider == "sip":
        pytest.skip("capability: SIP has no REST API; that nobody answers is known, and ends the call")
    if code == "provider_timeout":
        monkeypatch.setattr(Provider, "timeout", 1.0)
    body = {"agent_id": staffed.agent_id, "to_number": to, "from_number": OURS}
    key = {"Idempotency-Key": "k"}
    refused = await staffed.ask("POST", "/v1/calls", status, json=body, headers=key)
    assert refused["code"] == code
    assert refused["provider"]["name"] == provider
    again = await staffed.ask("POST", "/v1/calls", 201, json=body, headers=key)
    assert again["status"] == "initiated", "a phone may be ringing: nobody knows"
    assert again["provider_error"]["message"]
    assert (await staffed.ask("GET", "/v1/calls"))["total"] == 1
    asked = [one for one in staffed.sandbox(provider).requests if to in str(one)]
    assert len(asked) == 1


async def test_a_carrier_that_no_longer_takes_our_login_is_told_as_such(staffed: House) -> None:
    (number,) = (await staffed.ask("GET", "/v1/phone-numbers"))["items"]
    if number["provider"] == "sip":
        pytest.skip("capability: SIP has no REST API; a login that is refused is in tests/server/test_service_sip.py")
    wrong = {"twilio": "wrong-token", "telnyx": "KEYwrong"}[number["provider"]]
    await staffed.ask("PATCH", f"/v1/credentials/{number['credential_id']}", json={"api_key": wrong})
    refused = await staffed.call(staffed.agent_id, status=502)
    assert (refused["code"], refused["provider"]["name"]) == ("provider_auth_failed", number["provider"])
    (call,) = (await staffed.ask("GET", "/v1/calls"))["items"]
    assert (call["status"], call["end_reason"]) == ("failed", "provider_auth_failed")
    search = await staffed.ask(
        "GET", f"/v1/phone-numbers/search?country=US&credential_id={number['credential_id']}", 502
    )
    assert search["code"] == "provider_auth_failed"


@pytest.mark.parametrize(("provider", "wanted"), [("twilio", "country=GB&area_code=20"), ("telnyx", "contains=4*5")])
async def test_a_search_the_carrier_has_no_words_for_is_not_supported_by_it(
    house: House, provider: str, wanted: str
) -> None:
    number = await house.number(provider, await house.agent())
    path = f"/v1/phone-numbers/search?credential_id={number['credential_id']}&{wanted}"
    refused = await house.ask("GET", path, 501)
    assert (refused["code"], refused["provider"]["name"]) == ("not_supported_by_provider", provider)


@pytest.mark.parametrize("where", ["before the carrier is asked", "in the carrier's plugin"])
async def test_a_bug_leaves_no_call_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A call that cannot have rung is over at once and its place is free; of another one nobody knows."""
    async with open_house(tmp_path, calls_per_day=1, max_concurrent=1) as house:
        agent_id = await house.agent()
        await house.number("telnyx", agent_id)
        body = {"agent_id": agent_id, "to_number": CALLEE, "from_number": OURS}

        async def bug(*given: Any, **named: Any) -> NoReturn:
            raise KeyError("a bug")

        plugins = where == "in the carrier's plugin"
        with monkeypatch.context() as broken:
            broken.setattr(*((TelnyxProvider, "dial") if plugins else (StoreAgents, "keep_routed")), bug)
            answer = await house.client.post("/v1/calls", json=body)
        assert answer.status_code == (504 if plugins else 500)
        [call] = (await house.ask("GET", "/v1/calls"))["items"]
        if plugins:
            assert call["status"] not in ("failed", "completed")
            assert (await house.client.post("/v1/calls", json=body)).status_code == 429
        else:
            assert call["status"] == "failed"
            assert (await house.client.post("/v1/calls", json=body)).status_code == 201
