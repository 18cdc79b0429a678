"""What the service costs: placing a call, a ring, a list and a search in a million rows, beside the bare thing.

The bare thing is Starlette and SQLAlchemy on the same database: an endpoint that inserts one row; an echo with two
primary-key reads. CPU is this process's own, in interleaved rounds, the least of them; the carrier's sandbox runs in a
process of its own. Reads are timed by the clock: p95, both through the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx
import uvloop
from pydantic import SecretStr
from result import Result, parser
from service_rows import WORDS, seed
from sqlalchemy import insert
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anycarrier_twilio.sandbox import TwilioSandbox
from anycarrier_twilio.sandbox.webhooks import signature

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))
from postgres import binaries, scratch_folder, scratch_postgres

from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier_server.app import create_service
from anycarrier_server.runtime import QuietCollector
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings
from anycarrier_server.store.calls import CallFilter
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Agent, CallRow, CredentialRow, LineRow

KEY = "ApiKey_0123456789-of-the-bench"
OURS, RINGS = "+14155550101", "+15005550102"  # the second is never answered: no media is in the figure
BOUNDS = {"place a call": 4.0, "webhook to reply": 3.0, "list 50": 20.0, "search": 20.0}


@contextlib.contextmanager
def carrier() -> Iterator[dict[str, str]]:
    """The sandbox in a process of its own: its address, and the account in it."""
    process = subprocess.Popen([sys.executable, __file__, "--carrier"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


async def play_carrier() -> None:
    sock = listening()
    sandbox = TwilioSandbox(base_url=url_of(sock))
    sandbox.add_number(OURS)
    async with serve(sandbox.app, sock):
        credential = sandbox.credential()
        account = {"base_url": url_of(sock), "account_sid": credential.account, "token": credential.secrets()[0]}
        print(json.dumps(account), flush=True)
        await asyncio.Event().wait()


class Desk:
    """The service on one database, and the bare endpoints beside it."""

    def __init__(
        self, service: Service, app: Any, line: LineRow, agent: Agent, credential: CredentialRow, token: str
    ) -> None:
        self.service, self.line, self.agent, self.credential = service, line, agent, credential
        headers = {"Authorization": f"Bearer {KEY}"}
        self.ours = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ours", headers=headers)
        bare = Starlette(routes=[Route("/row", self.insert_row, methods=["POST"]),
                                 Route("/echo", self.echo, methods=["POST"])])  # fmt: skip
        self.bare = httpx.AsyncClient(transport=httpx.ASGITransport(bare), base_url="http://bare", headers=headers)
        self.token = token

    async def insert_row(self, request: Request) -> Response:
        body = await request.json()
        values = {"id": uuid4(), "workspace_id": self.line.workspace_id, "provider": "bare", "direction": "outbound",
                  "from_number": body["from_number"], "to_number": body["to_number"], "status": "ended",
                  "stage": "completed", "created_at": utc_now(), "updated_at": utc_now()}  # fmt: skip
        async with self.service.store.db.write() as session:
            await session.execute(insert(CallRow).values(values))
        return JSONResponse({"id": str(values["id"])}, status_code=201)

    async def echo(self, request: Request) -> Response:
        body = await request.body()
        async with self.service.store.db.read() as session:
            await session.get(CredentialRow, self.credential.id)
            await session.get(LineRow, self.line.id)
        return Response(body)

    async def place(self) -> None:
        body = {"agent_id": self.agent.public_id, "to_number": RINGS, "from_number": OURS}
        answer = await self.ours.post("/v1/calls", json=body)
        assert answer.status_code == 201, answer.text

    async def insert(self) -> None:
        answer = await self.bare.post("/row", json={"to_number": RINGS, "from_number": OURS})
        assert answer.status_code == 201, answer.text

    def _ring(self) -> tuple[str, dict[str, str]]:
        return f"/twilio/{self.credential.public_id}", {
            "CallSid": f"CA{uuid4().hex}", "AccountSid": self.credential.account or "", "From": "+12125550142",
            "To": OURS, "Direction": "inbound", "CallStatus": "ringing", "ApiVersion": "2010-04-01"}  # fmt: skip

    async def announce(self) -> None:
        path, params = self._ring()
        signed = signature(self.token, self.service.exchange.switchboard.public_url + path, params.items())
        headers = {"X-Twilio-Signature": signed, "Content-Type": "application/x-www-form-urlencoded"}
        answer = await self.ours.post(path, content=urlencode(params), headers=headers)
        assert answer.status_code == 200 and "/media/" in answer.text, answer.text

    async def echoed(self) -> None:
        path, params = self._ring()
        signed = signature(self.token, self.service.exchange.switchboard.public_url + path, params.items())
        headers = {"X-Twilio-Signature": signed, "Content-Type": "application/x-www-form-urlencoded"}
        assert (await self.bare.post("/echo", content=urlencode(params), headers=headers)).status_code == 200


@contextlib.asynccontextmanager
async def desk(folder: Path, database: str, account: dict[str, str]) -> AsyncIterator[Desk]:
    """The service listening for the carrier's webhooks, with one number."""
    sock = listening()
    settings = Settings(data_dir=folder, database=database, port=sock.getsockname()[1], admin_key=SecretStr(KEY),
                        allow=["*"], calls_per_day=10**9, minutes_per_day=10**9, local=True)  # fmt: skip
    app = create_service(settings)
    # As `anycarrier serve` has it: its event loop, its HTTP parser, its times for garbage, and no looking for proxies.
    async with serve(app, sock, proxy_headers=False, server_header=False):
        service: Service = app.state.service
        collector = QuietCollector(lambda: len(service.exchange.switchboard.sessions))
        collector.start()
        store = service.store
        workspace = await store.workspaces.first()
        assert workspace is not None
        details = {name: account[name] for name in ("account_sid", "base_url")}
        key = SecretStr(account["token"])
        row = await store.credentials.create(
            workspace.id, name="bench", provider="twilio", api_key=key, metadata=details, trusted=True
        )
        agent = await store.agents.create(workspace.id, name="Aria")
        line = await store.lines.create(row, OURS, agent_id=agent.id)
        yield Desk(service, app, line, agent, row, account["token"])
        collector.stop()


