"""Work on the database without a server: ``--direct``, ``db upgrade`` and ``rotate-key``."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anycarrier.numbers import SyncResult
from anycarrier_server import encryption
from anycarrier_server.encryption import MasterKeyWrong
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store
from server.cli.town import Run

SECRET = "a-token-of-twenty-letters"
SID = "account_sid=AC00000000000000000000000000000001"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANYCARRIER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ANYCARRIER_URL", "http://127.0.0.1:9")  # nobody: whatever works, works without a server
    return tmp_path / "data"


async def a_credential(run: Run) -> str:
    await run("credentials", "add", "mine", SID, "--provider", "twilio", "--api-key", SECRET, "--direct")
    listed = (await run("credentials", "ls", "--direct", "--json")).json
    return str(listed[0]["id"])


async def stored_secret(credential_id: str) -> str:
    store = await Store.open(Settings())
    try:
        credential = await store.credentials.credential(credential_id)
        return credential.secrets()[0]
    finally:
        await store.close()


# --- direct -----------------------------------------------------------------------------------------------------------


async def test_agents_credentials_and_rules_are_kept_without_a_server(run: Run) -> None:
    await a_credential(run)
    await run("agents", "add", "Aria", "--handler", "listen", "--direct")
    await run("rules", "add", "aria", "block", "+12125550123", "--direct")
    assert len((await run("rules", "ls", "--direct", "--json")).json) == 1
    said = await run("route", "explain", "+14155550100", "--direct", expect=1)
    assert "no number of this workspace" in said.out


async def test_an_admin_key_made_here_opens_the_server(run: Run) -> None:
    secret, said = (await run("keys", "create", "ops", "--direct")).out.splitlines()
    assert "an admin key" in said
    store = await Store.open(Settings())
    try:
        key = await store.keys.authenticate(secret)
    finally:
        await store.close()
    assert key is not None and key.admin and key.created_by == "command line"
    assert [one["label"] for one in (await run("keys", "ls", "--direct", "--json")).json] == ["ops"]


async def test_a_workspace_is_begun_by_its_admin_key_and_sees_nothing_of_another(run: Run) -> None:
    await run("agents", "add", "Aria", "--handler", "listen", "--direct")
    make = ("keys", "create", "--direct", "--workspace", "Other Ltd")
    (first, said), (second, _) = [(await run(*make, label)).out.splitlines() for label in ("one", "two")]
    assert "an admin key of workspace Other Ltd" in said
    store = await Store.open(Settings())
    try:
        keys = [await store.keys.authenticate(secret) for secret in (first, second)]
        assert keys[0] is not None and keys[1] is not None and keys[0].workspace_id == keys[1].workspace_id
        assert await store.agents.list(keys[0].workspace_id) == []
    finally:
        await store.close()
    assert [one["name"] for one in (await run("agents", "ls", "--direct", "--json")).json] == ["Aria"]
    assert (await run("keys", "ls", "--direct", "--json")).json == []
    refused = await run("keys", "create", "x", "--agent", "aria", "--direct", "--workspace", "Other Ltd", expect=2)
    assert "--workspace is for admin keys" in refused.err


async def test_looking_does_not_use_up_the_first_admin_key(run: Run) -> None:
    await run("agents", "ls", "--direct")
    assert (await run("keys", "ls", "--direct", "--all", "--json")).json == []


async def test_a_call_needs_a_server_and_says_so(run: Run) -> None:
    assert "anycarrier serve" in (await run("calls", "dial", "+14155550100", "+12125550123", "--direct", expect=2)).err


async def test_carriers_are_not_pointed_at_an_address_that_was_guessed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_credential(run)
    await run("agents", "add", "Aria", "--handler", "listen", "--direct")
    register = ("numbers", "register", "+14155550100", "--agent", "aria", "--direct")
    assert "ANYCARRIER_PUBLIC_URL" in (await run(*register, expect=2)).err
    monkeypatch.setenv("ANYCARRIER_PUBLIC_URL", "https://voice.example.com")
    told = []

    async def configured(self: object, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        told.append(webhook_url)
        return SyncResult(ok=True, message="set")

    monkeypatch.setattr("anycarrier_twilio.TwilioProvider.configure_number", configured)
    await run(*register)
    assert told[0].startswith("https://voice.example.com/twilio/crd_")


async def test_doctor_works_on_the_database(run: Run) -> None:
    said = await run("doctor", "--direct")
    assert "ok  server   the database: ready" in said.out


# --- db upgrade -------------------------------------------------------------------------------------------------------


async def test_an_empty_database_is_brought_to_the_newest_schema_once(run: Run, data: Path) -> None:
    first = (await run("db", "upgrade", "--json")).json
    assert first["before"] is None and first["after"]
    assert (data / "anycarrier.db").is_file()
    assert f"is at {first['after']} already" in (await run("db", "upgrade")).out


async def test_a_database_url_is_told_without_its_password(run: Run, tmp_path: Path) -> None:
    said = await run("db", "upgrade", "--database", f"sqlite:///{tmp_path}/other.db")
    assert "other.db went from nothing" in said.out
    refused = await run("db", "upgrade", "--database", "mysql://me:s3cret@h/n", expect=2)
    assert "s3cret" not in refused.err and "postgresql" in refused.err


# --- rotate-key -------------------------------------------------------------------------------------------------------


async def test_one_command_changes_the_key_and_every_secret_still_opens(run: Run, data: Path) -> None:
    id_ = await a_credential(run)
    file = data / "master.key"
    old = file.read_text()
    said = (await run("rotate-key", "--json")).json
    assert said["rewrapped"] == 3, "the credential, the canary and the root beside it"
    new = file.read_text()
    assert old.strip() not in new and len(new.split()) == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await stored_secret(id_) == SECRET
    file.write_text(old)
    with pytest.raises(MasterKeyWrong):
        await stored_secret(id_)


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[Service]:
    """A server that says it lives, and with which key it seals."""
    service = await Service.open(Settings(), [])
    try:
        await service.reconciler.sign_of_life()
        yield service
    finally:
        await service.reconciler.stop()
        await service.close()


async def test_with_servers_running_it_takes_three_steps(run: Run, data: Path) -> None:
    id_ = await a_credential(run)
    async with server():
        refused = await run("rotate-key", expect=2)
        assert "rotate-key --add" in refused.err and len((data / "master.key").read_text().split()) == 1
        assert "Restart the servers" in (await run("rotate-key", "--add")).out
        assert "holds a new key already" in (await run("rotate-key", "--add", expect=2)).err
        # What is entered at a server that knows the old key only could never be opened again.
        assert "1 server process(es) still seal with the old key" in (await run("rotate-key", "--finish", expect=2)).err
        assert len((data / "master.key").read_text().split()) == 2
    assert await stored_secret(id_) == SECRET, "between the steps both keys open"
    async with server():
        await run("rotate-key", "--finish")
    assert len((data / "master.key").read_text().split()) == 1
    assert await stored_secret(id_) == SECRET


async def test_with_several_servers_the_last_step_waits_for_the_last_of_them(run: Run, data: Path) -> None:
    id_ = await a_credential(run)
    async with server() as old:
        await run("rotate-key", "--add")
        async with server() as first:
            await first.reconciler.sign_of_life()
            assert "1 server process(es)" in (await run("rotate-key", "--finish", expect=2)).err
            assert first.store.sealer.key_id == old.store.sealer.key_id
            await old.reconciler.stop()
            async with server() as second:
                # Each takes the new key into use at its next sign of life, and is waited for.
                for each in (first, second):
                    each.reconciler.start()
                assert "holds this key only" in (await run("rotate-key", "--finish")).out
    assert len((data / "master.key").read_text().split()) == 1
    assert await stored_secret(id_) == SECRET


async def test_steps_that_lie_apart_are_not_taken_together(run: Run) -> None:
    assert "give one of them" in (await run("rotate-key", "--add", "--finish", expect=2)).err


async def test_a_key_in_the_environment_is_rotated_by_its_owner(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    old = encryption.write_key(encryption.new_key())
    monkeypatch.setenv("ANYCARRIER_MASTER_KEY", old)
    id_ = await a_credential(run)
    assert "--generate" in (await run("rotate-key", expect=2)).err
    new = (await run("rotate-key", "--generate")).out.strip()
    assert len(encryption.read_keys(new)[0]) == encryption.KEY_BYTES
    monkeypatch.setenv("ANYCARRIER_MASTER_KEY", f"{new},{old}")
    assert "take the old keys out" in (await run("rotate-key", "--finish")).out
    monkeypatch.setenv("ANYCARRIER_MASTER_KEY", new)
    assert await stored_secret(id_) == SECRET


async def test_a_wrong_key_is_refused_before_anything_is_written(run: Run, data: Path) -> None:
    await a_credential(run)
    file = data / "master.key"
    encryption.write_keys(file, [encryption.new_key()])
    wrong = file.read_text()
    assert "sealed with master key" in (await run("rotate-key", expect=2)).err
    assert file.read_text() == wrong
