"""What a quiet tenant feels of three hostile neighbours: p99 with them over p99 alone, in one run.

Measured are placing a call, its first audio, and the webhook of its end, through the running service as
`anycarrier serve` has it. The neighbours: agents that flood their calls; sixty silent webhook receivers, with calls
whose events they all want; and clients that place, list and stop calls up to the limits of their account (5 a second,
20 at once), and come back as soon as they are told to. The service, the quiet tenant (its carrier, agent, receiver and
client), and the neighbours (theirs) are three processes; the neighbours' runs when a core is idle, so that what is
measured is the service and not the number of cores. Periods alone and with neighbours take turns.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import uvloop
from pydantic import SecretStr
from result import Result, parser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed

from anycarrier.fast.server import websockets
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier_server.app import create_service
from anycarrier_server.cli.serve import THREADS_WAIT
from anycarrier_server.http.http_protocol import BoundedHttp
from anycarrier_server.runtime import QuietCollector
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings
from anycarrier_twilio.sandbox import TwilioSandbox

BOUND = 2.0
SILENT = 60
CLIENTS = 8
NUMBERS = {"quiet": "+14155550100", "flood": "+14155550101", "hooks": "+14155550102", "calls": "+14155550103"}
NEIGHBOURS = ("flood", "hooks", "calls")
ANSWERS, RINGS, BUSY = "+12125550142", "+15005550102", "+15005550101"
FRAME = base64.b64encode(b"\x10" * 160).decode()
MEASURED = ("place a call", "first audio", "webhook of the end")


# --- the service, a process of its own -----------------------------------------------------------------------------


async def play_service(told: dict[str, Any], folder: Path) -> None:
    """``told``: for each tenant its carrier's address and account, its agent's address, and its receivers'."""
    sock = listening()
    settings = Settings(data_dir=folder, port=sock.getsockname()[1], admin_key=SecretStr("k" * 32), allow=["*"],
                        calls_per_day=10**9, minutes_per_day=10**9, calls_per_second=5, max_concurrent=20,
                        local=True)  # fmt: skip
    app = create_service(settings)
    ws = websockets(lambda: app.state.service.exchange)
    async with serve(app, sock, http=BoundedHttp, ws=ws, proxy_headers=False, server_header=False) as url:
        service: Service = app.state.service
        sys.setswitchinterval(THREADS_WAIT)
        QuietCollector(lambda: len(service.exchange.switchboard.sessions)).start()
        tenants = {name: await _tenant(service, name, **one) for name, one in told.items()}
        print(json.dumps({"url": url, "tenants": tenants}), flush=True)
        await asyncio.Event().wait()


async def _tenant(
    service: Service, name: str, *, account: dict[str, str], agent: str, hooks: list[str]
) -> dict[str, str]:
    store = service.store
    workspace = await store.workspaces.create(name)
    details = {key: account[key] for key in ("account_sid", "base_url")}
    row = await store.credentials.create(
        workspace.id, name=name, provider="twilio", api_key=SecretStr(account["token"]), metadata=details, trusted=True
    )
    made = await store.agents.create(workspace.id, name=name, websocket_url=agent)
    await store.lines.create(row, NUMBERS[name], agent_id=made.id)
    for url in hooks:
        events = ["call.started", "call.ended", "call.failed", "transcript.final", "call.analyzed"]
        await store.webhooks.create(workspace.id, face="oneinbox", url=url, events=events, secret="s" * 32)
    _, key = await store.keys.create(workspace.id, name)
    return {"key": key, "agent_id": made.public_id}


# --- a tenant's own world: its carrier, its agent, its receiver -------------------------------------------------------


class World:
    """Of one tenant, or of several who share a process."""

    def __init__(self, sandbox: TwilioSandbox, told: dict[str, Any]) -> None:
        self.sandbox, self.told = sandbox, told
        self.ended: dict[str, asyncio.Event] = {}

    async def hear(self, request: Request) -> Response:
        """The receiver of the quiet tenant."""
        body = await request.json()
        if body["event"] in ("call.ended", "call.failed") and body["call_id"] in self.ended:
            self.ended[body["call_id"]].set()
        return Response()


def own_speech(socket: ServerConnection, request: Any, response: Any) -> Any:
    for speech in ("Text-To-Speech", "Speech-To-Text"):
        response.headers[f"X-Use-Inkbox-{speech}"] = "false"
    return response


