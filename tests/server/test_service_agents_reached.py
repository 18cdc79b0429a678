"""S10, on the way to agents: the address that was found good is the one connected to, by either client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from running import agent_server, running

from anycarrier.agent.agent_socket import Connect, connect_fast, connect_portable, open_socket
from anycarrier.errors import AgentUnreachable
from anycarrier_server.url_guard import UrlGuard


class Rebinding:
    """A name server that gives a good address first, and one of this machine's inside the next time."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


@pytest.mark.parametrize("connect", [connect_portable, connect_fast], ids=["portable", "fast"])
async def test_an_agent_is_connected_to_at_the_address_that_was_checked(
    connect: Connect, tmp_path: Path
) -> None:
    async with running(tmp_path) as at, agent_server() as agent:
        # The name exists nowhere else: only the checked address can lead there.
        at.service.resources.url_guard = UrlGuard(local=True, resolve=Rebinding("127.0.0.1"))
        named = agent.url.replace("127.0.0.1", "agent.rebound.example")
        opened = await open_socket(
            named, agent_id="agt", context="{}", guard=at.service.agents._guard, connect=connect
        )
        await opened.close()
        assert agent.hosts == [f"agent.rebound.example:{agent.url.split(':')[2].split('/')[0]}"]


@pytest.mark.parametrize("connect", [connect_portable, connect_fast], ids=["portable", "fast"])
async def test_a_name_that_leads_inside_is_refused_when_it_is_used(connect: Connect, tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        at.service.resources.url_guard = UrlGuard(local=False, resolve=Rebinding("10.0.0.7"))
        with pytest.raises(AgentUnreachable, match="private"):
            await open_socket(
                "wss://agent.rebound.example/x",
                agent_id="agt",
                context="{}",
                guard=at.service.agents._guard,
                connect=connect,
            )


async def test_a_call_for_an_agent_whose_name_was_turned_inside_is_declined(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        at.service.resources.url_guard = UrlGuard(local=False, resolve=Rebinding("93.184.215.14", "192.168.1.5"))
        mine = await at.equip("telnyx", "wss://agent.rebound.example/x")
        rung = await at.ring(mine["number"])
        done = await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "failed")
        assert done["end_reason"] in ("rejected", "agent_error")


async def test_variables_in_any_script_do_not_make_a_handshake_that_is_refused(tmp_path: Path) -> None:
    async with agent_server() as agent, running(tmp_path) as at:
        mine = await at.equip("telnyx", agent.url)
        asked = {"agent_id": mine["agent"]["id"], "from_number": mine["number"], "to_number": "+12125550142"}
        for note in ("预" * 600, "预" * 3000):  # six characters of ASCII each
            made = await at.ask("POST", "/v1/calls", 201, json={**asked, "variables": {"note": note}})
            await at.until(f"/v1/calls/{made['id']}", lambda seen: seen["status"] != "initiated")
            async with asyncio.timeout(30):
                await agent.arrived.wait()
            agent.arrived.clear()
            await at.ask("POST", f"/v1/calls/{made['id']}/stop")
        first, second = agent.calls
        assert first["variables"] == {"note": "预" * 600}
        assert "variables" not in second, "too long for a header"


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_an_agent_that_is_down_is_a_reason_a_note_on_the_call_and_one_line(
    provider: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as at:
        mine = await at.equip(provider, "ws://127.0.0.1:9/agent")
        rung = await at.ring(mine["number"])
        path = f"/v1/calls/{rung['call_id']}"
        done = await at.until(path, lambda seen: seen["status"] == "failed")
        assert (done["end_reason"], done["outcome"]) == ("agent_error", "Not Connected")
        failed = "call.routing_failed"
        log = await at.until(f"{path}/events", lambda seen: failed in [event["event"] for event in seen["items"]])
        [told] = [event["details"] for event in log["items"] if event["event"] == failed]
        assert (told["failure"], told["agent_id"]) == ("agent_unreachable", mine["agent"]["id"])
    mentioned = [record for record in caplog.records if "cannot take the call" in record.getMessage()]
    assert len(mentioned) == 1 and mentioned[0].exc_info is None
