"""The Telnyx sandbox's calls: ringing, answering, ending, the magic numbers, transfers and recordings."""

from __future__ import annotations

import io
import urllib.parse
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import telnyx

from anycarrier_telnyx.sandbox import API_KEY
from openapi import Spec
from telnyx_platform import OURS, STATE, THEIRS, Line, codes, open_line


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with open_line() as line:
        yield line


async def _incoming(line: Line) -> str:
    await line.sandbox.ring(OURS, THEIRS)
    return str((await line.platform.event("call.initiated"))["call_control_id"])


# --- incoming ----------------------------------------------------------------------------------------------------


async def test_a_parked_call_rings_until_it_is_answered(line: Line) -> None:
    call_id = await _incoming(line)
    far_end = line.sandbox.far_ends[call_id]
    assert far_end.state == "ringing"
    await line.client.calls.actions.answer(call_id, client_state=STATE)
    answered = await line.platform.event("call.answered")
    assert (answered["client_state"], far_end.state) == (STATE, "answered")
    active = await line.client.connections.list_active_calls(line.connection)
    assert [row.call_control_id for row in active.data] == [call_id]


@pytest.mark.parametrize(
    ("cause", "told", "sip"), [("CALL_REJECTED", "call_rejected", "603"), ("USER_BUSY", "user_busy", "486")]
)
async def test_a_rejected_call_ends_with_the_cause_asked_for(line: Line, cause: Any, told: str, sip: str) -> None:
    call_id = await _incoming(line)
    await line.client.calls.actions.reject(call_id, cause=cause)
    hangup = await line.platform.event("call.hangup")
    assert (hangup["hangup_cause"], hangup["sip_hangup_cause"], hangup["hangup_source"]) == (told, sip, "callee")


async def test_a_caller_who_gives_up_is_told_as_originator_cancel(line: Line) -> None:
    far_end = line.sandbox.far_ends[await _incoming(line)]
    await far_end.hang_up()
    hangup = await line.platform.event("call.hangup")
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("originator_cancel", "caller")
    assert hangup["call_quality_stats"] is None


async def test_hanging_up_twice_is_refused_as_captured(line: Line) -> None:
    call_id = await _incoming(line)
    await line.client.calls.actions.answer(call_id)
    await line.client.calls.actions.hangup(call_id)
    hangup = await line.platform.event("call.hangup")
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("normal_clearing", "callee")
    with pytest.raises(telnyx.UnprocessableEntityError) as refused:
        await line.client.calls.actions.hangup(call_id)
    assert refused.value.body["errors"][0]["code"] == "90018"  # type: ignore[index]


async def test_what_is_too_early_too_late_or_for_the_other_direction_is_refused(line: Line) -> None:
    incoming = await _incoming(line)
    assert codes(await line.command(incoming, "send_dtmf", digits="1")) == ["90034"]
    assert codes(await line.command(incoming, "streaming_start", **line.stream())) == ["90034"]
    assert codes(await line.command(incoming, "reject")) == ["10004"]
    await line.client.calls.actions.answer(incoming)
    assert codes(await line.command(incoming, "answer")) == ["10027"]
    assert codes(await line.command(incoming, "streaming_stop")) == ["90048"]
    assert codes(await line.command(incoming, "send_dtmf", digits="12x")) == ["90014"]
    assert codes(await line.command("v3:nobody", "hangup")) == ["90015"]
    outgoing = await line.dial()
    assert codes(await line.command(outgoing, "answer")) == ["90102"]
    unknown = await line.http.get("/calls/v3:nobody")
    assert (unknown.status_code, codes(unknown)) == (422, ["90015"])


async def test_nobody_can_ring_a_number_that_leads_nowhere(line: Line) -> None:
    with pytest.raises(LookupError, match="no account"):
        await line.sandbox.ring("+14155550199", THEIRS)
    line.sandbox.add_number("+14155550199")
    with pytest.raises(LookupError, match="webhook_event_url"):
        await line.sandbox.ring("+14155550199", THEIRS)


