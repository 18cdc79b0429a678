"""Scenarios of an adapter's agents as agents *of the service*: named in its setting ``handlers``, made by its API.

A framework's ``test_in_the_service.py`` imports them; its module has three agents:

- ``desk`` says something that lasts 0.6 s; at ``#`` it says that again and ends; at ``0`` it transfers to ``DESK``
- ``chatterbox`` talks for minutes
- ``broken`` raises as it starts
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anycarrier import plugins
from server.running import SOMEBODY, Running, running

CARRIERS = ("twilio", "telnyx")
DESK = "+13105550130"

on_each_carrier = pytest.mark.parametrize("provider", CARRIERS)


@pytest.fixture(autouse=True)
def no_engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The framework does speech."""
    monkeypatch.setenv("ANYCARRIER_PLUGINS", ",".join(CARRIERS))
    plugins.reset()
    yield
    plugins.reset()


@pytest.fixture
def handlers(request: pytest.FixtureRequest) -> dict[str, str]:
    return {name: f"{request.module.__name__}:{name}" for name in ("desk", "chatterbox", "broken")}


async def heard(at: Running, call: str, seconds: float) -> None:
    await at.until(f"/sandbox/calls/{call}", lambda seen: seen["heard_seconds"] >= seconds)


async def over(at: Running, call: str) -> tuple[str, str]:
    """Its status and reason in the books, once nothing of it is left."""
    done = await at.until(f"/v1/calls/{call}", lambda seen: seen["ended_at"] is not None)
    await at.until(f"/sandbox/calls/{call}", lambda seen: seen["state"] == "ended")
    switchboard = at.service.exchange.switchboard
    await at.until("/v1/calls", lambda _: not switchboard.sessions)
    return done["status"], done["end_reason"]


async def dial(at: Running, mine: dict[str, Any]) -> str:
    body = {"from_number": mine["number"], "to_number": SOMEBODY, "agent_id": mine["agent"]["id"]}
    return str((await at.ask("POST", "/v1/calls", 201, json=body))["id"])


@on_each_carrier
async def test_a_caller_is_answered_and_recorded_until_the_agent_ends_the_call(
    provider: str, handlers: dict[str, str], tmp_path: Path
) -> None:
    async with running(tmp_path, handlers=handlers) as at:
        mine = await at.equip(provider, handler="desk", enable_recording=True)
        assert mine["agent"]["warnings"] == []
        call = (await at.ring(mine["number"]))["call_id"]
        await heard(at, call, 0.6)
        await at.ask("POST", f"/sandbox/calls/{call}/digits", json={"digits": "#"})
        assert await over(at, call) == ("completed", "agent_hangup")
        await heard(at, call, 1.1)
        done = await at.until(f"/v1/calls/{call}", lambda seen: bool(seen["recording_url"]))
        assert done["duration_seconds"] >= 1
        recorded = await at.http.get(done["recording_url"], headers={"Authorization": ""})
        assert len(recorded.content) > 1000


@on_each_carrier
@pytest.mark.parametrize(
    ("agent", "path", "reason"),
    [("desk", "/sandbox/calls/{}/hangup", "user_hangup"), ("chatterbox", "/v1/calls/{}/stop", "api_stop")],
    ids=["the caller", "the API"],
)
async def test_a_call_out_is_ended_by_the_far_end_or_the_api(
    agent: str, path: str, reason: str, provider: str, handlers: dict[str, str], tmp_path: Path
) -> None:
    async with running(tmp_path, handlers=handlers) as at:
        call = await dial(at, await at.equip(provider, handler=agent))
        await heard(at, call, 0.5)
        await at.ask("POST", path.format(call))
        assert await over(at, call) == ("completed", reason)


@on_each_carrier
@pytest.mark.parametrize(
    ("agent", "limits", "end"),
    [("chatterbox", {"max_duration_seconds": 2}, ("completed", "max_duration")),
     ("broken", {}, ("failed", "agent_error"))],
    ids=["the longest duration", "an agent that raises"],
)  # fmt: skip
async def test_what_ends_a_call_is_the_reason_in_its_books(
    agent: str, limits: dict[str, Any], end: tuple[str, str], provider: str, handlers: dict[str, str], tmp_path: Path
) -> None:
    async with running(tmp_path, handlers=handlers) as at:
        mine = await at.equip(provider, handler=agent, **limits)
        call = (await at.ring(mine["number"]))["call_id"]
        assert await over(at, call) == end


@on_each_carrier
async def test_a_transferred_caller_stays_when_the_agent_has_ended(
    provider: str, handlers: dict[str, str], tmp_path: Path
) -> None:
    async with running(tmp_path, handlers=handlers) as at:
        mine = await at.equip(provider, handler="desk")
        call = (await at.ring(mine["number"]))["call_id"]
        await heard(at, call, 0.6)
        await at.ask("POST", f"/sandbox/calls/{call}/digits", json={"digits": "0"})
        switchboard = at.service.exchange.switchboard
        seen = await at.until(
            f"/sandbox/calls/{call}", lambda seen: seen["transferred_to"] == DESK and not switchboard.sessions
        )
        assert seen["state"] != "ended"
        await at.ask("POST", f"/sandbox/calls/{call}/hangup")
        assert (await over(at, call))[0] == "completed"