async def talk(socket: ServerConnection) -> None:
    """An agent that speaks at once, and then listens; under /flood, one that never stops sending."""
    with contextlib.suppress(ConnectionClosed):
        start = json.loads(await socket.recv())
        media = {"event": "media", "stream_id": start["stream_id"], "media": {"payload": FRAME, "track": "outbound"}}
        for _ in range(10):
            await socket.send(json.dumps(media))
        assert socket.request is not None
        number = 0
        while socket.request.path == "/flood":
            number += 1
            said = {"event": "transcript", "party": "local", "text": "some words of no weight", "is_final": True}
            await socket.send(json.dumps(said))
            await socket.send(json.dumps({"event": "text", "delta": "a word ", "turn_id": str(number)}))
            await asyncio.sleep(0)  # its carrier lives in this loop too
        async for _ in socket:
            pass


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A receiver that takes what is sent and never answers."""
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass
    writer.close()


@contextlib.asynccontextmanager
async def world(*names: str) -> AsyncIterator[World]:
    sock = listening()
    sandbox = TwilioSandbox(base_url=url_of(sock))
    for name in names:
        sandbox.add_number(NUMBERS[name])
    credential = sandbox.credential()
    account = {"base_url": url_of(sock), "account_sid": credential.account, "token": credential.secrets()[0]}
    made = World(sandbox, {})
    hook = Starlette(routes=[Route("/", made.hear, methods=["POST"])])
    async with (
        serve(sandbox.app, sock),
        serve(hook) as hear,
        serve_websocket(talk, "127.0.0.1", 0, process_response=own_speech, compression=None) as agents,
        await asyncio.start_server(silence, "127.0.0.1", 0) as silent,
    ):
        agent = f"ws://127.0.0.1:{next(iter(agents.sockets)).getsockname()[1]}"
        quiet = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        for name in names:
            hooks = {"quiet": [hear + "/"], "hooks": [f"{quiet}/{number}" for number in range(SILENT)]}.get(name, [])
            made.told[name] = {"account": account, "agent": f"{agent}/{name}", "hooks": hooks}
        yield made


class Client:
    """Somebody of one tenant with its key."""

    def __init__(self, url: str, name: str, tenant: dict[str, str]) -> None:
        self.name, self.agent_id = name, tenant["agent_id"]
        self.http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {tenant['key']}"}, timeout=60, trust_env=False
        )

    async def place(self, to: str) -> str | None:
        body = {"agent_id": self.agent_id, "to_number": to, "from_number": NUMBERS[self.name]}
        answer = await self.http.post("/v1/calls", json=body)
        if answer.status_code == 429:
            await asyncio.sleep(float(answer.headers["retry-after"]))
        return str(answer.json()["id"]) if answer.status_code == 201 else None

    async def stop(self, call_id: str | None) -> None:
        if call_id is not None:
            await self.http.post(f"/v1/calls/{call_id}/stop")


# --- the neighbours, a process of their own ---------------------------------------------------------------------------


async def play_neighbours() -> None:
    """Told on standard input: the service's address and keys, then ``go`` and ``stop`` in turns."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    async with world(*NEIGHBOURS) as theirs:
        print(json.dumps(theirs.told), flush=True)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        told = json.loads(await lines.readline())
        clients = {name: Client(told["url"], name, told["tenants"][name]) for name in NEIGHBOURS}
        while await lines.readline():
            counts = dict.fromkeys(NEIGHBOURS, 0)
            work = [_flood(clients["flood"], counts), _events(clients["hooks"], counts)]
            work += [_up_to_the_limit(clients["calls"], counts) for _ in range(CLIENTS)]
            tasks = [asyncio.create_task(one) for one in work]
            await lines.readline()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            print(json.dumps(counts), flush=True)


async def _flood(client: Client, counts: dict[str, int]) -> None:
    while True:
        call_id = await client.place(ANSWERS)
        counts["flood"] += 1
        await asyncio.sleep(1)
        await client.stop(call_id)


async def _events(client: Client, counts: dict[str, int]) -> None:
    while True:
        await client.stop(await client.place(RINGS))
        counts["hooks"] += 1
        await asyncio.sleep(0.2)


async def _up_to_the_limit(client: Client, counts: dict[str, int]) -> None:
    while True:
        call_id = await client.place(RINGS)
        await client.http.get("/v1/calls?limit=50")
        await client.stop(call_id)
        counts["calls"] += call_id is not None


# --- the quiet tenant -----------------------------------------------------------------------------------


