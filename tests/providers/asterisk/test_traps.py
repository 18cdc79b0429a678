"""What bit people: the traps of ARI and chan_websocket, on the sandbox that has them. Every call ends, there too."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from anycarrier import CallStatus, EndReason, MediaSession
from anycarrier.calls import TransferStatus
from anycarrier.errors import CallElsewhere, ConfigurationError, ProviderUnavailable, RequestRejected
from anycarrier.events import RecordingProgress, StreamProgress
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from anycarrier_asterisk import listener as listening

NUMBER = {outcome: number for number, outcome in OUTCOMES.items()}
TONE = bytes(range(0x20, 0x60)) * 50


def nothing_left(house: Any) -> bool:
    return not (house.server.channels or house.server.bridges)


async def rung(house: Any, tools: Any) -> Any:
    far_end = await house.server.ring(tools.OURS, tools.THEIRS)
    await far_end.wait_for("streaming")
    return far_end


async def over(house: Any, far_end: Any) -> Any:
    return await house.exchange.wait_for(far_end.call_id, CallStatus.ENDED, 20)


async def test_a_callers_end_leaves_no_media_channel_and_no_bridge(house: Any, tools: Any) -> None:
    far_end = await rung(house, tools)
    assert len(house.server.channels) == 2 and len(house.server.bridges) == 1
    await far_end.hang_up()
    assert (await over(house, far_end)).reason is EndReason.USER_HANGUP
    await tools.until(lambda: nothing_left(house))


async def test_an_end_without_a_channel_destroyed_is_an_end(house: Any, tools: Any) -> None:
    house.server.quirks.add("no destroyed")
    far_end = await rung(house, tools)
    await far_end.hang_up()
    ended = await over(house, far_end)
    assert (ended.reason, ended.carrier_status) == (EndReason.USER_HANGUP, "left Stasis")
    await tools.until(lambda: nothing_left(house))


async def test_a_media_socket_that_ends_alone_ends_the_call(house: Any, tools: Any) -> None:
    """Asterisk leaves the call up, and silent."""
    seen: list[Any] = []
    house.exchange.switchboard.observers.append(lambda event, call: seen.append(event))
    far_end = await rung(house, tools)
    [media] = [channel.media for channel in house.server.channels.values() if channel.media is not None]
    media.breaks()
    assert (await over(house, far_end)).reason is EndReason.MEDIA_ERROR
    assert [each.status for each in seen if isinstance(each, StreamProgress)] == ["failed"], "told, not found out later"
    await far_end.wait_for("ended")
    await tools.until(lambda: nothing_left(house))


async def test_events_may_come_before_the_answer_to_what_they_are_of(house: Any, tools: Any) -> None:
    house.server.quirks.add("late answers")
    far_end = await rung(house, tools)
    call = await house.exchange.dial(from_=tools.OURS, to="+12125550120")
    callee = await house.server.far_end(call.id)
    await callee.wait_for("streaming")
    for each in (far_end, callee):
        await each.hang_up()
        await over(house, each)
    await tools.until(lambda: nothing_left(house))


async def test_a_media_server_that_is_not_reached_declines_the_call_and_ends_a_dial(
    house: Any, tools: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    house.exchange.switchboard.observers.append(lambda event, call: seen.append(event))
    house.server.clients["anycarrier"].uri = "ws://127.0.0.1:9/media"
    far_end = await house.server.ring(tools.OURS, tools.THEIRS)
    await far_end.wait_for("ended")
    assert (await over(house, far_end)).answered_at is None
    assert "See whether [anycarrier] of websocket_client.conf leads to our /media" in caplog.text
    call = await house.exchange.dial(from_=tools.OURS, to="+12125550120")
    ended = await house.exchange.wait_for(call, CallStatus.ENDED, 20)
    assert (ended.reason, ended.answered_at is not None) == (EndReason.MEDIA_ERROR, True)
    assert [each.status for each in seen if isinstance(each, StreamProgress)] == ["failed"]
    await tools.until(lambda: nothing_left(house))


async def test_each_call_brings_its_own_ticket_although_parameters_stick(house: Any, tools: Any) -> None:
    client = house.server.clients["anycarrier"]
    first, second = await rung(house, tools), await rung(house, tools)
    assert first.stream_url != second.stream_url and second.stream_url.endswith(client.parameters)
    sent = [r.body["transport_data"] for r in house.server.requests if r.path.endswith("/externalMedia")]
    assert all(each.startswith("f(json)v(ticket=") for each in sent) and len(set(sent)) == 2
    for each in (first, second):
        await each.hang_up()
        await over(house, each)


async def test_a_ticket_is_good_once_and_only_for_the_channel_it_was_made_for(house: Any, tools: Any) -> None:
    """A later channel without v() comes with the last call's parameters."""
    far_end = await rung(house, tools)
    url = far_end.stream_url
    ticket = url.rpartition("=")[2]
    for wrong, status in ((url, 403), (url[:-4] + "AAAA", 403), (url.partition("?")[0], 401)):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(wrong, proxy=None, subprotocols=["media"]):  # type: ignore[list-item]
                pass
        assert refused.value.response.status_code == status
    call = await house.exchange.switchboard.calls.get(far_end.call_id)
    house.exchange.switchboard.sessions.pop(call.reference)
    fresh = house.exchange.switchboard.stream_target(call, {}, ttl=60)
    assert fresh.ticket != ticket and fresh.url.endswith(f"/media?ticket={fresh.ticket}")
    async with connect(fresh.url, proxy=None, subprotocols=["media"]) as socket:  # type: ignore[list-item]
        start = {"event": "MEDIA_START", "channel_id": f"anycarrier.{house.app}.media.another", "format": "ulaw",
                 "optimal_frame_size": 160}  # fmt: skip
        await socket.send(json.dumps(start))
        await asyncio.wait_for(socket.wait_closed(), 10)
    assert len(house.sessions) == 1, "no agent talks to a channel that is not its call's"


