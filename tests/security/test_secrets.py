"""S11, S12, S15: secrets are compared in constant time, sealed at rest, and in no log; whole numbers neither."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest
from by_hand import ADMIN, CALLER, OURS, SECRET, SID, ByHand, new_call
from postgres import binaries, scratch_folder, scratch_postgres
from running import ADMIN as THEIR_ADMIN
from running import SECRETS, Running, agent_server, running

from anycarrier_server import runtime

ROOT = Path(__file__).resolve().parents[2]

# --- S11 ----------------------------------------------------------------------------------------------------

SECRET_NAME = re.compile(
    r"(?:^|_)(?:signature|signed|token|secret|digest|hmac|password|api_key|auth_token|ticket|hash|hashed|hexdigest)$"
)
NOT_SECRET = {
    # Which of our own tokens was refused: both are held here, nobody outside sends one.
    ("src/anycarrier/oauth.py", "token"),
    # A lease is taken by a conditional UPDATE: the database compares, and nobody outside sends one.
    ("contrib/server/src/anycarrier_server/store/outbox.py", "lease_token"),
    # An index finds the key by the hash of what was sent; what it found is then compared in constant time.
    ("contrib/server/src/anycarrier_server/store/workspaces.py", "hash"),
    ("contrib/server/src/anycarrier_server/store/workspaces.py", "hashed"),
    # A hash of the request's own body, to tell a repeat from another request: the client knows it.
    ("contrib/server/src/anycarrier_server/store/new_calls.py", "body_hash"),
    ("contrib/server/src/anycarrier_server/domain/place_call.py", "body_hash"),
}


def named(node: ast.expr) -> str:
    """The last name of an expression: ``row.token`` -> token, ``h.hexdigest()`` -> hexdigest."""
    match node:
        case ast.Call(func=inner) | ast.Await(value=inner):
            return named(inner)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name.lower().replace("-", "_")
    return ""


def plainly_compared(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of each ``==``, ``!=``, ``in`` or ``match`` on something that is named like a secret."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            told = all(not isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn) for op in node.ops)
            empty = any(isinstance(side, ast.Constant) and side.value in ("", b"", None) for side in sides)
            if told and not empty:
                yield from ((node.lineno, named(side)) for side in sides if SECRET_NAME.search(named(side).lower()))


def test_s11_no_secret_is_compared_with_an_operator() -> None:
    found, read = [], 0
    for folder in (ROOT / "src", *(ROOT / "providers").iterdir(), *(ROOT / "contrib").iterdir()):
        for path in sorted(folder.rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            if "/src/" not in f"/{where}" or "/.venv/" in where:
                continue
            read += 1
            found += [f"{where}:{n}: {name}" for n, name in plainly_compared(path.read_text())
                      if (where, name) not in NOT_SECRET]  # fmt: skip
    assert read > 200
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["a.signature == b", "if token != given: pass", "x = hmac.new(k).hexdigest() == sent", "headers['x-token'] == y"],
)
def test_s11_such_a_comparison_would_be_noticed(text: str) -> None:
    assert list(plainly_compared(text))


# --- S12 ----------------------------------------------------------------------------------------------------


async def a_life(at: Running) -> dict[str, str]:
    """All that makes the service keep secrets, and a whole call on each carrier; the secrets, by what they are."""
    kept = {"admin key": THEIR_ADMIN}
    async with agent_server("Hello.") as agent:
        for provider, secret in SECRETS.items():
            kept[provider] = secret.rpartition(":")[2]
            mine = await at.equip(provider, agent.url)
            rung = await at.ring(mine["number"])
            path = f"/v1/calls/{rung['call_id']}"
            await at.until(path, lambda call: call["status"] == "in_progress")
            await at.ask("POST", f"{path}/stop")
            await at.until(path, lambda call: call["status"] == "completed" and call["analysis"])
        hook = {"name": "w", "url": agent.url.replace("ws://", "http://"), "events": ["call.ended"]}
        kept["webhook secret"] = (await at.ask("POST", "/v1/webhooks", 201, json=hook))["secret"]
    admin = {"X-API-Key": THEIR_ADMIN}
    identity = await at.http.post("/api/v1/identities", json={"agent_handle": "aria"}, headers=admin)
    if identity.status_code < 300:
        signing = await at.http.post("/api/v1/identities/aria/signing-key", json={})
        kept["signing key"] = signing.json()["signing_key"]
    made = await at.http.post("/api/v1/api-keys", json={"label": "second"}, headers=admin)
    if made.status_code < 300:
        kept["api key"] = made.json()["api_key"]
    assert all(len(secret) >= 12 for secret in kept.values())
    return kept


def stored_under(folder: Path) -> bytes:
    """All files' bytes but the master key's."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "master.key"]
    return b"".join(path.read_bytes() for path in files)


