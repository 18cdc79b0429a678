"""What becomes of an incoming call, by what its agent says: each action on each carrier, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from running import SOMEBODY, Running, agent_server, running
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anycarrier.testing.live_server import serve
from anycarrier_server.store import parse_id

CARRIERS = ("twilio", "telnyx")


@contextlib.asynccontextmanager
async def hook(answer: Callable[[dict[str, Any]], Awaitable[Response]]) -> AsyncIterator[tuple[str, list[Request]]]:
    """A client's server that is asked about incoming calls."""
    asked: list[Request] = []

    async def take(request: Request) -> Response:
        asked.append(request)
        return await answer(await request.json())

    async with serve(Starlette(routes=[Route("/incoming", take, methods=["POST"])])) as url:
        yield f"{url}/incoming", asked


async def act(at: Running, agent_id: str, **fields: Any) -> None:
    """Say what the agent does with incoming calls."""
    found = await at.service.store.agents.find(parse_id("agent", agent_id))
    assert found is not None
    await at.service.store.agents.change(found.id, **fields)


async def why(at: Running, call_id: str) -> str:
    def routed(events: dict[str, Any]) -> list[str]:
        return [str(event["details"]["why"]) for event in events["items"] if event["event"] == "call.routed"]

    # Written beside the call, so it may come a moment after the call is seen to be over.
    return routed(await at.until(f"/v1/calls/{call_id}/events", lambda events: bool(routed(events))))[0]


async def outcome(at: Running, number: str) -> tuple[dict[str, Any], str]:
    """Ring and wait for the end; the call, and the reason for its route."""
    rung = await at.ring(number)
    done = await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] in ("completed", "failed"))
    return done, await why(at, rung["call_id"])