async def test_long_names_of_marks_come_back_and_no_text_is_longer_than_asterisk_reads(house: Any, tools: Any) -> None:
    names = ["short", "n" * 200, "ü" * 60]
    came: list[str] = []

    async def talk(session: MediaSession) -> None:
        from anycarrier import MarkReached

        for name in names:
            await session.send_audio(b"\x55" * 800)
            await session.mark(name)
        async for event in session:
            if isinstance(event, MarkReached):
                came.append(event.name)

    house.exchange.switchboard.agents = talk
    far_end = await rung(house, tools)
    await tools.until(lambda: came == names)
    [media] = [channel.media for channel in house.server.channels.values() if channel.media is not None]
    assert media.texts and all(len(text.encode()) <= 128 for text in media.texts)
    await far_end.hang_up()
    await over(house, far_end)


async def test_more_than_asterisk_keeps_is_held_back_and_a_clear_forgets_it(house: Any, tools: Any) -> None:
    sent = asyncio.Event()

    async def talk(session: MediaSession) -> None:
        saying = asyncio.ensure_future(session.send_audio(TONE * 75))  # thirty seconds
        await asyncio.sleep(0.3)
        assert not saying.done() and session.queued < 17
        await session.clear()
        await asyncio.wait_for(saying, 2)
        sent.set()
        await session.wait_stopped()

    house.exchange.switchboard.agents = talk
    far_end = await rung(house, tools)
    await asyncio.wait_for(sent.wait(), 10)
    [media] = [channel.media for channel in house.server.channels.values() if channel.media is not None]
    assert media.dropped == 0 and 0 < far_end.heard_seconds() < 2
    await far_end.hang_up()
    await over(house, far_end)


# --- the event socket ------------------------------------------------------------------------------------------------