def seen_in(stored: bytes, secrets: dict[str, str]) -> list[str]:
    """Which of them are there, as text or in the usual disguises."""
    return [
        name
        for name, secret in secrets.items()
        for form in (secret.encode(), secret.encode().hex().encode(), secret.encode()[::-1])
        if form in stored
    ]


async def test_s12_no_secret_is_in_the_sqlite_files(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        secrets = await a_life(at)
        live = stored_under(tmp_path)
    stored = live + stored_under(tmp_path)
    assert len(secrets) >= 5 and b"+14155550100" in stored, "the search finds what is stored in clear"
    assert seen_in(stored, secrets) == []
    assert (tmp_path / "master.key").stat().st_mode & 0o077 == 0


async def test_s12_no_secret_is_in_a_dump_of_postgresql(tmp_path: Path) -> None:
    if binaries() is None:
        pytest.skip("no PostgreSQL on this machine")
    with scratch_folder() as folder, scratch_postgres(folder) as url:
        connection = await asyncpg.connect(f"{url}/postgres")
        await connection.execute("CREATE DATABASE anycarrier")
        await connection.close()
        async with running(tmp_path, database=f"{url}/anycarrier") as at:
            secrets = await a_life(at)
        bin_ = binaries()
        assert bin_ is not None
        dump = await asyncio.to_thread(
            subprocess.run, [str(bin_ / "pg_dump"), f"{url}/anycarrier"], capture_output=True, check=True
        )
        files = stored_under(folder / "data" / "base")
    assert b"+14155550100" in dump.stdout
    assert seen_in(dump.stdout + files, secrets) == []


async def test_s12_no_answer_of_the_api_shows_a_carriers_secret(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        secrets = {name: value for name, value in (await a_life(at)).items() if name in SECRETS}
        document = (await at.http.get("/openapi.json")).json()
        shown = b""
        for path, methods in document["paths"].items():
            if "get" in methods and "{" not in path:
                shown += (await at.http.get(path)).content
        for row in (await at.ask("GET", "/v1/calls"))["items"]:
            shown += (await at.http.get(f"/v1/calls/{row['id']}")).content
            shown += (await at.http.get(f"/v1/calls/{row['id']}/events")).content
        assert len(shown) > 5000 and seen_in(shown, secrets) == []


# --- S15 ----------------------------------------------------------------------------------------------------


async def test_s15_a_whole_call_at_level_debug_leaves_no_secret_and_no_whole_number_in_the_log(served: ByHand) -> None:
    """The process's own log, whoever wrote the line."""
    assert served.log is not None
    call_id = new_call()
    ticket = await served.ticket(call_id)
    socket = await served.stream(ticket, call_id)
    async with httpx.AsyncClient(
        base_url=served.origin, headers=served.admin, trust_env=False, timeout=60
    ) as http:
        hook = {"name": "w", "url": f"{served.origin}/nowhere", "events": ["call.ended"]}
        secret = (await http.post("/v1/webhooks", json=hook)).json()["secret"]
        body = {"agent_id": served.agent, "to_number": "+12125550188", "from_number": OURS}
        dialled = await http.post("/v1/calls", json=body)
        assert dialled.status_code == 201, dialled.text
        await http.post("/v1/calls", json={**body, "to_number": "+442079460188"})
        await http.get("/v1/calls", params={"to_number": "+12125550188"})
        await http.get(f"/v1/calls/{dialled.json()['id']}?api_key={ADMIN}")
        await http.post(f"/v1/calls/{dialled.json()['id']}/stop")
        async with asyncio.timeout(60):
            while (await http.get(f"/v1/calls/{dialled.json()['id']}")).json()["status"] not in ("completed", "failed"):
                await asyncio.sleep(0.05)
        assert await served.knock(f"/{ticket}") == 403
        await socket.close()
        await http.post(f"/v1/webhooks/{'wh_' + '0' * 32}/test")
    text = served.log.read_text()
    assert dialled.json()["id"] in text, "it is that call's log"
    hidden = {"admin key": ADMIN, "auth token": SECRET, "ticket": ticket, "webhook secret": secret}
    assert [name for name, value in hidden.items() if value in text] == []
    assert [number for number in (OURS, CALLER, "+12125550188", "+442079460188") if number[1:] in text] == []


async def test_s15_our_own_loggers_are_clean_before_anything_scrubs_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Users of the library have formatters of their own: what we write ourselves must be fit for any."""
    caplog.set_level(logging.DEBUG)
    async with running(tmp_path) as at:
        tickets: list[str] = []
        issue = at.service.exchange.switchboard.tickets.issue

        def noted(**given: Any) -> str:
            tickets.append(issue(**given))
            return tickets[-1]

        at.service.exchange.switchboard.tickets.issue = noted  # type: ignore[method-assign]
        secrets = await a_life(at)
    ours = [record for record in caplog.records if record.name.split(".")[0].startswith("anycarrier")]
    text = "\n".join(f"{record.getMessage()} {record.exc_text or ''}" for record in ours)
    assert tickets and len(ours) > 5
    assert seen_in(text.encode(), secrets | {f"ticket {n}": ticket for n, ticket in enumerate(tickets)}) == []
    assert re.findall(r"\+?1(?:415|212)55501\d\d", text) == []
    assert SID not in text


@pytest.mark.parametrize(
    "line",
    [
        "GET /media/Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA HTTP/1.1",
        "Authorization: Bearer Zm9vYmFyYmF6cXV4",
        "X-API-Key: Zm9vYmFyYmF6cXV4",
        "postgresql://anycarrier:Zm9vYmFyYmF6cXV4@db/anycarrier",
        "postgresql://anycarrier:pa/Zm9vYmFyYmF6cXV4@db/anycarrier",
        "/recordings/x.wav?expires=1&signature=Zm9vYmFyYmF6cXV4",
    ],
)
def test_s15_the_central_redactor_takes_secrets_out_of_anybodys_line(line: str) -> None:
    for formatter in (runtime.Redacted(), runtime.JsonLines()):
        record = logging.LogRecord("somebody.else", logging.DEBUG, "x.py", 1, "%s rang +14155550100", (line,), None)
        shown = formatter.format(record)
        assert "Zm9vYmFyYmF6cXV4" not in shown and "4155550100" not in shown


def test_s15_an_address_without_a_password_is_left_readable() -> None:
    assert runtime.scrub("GET http://127.0.0.1:8080/v1/calls: 200") == "GET http://127.0.0.1:8080/v1/calls: 200"


def test_s15_nobody_writes_a_line_of_the_log_but_us() -> None:
    args = ("/v1/\n2026-01-01 00:00:00,000 ERROR   anycarrier: all keys lost\x1b[31m\x85\u2028",)
    record = logging.LogRecord("anycarrier.access", logging.INFO, "x.py", 1, "GET %s: 404", args, None)
    for formatter in (runtime.Redacted(), runtime.JsonLines()):
        shown = formatter.format(record)
        assert len(shown.splitlines()) == 1 and shown.isprintable(), shown
