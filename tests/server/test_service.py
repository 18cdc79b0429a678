"""The service as its users meet it: over real sockets, on SQLite, with each carrier's sandbox behind it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import wave
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from running import ADMIN, NUMBERS, SECRETS, SOMEBODY, Running, agent_server, running
from sqlalchemy import update

from anycarrier.agent import budget
from anycarrier_server.domain import recordings_and_transcripts
from anycarrier_server.outage import DatabaseUnavailable
from anycarrier_server.store import parse_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallRow
from fake_speech import FakeEngine

CARRIERS = ("twilio", "telnyx")


def over(call: dict[str, object]) -> bool:
    return call["status"] in ("completed", "failed")


@pytest.mark.parametrize("provider", CARRIERS)
async def test_a_registered_number_rings_its_agent_and_leaves_a_record(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server("Good morning.") as agent:
        mine = await at.equip(provider, agent.url, enable_recording=True)
        rung = await at.ring(mine["number"])
        call = rung["call_id"]
        async with asyncio.timeout(30):
            await agent.arrived.wait()
        assert agent.calls[0]["call_id"] == rung["id"]
        assert (agent.calls[0]["phone_number"], agent.calls[0]["remote_phone_number"]) == (mine["number"], SOMEBODY)
        await at.until(f"/sandbox/calls/{call}", lambda seen: seen["heard_seconds"] > 0.5)
        words = {"text": "I would like a table for two please"}
        await at.ask("POST", f"/sandbox/calls/{call}/say", json=words)
        assert (await at.ask("GET", f"/v1/calls/{call}"))["status"] == "in_progress"
        async with asyncio.timeout(30):
            while not any(event["is_final"] for event in agent.of("transcript")):
                await asyncio.sleep(0.05)
        await at.ask("POST", f"/sandbox/calls/{call}/hangup")
        done = await at.until(f"/v1/calls/{call}", lambda it: over(it) and it["analysis"] and it["recording_url"])
        assert (done["status"], done["end_reason"]) == ("completed", "user_hangup")
        assert any(message["role"] == "user" for message in done["messages"])
        assert 0 < done["duration_seconds"] < 100
        recording = await at.http.get(done["recording_url"], headers={"Authorization": ""})
        assert (recording.status_code, recording.headers["content-type"]) == (200, "audio/mpeg")
        url, _ = recordings_and_transcripts.signed_url(at.service.resources, UUID(rung["id"]), format="wav")
        wav = await at.http.get(url)
        with wave.open(io.BytesIO(wav.content)) as sound:
            assert sound.getnchannels() == 2
            # Of both sides; a machine that stands still for a while records less than the call lasted.
            assert 1 < sound.getnframes() / sound.getframerate() < done["duration_seconds"] + 1.5


@pytest.mark.parametrize("provider", CARRIERS)
async def test_a_call_is_initiated_at_once_then_connected_then_stopped(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server("Hello.") as agent:
        mine = await at.equip(provider, agent.url)
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        made = await at.ask("POST", "/v1/calls", 201, json=body)
        assert made["status"] == "initiated"
        path = f"/v1/calls/{made['id']}"
        await at.until(path, lambda seen: seen["status"] == "in_progress")
        stopped = await at.ask("POST", f"{path}/stop")
        assert stopped["id"] == made["id"]
        done = await at.until(path, over)
        assert (done["status"], done["end_reason"]) == ("completed", "api_stop")
        again = await at.ask("POST", f"{path}/stop")
        assert (again["status"], again["end_reason"]) == ("completed", "api_stop")


@pytest.mark.parametrize("provider", CARRIERS)
@pytest.mark.parametrize(
    ("to", "reason"),
    [("+15005550101", "busy"), ("+15005550103", "rejected"), ("+15005550114", "invalid_number")],
)
async def test_what_does_not_connect_fails_with_its_reason(
    provider: str, to: str, reason: str, tmp_path: Path
) -> None:
    async with running(tmp_path, allow=["*"]) as at:
        mine = await at.equip(provider)
        body = {"agent_id": mine["agent"]["id"], "to_number": to, "from_number": mine["number"]}
        made = await at.ask("POST", "/v1/calls", 201, json=body)
        done = await at.until(f"/v1/calls/{made['id']}", over)
        assert (done["status"], done["end_reason"], done["duration_seconds"]) == ("failed", reason, 0)


async def test_the_same_idempotency_key_makes_one_call(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        key = {"Idempotency-Key": "order-17"}
        answers = await asyncio.gather(
            *(at.http.post("/v1/calls", json=body, headers=key) for _ in range(5))
        )
        assert {answer.json()["id"] for answer in answers} == {answers[0].json()["id"]}
        other = await at.http.post("/v1/calls", json={**body, "variables": {"x": 1}}, headers=key)
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        assert at.service.sandboxes is not None
        assert len(at.service.sandboxes.played["twilio"].far_ends) == 1


async def test_the_days_limit_is_exact_under_concurrent_calls(tmp_path: Path) -> None:
    async with running(tmp_path, calls_per_day=3) as at:
        mine = await at.equip("twilio")
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        answers = await asyncio.gather(*(at.http.post("/v1/calls", json=body) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 5
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["Retry-After"]) > 0


async def test_a_carrier_account_holds_no_more_calls_than_it_may(tmp_path: Path) -> None:
    async with running(tmp_path, max_concurrent=2) as at:
        mine = await at.equip("twilio")
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        answers = await asyncio.gather(*(at.http.post("/v1/calls", json=body) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201] * 2 + [429] * 3
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["code"] == "concurrency_limit"


async def test_engines_are_loaded_when_an_agent_needs_them_and_before_its_first_call(tmp_path: Path) -> None:
    class Noted(FakeEngine):
        async def start(self) -> None:
            loaded.append(self.name)

    loaded: list[str] = []
    names = ("fake", "spare", "never")
    async with running(tmp_path) as at:
        for name in names:
            at.service.agents.engines.add(Noted(name=name))
        await at.service.resources.engines.keep_ready(at.service.settings.engines)
        await asyncio.sleep(0.05)
        assert loaded == [], "nobody talks here"
        made = await at.ask("POST", "/v1/agents", 201, json={"name": "Aria"})
        await at.ask("PATCH", f"/v1/agents/{made['id']}", json={"recognizer": "spare"})
        async with asyncio.timeout(30):
            while loaded != ["fake", "spare"]:
                await asyncio.sleep(0.01)
    loaded.clear()
    async with running(tmp_path) as at:
        for name in names:
            at.service.agents.engines.add(Noted(name=name))
        await at.service.resources.engines.keep_ready(at.service.settings.engines)
        async with asyncio.timeout(30):
            while sorted(loaded) != ["fake", "spare"]:
                await asyncio.sleep(0.01)


async def in_an_hour(at: Running, body: dict[str, Any]) -> str:
    """The id of a call that is scheduled."""
    due = datetime.now(UTC) + timedelta(hours=1)
    waiting = await at.ask("POST", "/v1/calls", 201, json={**body, "scheduled_at": due.isoformat()})
    assert waiting["status"] == "queued"
    return str(waiting["id"])


async def an_hour_later(at: Running, call: str) -> None:
    """It is due, and the schedule has been looked at."""
    async with at.service.store.db.write() as session:
        row = update(CallRow).where(CallRow.id == parse_id("call", call))
        await session.execute(row.values(scheduled_at=utc_now() - timedelta(seconds=1)))
    assert await at.service.scheduler.round() == 0


async def test_a_scheduled_call_waits_for_its_time_and_for_room(tmp_path: Path) -> None:
    async with running(tmp_path, max_concurrent=1) as at:
        mine = await at.equip("twilio")
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        holder = await at.ask("POST", "/v1/calls", 201, json=body)
        await at.until(f"/v1/calls/{holder['id']}", lambda seen: seen["status"] == "in_progress")
        waiting = await in_an_hour(at, body)
        await an_hour_later(at, waiting)
        assert (await at.ask("GET", f"/v1/calls/{waiting}"))["status"] == "queued"
        await at.ask("POST", f"/v1/calls/{holder['id']}/stop")
        await at.until(f"/v1/calls/{waiting}", lambda seen: seen["status"] == "in_progress")


async def test_a_scheduled_call_that_is_stopped_is_never_dialled(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        waiting = await in_an_hour(at, body)
        stopped = await at.ask("POST", f"/v1/calls/{waiting}/stop")
        assert (stopped["status"], stopped["end_reason"]) == ("failed", "canceled")
        await an_hour_later(at, waiting)
        assert at.service.sandboxes is not None
        assert at.service.sandboxes.played["twilio"].far_ends == {}


async def test_an_agent_that_refuses_leaves_the_call_to_the_fallback(tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as second:
        mine = await at.equip("twilio", "ws://127.0.0.1:9/nobody")
        standby = await at.ask("POST", "/v1/agents", 201, json={"name": "Second", "websocket_url": second.url})
        routing = {"inbound_routing": {"fallback": {"agent_id": standby["id"]}}}
        await at.ask("PATCH", f"/v1/phone-numbers/{mine['line']['id']}", json=routing)
        rung = await at.ring(mine["number"])
        async with asyncio.timeout(30):
            await second.arrived.wait()
        assert (await at.ask("GET", f"/v1/calls/{rung['call_id']}"))["agent_id"] == standby["id"]


async def test_nobody_to_take_the_call_means_it_is_not_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("telnyx", "ws://127.0.0.1:9/nobody")
        rung = await at.ring(mine["number"])
        done = await at.until(f"/v1/calls/{rung['call_id']}", over)
        assert (done["status"], done["duration_seconds"]) == ("failed", 0)


async def test_a_number_without_an_agent_declines_and_still_dials(tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as agent:
        mine = await at.equip("twilio", agent.url)
        await at.ask("PATCH", f"/v1/phone-numbers/{mine['line']['id']}", json={"agent_id": None})
        rung = await at.ring(mine["number"])
        done = await at.until(f"/v1/calls/{rung['call_id']}", over)
        assert (done["status"], done["end_reason"]) == ("failed", "rejected")
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        await at.ask("POST", "/v1/calls", 201, json=body)


async def test_a_number_that_the_account_does_not_hold_is_registered_inactive(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        body = {"phone_number": "+15005550120", "provider": "twilio", "agent_id": mine["agent"]["id"],
                "credential_id": mine["credential"]["id"]}  # fmt: skip
        made = await at.ask("POST", "/v1/phone-numbers", 201, json=body)
        assert (made["status"], made["provider_sync"]["ok"]) == ("inactive", False)
        assert made["webhook_url"].endswith(f"/twilio/{mine['credential']['id']}")


async def test_an_incomplete_credential_is_kept_and_refused_when_used(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        made = await at.ask(
            "POST", "/v1/credentials", 201, json={"name": "half", "provider": "twilio", "api_key": "only-a-token-0123"}
        )
        assert (made["status"], made["missing"]) == ("incomplete", ["account_sid"])
        refused = await at.http.post(f"/v1/credentials/{made['id']}/verify")
        assert (refused.status_code, refused.json()["code"]) == (400, "credential_incomplete")
        whole = {"metadata": {"account_sid": SECRETS["twilio"].partition(":")[0]}}
        assert (await at.ask("PATCH", f"/v1/credentials/{made['id']}", json=whole))["status"] == "active"


async def test_a_restart_keeps_numbers_ringing(tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as agent:
        await at.equip("twilio", agent.url)
    async with running(tmp_path) as at, agent_server() as agent:
        assert at.service.sandboxes is not None
        await at.service.sandboxes.reconnect()
        line = (await at.ask("GET", "/v1/phone-numbers"))["items"][0]
        await at.ask("PATCH", f"/v1/agents/{line['agent_id']}", json={"websocket_url": agent.url})
        await at.ring(NUMBERS["twilio"])
        async with asyncio.timeout(30):
            await agent.arrived.wait()


async def test_health_and_metrics_need_no_key_and_everything_else_does(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        nobody = httpx.AsyncClient(base_url=at.http.base_url, trust_env=False)
        async with nobody:
            for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
                assert (await nobody.get(path)).status_code == 200, path
            front = await nobody.get("/", follow_redirects=True)
            assert front.url.path == "/docs"
            assert "frame-ancestors 'none'" in front.headers["content-security-policy"]
            document = (await nobody.get("/openapi.json")).json()
            for path, methods in document["paths"].items():
                for method in methods:
                    answer = await nobody.request(method, path.replace("{", "").replace("}", ""))
                    assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
        assert b"anycarrier_http_requests_total" in (await at.http.get("/metrics")).content


async def test_without_its_database_it_says_not_now_and_nothing_of_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as at:

        @contextlib.asynccontextmanager
        async def gone(self: Database) -> AsyncIterator[None]:
            raise DatabaseUnavailable("ConnectionRefusedError")
            yield

        monkeypatch.setattr(Database, "read", gone)
        for path in ("/v1/agents", "/api/v1/identities/"):
            answer = await at.http.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
            assert "the database does not answer" in answer.text
        assert (await at.http.get("/readyz")).json()["problems"] == {"database": "ConnectionRefusedError"}

        @contextlib.asynccontextmanager
        async def frozen(self: Database) -> AsyncIterator[None]:
            await asyncio.Event().wait()
            yield

        monkeypatch.setattr(Database, "read", frozen)
        monkeypatch.setattr("anycarrier_server.app.READY_WITHIN", 0.05)
        ready = await at.http.get("/readyz")
        assert (ready.status_code, ready.json()["problems"]) == (503, {"database": "TimeoutError"})
        monkeypatch.undo()


async def test_a_page_that_is_not_there_is_told_in_the_contracts_words(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        missing = await at.http.get("/v1/nothing-here")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        wrong = await at.http.put("/v1/calls")
        assert wrong.status_code == 405
        assert set(wrong.headers["allow"].split(", ")) >= {"GET", "POST"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b'{"name": "x\\u0000y"}', "application/json"),
        (b'{"name": "\\ud800"}', "application/json"),
        (b'{"name": "x", "metadata": {"n": NaN}}', "application/json"),
        (b'{"name": "x", "metadata": {"n": 1e999}}', "application/json"),
        (b'{"name": "x", "metadata": {"n": ' + b"9" * 400 + b"}}", "application/json"),
        (b'{"name": "x", "metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "application/json"),
        (b"name=x", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/json"),
    ],
)
async def test_nonsense_bodies_are_refused_with_their_place(body: bytes, kind: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        answer = await at.http.post("/v1/agents", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 422, answer.text
        assert all(set(one) >= {"loc", "msg", "type"} for one in answer.json()["detail"])


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with running(tmp_path, max_body_bytes=2048) as at:
        answer = await at.http.post("/v1/agents", json={"name": "x" * 4000})
        assert answer.status_code == 413

        async def endless():  # type: ignore[no-untyped-def]
            for _ in range(10_000):
                yield b"x" * 1024

        answer = await at.http.post("/v1/agents", content=endless())
        assert answer.status_code == 413


async def test_the_first_key_is_made_once(tmp_path: Path) -> None:
    async with running(tmp_path, admin_key=None) as at:
        first = at.service.new_admin_key
        assert first is not None
        good = await at.http.get("/v1/agents", headers={"Authorization": f"Bearer {first}"})
        assert good.status_code == 200
    async with running(tmp_path, admin_key=None) as at:
        assert at.service.new_admin_key is None
        assert (await at.http.get("/v1/agents", headers={"Authorization": f"Bearer {first}"})).status_code == 200
        assert (await at.http.get("/v1/agents", headers={"Authorization": f"Bearer {ADMIN}"})).status_code == 401


@pytest.mark.timeout(90)
async def test_a_flooding_agent_ends_its_own_call_and_nobody_elses_words_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "DROPPED", budget.Rate(50, 2_000))
    own_speech = {"X-Use-Inkbox-Text-To-Speech": "false", "X-Use-Inkbox-Speech-To-Text": "false"}

    async def flood(socket: Any) -> None:
        for number in range(10_000):
            await asyncio.sleep(0)  # so that it also reads
            await socket.send(json.dumps({"event": "transcript", "party": "remote", "text": f"flood {number}"}))

    async with (
        running(tmp_path) as at,
        agent_server(headers=own_speech) as quiet,
        agent_server(headers=own_speech, on_start=flood) as flooding,
    ):
        mine, theirs = await at.equip("twilio", quiet.url), await at.equip("telnyx", flooding.url)
        talking = (await at.ring(mine["number"]))["id"]
        await at.until(f"/v1/calls/{talking}", lambda seen: seen["status"] == "in_progress")
        began = asyncio.get_running_loop().time()
        flooded = (await at.ring(theirs["number"]))["id"]
        await quiet.say_in_transcript("said in peace")
        row = parse_id("call", talking)
        assert row is not None
        said = await at.until(f"/api/v1/phone/calls/{row}/transcripts", bool, 20)
        assert [one["text"] for one in said] == ["said in peace"]
        done = await at.until(f"/v1/calls/{flooded}", lambda seen: seen["status"] in ("completed", "failed"), 30)
        assert done["end_reason"] == "agent_error"
        # The last rows are written in batches behind the call's own.
        done = await at.until(f"/v1/calls/{flooded}", lambda seen: len(seen["messages"]) >= budget.ROWS.burst)
        took = 1 + asyncio.get_running_loop().time() - began
        assert len(done["messages"]) <= budget.ROWS.burst + took * (budget.ROWS.per_second + budget.ROWS.burst / 60)
        assert (await at.ask("GET", f"/v1/calls/{talking}"))["status"] == "in_progress"
