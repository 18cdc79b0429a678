"""schemathesis on ``/ops``, which the command line asks: with every check it has."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from server.cli.town import ADMIN, Run, Served

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(300)
async def test_operations_do_what_their_document_says(served: Served, run: Run, tmp_path: Path) -> None:
    await run("agents", "add", "Aria", "--handler", "listen")
    await run("numbers", "register", "+14155550100", "--agent", "aria")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{served.url}/openapi.json",
        "--include-path-regex", "^/ops/",
        "--checks", "all",
        "--header", f"Authorization: Bearer {ADMIN}",
        "--max-examples", "20",
        "--workers", "1",
        "--suppress-health-check", "all",
        "--no-color",
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-8000:]
    asked = {
        (sample.labels["route"], sample.labels["status"])
        for family in served.service.metrics.requests.collect()
        for sample in family.samples
        if "route" in sample.labels
    }
    assert ("/ops/engines/{name}", "200") in asked and ("/ops/engines/{name}", "404") in asked
    for path in ("/ops/route", "/ops/checkup"):
        assert {(path, "200"), (path, "422")} <= asked, f"{path}: {sorted(asked)}"