async def test_a_number_taken_off_its_connection_leads_nowhere(line: Line) -> None:
    owned = line.sandbox.account(API_KEY).number(OURS)
    assert owned is not None
    refused = await line.http.patch(f"/phone_numbers/{owned['id']}", json={"connection_id": None})
    assert codes(refused) == ["10015"], "the document says that it is a string"
    await line.client.phone_numbers.update(owned["id"], connection_id="")
    with pytest.raises(LookupError, match="webhook_event_url"):
        await line.sandbox.ring(OURS, THEIRS)


async def test_a_call_id_may_come_percent_encoded(line: Line) -> None:
    call_id = await _incoming(line)
    quoted = urllib.parse.quote(call_id, safe="")
    assert "%3A" in quoted
    response = await line.http.get(f"/calls/{quoted}")
    assert response.json()["data"]["call_control_id"] == call_id


# --- outgoing ----------------------------------------------------------------------------------------------------


async def test_dialling_anybody_is_initiated_then_answered_and_stays(line: Line) -> None:
    call_id = await line.dial()
    initiated = await line.platform.event("call.initiated")
    assert (initiated["direction"], initiated["state"]) == ("outgoing", "bridging")
    await line.platform.event("call.answered")
    status = await line.client.calls.retrieve_status(call_id)
    assert status.data is not None and status.data.is_alive
    await line.sandbox.far_ends[call_id].hang_up()
    hangup = await line.platform.event("call.hangup")
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("normal_clearing", "callee")
    status = await line.client.calls.retrieve_status(call_id)
    assert status.data is not None and not status.data.is_alive and status.data.end_time


@pytest.mark.parametrize(
    ("to", "cause", "sip"),
    [
        ("+15005550101", "user_busy", "486"),
        ("+15005550102", "timeout", "487"),
        ("+15005550103", "call_rejected", "603"),
        ("+15005550114", "not_found", "404"),
    ],
)
async def test_a_magic_number_that_is_never_answered_says_why(line: Line, to: str, cause: str, sip: str) -> None:
    line.sandbox.pace = 25  # five seconds of ringing are the least one may ask for
    await line.dial(to, timeout_secs=5)
    hangup = await line.platform.event("call.hangup")
    assert (hangup["hangup_cause"], hangup["sip_hangup_cause"]) == (cause, sip)
    assert line.platform.kinds() == ["call.initiated", "call.hangup"]


async def test_without_other_routes_an_unanswered_call_is_no_answer_instead_of_timeout(line: Line) -> None:
    line.sandbox.pace = 25
    response = await line.http.post(
        "/calls",
        json={
            "connection_id": line.connection,
            "to": "+15005550102",
            "from": OURS,
            "timeout_secs": 5,
            "retry_on_timeout": False,
        },
    )
    assert response.status_code == 200
    assert (await line.platform.event("call.hangup"))["hangup_cause"] == "no_answer"


@pytest.mark.parametrize(
    ("to", "status", "code"),
    [
        ("+15005550104", 404, "10002"),
        ("+15005550107", 429, "10011"),
        ("+15005550108", 500, "10007"),
        ("+15005550110", 403, "10010"),
        ("+15005550111", 403, "20100"),
    ],
)
async def test_a_magic_number_that_cannot_be_dialled_is_refused_and_rings_nobody(
    line: Line, to: str, status: int, code: str
) -> None:
    with pytest.raises(telnyx.APIStatusError) as refused:
        await line.dial(to)
    assert refused.value.status_code == status
    assert refused.value.body["errors"][0]["code"] == code  # type: ignore[index]
    assert (status == 429) == ("x-ratelimit-reset" in refused.value.response.headers)
    assert line.sandbox.far_ends == {}


async def test_the_number_that_times_out_never_answers_the_request(line: Line) -> None:
    body = {"connection_id": line.connection, "to": "+15005550109", "from": OURS}
    with pytest.raises(httpx.ReadTimeout):
        await line.http.post("/calls", json=body, timeout=httpx.Timeout(30, read=0.3))
    assert line.sandbox.far_ends == {}