async def cpu(work: Callable[[], Awaitable[None]], times: int) -> float:
    """CPU microseconds of one ``work``, what it left in the background included."""
    gc.collect()
    start = time.process_time_ns()
    for _ in range(times):
        await work()
    await asyncio.sleep(1.0)  # the carrier's notifications, and what is written behind
    return (time.process_time_ns() - start) / times / 1000


async def side_by_side(
    one: Callable[[], Awaitable[None]], other: Callable[[], Awaitable[None]], rounds: int, times: int
) -> tuple[float, float]:
    """The least CPU of each, the rounds taken in turns, the first thrown away."""
    found: list[tuple[float, float]] = [(await cpu(one, times), await cpu(other, times)) for _ in range(rounds + 1)]
    return min(a for a, _ in found[1:]), min(b for _, b in found[1:])


async def p95(work: Callable[[], Awaitable[None]], times: int) -> float:
    """Microseconds that 95 of 100 stay under."""
    took = []
    for _ in range(times):
        start = time.perf_counter_ns()
        await work()
        took.append((time.perf_counter_ns() - start) / 1000)
    return sorted(took)[int(0.95 * (times - 1))]


async def reads(at: Desk, ids: list[UUID], times: int) -> dict[str, float]:
    """p95 of a primary-key read, a page of calls, and a search on one line."""
    store, workspace, draw = at.service.store, at.line.workspace_id, random.Random(1)
    found: list[int] = []

    async def key() -> None:
        async with store.db.read() as session:
            assert await session.get(CallRow, draw.choice(ids)) is not None

    async def page() -> None:
        assert len((await store.calls.page(workspace, CallFilter(), limit=50)).items) == 50

    async def search() -> None:
        found.append(len(await store.transcripts.search(workspace, draw.choice(WORDS), line_id=at.line.id, limit=50)))

    for work in (key, page, search):
        await p95(work, 20)
    took = {"key": await p95(key, times), "list 50": await p95(page, times), "search": await p95(search, times)}
    assert min(found) > 0, "the search finds nothing: it would be quick for that"
    return took


async def measure(url: str, account: dict[str, str], chosen: Any, folder: Path) -> list[tuple[str, float, float]]:
    """Name, ours and the bare thing's, in microseconds."""
    async with desk(folder, url, account) as at:
        rounds, times = (2, 15) if chosen.quick else (9, 100)
        placed = await side_by_side(at.place, at.insert, rounds, times)
        rung = await side_by_side(at.announce, at.echoed, rounds, times)
        rows = 10_000 if chosen.quick else 1_000_000
        ids = await seed(at.service.store, at.line, rows)
        took = await reads(at, ids, 100 if chosen.quick else 1000)
        for client in (at.ours, at.bare):
            await client.aclose()
    return [("place a call", *placed), ("webhook to reply", *rung), ("list 50", took["list 50"], took["key"]),
            ("search", took["search"], took["key"])]  # fmt: skip


def main() -> None:
    if sys.argv[1:] == ["--carrier"]:
        asyncio.run(play_carrier())
        return
    options = parser(__doc__ or "")
    options.add_argument("--quick", action="store_true", help="10,000 rows and few rounds: to see that it runs")
    options.add_argument("--database", choices=("sqlite", "postgresql"), help="this one only")
    chosen = options.parse_args()
    logging.disable(logging.CRITICAL)
    rows: list[list[str]] = []
    figures: dict[str, Any] = {}
    kept: list[bool] = []
    with contextlib.ExitStack() as stack:
        account = stack.enter_context(carrier())
        for database in [chosen.database] if chosen.database else ["sqlite", "postgresql"]:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anycarrier-bench-")))
            url = ""
            if database == "postgresql":
                if binaries() is None:
                    raise SystemExit("no PostgreSQL on this machine: apt-get install postgresql")
                url = stack.enter_context(scratch_postgres(stack.enter_context(scratch_folder()))) + "/postgres"
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(measure(url, account, chosen, folder))
            for name, ours, bare in found:
                ratio, bound = ours / bare, BOUNDS[name]
                kept.append(ratio <= bound)
                figures[f"{database} {name}"] = {"us": round(ours), "bare_us": round(bare), "ratio": round(ratio, 2)}
                set_ups = f"{1e6 / ours:.0f}" if name in ("place a call", "webhook to reply") else "-"
                cells = [f"{ours:.0f}", f"{bare:.0f}", f"{ratio:.1f}", f"{bound:g}", set_ups]
                rows.append([f"{name}, {database}", *cells])
    count = "10,000" if chosen.quick else "1,000,000"
    Result(
        name="service",
        bound="each at most so many times the bare thing",
        kept=all(kept),
        columns=["", "us", "bare us", "times", "bound", "per second and core"],
        rows=rows,
        figures={"figures": figures, "quick": chosen.quick},
        notes=[
            "The first two are CPU of the process that serves, the carrier played in another; beside an endpoint that "
            "inserts a row, and an echo with two primary-key reads.",
            f"The others are the clock's p95 among {count} calls and as many transcript segments, a search matching at "
            "most 1,000 of them; beside a primary-key read.",
        ],
    ).report(chosen)


if __name__ == "__main__":
    main()
