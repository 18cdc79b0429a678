"""schemathesis on this face's part of the OpenAPI document, with every check it has."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from desk import ADMIN, Desk, open_desk

from anycarrier_server.inkbox import FACE

HERE = Path(__file__).parent


@pytest.mark.timeout(300)
async def test_the_service_does_what_its_document_says(tmp_path: Path) -> None:
    async with open_desk(tmp_path / "data", "twilio") as desk:
        identity = await desk.identity("known-bot")
        rule = await desk.do(identity.create_phone_contact_rule, action="allow", match_target="+12125550123")
        call = await desk.do(identity.place_call, to_number="+15005550101")
        known = {
            "call_id": str(call.id),
            "agent_identity_id": str(identity.id),
            "phone_number_id": str(identity.phone_number.id),
            "number_id": str(identity.phone_number.id),
            "from_number": identity.phone_number.number,
            "handle": "known-bot",
            "rule_id": str(rule.id),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli",
            "--config-file", str(HERE / "schemathesis.toml"),
            "run", f"{desk.url}/openapi.json",
            "--include-path-regex", "^/api/",
            "--checks", "all",
            "--header", f"Authorization: Bearer {ADMIN}",
            "--max-examples", "3",
            "--workers", "1",  # two threads that compile at once upset Python 3.11's ast
            "--suppress-health-check", "all",
            "--no-color",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
                "PYTHONPATH": str(HERE),
                "ANYCARRIER_TEST_KNOWN": json.dumps(known),
            },
        )  # fmt: skip
        out, _ = await process.communicate()
        report = out.decode()
        assert process.returncode == 0, report[-12_000:]
        reached = answers(desk)
        for endpoint in FACE.endpoints:
            if not endpoint.hidden:
                statuses = reached[endpoint.method, endpoint.path]
                assert statuses - {"401"}, f"{endpoint.method} {endpoint.path} was never asked with a good key"
        done = [one for one in FACE.endpoints if reached[one.method, one.path] & {"200", "201", "204"}]
        assert len(done) > 30, sorted(f"{one.method} {one.path}" for one in done)


def answers(desk: Desk) -> defaultdict[tuple[str, str], set[str]]:
    """The statuses each operation was answered with, as the service counted them."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for family in desk.service.metrics.requests.collect():
        for sample in family.samples:
            labels = sample.labels
            found[labels["method"], labels["route"]].add(labels["status"])
    return found
