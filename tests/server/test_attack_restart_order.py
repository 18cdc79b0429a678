"""Whose a carrier's network is does not change with a restart: who came first has it, whatever the ids are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from running import running
from test_service_sip import OURS

THEIRS = "+14155550121"
NETWORK = {"preset": "pbx", "registers": False, "peers": ["127.0.0.9"]}


async def test_a_restart_leaves_a_network_with_who_had_it_first(tmp_path: Path) -> None:
    async def line(at: Any, number: str, name: str) -> tuple[str, str]:
        account = {"provider": "sip", "api_key": "none", "metadata": {**NETWORK, "numbers": [number]}}
        credential = await at.ask("POST", "/v1/credentials", 201, json={"name": name, **account})
        agent = await at.ask("POST", "/v1/agents", 201, json={"name": name})
        body = {"phone_number": number, "provider": "sip", "credential_id": credential["id"], "agent_id": agent["id"]}
        made = await at.ask("POST", "/v1/phone-numbers", 201, json=body)
        return credential["id"], made["configuration"]["message"] if "configuration" in made else str(made)

    async with running(tmp_path, sandbox=False, local=True) as at:
        first, _ = await line(at, OURS, "first")
        seconds = [(await line(at, f"+141555501{number}", f"squatter {number}"))[0] for number in range(30, 36)]
        assert at.service.exchange.listeners.is_open(first)
        assert not any(map(at.service.exchange.listeners.is_open, seconds))
    async with running(tmp_path, sandbox=False, local=True) as at:
        assert at.service.exchange.listeners.is_open(first)
        assert not any(map(at.service.exchange.listeners.is_open, seconds))
