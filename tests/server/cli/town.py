"""A whole service on a real port with the carriers' sandboxes inside, and somebody at a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from anycarrier.testing.far_end import FarEnd
from anycarrier_server.cli.client import Client, remote_client
from anycarrier_server.cli.connection import Address
from anycarrier_server.service import Service
from anycarrier_server.store.models import CallRow

CARRIERS = ["twilio", "telnyx"]
OURS = {"twilio": "+14155550100", "telnyx": "+14155550111"}
SOMEBODY = "+12125550123"
ADMIN = "ApiKey_0000_an-admin-key-of-these-tests-only"


@dataclass
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed with ``--json``."""
        return json.loads(self.out)


Run = Callable[..., Awaitable[Ran]]
"""``await run("numbers", "ls", expect=0)``."""


@dataclass
class Served:
    """A service that is up."""

    service: Service
    url: str

    async def ring(self, to: str, from_: str) -> FarEnd:
        """Somebody rings a number of ours."""
        assert self.service.sandboxes is not None
        line = await self.service.store.lines.by_number(to)
        assert line is not None
        return await self.service.sandboxes.played[line.provider].ring(to, from_)

    async def row(self, call_id: str) -> CallRow:
        """The call as stored."""
        found = await self.service.store.calls.find(call_id)
        assert found is not None
        return found

    async def until(self, call_id: str, stage: str) -> None:
        """Wait until the call is in this state."""

        async def there() -> bool:
            return (await self.row(call_id)).stage == stage

        await eventually(there)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client as commands have it."""
        async with remote_client(Address(self.url, ADMIN)) as client:
            yield client


async def an_agent(run: Run, name: str = "Aria", *settings: str) -> dict[str, Any]:
    """An agent that listens."""
    patient = "silence_timeout_seconds=null"  # nobody speaks, and the call lasts as long as the test
    made: dict[str, Any] = (await run("agents", "add", name, "--handler", "listen", patient, *settings, "--json")).json
    return made


async def a_number(run: Run, provider: str = "twilio", agent: str = "Aria") -> str:
    """A number of ours on that carrier's sandbox account."""
    await run("numbers", "register", OURS[provider], "--agent", agent, "--credential", f"{provider} sandbox")
    return OURS[provider]


async def eventually(met: Callable[[], Awaitable[bool]], timeout: float = 30) -> None:
    """Wait until ``met`` says yes."""
    async with asyncio.timeout(timeout):
        while not await met():
            await asyncio.sleep(0.02)
