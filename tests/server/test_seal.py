"""Secrets at rest: only the right key, on the right row, opens them; and a wrong key is told at start."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import LargeBinary, select, text, update
from tenants import Tenant, build_acme

from anycarrier.errors import ConfigurationError
from anycarrier_server.encryption import (
    MasterKeyWrong,
    SealBroken,
    Sealer,
    derive,
    keys_from_file,
    read_keys,
    write_keys,
)
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store, sealer_of, vault
from anycarrier_server.store.columns import Table
from anycarrier_server.store.credentials import Credentials
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Canary, CredentialRow
from anycarrier_server.store.webhooks import Webhooks

OLD, NEW = b"o" * 32, b"n" * 32


@given(st.text(), st.text())
def test_what_is_sealed_opens_again(secret: str, bound: str) -> None:
    sealer = Sealer([OLD])
    assert sealer.open(sealer.seal(secret, bound), bound) == secret


def test_the_secret_is_not_in_the_blob_and_no_two_blobs_are_alike() -> None:
    sealer = Sealer([OLD])
    one, two = sealer.seal("topsecret", "a"), sealer.seal("topsecret", "a")
    assert b"topsecret" not in one
    assert one[9:] != two[9:]


def test_a_blob_moved_to_another_row_does_not_open() -> None:
    sealer = Sealer([OLD])
    with pytest.raises(SealBroken):
        sealer.open(sealer.seal("s", "credentials.sealed:1"), "credentials.sealed:2")


@given(st.integers(min_value=0, max_value=196))
def test_a_changed_byte_anywhere_is_noticed(position: int) -> None:
    sealer = Sealer([OLD])
    blob = bytearray(sealer.seal("s" * 100, "a"))
    blob[position] ^= 1
    with pytest.raises((SealBroken, MasterKeyWrong)):
        sealer.open(bytes(blob), "a")


def test_half_a_blob_is_refused() -> None:
    sealer = Sealer([OLD])
    blob = sealer.seal("s", "a")
    for cut in (0, 1, 9, 50, len(blob) - 1):
        with pytest.raises(SealBroken):
            sealer.open(blob[:cut], "a")


def test_another_key_is_named_and_nothing_is_opened() -> None:
    blob = Sealer([OLD]).seal("s", "a")
    with pytest.raises(MasterKeyWrong, match=Sealer([OLD]).key_id):
        Sealer([NEW]).open(blob, "a")


def test_rewrapping_changes_the_key_and_not_the_ciphertext() -> None:
    blob = Sealer([OLD]).seal("s", "a")
    changed = Sealer([NEW, OLD]).rewrap(blob, "a")
    assert Sealer([NEW]).open(changed, "a") == "s"
    assert changed[-17:] == blob[-17:]
    assert Sealer([NEW, OLD]).rewrap(changed, "a") == changed


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 33])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        Sealer([key])


def test_keys_derived_for_different_uses_differ_and_are_stable() -> None:
    assert derive(OLD, "tickets") == derive(OLD, "tickets")
    assert derive(OLD, "tickets") != derive(OLD, "cookies")
    assert derive(OLD, "tickets") != derive(NEW, "tickets")
    assert OLD not in derive(OLD, "tickets")


def test_a_missing_key_file_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    keys = keys_from_file(path)
    assert len(keys[0]) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys_from_file(path) == keys
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_file_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    keys_from_file(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        keys_from_file(path)


def test_a_rewritten_key_file_holds_all_keys_in_order(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    write_keys(path, [NEW, OLD])
    assert keys_from_file(path) == [NEW, OLD]


def test_what_is_not_base64_is_not_a_key() -> None:
    with pytest.raises(ConfigurationError, match="base64"):
        read_keys("not a key!")


def test_the_key_from_settings_wins_over_the_file(tmp_path: Path) -> None:
    import base64

    settings = Settings(data_dir=tmp_path, master_key=SecretStr(base64.b64encode(NEW).decode()))
    assert sealer_of(settings).key_id == Sealer([NEW]).key_id
    assert not (tmp_path / "master.key").exists()


async def test_a_store_opened_with_another_key_refuses_to_start(db: Database) -> None:
    await vault.prove(db, Sealer([OLD]))
    await vault.prove(db, Sealer([OLD]))
    with pytest.raises(MasterKeyWrong, match="ANYCARRIER_MASTER_KEY"):
        await vault.prove(db, Sealer([NEW]))


async def test_processes_starting_together_agree_on_the_canary(db: Database) -> None:
    proven = await asyncio.gather(*(vault.prove(db, Sealer([OLD])) for _ in range(8)))
    assert len({each.root for each in proven}) == 1 and len(proven[0].root) == 32


async def test_a_store_of_before_gets_a_root_under_the_key_it_is_under_and_keeps_it(db: Database) -> None:
    await vault.prove(db, Sealer([OLD]))
    async with db.write() as session:
        await session.execute(update(Canary).values(root=None))
    # The newer key first, as while keys change: who knows the old one only must open what was made.
    made, *others = await asyncio.gather(*(vault.prove(db, Sealer(keys)) for keys in ([NEW, OLD], [OLD], [OLD, NEW])))
    assert {each.root for each in others} == {made.root}
    assert made.key_id == Sealer([OLD]).key_id
    assert made.root.hex() not in repr(made) and repr(made.root) not in repr(made)
    assert await vault.rewrap(db, Sealer([NEW, OLD])) == 2
    assert (await vault.prove(db, Sealer([NEW]))).root == made.root


def test_a_sealer_seals_with_the_key_it_is_told_and_opens_with_all() -> None:
    both, old = Sealer([NEW, OLD]), Sealer([OLD])
    assert both.key_ids == (Sealer([NEW]).key_id, old.key_id)
    assert old.open(both.seal("s", "a", key_id=old.key_id), "a") == "s"
    both.seal_with(old.key_id)
    assert both.key_id == old.key_id and old.open(both.seal("s", "a"), "a") == "s"
    assert both.open(Sealer([NEW]).seal("s", "a"), "a") == "s"
    with pytest.raises(MasterKeyWrong):
        old.seal_with(both.key_ids[0])


def test_every_sealed_column_of_the_models_is_rewrapped() -> None:
    known = {(table.__tablename__, column.key) for table, column in vault.SEALED} | {
        ("canary", "sealed"),
        ("canary", "root"),
    }
    blobs = {
        (table.name, column.name)
        for table in Table.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert blobs == known


async def test_rotation_rewraps_all_and_the_old_key_may_go(store: Store, tenant: Tenant) -> None:
    made = await store.webhooks.create(
        tenant.workspace.id, face="oneinbox", url="https://a.example/", events=[], secret="whs", auth_token="tok"
    )
    text_, _ = await store.webhooks.rotate_signing_key(tenant.workspace.id, tenant.agent.id)
    await vault.prove(store.db, store.sealer)
    old = b"k" * 32  # the fixture's
    assert await vault.rewrap(store.db, Sealer([NEW, old])) == 6
    assert await vault.rewrap(store.db, Sealer([NEW, old])) == 0
    only_new = Sealer([NEW])
    await vault.prove(store.db, only_new)
    opened = await Credentials(store.db, only_new, build_acme).credential(tenant.credential.public_id)
    assert opened.secrets() == ("secret-0123456789",)
    webhooks = Webhooks(store.db, only_new)
    again = await webhooks.get(tenant.workspace.id, made.id)
    assert again is not None
    assert (webhooks.secret(again), webhooks.auth_token(again)) == ("whs", "tok")
    assert await webhooks.signing_key(tenant.workspace.id, tenant.agent.id) == text_


async def test_a_secret_is_nowhere_in_the_database_in_clear(store: Store, tenant: Tenant) -> None:
    async with store.db.read() as session:
        row = (await session.execute(select(CredentialRow))).scalar_one()
        everything = repr([getattr(row, column.key) for column in CredentialRow.__table__.columns])
    assert "secret-0123456789" not in everything
    assert b"secret-0123456789" not in row.sealed
    assert row.masked_key == "…6789"


async def test_a_credential_copied_to_another_row_does_not_open(store: Store, tenant: Tenant) -> None:
    other = await store.credentials.create(
        tenant.workspace.id,
        name="b",
        provider="acme",
        api_key=SecretStr("other-0123456789"),
        metadata={"account_sid": "AC2"},
    )
    async with store.db.write() as session:
        await session.execute(
            update(CredentialRow).where(CredentialRow.id == other.id).values(sealed=tenant.credential.sealed)
        )
    with pytest.raises(SealBroken):
        await store.credentials.credential(other.public_id)


async def test_a_deleted_credential_leaves_no_secret(store: Store, tenant: Tenant) -> None:
    await store.lines.release(tenant.line.id)
    await store.credentials.delete(tenant.credential)
    async with store.db.read() as session:
        assert await session.scalar(text("SELECT length(sealed) FROM credentials")) == 0