async def test_a_lost_event_socket_is_opened_again_and_what_it_missed_is_made_up_for(
    house: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PAUSES", (0.2, 0.2))
    gone, stays = await rung(house, tools), await rung(house, tools)
    house.server.drop_events(house.app)
    await gone.hang_up()  # which nobody is told of
    lost = house.server.channel("1.1", "PJSIP/lost", house.app)  # came while nobody heard
    lost.state, lost.stasis = "Ring", ["in", tools.OURS]
    orphan = house.server.channel(f"anycarrier.{house.app}.media.none", "WebSocket/x", house.app)
    assert (await over(house, gone)).reason is EndReason.USER_HANGUP
    await tools.until(lambda: lost.over and orphan.over)
    assert house.app in house.server.sockets and stays.state == "answered"
    await stays.say(TONE)
    await tools.until(lambda: TONE in stays.heard)
    third = await rung(house, tools)
    for each in (stays, third):
        await each.hang_up()
        await over(house, each)
    await tools.until(lambda: nothing_left(house))


async def test_an_answer_that_nobody_told_is_found(house: Any, tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PAUSES", (0.1, 0.1))
    call = await house.exchange.dial(from_=tools.OURS, to=NUMBER[Outcome.NO_ANSWER])
    house.server.drop_events(house.app)
    channel = house.server.channels[call.id]
    channel.answers()
    channel.stasis = ["out"]
    far_end = await house.server.far_end(call.id)
    await far_end.wait_for("streaming")
    await far_end.hang_up()
    await over(house, far_end)


async def test_what_a_process_that_died_has_left_is_swept_up(house: Any, tools: Any) -> None:
    server = house.server
    await house.exchange.stop()
    for name in ("media.1", "call.2", "leg.3.x"):
        server.channel(f"anycarrier.{house.app}.{name}", "WebSocket/x", house.app)
    caller = server.channel("1.1", "PJSIP/caller", house.app)
    caller.state, caller.stasis = "Up", ["in", tools.OURS]
    theirs = ("anycarrier.other.media.1", "2.2")
    others = [server.channel(name, "WebSocket/x", "other") for name in theirs]
    from anycarrier_asterisk.sandbox.channels import Bridge

    for app in (house.app, "other"):
        name = f"anycarrier.{app}.bridge.1"
        server.bridges[name] = Bridge(server, name, app)
    await house.exchange.start_listener("main")
    assert list(server.channels.values()) == others and list(server.bridges) == ["anycarrier.other.bridge.1"]


async def test_an_application_is_one_processs_and_the_next_one_waits(house: Any, tools: Any) -> None:
    held = house.exchange.switchboard.credentials.by_id
    held["second"] = held["main"]
    with pytest.raises(ConfigurationError, match=f"application {house.app} is another process's: give each an app"):
        await house.exchange.start_listener("second")
    await house.exchange.listeners.close("main")
    await house.exchange.start_listener("second")
    assert house.app in house.server.sockets


async def test_who_is_replaced_keeps_its_calls_and_comes_back_once_the_other_is_gone(
    house: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PAUSES", (0.1, 0.1))
    far_end = await rung(house, tools)
    credential = house.exchange.switchboard.credentials.by_id["main"]
    url = f"{house.server.base_url.replace('http', 'ws')}/ari/events?app={house.app}&api_key={credential.username}:"
    async with connect(url + credential.password.get_secret_value(), proxy=None) as other:
        await tools.until(lambda: house.server.sockets[house.app] is not None and not _connected(house))
        await far_end.say(TONE)
        await tools.until(lambda: TONE in far_end.heard)
        await far_end.hang_up()
        assert (await over(house, far_end)).reason is EndReason.USER_HANGUP, "by a look"
        assert await other.recv()
    await tools.until(lambda: _connected(house))
    await (await rung(house, tools)).hang_up()


def _connected(house: Any) -> bool:
    [kept] = house.exchange.listeners._kept.values()
    return bool(kept.listener.connected)


async def test_a_dial_while_nobody_would_hear_of_it_is_not_made(
    house: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PAUSES", (5.0, 5.0))
    house.server.drop_events(house.app)
    await tools.until(lambda: not _connected(house))
    with pytest.raises(ProviderUnavailable, match="the event socket is not open") as failed:
        await house.exchange.dial(from_=tools.OURS, to="+12125550120")
    posted = [r for r in house.server.requests if r.path == "/ari/channels" and r.method == "POST"]
    assert not failed.value.sent and not posted


async def test_stopping_ends_every_call_at_asterisk(house: Any, tools: Any) -> None:
    far_end = await rung(house, tools)
    ringing = await house.exchange.dial(from_=tools.OURS, to=NUMBER[Outcome.NO_ANSWER])
    await house.exchange.stop()
    assert nothing_left(house) and far_end.state == "ended" and not house.server.sockets
    for each in (far_end.call_id, ringing.reference):
        assert (await house.exchange.switchboard.calls.get(each)).ended


async def test_a_call_of_another_process_is_elsewhere(house: Any, tools: Any) -> None:
    provider = await house.provider()
    for act in (provider.hang_up, provider.fetch_call, provider.start_recording, provider.stop_recording):
        with pytest.raises(CallElsewhere):
            await act("somebody-elses")


async def test_a_drained_listener_sends_callers_elsewhere(house: Any, tools: Any) -> None:
    house.exchange.listeners.drain()
    far_end = await house.server.ring(tools.OURS, tools.THEIRS)
    await far_end.wait_for("ended")
    assert far_end.hangup_cause == "Circuit/channel congestion" and not house.sessions


# --- in a call -------------------------------------------------------------------------------------------------------


async def test_a_dial_that_records_and_presses_keys_does_so_once_it_is_answered(house: Any, tools: Any) -> None:
    seen: list[Any] = []
    house.exchange.switchboard.observers.append(lambda event, call: seen.append((event, call)))
    call = await house.exchange.dial(from_=tools.OURS, to="+12125550120", record=True, digits="1w2#", time_limit=60)
    far_end = await house.server.far_end(call.id)
    await tools.until(lambda: far_end.digits == "12#")
    waits = [r.query["before"] for r in house.server.requests if r.path.endswith("/dtmf")]
    assert waits == ["0", "500"]
    await tools.until(lambda: [e.status for e, _ in seen if isinstance(e, RecordingProgress)] == ["in_progress"])
    [(event, of)] = [each for each in seen if isinstance(each[0], RecordingProgress)]
    assert of.reference == call.reference and event.recording_id.startswith(f"anycarrier.{house.app}.recording.")
    assert house.server.channels[call.id].variables["TIMEOUT(absolute)"] == "63"
    await house.exchange.hang_up(call)
    await over(house, far_end)


async def test_the_channel_of_a_call_cannot_be_recorded_so_its_bridge_is(house: Any, tools: Any) -> None:
    far_end = await rung(house, tools)
    provider = await house.provider()
    name = await provider.start_recording(far_end.call_id)
    await provider.stop_recording(far_end.call_id)
    assert (await provider.fetch_recording(name))[:4] == b"RIFF"
    assert not [r for r in house.server.requests if r.path.startswith("/ari/channels") and r.path.endswith("/record")]
    await far_end.hang_up()
    await over(house, far_end)


async def test_one_transfer_at_a_time_and_its_target_may_hang_up(house: Any, tools: Any) -> None:
    far_end = await rung(house, tools)
    await house.exchange.transfer(far_end.call_id, NUMBER[Outcome.RINGS])
    with pytest.raises(RequestRejected, match="handed on already"):
        await house.exchange.transfer(far_end.call_id, "+12125550120")
    assert await house.exchange.wait_for_transfer(far_end.call_id, 20) is TransferStatus.ANSWERED
    await tools.until(lambda: len(house.server.channels) == 2)
    [leg] = [channel for name, channel in house.server.channels.items() if ".leg." in name]
    assert leg.caller == tools.OURS and leg.far_end.transferred_to == tools.THEIRS
    await leg.far_end.hang_up()
    await far_end.wait_for("ended")
    assert (await over(house, far_end)).reason is EndReason.TRANSFERRED
    await tools.until(lambda: nothing_left(house))


async def test_a_caller_who_leaves_ends_the_targets_ringing(house: Any, tools: Any) -> None:
    far_end = await rung(house, tools)
    await house.exchange.transfer(far_end.call_id, NUMBER[Outcome.NO_ANSWER])
    await far_end.hang_up()
    await over(house, far_end)
    await tools.until(lambda: nothing_left(house))


async def test_headers_of_the_dialplan_reach_the_agent_and_ours_the_trunk(house: Any, tools: Any) -> None:
    seen: list[Any] = []
    house.exchange.switchboard.observers.append(lambda event, call: seen.append(event))
    far_end = await house.server.ring(tools.OURS, tools.THEIRS, headers={"X-Order": "7", "Via": "secret"})
    await far_end.wait_for("streaming")
    assert dict(seen[0].headers) == {"X-Order": "7"}
    await house.exchange.transfer(far_end.call_id, "+12125550120", headers={"X-Desk": "2"})
    await tools.until(lambda: any(each.headers == {"X-Desk": "2"} for each in house.server.far_ends.values()))
    await far_end.hang_up()
    await over(house, far_end)
