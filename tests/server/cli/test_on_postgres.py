"""The same direct work on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from uuid import uuid4

import asyncpg
import pytest

from server.cli.town import Run
from server.postgres import binaries, scratch_folder, scratch_postgres


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if binaries() is None:
        if os.environ.get("ANYCARRIER_CI") == "1":
            pytest.fail("CI must run these on PostgreSQL too: install postgresql")
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    with scratch_folder() as folder, scratch_postgres(folder) as url:
        yield url


@pytest.fixture
async def database(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"t_{uuid4().hex}"
    connection = await asyncpg.connect(f"{server}/postgres")
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    monkeypatch.setenv("ANYCARRIER_DATABASE", f"{server}/{name}")
    return f"{server}/{name}"


async def test_the_schema_is_made_and_secrets_change_their_key(run: Run, database: str) -> None:
    assert (await run("db", "upgrade", "--json")).json["before"] is None
    detail = "account_sid=AC00000000000000000000000000000001"
    await run(
        "credentials", "add", "mine", detail, "--provider", "twilio", "--api-key", "a-token-of-20-letters", "--direct"
    )
    assert (await run("rotate-key", "--json")).json["rewrapped"] == 3
    assert (await run("credentials", "ls", "--direct", "--json")).json[0]["status"] == "active"


async def test_two_upgrades_at_once_are_one(run: Run, database: str) -> None:
    from anycarrier import cli

    codes = await asyncio.gather(*(asyncio.to_thread(cli.main, ["db", "upgrade", "--json"]) for _ in range(2)))
    assert codes == [0, 0]
    assert "already" in (await run("db", "upgrade")).out


@pytest.mark.parametrize("words", [("db", "upgrade"), ("agents", "ls", "--direct")], ids=" ".join)
async def test_a_database_or_user_that_is_not_there_is_said_to_be_that(
    run: Run, server: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ANYCARRIER_DATABASE", f"{server}/calls_of_nobody")
    refused = await run(*words, expect=2)
    assert "no database calls_of_nobody there: create it" in refused.err
    stranger = f"postgresql://nobody_at_all:s3cret@{server.rpartition('@')[2]}/postgres"
    monkeypatch.setenv("ANYCARRIER_DATABASE", stranger)
    refused = await run(*words, expect=2)
    assert "does not accept this user" in refused.err and "s3cret" not in refused.err
