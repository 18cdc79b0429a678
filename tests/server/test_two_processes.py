"""Two processes of one service on one PostgreSQL; one is killed with -9 in the middle of a call."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from postgres import free_port
from pydantic import SecretStr
from running import ADMIN, NUMBERS, SOMEBODY, Running, agent_server

from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier.testing.sandbox import Sandbox
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallRow
from anycarrier_sip.sandbox import SipSandbox
from anycarrier_telnyx.sandbox import TelnyxSandbox
from anycarrier_twilio.sandbox import TwilioSandbox

SANDBOXES: dict[str, type[Sandbox]] = {"twilio": TwilioSandbox, "telnyx": TelnyxSandbox, "sip": SipSandbox}
SIP = ("preset", "host", "port", "username", "transport", "registers")
ADDRESSES = {**NUMBERS, "sip": "+14155550122"}


@dataclass
class Worker:
    """One ``anycarrier serve`` of its own."""

    process: asyncio.subprocess.Process
    http: httpx.AsyncClient
    port: int

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def worker(database: str, folder: Path, port: int, public_url: str, **more: str) -> AsyncIterator[Worker]:
    environment = {
        **os.environ,
        "ANYCARRIER_ADMIN_KEY": ADMIN,
        "ANYCARRIER_DATA_DIR": str(folder),
        "ANYCARRIER_LOCAL": "true",
        "PYTHONUNBUFFERED": "1",
        **more,
    }
    words = ["serve", "--port", str(port), "--database", database, "--public-url", public_url]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "anycarrier", *words, env=environment, cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    seen: list[str] = []
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(60):
            while not any("listens on" in line for line in seen):
                line = await process.stdout.readline()
                assert line, "it did not start:\n" + "".join(seen)
                seen.append(line.decode())

        async def read_on() -> None:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                seen.append(line.decode())

        reading = asyncio.create_task(read_on())
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {ADMIN}"},
            timeout=30,
            trust_env=False,
        ) as http:
            yield Worker(process, http, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        if reading is not None:
            reading.cancel()
        sys.stdout.write("".join(seen))


@contextlib.asynccontextmanager
async def balancer(*ports: int) -> AsyncIterator[str]:
    """Connections to the workers in turn; one that is gone is passed over."""
    turns = itertools.cycle(ports)
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in ports:
            with contextlib.suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", next(turns))
                for one, other in ((reader, there[1]), (there[0], writer)):
                    task = asyncio.create_task(pump(one, other))
                    pumps.add(task)
                    task.add_done_callback(pumps.discard)
                return
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in pumps:
            task.cancel()


async def owner_pid(database: str, call_id: str) -> int:
    """The process that holds a call."""
    db = Database(database)
    async with db.read() as session:
        row = await session.get(CallRow, parse_id("call", call_id))
    await db.close()
    assert row is not None and row.owner is not None
    return int(row.owner.split(":")[1])


async def empty_database(server: str) -> str:
    """A new database on the scratch server; its URL."""
    name = f"t_{uuid4().hex}"
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    finally:
        await connection.close()
    return f"{server}/{name}"


def recorded(folder: Path) -> int:
    """Bytes of sound in files."""
    return sum(wav.stat().st_size for wav in folder.rglob("*.wav"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("provider", ["twilio", "telnyx", "sip"])
async def test_a_call_whose_process_is_killed_is_ended_within_a_minute_and_keeps_its_words(
    provider: str, postgres: str, tmp_path: Path
) -> None:
    database = await empty_database(postgres)
    first_port, second_port = free_port(), free_port()
    sock = listening()
    sandbox = SANDBOXES[provider](base_url=url_of(sock))
    async with (
        balancer(first_port, second_port) as public_url,
        serve(sandbox.app, sock),
        sandbox,
        agent_server(headers={"X-Use-Inkbox-Speech-To-Text": "false"}) as agent,
        worker(database, tmp_path, first_port, public_url) as first,
        worker(database, tmp_path, second_port, public_url) as second,
    ):
        credential = sandbox.credential()
        store = await Store.open(Settings(data_dir=tmp_path, database=database))
        workspace = await store.workspaces.first()
        assert workspace is not None
        details = {
            field: getattr(credential, field)
            for field in ("account_sid", "public_key", "connection_id", "base_url", *SIP)
            if getattr(credential, field, None)
        }
        row = await store.credentials.create(
            workspace.id,
            name="sandbox",
            provider=provider,
            api_key=SecretStr(credential.secrets()[0]),
            metadata=details,
            trusted=True,
        )
        await store.close()
        one, other = (Running(None, each.http) for each in (first, second))  # type: ignore[arg-type]
        sandbox.give_number(ADDRESSES[provider], credential)
        hired = await one.ask(
            "POST", "/v1/agents", 201, json={"name": "Aria", "websocket_url": agent.url, "enable_recording": True}
        )
        line = await other.ask(
            "POST", "/v1/phone-numbers", 201,
            json={"phone_number": ADDRESSES[provider], "provider": provider, "agent_id": hired["id"],
                  "credential_id": row.public_id},
        )  # fmt: skip
        assert line["status"] == "active", line
        far_end = await sandbox.ring(ADDRESSES[provider], SOMEBODY)
        await far_end.wait_for("streaming", 30)
        await agent.say_in_transcript("before the kill")
        calls = (await other.ask("GET", "/v1/calls"))["items"]
        call = f"/v1/calls/{calls[0]['id']}"
        await other.until(call, lambda seen: seen["status"] == "in_progress", 30)
        await far_end.say(b"\x55" * 16000)
        await other.until(f"/api/v1/phone/calls/{parse_id('call', calls[0]['id'])}/transcripts", bool, 30)
        async with asyncio.timeout(30):  # what the process that dies has written is what is kept
            while recorded(tmp_path) < 16000:
                await asyncio.sleep(0.05)

        # Which of the two has the call's sound is the balancer's whim; the log of the call's row knows.
        holder = await owner_pid(database, calls[0]["id"])
        doomed, survivor = (first, second) if holder == first.process.pid else (second, first)
        other = Running(None, survivor.http)  # type: ignore[arg-type]
        doomed.kill()
        began = asyncio.get_running_loop().time()
        done = await other.until(call, lambda seen: seen["status"] in ("completed", "failed"), timeout=60)
        took = asyncio.get_running_loop().time() - began
        print(f"{provider}: ended {took:.0f} s after the kill, {done['end_reason']}")
        assert done["status"] == "completed"
        assert done["end_reason"] in ("media_error", "user_hangup"), done
        settled = await other.until(call, lambda seen: seen["recording_url"] and seen["analysis"], timeout=60)
        assert [m["content"] for m in settled["messages"]] == ["before the kill"]
        recording = await other.http.get(settled["recording_url"])
        assert recording.status_code == 200
        if provider != "sip":  # whose far end nobody is left to tell: its session timer ends it
            await far_end.wait_for("ended", 20)


async def test_a_sip_line_that_is_terminated_lets_a_call_end_then_hangs_up_and_unregisters(tmp_path: Path) -> None:
    sandbox, port = SipSandbox(), free_port()
    database = f"sqlite:///{tmp_path / 'terminated.db'}"
    async with (
        sandbox,
        agent_server() as agent,
        worker(database, tmp_path, port, f"http://127.0.0.1:{port}", ANYCARRIER_DRAIN_SECONDS="3") as only,
    ):
        credential = sandbox.credential()
        sandbox.give_number(ADDRESSES["sip"], credential)
        at = Running(None, only.http)  # type: ignore[arg-type]
        details = {field: getattr(credential, field) for field in SIP}
        account = {"provider": "sip", "api_key": credential.secrets()[0], "metadata": details}
        made = await at.ask("POST", "/v1/credentials", 201, json={"name": "trunk", **account})
        hired = await at.ask("POST", "/v1/agents", 201, json={"name": "Aria", "websocket_url": agent.url})
        body = {"provider": "sip", "agent_id": hired["id"], "credential_id": made["id"]}
        await at.ask("POST", "/v1/phone-numbers", 201, json={"phone_number": ADDRESSES["sip"], **body})
        far_end = await sandbox.ring(ADDRESSES["sip"], SOMEBODY)
        await far_end.wait_for("streaming", 30)
        [call] = (await at.ask("GET", "/v1/calls"))["items"]
        only.process.terminate()
        began = asyncio.get_running_loop().time()
        await far_end.wait_for("ended", 30)
        assert asyncio.get_running_loop().time() - began > 2.5, "it had some seconds to end by itself"
        assert await only.process.wait() == 0
        assert not sandbox.registrations
        store = await Store.open(Settings(data_dir=tmp_path, database=database))
        row = await store.calls.find(call["id"])
        await store.close()
        assert row is not None and (row.status, row.reason) == ("ended", "api_stop")
