"""kill -9 at random moments with 20 calls going on: how many are still open after the bound the docs state. Must be 0.

A service process on each database in turn, the carriers' sandboxes and the agents outside it. In each round 20 calls
are placed and taken, some of them over soon, and the process is killed and started again. Agents take up to two seconds
to accept a call, so that kills also fall between a call's announcement, its answer, and its media.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from result import Result, parser
from sqlalchemy import text
from websockets.asyncio.server import serve as serve_websocket

from anycarrier.call_phases import RING_TIME, RULES, Phase
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier.testing.sandbox import Sandbox
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store
from anycarrier_server.store.claims import ALIVE_SECONDS
from anycarrier_server.store.database import Database
from anycarrier_telnyx.sandbox import TelnyxSandbox
from anycarrier_twilio.sandbox import TwilioSandbox

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))
from postgres import binaries, scratch_folder, scratch_postgres

KEY = "ApiKey_only-for-this-bench-0123456789"
NUMBERS = {"twilio": "+14155550100", "telnyx": "+14155550111"}
SOMEBODY = "+1212555{:04d}"
CALLS = 20
LONGEST = 6.0
"""Seconds after a round's first call in which its kill comes."""

ADOPTED = ALIVE_SECONDS + 5.0
SECONDS = max(ADOPTED, RING_TIME + RULES[Phase.UNCONFIRMED].ask_after) + 20.0
"""The stated bound of the last calls to end, counted from the last restart: dials whose process died before the carrier
had named them, which are given their ring time and a minute. And some seconds for requests on a busy machine."""


def free_port() -> int:
    with contextlib.closing(listening()) as sock:
        port: int = sock.getsockname()[1]
        return port


class ServiceProcess:
    """``anycarrier serve`` on one port, again and again."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.port = folder, free_port()
        self.environment = {
            **os.environ, "ANYCARRIER_ADMIN_KEY": KEY, "ANYCARRIER_DATA_DIR": str(folder / "data"),
            "ANYCARRIER_LOCAL": "true", "ANYCARRIER_DATABASE": database,
            "ANYCARRIER_CALLS_PER_DAY": "1000000", "ANYCARRIER_MINUTES_PER_DAY": "1000000",
        }  # fmt: skip
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers={"X-API-Key": KEY}, timeout=120, trust_env=False
        )

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "anycarrier", "serve", "--port", str(self.port),
                cwd=self.folder, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(240):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await self.http.get("/readyz")).status_code == 200:
                        return
                if self.process.returncode is not None:
                    raise RuntimeError((self.folder / "log").read_text()[-3000:])
                await asyncio.sleep(0.1)

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def post(self, path: str, status: int, **body: Any) -> dict[str, Any]:
        answer = await self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found


@contextlib.asynccontextmanager
async def agents() -> AsyncIterator[str]:
    """An agent that takes its time to accept, and then listens."""

    async def slowly(connection: Any, request: Any) -> None:
        await asyncio.sleep(random.uniform(0, 2))

    async def listen(connection: Any) -> None:
        with contextlib.suppress(Exception):
            async for _ in connection:
                pass

    async with serve_websocket(listen, "127.0.0.1", 0, process_request=slowly) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"


@contextlib.asynccontextmanager
async def desk(service: ServiceProcess, url: str) -> AsyncIterator[dict[str, tuple[Sandbox, dict[str, str]]]]:
    """A number, and an agent for it, on each carrier."""
    async with contextlib.AsyncExitStack() as stack:
        made: dict[str, tuple[Sandbox, dict[str, str]]] = {}
        database = service.environment["ANYCARRIER_DATABASE"]
        store = await Store.open(Settings(data_dir=service.folder / "data", database=database))
        workspace = await store.workspaces.first()
        assert workspace is not None
        for name, kind in (("twilio", TwilioSandbox), ("telnyx", TelnyxSandbox)):
            sock = listening()
            sandbox: Sandbox = kind(base_url=url_of(sock))
            await stack.enter_async_context(serve(sandbox.app, sock))
            await stack.enter_async_context(sandbox)
            credential = sandbox.credential()
            fields = ("account_sid", "public_key", "connection_id", "base_url")
            details = {field: value for field in fields if (value := getattr(credential, field, None))}
            key = SecretStr(credential.secrets()[0])
            row = await store.credentials.create(
                workspace.id, name=name, provider=name, api_key=key, metadata=details, trusted=True
            )
            sandbox.give_number(NUMBERS[name], credential)
            agent = (await service.post("/v1/agents", 201, name=name, websocket_url=url))["id"]
            line = {"phone_number": NUMBERS[name], "provider": name, "agent_id": agent, "credential_id": row.public_id}
            await service.post("/v1/phone-numbers", 201, **line)
            made[name] = sandbox, {"agent_id": agent, "from_number": NUMBERS[name]}
        await store.close()
        yield made


async def call(service: ServiceProcess, sandbox: Sandbox, outbound: dict[str, str], number: int) -> None:
    """One call, some time in the round; half of them hang up by themselves."""
    await asyncio.sleep(random.uniform(0, LONGEST / 2))
    with contextlib.suppress(httpx.HTTPError, AssertionError, TimeoutError, OSError):
        remote = SOMEBODY.format(number % 10_000)
        if number % 2:
            far_end: FarEnd = await sandbox.ring(outbound["from_number"], remote)
        else:
            await service.post("/v1/calls", 201, to_number=remote, **outbound)
            return
        if number % 4 == 1:
            await asyncio.sleep(random.uniform(0.5, LONGEST))
            await far_end.hang_up()


async def open_calls(database: str) -> list[Any]:
    db = Database(database)
    try:
        async with db.read() as session:
            query = "SELECT id, provider, direction, status, intent FROM calls WHERE status <> 'ended'"
            return list((await session.execute(text(query))).all())
    finally:
        await db.close()


async def what_is_written(database: str) -> tuple[int, set[str], Counter[str], int]:
    """Calls, the carriers' ids of them, their reasons, and calls with more or fewer end events than one."""
    db = Database(database)
    try:
        async with db.read() as session:
            rows = (await session.execute(text("SELECT id, carrier_id, reason FROM calls"))).all()
            kinds = "('call.ended', 'call.failed')"
            told = await session.execute(text(f"SELECT call_id FROM outbox WHERE kind IN {kinds}"))
            ends = Counter(row[0] for row in told.all())
            wrong = sum(ends[row.id] != 1 for row in rows)
            return len(rows), {row.carrier_id for row in rows}, Counter(str(row.reason) for row in rows), wrong
    finally:
        await db.close()


