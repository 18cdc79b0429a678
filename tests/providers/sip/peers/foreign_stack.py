"""A telephone on ``baresip-python``: a newer baresip than Debian's, with habits of its own, in a process of its own.

It sends a re-INVITE straight after the ACK, has PRACK and Replaces, and takes a REFER as ``transfers`` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from peer_process import HOST, free_ports, running
from sound import Sound


@dataclass
class ForeignPhone:
    user: str
    port: int
    folder: Path
    process: asyncio.subprocess.Process
    events: list[dict[str, Any]] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"sip:{self.user}@{HOST}:{self.port}"

    async def do(self, command: str, **parameters: Any) -> None:
        """One of the commands of ``foreign_stack_process.py``; raises what it failed with."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": command, **parameters}).encode() + b"\n")
        event = await self.event("done", "failed")
        if event["type"] == "failed":
            raise RuntimeError(event["why"])

    async def event(self, *kinds: str, timeout: float = 30) -> dict[str, Any]:
        """The next event of one of these types."""
        async with asyncio.timeout(timeout):
            while True:
                for event in self.events:
                    if event["type"] in kinds:
                        self.events.remove(event)
                        return event
                self.told.clear()
                await self.told.wait()

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.events.append(json.loads(line))
            self.told.set()

    @property
    def trace(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def heard(self, call: int = 0) -> Sound:
        data = (self.folder / f"heard-{call}.pcm").read_bytes()
        return Sound.of(data[: len(data) // 2 * 2])


@contextlib.asynccontextmanager
async def foreign_phone(
    folder: Path, user: str = "foreign", *, domain: str | None = None, password: str = "", expires: int = 0,
    codecs: Sequence[str] = ("pcmu", "pcma"), transfers: str = "manual", frequency: float = 440,
) -> AsyncIterator[ForeignPhone]:  # fmt: skip
    if importlib.util.find_spec("baresip") is None:
        pytest.skip("baresip-python is not installed: it is in the dependency group dev")
    folder = folder / user
    folder.mkdir(parents=True)
    port = free_ports(2)
    settings = {
        "user": user, "port": port, "domain": domain or f"{HOST}:{port}", "password": password, "expires": expires,
        "codecs": list(codecs), "transfers": transfers, "frequency": frequency,
    }  # fmt: skip
    script = Path(__file__).with_name("foreign_stack_process.py")
    async with running(sys.executable, str(script), json.dumps(settings), log=folder / "log", input=True) as process:
        phone = ForeignPhone(user, port, folder, process)
        listening = asyncio.create_task(phone._listen())
        try:
            await phone.event("ready", timeout=60)
            yield phone
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
