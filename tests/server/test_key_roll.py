"""A new master key while several processes are up, with the old list of keys or the new one: nobody meets a secret,
a ticket or an address that it cannot open."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from anycarrier_server.domain import recordings_and_transcripts
from anycarrier_server.encryption import MasterKeyWrong, Sealer, key_id_of
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings
from anycarrier_server.store import claims, vault
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CredentialRow
from anycarrier_server.work import key_rotation
from anycarrier_server.work.key_rotation import AnnouncedKeys

OLD, NEW = b"o" * 32, b"n" * 32
OLD_ID, NEW_ID = Sealer([OLD]).key_id, Sealer([NEW]).key_id

Start = Callable[..., contextlib.AbstractAsyncContextManager[Service]]


@pytest.fixture
def start(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """``async with start(NEW, OLD) as service``: a process with these keys that has said that it lives."""
    for module in (claims, key_rotation):
        monkeypatch.setattr(module, "ALIVE_SECONDS", 600)  # it says so once, and the test may take a while

    @contextlib.asynccontextmanager
    async def started(*keys: bytes) -> AsyncIterator[Service]:
        service = await Service.open(
            Settings(
                data_dir=tmp_path,
                database=db.url.render_as_string(hide_password=False),
                master_key=SecretStr(",".join(base64.b64encode(key).decode() for key in keys)),
            ),
            [],
        )
        try:
            await service.reconciler.sign_of_life()
            yield service
        finally:
            await service.reconciler.stop()
            await service.close()

    return started


async def entered_at(service: Service) -> str:
    """A credential, entered here; its id."""
    workspace = await service.store.workspaces.first() or await service.store.workspaces.create("default")
    row = await service.store.credentials.create(
        workspace.id,
        name=uuid4().hex,
        provider="twilio",
        api_key=SecretStr("secret-0123456789"),
        metadata={"account_sid": f"AC{uuid4().hex}"},
    )
    return row.public_id


async def read_at(service: Service, credential_id: str) -> str:
    return (await service.store.credentials.credential(credential_id)).secrets()[0]


async def keys_in_use(db: Database) -> set[str]:
    async with db.read() as session:
        return {key_id_of(sealed) for sealed in await session.scalars(select(CredentialRow.sealed))}


async def test_tickets_and_addresses_hold_at_processes_with_other_keys(start: Start) -> None:
    async with start(OLD) as first, start(NEW, OLD) as second:
        for mint, redeem in ((first, second), (second, first)):
            ticket = mint.exchange.switchboard.tickets.issue(
                provider="twilio", credential_id="crd_1", reference="r", call_id="CA1", agent_id="a", ttl=60
            )
            assert (await redeem.exchange.switchboard.tickets.redeem(ticket)).call_id == "CA1"
            call, at = uuid4(), 1_800_000_000.0
            assert recordings_and_transcripts.signed_url(mint, call, at=at) == recordings_and_transcripts.signed_url(
                redeem, call, at=at
            )
    async with start(NEW, OLD) as alone:
        assert recordings_and_transcripts.signed_url(alone, call, at=at) == recordings_and_transcripts.signed_url(
            first, call, at=at
        )


async def test_the_new_key_is_taken_into_use_when_all_have_it(start: Start, db: Database) -> None:
    async with start(OLD) as stale, start(NEW, OLD) as first:
        await first.reconciler.sign_of_life()
        made = [await entered_at(stale), await entered_at(first)]
        assert await keys_in_use(db) == {OLD_ID}
        for service in (stale, first):
            assert [await read_at(service, each) for each in made] == ["secret-0123456789"] * 2
        assert stale.store.owner in (await AnnouncedKeys.read(db)).in_the_way_of(NEW_ID)
        await stale.reconciler.stop()
        async with start(NEW, OLD) as second:  # the same one restarted, with both
            await first.reconciler.sign_of_life()
            # What first began to seal a moment ago may not be in the database yet.
            assert (await AnnouncedKeys.read(db)).in_the_way_of(NEW_ID) == {first.store.owner}
            await first.reconciler.sign_of_life()
            assert (await AnnouncedKeys.read(db)).in_the_way_of(NEW_ID) == set()
            made += [await entered_at(first), await entered_at(second)]
            assert await keys_in_use(db) == {OLD_ID, NEW_ID}
            await vault.rewrap(db, Sealer([NEW, OLD]))
            made.append(await entered_at(first))
            assert await keys_in_use(db) == {NEW_ID}
            async with start(NEW) as third:  # the old one is taken out
                await first.reconciler.sign_of_life()
                made.append(await entered_at(third))
                for service in (first, second, third):
                    assert service.store.sealer.key_id == NEW_ID
                    assert [await read_at(service, each) for each in made] == ["secret-0123456789"] * 6


async def test_who_lacks_the_key_in_use_is_not_started(start: Start) -> None:
    async with start(NEW, OLD) as first:
        await first.reconciler.sign_of_life()
        assert first.store.sealer.key_id == NEW_ID
        with pytest.raises(MasterKeyWrong, match=NEW_ID):
            async with start(OLD):
                pass
        await first.reconciler.sign_of_life()
        assert first.store.sealer.key_id == NEW_ID, "who was not started holds nobody up"


async def test_a_process_of_an_older_version_does_not_say_what_it_opens_and_is_waited_for(start: Start) -> None:
    async with start(OLD) as old_version:
        await old_version.store.claims.drop(f"opens:{OLD_ID}:{old_version.store.owner}")
        async with start(NEW, OLD) as second:
            await second.reconciler.sign_of_life()
            assert second.store.sealer.key_id == OLD_ID


async def test_a_process_with_one_key_asks_nobody(start: Start, db: Database) -> None:
    async with start(OLD) as only:
        await only.reconciler.sign_of_life()
        said = await AnnouncedKeys.read(db)
        assert said.sealing == said.opens == {OLD_ID: {only.store.owner}} and said.live == {only.store.owner}
    assert await AnnouncedKeys.read(db) == AnnouncedKeys(), "who stops holds nobody up"
