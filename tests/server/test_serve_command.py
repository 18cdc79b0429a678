"""``anycarrier serve`` as a process: what it prints, how it stops, and what it does with calls when it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from running import SOMEBODY, Running, agent_server


class Process:
    """A server, and all it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.said += line.decode()
            self._more.set()

    async def hears(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """Wait until it has said something like this."""
        async with asyncio.timeout(timeout):
            while (found := re.search(pattern, self.said)) is None:
                assert self.process.returncode is None, self.said
                self._more.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await self._more.wait()
        return found

    async def ends(self, timeout: float = 60) -> int:
        """Its exit status."""
        async with asyncio.timeout(timeout):
            status = await self.process.wait()
            await self._reading
        return status


@contextlib.asynccontextmanager
async def serving(folder: Path, *words: str, **environment: str) -> AsyncIterator[Process]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANYCARRIER_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "anycarrier", "serve", *words,
        cwd=folder, env={**clean, "PYTHONUNBUFFERED": "1", **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Process(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_it_needs_no_configuration_and_prints_its_key_once(tmp_path: Path) -> None:
    async with serving(tmp_path, "--port", "0") as server:
        origin = (await server.hears(r"listens on (http://127\.0\.0\.1:\d+)"))[1]
        key = (await server.hears(r"admin key, shown this once: (\S+)"))[1]
        async with httpx.AsyncClient(base_url=origin, trust_env=False, timeout=30) as http:
            answer = await http.get("/api/whoami", headers={"X-API-Key": key})
            assert (answer.status_code, answer.json()["auth_subtype"]) == (200, "api_key.admin_scoped")
        server.process.send_signal(signal.SIGTERM)
        assert await server.ends() == 0
        assert (tmp_path / "data" / "anycarrier.db").exists()
        for private in ("data", "data/master.key", "data/recordings"):
            assert (tmp_path / private).stat().st_mode & 0o077 == 0, private
    async with serving(tmp_path, "--port", "0") as server:
        await server.hears("next: ")
        assert "shown this once" not in server.said and "keys create" in server.said
        server.process.send_signal(signal.SIGINT)
        assert await server.ends() == 0


async def test_a_stop_signal_lets_calls_end_and_then_ends_them(tmp_path: Path) -> None:
    environment = {"ANYCARRIER_ADMIN_KEY": "ApiKey_fixed_0123456789abcdef", "ANYCARRIER_DRAIN_SECONDS": "5"}
    async with serving(tmp_path, "--port", "0", "--sandbox", **environment) as server, agent_server() as agent:
        origin = (await server.hears(r"listens on (\S+)"))[1]
        headers = {"Authorization": "Bearer ApiKey_fixed_0123456789abcdef"}
        async with httpx.AsyncClient(base_url=origin, headers=headers, trust_env=False, timeout=30) as http:
            at = Running(None, http)  # type: ignore[arg-type]
            mine = await at.equip("twilio", agent.url)
            rung = await at.ring(mine["number"])
            async with asyncio.timeout(30):
                await agent.arrived.wait()
            server.process.send_signal(signal.SIGTERM)
            await server.hears("stopping: 1 live calls")
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["problems"]) == (503, {"draining": "shutting down"})
            body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
            refused = await http.post("/v1/calls", json=body)
            assert refused.status_code == 503
            assert agent.of("stop") == []
        assert await server.ends() == 0
        assert [stop["hangup_reason"] for stop in agent.of("stop")] == ["local"]
    async with serving(tmp_path, "--port", "0", **environment) as server:
        origin = (await server.hears(r"listens on (\S+)"))[1]
        async with httpx.AsyncClient(base_url=origin, headers=headers, trust_env=False, timeout=30) as http:
            done = (await http.get(f"/v1/calls/{rung['call_id']}")).json()
            assert (done["status"], done["end_reason"]) == ("completed", "api_stop")


async def test_a_call_that_ends_by_itself_is_waited_for(tmp_path: Path) -> None:
    environment = {"ANYCARRIER_ADMIN_KEY": "ApiKey_fixed_0123456789abcdef", "ANYCARRIER_DRAIN_SECONDS": "600"}
    async with serving(tmp_path, "--port", "0", "--sandbox", **environment) as server, agent_server() as agent:
        origin = (await server.hears(r"listens on (\S+)"))[1]
        headers = {"Authorization": "Bearer ApiKey_fixed_0123456789abcdef"}
        async with httpx.AsyncClient(base_url=origin, headers=headers, trust_env=False, timeout=30) as http:
            at = Running(None, http)  # type: ignore[arg-type]
            mine = await at.equip("telnyx", agent.url)
            rung = await at.ring(mine["number"])
            async with asyncio.timeout(30):
                await agent.arrived.wait()
            server.process.send_signal(signal.SIGTERM)
            await server.hears("stopping: 1 live calls")
            await at.ask("POST", f"/sandbox/calls/{rung['call_id']}/hangup")
        assert await server.ends() == 0
        assert [stop["hangup_reason"] for stop in agent.of("stop")] == ["remote"]


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    environment = {"ANYCARRIER_ADMIN_KEY": "ApiKey_fixed_0123456789abcdef", "ANYCARRIER_DRAIN_SECONDS": "600"}
    async with serving(tmp_path, "--port", "0", "--sandbox", **environment) as server, agent_server() as agent:
        origin = (await server.hears(r"listens on (\S+)"))[1]
        headers = {"Authorization": "Bearer ApiKey_fixed_0123456789abcdef"}
        async with httpx.AsyncClient(base_url=origin, headers=headers, trust_env=False, timeout=30) as http:
            mine = await Running(None, http).equip("twilio", agent.url)  # type: ignore[arg-type]
            await Running(None, http).ring(mine["number"])  # type: ignore[arg-type]
            async with asyncio.timeout(30):
                await agent.arrived.wait()
        server.process.send_signal(signal.SIGTERM)
        await server.hears("stopping: 1 live calls")
        server.process.send_signal(signal.SIGTERM)
        assert await server.ends() == 0


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (["--port", "70000"], {}, "port"),
        (["--public-url", "ftp://x"], {}, "public_url"),
        (["--public-url", "http://voice.example.com"], {}, "https"),
        (["--database", "mysql://x/y"], {}, "mysql"),
        (["--database", "nonsense"], {}, "postgresql://user:password@host/name"),
        (["--database", "sqlite:////nowhere/at/all.db"], {}, "no folder /nowhere/at"),
        (["--database", "postgresql://me:s3cret@127.0.0.1:9/anycarrier"], {}, "me:***@127.0.0.1:9"),
        (["--sandbox", "--host", "0.0.0.0"], {}, "wrong: the sandbox is for this machine only"),
        (["--data-dir", "/proc/nowhere"], {}, "ANYCARRIER_DATA_DIR"),
        ([], {"ANYCARRIER_RECORDINGS_DIR": "/proc/nowhere"}, "ANYCARRIER_RECORDINGS_DIR"),
        ([], {"ANYCARRIER_ALLOW": "us"}, "did you mean 'US'"),
        ([], {"ANYCARRIER_CALL_PER_DAY": "10"}, "did you mean ANYCARRIER_CALLS_PER_DAY"),
        (["--database", "postgresql://me:s3cret@127.0.0.1:x/y"], {}, "database (--database): the database URL's port"),
        ([], {"ANYCARRIER_OUTWARD_ALLOW": "10.0.0.1/8"}, "did you mean '10.0.0.0/8'"),
        ([], {"ANYCARRIER_PUBLIC_URL": "https://me:s3cret@voice.example.com"}, "user or password"),
        ([], {"ANYCARRIER_MINUTES_PER_DAY": "inf"}, "finite number"),
        ([], {"ANYCARRIER_OTLP_ENDPOINT": "collector"}, "http://collector:4318/v1/traces"),
        (["--host", "a..b"], {}, "cannot listen on a..b"),
        ([], {"ANYCARRIER_MASTER_KEY": "not base64!"}, "base64"),
        ([], {"ANYCARRIER_HANDLERS": '{"a": "nowhere:f"}'}, "nowhere:f"),
    ],
)
async def test_what_is_set_wrongly_is_said_in_one_line(
    words: list[str], environment: dict[str, str], told: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, "--port", "0", *words, **environment) as server:
        assert await server.ends() != 0
        assert told in server.said and server.said.count("\n") == 1
        assert "Traceback" not in server.said and "s3cret" not in server.said.replace("me:***", "")