async def test_digits_behind_a_comma_are_pressed_once_answered(line: Line) -> None:
    call_id = await line.dial(f"{THEIRS},2w00#")
    answered = await line.platform.event("call.answered")
    assert answered["to"] == THEIRS
    assert line.sandbox.far_ends[call_id].digits == "200#"


async def test_the_number_that_rings_for_a_while_then_answers(line: Line) -> None:
    line.sandbox.pace = 4
    call_id = await line.dial("+15005550113")
    await line.platform.event("call.answered")
    log = {what: at for at, what in line.sandbox.far_ends[call_id].log}
    assert log["answered"] - log["ringing"] >= 0.24


async def test_the_number_that_hangs_up_by_itself(line: Line) -> None:
    line.sandbox.pace = 4
    await line.dial("+15005550112")
    hangup = await line.platform.event("call.hangup")
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("normal_clearing", "callee")
    assert "call.answered" in line.platform.kinds()


async def test_a_call_cancelled_while_it_rings_is_originator_cancel(line: Line) -> None:
    call_id = await line.dial("+15005550102")
    await line.client.calls.actions.hangup(call_id)
    hangup = await line.platform.event("call.hangup")
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("originator_cancel", "caller")


async def test_a_call_ends_at_its_time_limit(line: Line) -> None:
    line.sandbox.pace = 100
    await line.dial(time_limit_secs=30)
    hangup = await line.platform.event("call.hangup")
    assert hangup["hangup_cause"] == "time_limit"


async def test_a_repeated_command_id_is_ignored(line: Line) -> None:
    first = await line.dial(command_id="dial-1")
    assert await line.dial(command_id="dial-1") == first
    await line.platform.event("call.answered")
    assert len(line.sandbox.far_ends) == 1
    for _ in range(2):
        await line.client.calls.actions.send_dtmf(first, digits="1w2", command_id="digits-1")
    assert line.sandbox.far_ends[first].digits == "12"
    await line.client.calls.actions.hangup(first, command_id="h-1")
    assert codes(await line.command(first, "hangup", command_id="h-1")) == ["90018"]


@pytest.mark.parametrize(
    ("to", "mode", "results"),
    [
        (THEIRS, "detect", [("call.machine.detection.ended", "human")]),
        (THEIRS, "premium", [("call.machine.premium.detection.ended", "human_residence")]),
        ("+15005550105", "detect", [("call.machine.detection.ended", "machine")]),
        *(
            (
                "+15005550105",
                mode,
                [("call.machine.detection.ended", "machine"), ("call.machine.greeting.ended", "beep_detected")],
            )
            for mode in ("detect_beep", "greeting_end", "detect_words")
        ),
        (
            "+15005550105",
            "premium",
            [
                ("call.machine.premium.detection.ended", "machine"),
                ("call.machine.premium.greeting.ended", "beep_detected"),
            ],
        ),
        ("+15005550106", "premium", [("call.machine.premium.detection.ended", "fax_detected")]),
        ("+15005550106", "detect", [("call.machine.detection.ended", "machine")]),
    ],
)
async def test_machine_detection_comes_after_the_answer_and_says_who_it_was(
    line: Line, to: str, mode: Any, results: list[tuple[str, str]]
) -> None:
    line.sandbox.pace = 4
    call_id = await line.dial(to, answering_machine_detection=mode)
    for kind, result in results:
        assert (await line.platform.event(kind))["result"] == result
    await line.sandbox.far_ends[call_id].hang_up()
    await line.platform.event("call.hangup")
    expected = ["call.initiated", "call.answered", *(kind for kind, _ in results), "call.hangup"]
    assert line.platform.kinds() == expected


# --- transfers and bridges -----------------------------------------------------------------------------------------


