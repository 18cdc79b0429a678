"""The command line as people use it, against a whole service on a real port with the carriers' sandboxes inside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from linecard import cli
from linecard.server.app import create_service
from linecard.server.service import Service
from linecard.server.settings import Settings
from linecard.testing.serving import listening, serve, url_of

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


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``await run("numbers", "ls", expect=0)``: in a thread, since a command has an event loop of its own."""

    def main(words: tuple[str, ...]) -> int:
        try:
            return cli.main(words)
        except SystemExit as asked_wrongly:  # argparse's way
            return int(asked_wrongly.code or 0)

    async def ran(*words: str, expect: int | None = 0) -> Ran:
        capsys.readouterr()
        code = await asyncio.to_thread(main, words)
        out, err = capsys.readouterr()
        assert expect in (None, code), f"linecard {' '.join(words)}: {code}\n{out}{err}"
        return Ran(code, out, err)

    return ran


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("URL", "KEY", "ADMIN_KEY", "DATA_DIR", "DATABASE", "MASTER_KEY", "CONFIG", "PORT", "HOST"):
        monkeypatch.delenv(f"LINECARD_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@dataclass
class Served:
    """A service that is up."""

    service: Service
    url: str

    async def ring(self, to: str, from_: str = "+12125550123") -> None:
        """Somebody rings a number of ours; returns once the service has said what becomes of it."""
        assert self.service.sandboxes is not None
        line = await self.service.store.lines.by_number(to)
        assert line is not None
        far_end = await self.service.sandboxes.played[line.provider].ring(to, from_)
        self.far_end = far_end


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """The service, and the environment of somebody who has its address and admin key."""
    sock = listening()
    made = {"data_dir": tmp_path / "data", "port": sock.getsockname()[1], "sandbox": True, "admin_key": ADMIN}
    app = create_service(Settings(**made))
    async with serve(app, sock):
        url = url_of(sock)
        monkeypatch.setenv("LINECARD_URL", url)
        monkeypatch.setenv("LINECARD_KEY", ADMIN)
        yield Served(app.state.service, url)


async def eventually(met: Callable[[], Awaitable[bool]], timeout: float = 10) -> None:
    """Wait until ``met`` says yes."""
    async with asyncio.timeout(timeout):
        while not await met():
            await asyncio.sleep(0.02)