@pytest.mark.parametrize(("text", "told"), [("port = ", "not TOML"), ('denny = ["GB"]', "denny")])
async def test_a_settings_file_with_a_mistake_in_it_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "anycarrier.toml").write_text(text)
    async with serving(tmp_path, "--port", "0") as server:
        assert await server.ends() == 2
        assert told in server.said and "Traceback" not in server.said


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path, "--port", "0") as first:
        port = (await first.hears(r"listens on http://127\.0\.0\.1:(\d+)"))[1]
        async with serving(tmp_path, "--port", port) as second:
            assert await second.ends() == 2
            assert f"cannot listen on 127.0.0.1:{port}" in second.said


async def test_what_it_logs_is_json_and_holds_no_secret(tmp_path: Path) -> None:
    import json

    environment = {"ANYCARRIER_ADMIN_KEY": "ApiKey_fixed_0123456789abcdef"}
    async with serving(tmp_path, "--port", "0", "--sandbox", "--log-json", **environment) as server:
        origin = (await server.hears(r"listens on (\S+)"))[1]
        headers = {"Authorization": "Bearer ApiKey_fixed_0123456789abcdef"}
        async with (
            httpx.AsyncClient(base_url=origin, headers=headers, trust_env=False, timeout=30) as http,
            agent_server() as agent,
        ):
            at = Running(None, http)  # type: ignore[arg-type]
            for provider in ("twilio", "telnyx"):
                mine = await at.equip(provider, agent.url)
                rung = await at.ring(mine["number"])
                async with asyncio.timeout(30):
                    await agent.arrived.wait()
                await at.until(f"/v1/calls/{rung['call_id']}", lambda seen: seen["status"] == "in_progress")
                await at.ask("POST", f"/v1/calls/{rung['call_id']}/stop")
                await http.get("/v1/calls?secret=ApiKey_in_the_query_0123456789")
        server.process.send_signal(signal.SIGTERM)
        assert await server.ends() == 0
    lines = [line for line in server.said.splitlines() if line.startswith("{")]
    assert len(lines) > 10
    for line in lines:
        assert {"at", "level", "logger", "message"} <= set(json.loads(line))
    log = "\n".join(lines)
    for secret in ("fixed_0123456789abcdef", "secret-0123456789", "0123456789ABCDEF_secret", "in_the_query"):
        assert secret not in log
    for number in (SOMEBODY, "+14155550100", "+14155550111"):
        assert number not in log
    assert not re.search(r"/media/[A-Za-z0-9_-]{20,}", log)