async def test_a_transfer_dials_leg_b_and_joins_both(line: Line) -> None:
    call_id = await _incoming(line)
    await line.client.calls.actions.answer(call_id, **line.stream())
    await line.platform.frame("start")
    await line.client.calls.actions.transfer(call_id, to="+13125550177", target_leg_client_state=STATE)
    await line.platform.event("call.bridged", count=2)
    bridged = [posted.payload for posted in line.platform.posted.items if posted.kind == "call.bridged"]
    leg_b = next(payload for payload in bridged if payload["call_control_id"] != call_id)
    assert leg_b["to"] == "+13125550177" and leg_b["client_state"] == STATE
    assert len({payload["call_session_id"] for payload in bridged}) == 1
    await line.platform.frame("stop")
    await line.platform.event("streaming.stopped")
    assert line.sandbox.far_ends[call_id].transferred_to == "+13125550177"
    await line.sandbox.far_ends[leg_b["call_control_id"]].hang_up()
    await line.platform.event("call.hangup", count=2)
    assert line.sandbox.far_ends[call_id].state == "ended"


async def test_custom_headers_come_with_an_incoming_call_and_go_out_with_dial_and_transfer(line: Line) -> None:
    await line.sandbox.ring(OURS, THEIRS, headers={"X-Case": "7"})
    initiated = await line.platform.event("call.initiated")
    assert initiated["custom_headers"] == [{"name": "X-Case", "value": "7"}]
    call_id = initiated["call_control_id"]
    await line.client.calls.actions.answer(call_id)
    await line.client.calls.actions.transfer(
        call_id, to="sip:desk@pbx.example", custom_headers=[{"name": "X-Case", "value": "8"}]
    )
    await line.platform.event("call.bridged", count=2)
    target = next(each for each in line.sandbox.far_ends.values() if each.call_id != call_id)
    assert target.headers == {"X-Case": "8"}
    dialled = await line.dial("sip:other@pbx.example", custom_headers=[{"name": "X-Case", "value": "9"}])
    assert line.sandbox.far_ends[dialled].headers == {"X-Case": "9"}


async def test_an_application_that_asks_for_it_is_told_what_a_call_costs(line: Line) -> None:
    for asked, told in ((False, 0), (True, 1)):
        line.sandbox.account(API_KEY).applications[line.connection]["call_cost_in_webhooks"] = asked
        far_end = await line.sandbox.ring(OURS, THEIRS)
        await line.client.calls.actions.answer(far_end.call_id)
        await far_end.hang_up()
        await line.platform.event("call.hangup", count=1 + told)
    cost = await line.platform.event("call.cost")
    assert line.platform.kinds().count("call.cost") == 1
    assert (cost["call_control_id"], cost["status"], cost["total_cost"]) == (far_end.call_id, "success", "0.0020")
    assert cost["cost_parts"][0]["currency"] == "USD"


async def test_after_a_failed_transfer_leg_a_is_alive_and_still_streams(line: Line) -> None:
    call_id = await line.dial(**line.stream())
    await line.platform.frame("start")
    await line.client.calls.actions.transfer(call_id, to="+15005550101")
    hangup = await line.platform.event("call.hangup")
    assert hangup["call_control_id"] != call_id and hangup["hangup_cause"] == "user_busy"
    far_end = line.sandbox.far_ends[call_id]
    assert (far_end.state, far_end.streaming, far_end.transferred_to) == ("answered", True, None)
    status = await line.client.calls.retrieve_status(call_id)
    assert status.data is not None and status.data.is_alive


async def test_leg_b_stops_ringing_when_leg_a_hangs_up(line: Line) -> None:
    call_id = await line.dial()
    await line.platform.event("call.answered")
    await line.client.calls.actions.transfer(call_id, to="+15005550102")
    await line.sandbox.far_ends[call_id].hang_up()
    await line.platform.event("call.hangup", count=2)
    causes = {p.payload["to"]: p.payload["hangup_cause"] for p in line.platform.posted.items if p.kind == "call.hangup"}
    assert causes == {THEIRS: "normal_clearing", "+15005550102": "originator_cancel"}


