"""Two things to break into: ``anycarrier serve --sandbox`` as a process of its own, and the library's app here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from anycarrier import Exchange, MediaSession, MemoryNumberRegistry, Policy
from anycarrier.asgi import create_app
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "server")]
from by_hand import ADMIN, OURS, SECRET, SID, ByHand  # noqa: E402 found by the line above

STARTING = 60.0


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    """``anycarrier serve --sandbox`` at log level debug, with a credential whose secret we know, and a number."""
    folder = tmp_path_factory.mktemp("served")
    log = folder / "log"
    environment = {**os.environ, "ANYCARRIER_ADMIN_KEY": ADMIN, "ANYCARRIER_CALLS_PER_DAY": "1000"}
    environment["ANYCARRIER_MINUTES_PER_DAY"] = "10000"  # many calls at once reserve ten minutes each
    words = ["serve", "--sandbox", "--port", "0", "--data-dir", "data", "--log-level", "debug"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "anycarrier", *words], cwd=folder, env=environment, stdout=out, stderr=out
        )
    try:
        made = ByHand(_origin(process, log), "", log)
        with httpx.Client(base_url=made.origin, headers=made.admin, trust_env=False, timeout=60) as http:
            made.equip(http)
        yield made
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def _origin(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + STARTING
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("anycarrier listens on "):
                return line.split()[3]
        time.sleep(0.05)
    pytest.fail(f"it did not start:\n{log.read_text()}")


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[ByHand]:
    """``create_app`` with a handler that only listens."""
    from anycarrier_twilio.sandbox import TwilioSandbox

    async def listen(session: MediaSession) -> None:
        async for _ in session:
            pass

    sock = listening()
    async with serve_sandbox(TwilioSandbox) as sandbox:
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential(account_sid=SID, auth_token=SECRET)},
            public_url=url_of(sock),
            secret="0" * 64,
            agents=listen,
            policy=Policy(),
        )
        sandbox.add_number(OURS)
        async with serve(create_app(exchange), sock) as origin:
            await exchange.assign(OURS, agent_id="desk", credential_id="main", configure=False)
            yield ByHand(origin, "main")


@pytest.fixture(params=["service", "library"])
def house(request: pytest.FixtureRequest) -> ByHand:
    """Either."""
    made: ByHand = request.getfixturevalue("served" if request.param == "service" else "library")
    return made
