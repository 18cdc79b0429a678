"""The oldest ``inkbox`` still to be had (0.4.6, calls addressed by number), in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from desk import ADMIN, Desk
from websockets.asyncio.server import ServerConnection

VERSION = "0.4.6"
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def old_sdk() -> Path:
    """A folder with the old package alone: what it needs is installed for the new one already. Made once, and kept."""
    folder = Path(sys.prefix) / f"inkbox-{VERSION}"
    if not (folder / "inkbox" / "__init__.py").is_file():
        made = subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, f"inkbox=={VERSION}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"inkbox {VERSION} cannot be installed here: {made.stderr[-300:]}")
    return folder


async def test_the_oldest_sdk_does_every_phone_operation_it_has(desk: Desk, old_sdk: Path) -> None:
    async def talk(socket: ServerConnection) -> None:
        for party, text in (("local", "Hello."), ("remote", "A table for two.")):
            await socket.send(json.dumps({"event": "transcript", "party": party, "text": text, "is_final": True}))
        await socket.send(json.dumps({"event": "stop"}))

    desk.agent.on_start = talk
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "old_sdk.py"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": str(old_sdk),
            "DESK_URL": desk.url,
            "DESK_KEY": ADMIN,
            "DESK_AGENT": desk.agent.url,
            "DESK_HOOK": f"{desk.receiver.url}/texts",
        },
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-3000:]
    seen: dict[str, Any] = json.loads(out)
    assert seen | {"live": []} == {
        "version": VERSION,
        "whoami": "api_key.admin_scoped",
        "number": ["active", "auto_reject", True],
        "one number each": 409,
        "updated": ["auto_accept", True],
        "listed": [True],
        "placed": ["initiated", "outbound", 1],
        "ended": ["completed", "local"],
        "calls": [True],
        "by number": 1,
        "said": [[0, "local", "Hello."], [1, "remote", "A table for two."]],
        "found": ["A table for two."],
        "not from here": 403,
        "duplicate": True,
        "blocked": 403,
        "paused": "paused",
        "passes again": 0,
        "rules": [1, 1, 1],
        "rule gone": 404,
        "organization key": 409,
        "subscriptions": [True],
        "live": [],
    }