async def one_call(client: Client, mine: World) -> list[float]:
    """One call from its request to the webhook of its end: the milliseconds of each of ``MEASURED``."""
    known = set(mine.sandbox.far_ends)
    began = time.perf_counter()
    call_id = await client.place(ANSWERS)
    placed = time.perf_counter()
    assert call_id is not None, "the quiet tenant's call was refused"
    mine.ended[call_id] = asyncio.Event()
    far_end: FarEnd = mine.sandbox.far_ends[(set(mine.sandbox.far_ends) - known).pop()]
    await far_end.wait_heard(0.02, timeout=60)
    heard = time.perf_counter()
    await asyncio.sleep(0.05)
    stopping = time.perf_counter()
    await client.stop(call_id)
    async with asyncio.timeout(60):
        await mine.ended[call_id].wait()
    del mine.ended[call_id]
    return [1000 * (placed - began), 1000 * (heard - placed), 1000 * (time.perf_counter() - stopping)]


async def measure(calls: int, rounds: int, folder: Path) -> tuple[list[list[float]], list[list[float]], dict[str, int]]:
    """Alone, and with the neighbours: a list for each of ``MEASURED``; and how much the neighbours did."""
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    done: dict[str, int] = dict.fromkeys(NEIGHBOURS, 0)
    async with world("quiet") as mine:
        with _process("--neighbours") as neighbours:
            theirs = await _line(neighbours)
            with _process("--service", str(folder), json.dumps(mine.told | theirs)) as served:
                told = await _line(served)
                _tell(neighbours, json.dumps(told))
                client = Client(told["url"], "quiet", told["tenants"]["quiet"])
                for _ in range(5):
                    await one_call(client, mine)
                for _ in range(rounds):
                    alone += [await one_call(client, mine) for _ in range(calls)]
                    _tell(neighbours, "go")
                    await asyncio.sleep(3)  # until they are in full swing
                    beside += [await one_call(client, mine) for _ in range(calls)]
                    _tell(neighbours, "stop")
                    for name, count in (await _line(neighbours)).items():
                        done[name] += count
                    await asyncio.sleep(3)  # until what they have left behind is over
    return [list(one) for one in zip(*alone, strict=True)], [list(one) for one in zip(*beside, strict=True)], done


@contextlib.contextmanager
def _process(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


async def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(await asyncio.to_thread(process.stdout.readline))
    return found


def quantile(values: list[float], share: float) -> float:
    """The value that so much of them stay under or at."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    logging.disable(logging.CRITICAL)
    if sys.argv[1:2] == ["--neighbours"]:
        uvloop.run(play_neighbours())
        return
    if sys.argv[1:2] == ["--service"]:
        uvloop.run(play_service(json.loads(sys.argv[3]), Path(sys.argv[2])))
        return
    options = parser(__doc__ or "")
    options.add_argument("--quick", action="store_true", help="few calls: to see that it runs")
    chosen = options.parse_args()
    calls, rounds = (5, 1) if chosen.quick else (100, 3)
    with tempfile.TemporaryDirectory(prefix="anycarrier-bench-") as folder:
        alone, beside, done = uvloop.run(measure(calls, rounds, Path(folder)))
    rows, figures, kept = [], {}, True
    for name, before, after in zip(MEASURED, alone, beside, strict=True):
        one, other = quantile(before, 0.99), quantile(after, 0.99)
        ratio = other / one
        kept = kept and ratio <= BOUND
        middle = (quantile(before, 0.5), quantile(after, 0.5))
        rows.append([name, *(f"{value:.1f}" for value in (*middle, one, other)), f"{ratio:.2f}"])
        figures[name] = {"alone_p99_ms": round(one, 1), "beside_p99_ms": round(other, 1), "ratio": round(ratio, 2)}
    Result(
        name="fairness",
        bound=f"each p99 at most {BOUND:g} times what it is alone",
        kept=kept,
        columns=["", "p50 ms alone", "p50 ms beside", "p99 ms alone", "p99 ms beside", "times"],
        rows=rows,
        figures={"figures": figures, "neighbours": done, "quick": chosen.quick},
        notes=[
            f"{calls * rounds} calls of the quiet tenant each way. Meanwhile the neighbours had {done['flood']} calls "
            f"with a flooding agent, {done['hooks']} calls told to {SILENT} silent receivers, and {done['calls']} "
            f"calls placed, listed and stopped by {CLIENTS} clients up to the limits of their account.",
            "First audio is from the answer to our request to the first frame at the far end, the carrier's own time "
            "to ring included. SQLite.",
        ],
    ).report(chosen)


if __name__ == "__main__":
    main()
