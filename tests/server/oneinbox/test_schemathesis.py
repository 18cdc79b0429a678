"""schemathesis over this face's document, every check on, every phase: examples, coverage, fuzzing, stateful."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from house import ADMIN, House

from anycarrier_server.http import openapi
from anycarrier_server.oneinbox import FACE

HERE = Path(__file__).parent
EXAMPLES = 5
"""Per operation and phase; the coverage phase alone makes some two thousand requests."""


@pytest.mark.timeout(600)
async def test_schemathesis_finds_nothing_in_the_whole_document(house: House, tmp_path: Path) -> None:
    agent_id = await house.agent()
    credential_id = (await house.number("twilio", agent_id, "+14155550199"))["credential_id"]
    await house.number("telnyx", agent_id, "+14155550198")  # its library takes a while to load, once
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(openapi.document([FACE], house.url)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"),
        "run", str(document), "--url", house.url, "--header", f"Authorization: Bearer {ADMIN}",
        "--checks", "all", "--max-examples", str(EXAMPLES), "--no-shrink", "--request-timeout", "60",
        "--warnings", "off",
        cwd=tmp_path,
        env={
            **os.environ,
            "NO_COLOR": "1",
            "PYTHONPATH": str(HERE),
            "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
            "ANYCARRIER_TEST_AGENT": agent_id,
            "ANYCARRIER_TEST_NUMBER": "+14155550199",
            "ANYCARRIER_TEST_CREDENTIAL": credential_id,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said[-8000:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in said, said[-8000:]
    calls = await house.ask("GET", "/v1/calls")
    assert calls["total"] > 0, "no call was ever made: the hooks do not work"
