"""P10 in the service: a SIP call leaves no password, login or key on any page, in any answer or in the logs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from running import SOMEBODY, agent_server, running
from test_service_sip import CALLEE, OURS, sip_line

PASSWORD = "a-password"
PAGES = ["/metrics", "/ops/checkup", "/v1/credentials", "/v1/phone-numbers", "/v1/calls", "/openapi.json"]
OTHERS = ("httpcore", "httpx", "websockets", "aiosqlite", "sqlalchemy")
"""Loggers of the client, and of libraries that log what they carry at DEBUG alone."""


async def test_p10_no_page_of_the_service_and_no_log_tells_a_secret_of_a_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with agent_server() as agent, running(tmp_path) as at:
        mine = await sip_line(at, agent.url)
        rung = await at.ring(OURS)
        path = f"/v1/calls/{rung['call_id']}"
        await at.until(path, lambda seen: seen["status"] == "in_progress")
        body = {"from_number": OURS, "to_number": CALLEE, "client_websocket_url": agent.url}
        placed = await at.ask("POST", "/api/v1/phone/place-call", json=body)
        other = f"/api/v1/phone/calls/{placed['id']}"
        await at.until(other, lambda seen: seen["status"] == "answered")
        for call in (path, other):
            await at.ask("POST", f"{call}/{'stop' if call == path else 'hangup'}")
            await at.until(call, lambda seen: seen["ended_at"])
        await at.ask("PATCH", f"/v1/credentials/{mine['credential']}", json={"api_key": "another-password"})
        checked = await at.http.post(f"/v1/credentials/{mine['credential']}/verify")
        pages = {page: (await at.http.get(page)).text for page in [*PAGES, path, f"{path}/events", other]}
    pages["verify"] = checked.text
    ours = [one for one in caplog.records if not one.name.startswith(OTHERS)]
    logs = "\n".join(f"{one.name} {one.getMessage()} {one.exc_text or ''}" for one in ours)
    assert "anycarrier" in logs
    for page, text in (*pages.items(), ("logs", logs)):
        for secret in (PASSWORD, "another-password", "inline:", 'response="', "Digest username"):
            assert secret not in text, page
    for number in (OURS, CALLEE, SOMEBODY):
        assert number not in pages["/metrics"]
        assert number not in logs
