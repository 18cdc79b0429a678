"""A function marked by ``raw_agent`` is an agent of the service, over both APIs and without a speech engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import SOMEBODY, Running, running

from anycarrier import AudioReceived, DigitPressed, MediaSession, plugins
from anycarrier.agent import raw_agent

CARRIERS = ("twilio", "telnyx")
BOTH_APIS = pytest.mark.parametrize(("provider", "api"), [(p, a) for p in CARRIERS for a in ("oneinbox", "inkbox")])

TONE = b"\x20\xa0" * 2400  # 0.6 s of mu-law


@raw_agent
async def greet(session: MediaSession) -> None:
    """Speaks first; "#" ends the call."""
    await session.send_audio(TONE)
    async for event in session:
        if isinstance(event, AudioReceived):
            pass
        elif isinstance(event, DigitPressed) and event.digit == "#":
            return


HANDLERS = {"greet": f"{__name__}:greet"}


@pytest.fixture(autouse=True)
def no_engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "twilio,telnyx")
    plugins.reset()
    yield
    plugins.reset()


async def ended(at: Running, call: str) -> dict[str, Any]:
    found: dict[str, Any] = await at.until(f"/v1/calls/{call}", lambda seen: seen["status"] in ("completed", "failed"))
    return found


@BOTH_APIS
async def test_a_raw_handler_is_called_and_recorded_and_hangs_up(provider: str, api: str, tmp_path: Path) -> None:
    async with running(tmp_path, handlers=HANDLERS) as at:
        mine = await at.equip(provider, handler="greet", enable_recording=True)
        assert mine["agent"]["warnings"] == []
        rung = await at.ring(mine["number"])
        call = rung["call_id"]
        await at.until(f"/sandbox/calls/{call}", lambda seen: seen["heard_seconds"] >= 0.6)
        await at.ask("POST", f"/sandbox/calls/{call}/digits", json={"digits": "#"})
        done = await ended(at, call)
        assert (done["status"], done["end_reason"], done["messages"]) == ("completed", "agent_hangup", [])
        done = await at.until(f"/v1/calls/{call}", lambda seen: bool(seen["recording_url"]))
        recorded = await at.http.get(done["recording_url"], headers={"Authorization": ""})
        assert recorded.headers["content-type"] == "audio/mpeg" and len(recorded.content) > 1000
        if api == "inkbox":
            [shown] = await at.ask("GET", "/api/v1/phone/calls", params={"agent_identity_id": mine["agent"]["id"]})
            assert shown["status"] == "completed"


@BOTH_APIS
async def test_a_raw_handler_calls_out(provider: str, api: str, tmp_path: Path) -> None:
    async with running(tmp_path, handlers=HANDLERS) as at:
        mine = await at.equip(provider, handler="greet")
        body = {"from_number": mine["number"], "to_number": SOMEBODY}
        if api == "oneinbox":
            made = await at.ask("POST", "/v1/calls", 201, json={**body, "agent_id": mine["agent"]["id"]})
        else:
            made = await at.ask("POST", "/api/v1/phone/place-call", 200, json={**body, "on_voicemail": "hang_up"})
        call = str(made["id"])
        await at.until(f"/sandbox/calls/{call}", lambda seen: seen["heard_seconds"] >= 0.6)
        await at.ask("POST", f"/sandbox/calls/{call}/hangup")
        done = await ended(at, call)
        assert (done["status"], done["end_reason"]) == ("completed", "user_hangup")


@pytest.mark.parametrize("provider", CARRIERS)
async def test_a_raw_handlers_call_has_its_longest_duration(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path, handlers=HANDLERS) as at:
        mine = await at.equip(provider, handler="greet", max_duration_seconds=1)
        rung = await at.ring(mine["number"])
        assert (await ended(at, rung["call_id"]))["end_reason"] == "max_duration"


async def test_settings_that_cannot_work_are_refused_in_words(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=HANDLERS) as at:
        wrong_settings: list[dict[str, Any]] = [
            {"grammar": "#JSGF V1.0; grammar g; public <g> = yes;"},
            {"end_call_phrases": ["bye"]},
            {"silence_timeout_seconds": 5},
            {"system_prompt": "Be brief."},
            {"on_voicemail": "leave_message"},
        ]
        for wrong in wrong_settings:
            refused = await at.ask("POST", "/v1/agents", 422, json={"name": "Raw", "handler": "greet", **wrong})
            assert next(iter(wrong)) in str(refused) and "raw audio agent" in str(refused), refused
        made = await at.ask(
            "POST", "/v1/agents", 201, json={"name": "Raw", "handler": "greet", "voicemail_message": "We are closed."}
        )
        assert made["silence_timeout_seconds"] is None and made["on_voicemail"] == "hang_up"
        path = f"/v1/agents/{made['id']}"
        refused = await at.ask("PATCH", path, 422, json={"phrases": ["one"]})
        assert "raw audio agent" in str(refused)
        await at.ask("PATCH", path, json={"handler": "repeat", "phrases": ["one"]})
        refused = await at.ask("PATCH", path, 422, json={"handler": "greet"})
        assert "phrases" in str(refused)
        await at.ask("PATCH", path, json={"handler": "greet", "phrases": None})


@pytest.mark.parametrize("api", ["oneinbox", "inkbox"])
async def test_a_calls_own_settings_that_cannot_work_are_refused_before_anybody_is_rung(
    api: str, tmp_path: Path
) -> None:
    async with running(tmp_path, handlers=HANDLERS) as at:
        mine = await at.equip("twilio", handler="greet")
        body = {"from_number": mine["number"], "to_number": SOMEBODY}
        if api == "oneinbox":
            overrides = {"llm": {"system_prompt": "Be brief."}}
            asked = {**body, "agent_id": mine["agent"]["id"], "overrides": overrides}
            refused = await at.ask("POST", "/v1/calls", 422, json=asked)
        else:
            asked = {**body, "on_voicemail": "leave_message", "voicemail_message": "Call us back."}
            refused = await at.ask("POST", "/api/v1/phone/place-call", 422, json=asked)
        assert "raw audio agent" in str(refused)
        assert (await at.ask("GET", "/v1/calls"))["total"] == 0


async def test_a_first_message_needs_an_engine_that_speaks(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=HANDLERS) as at:
        made = await at.ask("POST", "/v1/agents", 201, json={"name": "Raw", "handler": "greet", "first_message": "Hi."})
        assert "its calls are declined" in str(made["warnings"])