async def test_a_call_not_answered_yet_can_be_passed_on_and_is_answered_with_leg_b(line: Line) -> None:
    call_id = await _incoming(line)
    await line.client.calls.actions.transfer(call_id, to="+13125550177")
    await line.platform.event("call.bridged", count=2)
    assert line.sandbox.far_ends[call_id].state == "answered"


async def test_two_live_calls_can_be_bridged(line: Line) -> None:
    one, two = await line.dial(), await line.dial("+13125550177")
    await line.platform.event("call.answered", count=2)
    await line.client.calls.actions.bridge(one, call_control_id_to_bridge_with=two)
    await line.platform.event("call.bridged", count=2)
    await line.client.calls.actions.hangup(one)
    await line.platform.event("call.hangup", count=2)


async def test_a_referred_leg_is_over_for_us(line: Line) -> None:
    call_id = await line.dial()
    await line.platform.event("call.answered")
    await line.client.calls.actions.refer(call_id, sip_address="sip:desk@example.com")
    assert (await line.platform.event("call.refer.completed"))["sip_notify_response"] == 200
    await line.platform.event("call.hangup")


# --- recordings ----------------------------------------------------------------------------------------------------


async def test_a_recording_is_saved_after_the_call_and_holds_both_sides() -> None:
    async with open_line(Spec.load("telnyx_v2.trimmed.json")) as line:
        call_id = await line.dial(**line.stream())
        await line.platform.frame("start")
        await line.client.calls.actions.start_recording(call_id, format="wav", channels="dual")
        far_end = line.sandbox.far_ends[call_id]
        await line.platform.send_audio(b"\x10" * 800)
        await far_end.say(b"\x20" * 1600)
        await far_end.wait_heard(0.1)
        await line.client.calls.actions.hangup(call_id)
        saved = await line.platform.event("call.recording.saved")
        assert line.platform.kinds().index("call.hangup") < line.platform.kinds().index("call.recording.saved")
        async with httpx.AsyncClient(trust_env=False) as http:
            file = await http.get(saved["recording_urls"]["wav"])
            refused = await http.get(saved["recording_urls"]["wav"].partition("?")[0])
        with wave.open(io.BytesIO(file.content)) as wav:
            assert (wav.getnchannels(), wav.getframerate(), wav.getnframes()) == (2, 8000, 1600)
        assert refused.status_code == 403
        listed = await line.client.recordings.list()
        assert [row.id for row in listed.data] == [saved["recording_id"]]
        one = await line.client.recordings.retrieve(saved["recording_id"])
        assert one.data is not None and one.data.channels == "dual"


async def test_a_recording_can_be_paused_and_stopped_before_the_end(line: Line) -> None:
    call_id = await line.dial()
    await line.platform.event("call.answered")
    assert codes(await line.command(call_id, "record_stop")) == ["10027"]
    assert codes(await line.command(call_id, "record_start", format="mp3", channels="dual")) == ["10038"]
    await line.client.calls.actions.start_recording(call_id, format="wav", channels="single")
    await line.client.calls.actions.pause_recording(call_id)
    await line.client.calls.actions.resume_recording(call_id)
    await line.client.calls.actions.stop_recording(call_id)
    saved = await line.platform.event("call.recording.saved")
    assert saved["channels"] == "single" and line.sandbox.far_ends[call_id].state == "answered"


async def test_every_answer_about_calls_keeps_to_the_carriers_document() -> None:
    async with open_line(Spec.load("telnyx_v2.trimmed.json")) as line:
        call_id = await line.dial(client_state=STATE, record="record-from-answer", record_format="wav")
        await line.platform.event("call.answered")
        await line.client.calls.retrieve_status(call_id)
        await line.client.connections.list_active_calls(line.connection)
        await line.client.calls.actions.speak(call_id, payload="Hello", voice="female")
        await line.platform.event("call.speak.ended")
        await line.client.calls.actions.hangup(call_id)
        await line.client.calls.retrieve_status(call_id)
        with pytest.raises(telnyx.UnprocessableEntityError):
            await line.client.calls.actions.hangup(call_id)
