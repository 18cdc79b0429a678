"""The command line as people use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anycarrier import cli
from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier_server.app import create_service
from anycarrier_server.settings import Settings
from server.cli.town import ADMIN, Ran, Run, Served


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in a thread, since it has an event loop of its own; its exit code must be ``expect``."""

    def main(words: tuple[str, ...]) -> int:
        try:
            return cli.main(words)
        except SystemExit as asked_wrongly:  # argparse's way
            return int(asked_wrongly.code or 0)

    async def ran(*words: str, expect: int = 0) -> Ran:
        capsys.readouterr()
        code = await asyncio.to_thread(main, words)
        out, err = capsys.readouterr()
        assert code == expect, f"anycarrier {' '.join(words)}: {code}\n{out}{err}"
        return Ran(code, out, err)

    return ran


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("URL", "KEY", "ADMIN_KEY", "DATA_DIR", "DATABASE", "MASTER_KEY", "CONFIG", "PORT", "HOST"):
        monkeypatch.delenv(f"ANYCARRIER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """The service, and the environment of somebody who has its address and admin key."""
    sock = listening()
    port = sock.getsockname()[1]
    settings = Settings(data_dir=tmp_path / "data", port=port, sandbox=True, allow=["US"], admin_key=ADMIN)
    app = create_service(settings)
    async with serve(app, sock):
        url = url_of(sock)
        monkeypatch.setenv("ANYCARRIER_URL", url)
        monkeypatch.setenv("ANYCARRIER_KEY", ADMIN)
        yield Served(app.state.service, url)