async def measure(database: str, folder: Path, kills: int) -> dict[str, Any]:
    service = ServiceProcess(folder, database)
    await service.start()
    async with agents() as url, desk(service, url) as made:
        number = 0
        for round_ in range(kills):
            tasks = []
            for _ in range(CALLS):
                sandbox, outbound = made[("twilio", "telnyx")[number // 4 % 2]]
                tasks.append(asyncio.create_task(call(service, sandbox, outbound, number)))
                number += 1
            await asyncio.sleep(random.uniform(0.2, LONGEST))
            await service.kill()
            print(f"  kill {round_ + 1} of {kills}", file=sys.stderr, flush=True)
            await service.start()
            await asyncio.gather(*tasks)
        last, left, took = time.monotonic(), await open_calls(database), 0.0
        while left and time.monotonic() - last < SECONDS:
            await asyncio.sleep(1)
            left, took = await open_calls(database), time.monotonic() - last
        await asyncio.sleep(2)
        calls, named, reasons, wrong = await what_is_written(database)
        far_ends = [far_end for sandbox, _ in made.values() for far_end in sandbox.far_ends.values()]
        up = [far_end.call_id in named for far_end in far_ends if far_end.state != "ended"]
        service.process.terminate()
        await service.process.wait()
        await service.http.aclose()
        return {"calls": calls, "open": len(left), "left": [tuple(map(str, row)) for row in left],
                "up": sum(up), "unnamed": len(up) - sum(up), "ends not told once": wrong, "seconds": round(took),
                "reasons": dict(reasons)}  # fmt: skip


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--kills", type=int, default=20, help="kills on each database")
    options.add_argument("--database", choices=("sqlite", "postgresql"), help="this one only")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    random.seed(chosen.seed)
    logging.disable(logging.CRITICAL)  # requests that a kill cuts off
    rows, figures = [], {}
    with contextlib.ExitStack() as stack:
        for name in [chosen.database] if chosen.database else ["sqlite", "postgresql"]:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anycarrier-kills-")))
            database = f"sqlite:///{folder / 'anycarrier.db'}"
            if name == "postgresql":
                if binaries() is None:
                    raise SystemExit("no PostgreSQL on this machine: apt-get install postgresql")
                database = stack.enter_context(scratch_postgres(stack.enter_context(scratch_folder()))) + "/postgres"
            found = figures[name] = asyncio.run(measure(database, folder, chosen.kills))
            counts = [found[column] for column in ("calls", "open", "up", "unnamed", "ends not told once", "seconds")]
            rows.append([name, str(chosen.kills), *map(str, counts)])
    Result(
        name="kills",
        bound=f"no call open {SECONDS:.0f} s after the last restart, here or at the carrier; one end event each",
        kept=all(found["open"] == found["up"] == found["ends not told once"] == 0 for found in figures.values()),
        columns=["", "kills", "calls", "open", "up at carrier", "unnamed", "end not told once", "last end after s"],
        rows=rows,
        figures={"figures": figures},
        notes=[
            f"kill -9 at a random moment of a round of {CALLS} calls on both carriers' sandboxes, then a restart.",
            "Unnamed: up at the carrier, and no process was there to hear of it: the announcement, or the answer to "
            "the dial and all its webhooks, fell into kills. The caller or the carrier's own time limit ends these.",
        ],
    ).report(chosen)


if __name__ == "__main__":
    main()
