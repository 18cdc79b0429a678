"""One inbound call through the service enters few files, and reads what it needs of the database once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from running import agent_server, running

from anycarrier_server.store import agents, calls, lines, webhooks
from anycarrier_server.store.database import Database
from anycarrier_server.store.statements import Statement
from server.conftest import created

WALK = Path(__file__).resolve().parents[1] / "figures/walk.py"
MOST_FILES = 32
MOST_READS = 15


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database; "" for a new SQLite file."""
    if request.param == "sqlite":
        return ""
    made: Database = await created(request.getfixturevalue("postgres"), f"walk_{uuid4().hex}")
    await made.close()
    return made.url.render_as_string(hide_password=False)


def test_a_call_enters_few_files_of_the_service_and_reads_each_row_once(database: str) -> None:
    command = [sys.executable, WALK, "service", "--json", *(["--database", database] if database else [])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    ours = [path for path in seen["files"] if "/anycarrier_server/" in path]
    assert any(path.endswith("domain/call_router.py") for path in ours), "the walk did not see the call"
    assert len(ours) <= MOST_FILES, "\n".join(ours)
    assert not [read for read in seen["reads"] if read[0] == "session"], "what every call does is a compiled statement"
    rows = [read for read in seen["reads"] if read[0] != "rows"]
    assert {"row", "in a change"} <= {how for how, _, _ in rows}, "the walk did not see the reads"
    assert len(rows) <= MOST_READS, "\n".join(map(str, rows))
    setup = Counter(name for how, name, _ in rows if how == "row" and not name.startswith("call_state."))
    assert max(setup.values()) == 1, "the call's setup is read once"


async def test_an_outbound_call_is_set_up_from_what_was_read_when_it_was_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Statement] = []
    row = Database.row

    async def noted(db: Database, statement: Statement, **values: Any) -> Any:
        asked.append(statement)
        return await row(db, statement, **values)

    async with running(tmp_path) as at, agent_server() as agent:
        mine = await at.equip("telnyx", agent.url)
        monkeypatch.setattr(Database, "row", noted)
        dial = {"agent_id": mine["agent"]["id"], "from_number": mine["number"], "to_number": "+12125550142"}
        await at.ask("POST", "/v1/calls", 201, json=dial)
        async with asyncio.timeout(30):
            await agent.arrived.wait()
        assert agent.calls[0]["agent_id"] == mine["agent"]["id"]
    again = {agents.BY_ID, lines.BY_ID, webhooks.KEY_OF_AGENT, calls.ROUTED} & set(asked)
    assert asked and not again, "the call's setup was read again"