@pytest.mark.parametrize("provider", CARRIERS)
async def test_auto_reject_declines_without_asking_anybody(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as agent:
        mine = await at.equip(provider, agent.url)
        await act(at, mine["agent"]["id"], incoming_call_action="auto_reject")
        done, reason = await outcome(at, mine["number"])
        assert (done["status"], done["end_reason"]) == ("failed", "rejected")
        assert "auto_reject" in reason
        assert agent.calls == []
        assert (await at.service.store.limits.snapshot(await workspace(at))).calls_used == 0


async def test_a_number_of_an_agent_without_a_socket_can_decline_calls_and_take_them_again(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        [number] = await at.ask("GET", "/api/v1/phone/numbers")
        path = f"/api/v1/phone/numbers/{number['id']}"
        await at.ask("PATCH", path, json={"incoming_call_action": "auto_reject"})
        assert (await outcome(at, mine["number"]))[0]["end_reason"] == "rejected"
        await at.ask("PATCH", path, json={"incoming_call_action": number["incoming_call_action"]})
        rung = await at.ring(mine["number"])
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")


async def talked_for_as_long_as_it_may(at: Running, call_id: str) -> None:
    """Its time is over at once: it was answered so long ago, and its watch knows."""
    await at.until(f"/v1/calls/{call_id}", lambda seen: seen["status"] == "in_progress")
    row, watch = await at.service.store.calls.find(call_id), at.service.exchange.call_watch
    assert row is not None and row.answered_at is not None and row.time_limit is not None
    long_ago = row.answered_at - timedelta(seconds=row.time_limit)
    update = {"answered_at": long_ago}
    await at.service.exchange.switchboard.update(row.reference, lambda call: call.model_copy(update=update))
    known = watch._watched[row.reference]
    known.limit_at = asyncio.get_running_loop().time()
    watch._arm(known)


@pytest.mark.parametrize("provider", CARRIERS)
async def test_two_calls_at_once_share_the_days_minutes(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path, minutes_per_day=1, max_duration_seconds=40) as at, agent_server() as agent:
        mine = await at.equip(provider, agent.url)
        rung = [(await at.ring(mine["number"]))["call_id"] for _ in range(3)]
        for one in rung[:2]:
            await talked_for_as_long_as_it_may(at, one)
        over = [
            await at.until(f"/v1/calls/{one}", lambda seen: seen["status"] in ("completed", "failed")) for one in rung
        ]
        limits = [(await at.service.store.callbook.get(one)).time_limit for one in rung]  # type: ignore[union-attr]
        assert sorted(limits[:2]) == [20, 40]
        assert over[2]["status"] == "failed" and "reserved by calls in progress" in await why(at, rung[2])
        assert [one["end_reason"] for one in over[:2]] == ["max_duration", "max_duration"]
        assert (await at.service.store.limits.snapshot(await workspace(at))).full


@pytest.mark.parametrize("provider", CARRIERS)
async def test_an_agents_own_limit_is_all_that_its_call_reserves(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path, minutes_per_day=20) as at, agent_server() as agent:
        mine = await at.equip(provider, agent.url, max_duration_seconds=60)
        await at.ring(mine["number"])
        await agent.arrived.wait()
        assert (await at.service.store.limits.snapshot(await workspace(at))).minutes_free == pytest.approx(19)


@pytest.mark.parametrize("provider", CARRIERS)
async def test_a_blocked_caller_is_declined_before_anybody_hears_of_it(provider: str, tmp_path: Path) -> None:
    async def never(body: dict[str, Any]) -> Response:
        return JSONResponse({"action": "answer"})

    async with running(tmp_path) as at, agent_server() as agent, hook(never) as (url, asked):
        mine = await at.equip(provider, agent.url)
        await act(at, mine["agent"]["id"], incoming_call_action="webhook", incoming_call_webhook_url=url)
        row = await at.service.store.agents.find(parse_id("agent", mine["agent"]["id"]))
        assert row is not None
        await at.service.store.rules.create(row, action="block", match_target=SOMEBODY, direction="inbound")
        done, _ = await outcome(at, mine["number"])
        assert (done["status"], done["end_reason"]) == ("failed", "rejected")
        assert (asked, agent.calls) == ([], [])
        kept = await at.service.store.calls.find(done["id"])
        assert kept is not None and kept.is_blocked


@pytest.mark.parametrize("provider", CARRIERS)
@pytest.mark.parametrize("answer", ["reject", "nonsense", "error", "late", "no url"])
async def test_the_webhook_says_no_or_fails_and_the_call_is_declined(
    provider: str, answer: str, tmp_path: Path
) -> None:
    async def say(body: dict[str, Any]) -> Response:
        match answer:
            case "reject":
                return JSONResponse({"action": "reject"})
            case "nonsense":
                return Response("<html>")
            case "error":
                return JSONResponse({"action": "answer"}, status_code=500)
            case "late":
                await asyncio.sleep(5)
        return JSONResponse({"action": "answer"})

    async with running(tmp_path, inbound_webhook_timeout=1) as at, hook(say) as (url, asked):
        mine = await at.equip(provider)
        await act(at, mine["agent"]["id"], incoming_call_action="webhook", incoming_call_webhook_url=url)
        done, reason = await outcome(at, mine["number"])
        assert (done["status"], done["end_reason"]) == ("failed", "rejected")
        assert "webhook" in reason
        assert len(asked) == 1


@pytest.mark.parametrize("provider", CARRIERS)
async def test_the_webhook_says_answer_and_where(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as agent:

        async def say(body: dict[str, Any]) -> Response:
            assert (body["direction"], body["remote_phone_number"]) == ("inbound", SOMEBODY)
            return JSONResponse({"action": "answer", "client_websocket_url": agent.url})

        async with hook(say) as (url, asked):
            mine = await at.equip(provider, "ws://127.0.0.1:9/nobody-here")
            await act(at, mine["agent"]["id"], incoming_call_action="webhook", incoming_call_webhook_url=url)
            key, _ = await at.service.store.webhooks.rotate_signing_key(
                await workspace(at), parse_id("agent", mine["agent"]["id"])
            )
            await at.ring(mine["number"])
            async with asyncio.timeout(30):
                await agent.arrived.wait()
            assert asked[0].headers["x-inkbox-signature"].startswith("sha256=")
            assert key.startswith("whsec_")


@pytest.mark.parametrize("provider", CARRIERS)
async def test_ignore_lets_it_ring_until_the_caller_gives_up(provider: str, tmp_path: Path) -> None:
    async def say(body: dict[str, Any]) -> Response:
        return JSONResponse({"action": "ignore"})

    async with running(tmp_path) as at, hook(say) as (url, _):
        mine = await at.equip(provider)
        await act(at, mine["agent"]["id"], incoming_call_action="webhook", incoming_call_webhook_url=url)
        rung = await at.ring(mine["number"])
        path = f"/v1/calls/{rung['call_id']}"
        await at.until(f"{path}/events", lambda seen: any(e["event"] == "call.routed" for e in seen["items"]))
        assert (await at.ask("GET", path))["status"] == "initiated"
        await at.ask("POST", f"/sandbox/calls/{rung['call_id']}/hangup")
        done = await at.until(path, lambda seen: seen["status"] == "failed")
        assert done["end_reason"] == "canceled"


@pytest.mark.parametrize("provider", CARRIERS)
async def test_forward_sends_the_caller_on_and_nowhere_that_may_not_be_called(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip(provider)
        await act(
            at, mine["agent"]["id"],
            incoming_call_action="forward", forwarding_target_type="phone", forwarding_phone_number="+12125550188",
        )  # fmt: skip
        rung = await at.ring(mine["number"])
        await at.until(f"/sandbox/calls/{rung['call_id']}", lambda seen: seen["transferred_to"] == "+12125550188")
        await at.ask("POST", f"/sandbox/calls/{rung['call_id']}/hangup")
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] in ("completed", "failed"))
        await act(at, mine["agent"]["id"], forwarding_target_type="sip", forwarding_sip_uri="sip:desk@pbx.example.com")
        done, reason = await outcome(at, mine["number"])
        assert (done["status"], done["end_reason"]) == ("failed", "rejected")
        assert "may not be forwarded" in reason


async def test_a_numbers_own_webhook_may_change_the_agent_and_bring_variables(tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as first, agent_server() as second:
        mine = await at.equip("twilio", first.url)
        other = await at.ask("POST", "/v1/agents", 201, json={"name": "Second", "websocket_url": second.url})

        async def say(body: dict[str, Any]) -> Response:
            return JSONResponse({"action": "accept", "agent_id": other["id"], "variables": {"name": "Sama"}})

        async with hook(say) as (url, asked):
            await at.ask("PATCH", f"/v1/phone-numbers/{mine['line']['id']}", json={"inbound_webhook_url": url})
            await at.ring(mine["number"])
            async with asyncio.timeout(30):
                await second.arrived.wait()
            assert second.calls[0]["variables"] == {"name": "Sama"}
            assert first.calls == []
            assert asked[0].headers["x-oneinbox-signature"].startswith("v1=")


@pytest.mark.parametrize("provider", CARRIERS)
async def test_a_numbers_own_webhook_overrides_settings_as_a_call_of_ours_can(provider: str, tmp_path: Path) -> None:
    overrides = {"first_message": "Hello {{name}}.", "tts": {"speed": 99, "voice_id": "en-us"}}

    async def say(body: dict[str, Any]) -> Response:
        assert set(body) >= {"from", "to", "call_id", "provider"}
        variables = {"name": "Sama", "nested": {"not": "said"}}
        told = {"overrides": overrides, "variables": variables, "metadata": {"crm": 7}}
        return JSONResponse({"action": "accept", **told})

    async with running(tmp_path) as at, hook(say) as (url, _):
        mine = await at.equip(provider, handler="listen", first_message="Never said.")
        await at.ask("PATCH", f"/v1/phone-numbers/{mine['line']['id']}", json={"inbound_webhook_url": url})
        rung = await at.ring(mine["number"])
        path = f"/v1/calls/{rung['call_id']}"
        await at.until(path, lambda seen: seen["status"] == "in_progress")
        row = await at.service.store.calls.find(rung["id"])
        assert row is not None
        assert row.options["settings"] == {"first_message": "Hello {{name}}.", "voice": "en-us"}, "99 is no speed"
        call = await at.ask("GET", path)
        assert (call["variables"], call["metadata"], call["overrides"]) == ({"name": "Sama"}, {"crm": 7}, overrides)
        await at.until(f"/sandbox/calls/{rung['call_id']}", lambda seen: seen["heard_seconds"] > 0.3)
        # What is not heard is not in the transcript.
        await at.until("/v1/calls/messages?calls=" + rung["call_id"], lambda seen: bool(seen["items"]))
        await at.ask("POST", f"/sandbox/calls/{rung['call_id']}/hangup")
        done = await at.until(path, lambda seen: bool(seen["messages"]))
        assert done["messages"] == [{"role": "agent", "content": "Hello Sama."}]


@pytest.mark.parametrize(
    "answer", [b'{"variables": {"a": NaN}}', b'{"variables": {"a": "\\u0000"}}', b"[" * 5000, b"\xff"]
)
async def test_a_webhooks_answer_that_cannot_be_kept_is_none_and_the_numbers_agent_takes_the_call(
    answer: bytes, tmp_path: Path
) -> None:
    async def say(body: dict[str, Any]) -> Response:
        return Response(answer, media_type="application/json")

    async with running(tmp_path) as at, agent_server() as agent, hook(say) as (url, asked):
        mine = await at.equip("telnyx", agent.url)
        await at.ask("PATCH", f"/v1/phone-numbers/{mine['line']['id']}", json={"inbound_webhook_url": url})
        rung = await at.ring(mine["number"])
        async with asyncio.timeout(30):
            await agent.arrived.wait()
        assert len(asked) == 1
        assert (await at.ask("GET", f"/v1/calls/{rung['call_id']}"))["variables"] == {}


async def test_an_agent_that_a_webhook_names_and_nobody_knows_is_noted_and_the_numbers_own_takes_the_call(
    tmp_path: Path,
) -> None:
    async def say(body: dict[str, Any]) -> Response:
        return JSONResponse({"action": "accept", "agent_id": "agt_" + "0" * 32})

    async with running(tmp_path) as at, agent_server() as agent, hook(say) as (url, _):
        mine = await at.equip("telnyx", agent.url)
        await at.ask("PATCH", f"/v1/phone-numbers/{mine['line']['id']}", json={"inbound_webhook_url": url})
        rung = await at.ring(mine["number"])
        async with asyncio.timeout(30):
            await agent.arrived.wait()
        failed = "call.routing_failed"
        path = f"/v1/calls/{rung['call_id']}/events"
        log = await at.until(path, lambda seen: failed in [event["event"] for event in seen["items"]])
        [told] = [event["details"] for event in log["items"] if event["event"] == failed]
        assert (told["failure"], told["agent_id"]) == ("unknown_agent", "agt_" + "0" * 32)


async def workspace(at: Running) -> Any:
    found = await at.service.store.workspaces.first()
    assert found is not None
    return found.id
