"""What /metrics tells, without a key and without naming anybody."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from running import SOMEBODY, agent_server, running

from anycarrier_server.store import Store
from anycarrier_server.work import finished_calls


def value(page: str, name: str, **labels: str) -> float:
    """A sample's value; its labels may stand in any order."""
    for line in page.splitlines():
        found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if found and found[1] == name and dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")) == labels:
            return float(found[3])
    return 0.0


async def test_calls_by_status_and_the_use_of_limits_are_told(tmp_path: Path) -> None:
    async with running(tmp_path, calls_per_day=4, minutes_per_day=20) as at, agent_server() as agent:
        mine = await at.equip("telnyx", agent.url)
        rung = await at.ring(mine["number"])
        await agent.arrived.wait()
        await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
        body = {"agent_id": mine["agent"]["id"], "from_number": mine["number"], "to_number": SOMEBODY}
        await at.ask("POST", "/v1/calls", 201, json=body)
        await at.ask("POST", "/v1/calls", 429, json=body)  # two calls of ten minutes have reserved all twenty
        page = (await at.http.get("/metrics")).text
        assert value(page, "anycarrier_calls_in_progress", direction="inbound", status="answered") == 1
        assert sum(
            value(page, "anycarrier_calls_in_progress", direction="outbound", status=status)
            for status in ("initiated", "ringing", "answered")
        ) == 1  # fmt: skip
        assert value(page, "anycarrier_limit_refusals_total", limit="minutes") == 1
        assert value(page, "anycarrier_limit_use_ratio_bucket", limit="minutes", le="0.5") == 1
        assert value(page, "anycarrier_limit_use_ratio_count", limit="minutes") == 2
        assert value(page, "anycarrier_limit_use_ratio_sum", limit="calls") == 0.75
        for secret in (mine["agent"]["id"], mine["number"][1:], mine["credential"]["id"], SOMEBODY[1:]):
            assert secret not in page


async def test_what_callers_waited_for_is_told_when_their_call_is_filed(tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as agent:
        mine = await at.equip("telnyx", agent.url)
        rung = await at.ring(mine["number"])
        await agent.arrived.wait()
        await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")
        row = await at.service.store.calls.find(rung["call_id"])
        assert row is not None
        waits = {"perceived": [400.0, 900.0], "eou_delay": [120.0]}
        finished = replace(await finished_calls._from_store(at.service.store, row), latency_ms=waits)
        await finished_calls.keep_conversation(at.service.resources, row, finished)
        page = (await at.http.get("/metrics")).text
        assert value(page, "anycarrier_answer_seconds_sum", wait="perceived") == pytest.approx(1.3)
        assert value(page, "anycarrier_answer_seconds_bucket", wait="perceived", le="0.5") == 1
        assert value(page, "anycarrier_answer_seconds_count", wait="eou_delay") == 1


async def test_a_database_that_is_away_costs_the_page_its_own_figures_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as at:
        store: Store = at.service.store

        async def away(*_: object, **__: object) -> list[object]:
            raise OSError("gone")

        monkeypatch.setattr(store.db, "rows", away)
        page = await at.http.get("/metrics")
        assert page.status_code == 200
        assert "anycarrier_calls_in_progress{" not in page.text and "anycarrier_live_calls 0.0" in page.text
