"""Keys, agents, credentials, lines: what belongs to whom, and what must be unique."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from tenants import AcmeCredential, Tenant, make_tenant

from linecard.credentials import Credential, CredentialSource
from linecard.errors import NumberAlreadyAssigned, NumberNotAssigned, UnknownCredential, UnknownProvider
from linecard.numbers import SyncResult
from linecard.registry import Line, NumberRegistry
from linecard.server.auth import authenticate, key_in
from linecard.server.refusals import InUse, Taken
from linecard.server.store import Store, parse_id, public_id
from linecard.server.store.credentials import CredentialIncomplete, DetailRefused

# --- ids ------------------------------------------------------------------------------------------------------------


def test_an_id_is_read_in_each_spelling_and_in_no_other(tenant: Tenant) -> None:
    id_ = tenant.agent.id
    for text in (public_id("agent", id_), str(id_), id_.hex):
        assert parse_id("agent", text) == id_
    for text in ("", "agt_", "agt_xyz", f"crd_{id_.hex}", f"{{{id_}}}", f"urn:uuid:{id_}", "-" * 32, "é" * 32):
        assert parse_id("agent", text) is None


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_a_key_opens_its_workspace_and_is_kept_as_a_hash(store: Store, tenant: Tenant) -> None:
    key, secret = await store.keys.create(tenant.workspace.id, "ops")
    assert secret.startswith(f"ApiKey_{key.id}_")
    caller = await authenticate(store, {"x-api-key": secret})
    assert caller is not None
    assert (caller.workspace_id, caller.admin) == (tenant.workspace.id, True)
    assert secret not in repr([getattr(key, column.key) for column in type(key).__table__.columns])
    assert key.last4 == secret[-4:]


@pytest.mark.parametrize(
    ("secret", "beginning", "end"),
    [
        ("local", "", ""),
        ("twelve-chars", "", "s"),
        ("sixteen-long-key", "", "ey"),
        ("k" * 31 + "abcd", "k" * 15, "abcd"),
    ],
)
async def test_of_a_short_key_little_is_shown(
    store: Store, tenant: Tenant, secret: str, beginning: str, end: str
) -> None:
    key, _ = await store.keys.create(tenant.workspace.id, "from settings", secret=secret)
    assert (key.display_prefix, key.last4) == (beginning, end)


async def test_an_agents_key_speaks_for_that_agent_only(store: Store, tenant: Tenant) -> None:
    other = await store.agents.create(tenant.workspace.id, name="Ben")
    _, secret = await store.keys.create(tenant.workspace.id, "a", agent_id=tenant.agent.id, style="oi_sk")
    caller = await authenticate(store, {"authorization": f"Bearer {secret}"})
    assert caller is not None
    assert not caller.admin
    assert caller.may_act_for(tenant.agent.id)
    assert not caller.may_act_for(other.id)
    assert not caller.may_act_for(None)


async def test_revoked_expired_and_unknown_keys_open_nothing(store: Store, tenant: Tenant) -> None:
    key, secret = await store.keys.create(tenant.workspace.id, "a")
    await store.keys.revoke(tenant.workspace.id, key.id)
    past = datetime.now(UTC) - timedelta(seconds=1)
    _, expired = await store.keys.create(tenant.workspace.id, "b", expires_at=past)
    for text in (secret, expired, "ApiKey_nothing", "", "x" * 10_000):
        assert await store.keys.authenticate(text) is None
    assert await authenticate(store, {}) is None


async def test_a_foreign_workspace_cannot_revoke_a_key(store: Store, tenant: Tenant) -> None:
    key, secret = await store.keys.create(tenant.workspace.id, "a")
    other = await store.workspaces.create("other")
    assert await store.keys.revoke(other.id, key.id) is None
    assert await store.keys.authenticate(secret) is not None


async def test_use_of_a_key_is_noted_but_not_on_every_request(store: Store, tenant: Tenant) -> None:
    _, secret = await store.keys.create(tenant.workspace.id, "a")
    start = datetime.now(UTC)
    seen = []
    for seconds in (0, 30, 61):
        await store.keys.authenticate(secret, at=start + timedelta(seconds=seconds))
        seen.append((await store.keys.list(tenant.workspace.id))[0].last_used_at)
    assert seen == [start, start, start + timedelta(seconds=61)]


async def test_the_admin_key_of_the_settings_is_made_once(store: Store, tenant: Tenant) -> None:
    first = await store.keys.ensure_admin(tenant.workspace.id, "a-fixed-key-of-some-length-000000")
    again = await store.keys.ensure_admin(tenant.workspace.id, "a-fixed-key-of-some-length-000000")
    assert first.id == again.id


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer  k "}, "k"),
        ({"authorization": "Basic k", "x-api-key": "a"}, "a"),
        ({"x-service-token": "s"}, "s"),
        ({"authorization": "Bearer "}, None),
        ({}, None),
    ],
)
def test_keys_are_read_from_the_headers_both_faces_use(headers: dict[str, str], key: str | None) -> None:
    assert key_in(headers) == key


# --- agents ---------------------------------------------------------------------------------------------------------


async def test_a_handle_is_unique_in_its_workspace_and_free_after_deletion(store: Store, tenant: Tenant) -> None:
    first = await store.agents.create(tenant.workspace.id, name="Bot", handle="bot")
    with pytest.raises(Taken):
        await store.agents.create(tenant.workspace.id, name="Bot", handle="bot")
    other = await store.workspaces.create("other")
    await store.agents.create(other.id, name="Bot", handle="bot")
    await store.agents.delete(first.id)
    again = await store.agents.create(tenant.workspace.id, name="Bot", handle="bot")
    found = await store.agents.by_handle(tenant.workspace.id, "@bot")
    assert found is not None
    assert found.id == again.id
    with pytest.raises(Taken):
        await store.agents.change(tenant.agent.id, handle="bot")


async def test_a_deleted_agent_is_gone_and_so_are_its_keys(store: Store, tenant: Tenant) -> None:
    agent = await store.agents.create(tenant.workspace.id, name="Ben")
    _, secret = await store.keys.create(tenant.workspace.id, "a", agent_id=agent.id)
    await store.agents.delete(agent.id)
    assert await store.agents.get(tenant.workspace.id, agent.id) is None
    assert await store.keys.authenticate(secret) is None
    assert agent.id not in [a.id for a in await store.agents.list(tenant.workspace.id)]


async def test_an_agent_of_another_workspace_is_not_there(store: Store, tenant: Tenant) -> None:
    other = await store.workspaces.create("other")
    assert await store.agents.get(other.id, tenant.agent.id) is None
    assert await store.agents.by_handle(other.id, tenant.agent.handle) is None
    assert await store.agents.list(other.id) == []
    assert (await store.agents.get(tenant.workspace.id, tenant.agent.id)) is not None


async def test_engines_of_another_workspace_are_neither_seen_nor_changed_nor_deleted(
    store: Store, tenant: Tenant
) -> None:
    other = await store.workspaces.create("other")
    secret = frozenset({"api_key"})
    await store.engines.put(tenant.workspace.id, "cloud", {"api_key": "ours-0123456789"}, secret)
    assert list(await store.engines.list(other.id)) == []
    assert not await store.engines.delete(other.id, "cloud")
    await store.engines.put(other.id, "cloud", {"api_key": "theirs-0123456789"}, secret)
    (ours,) = await store.engines.list(tenant.workspace.id)
    assert (store.engines.settings(ours), ours.shown) == ({"api_key": "ours-0123456789"}, {"api_key": "…6789"})


async def test_an_agent_with_a_line_cannot_be_deleted(store: Store, tenant: Tenant) -> None:
    with pytest.raises(InUse) as refused:
        await store.agents.delete(tenant.agent.id)
    assert refused.value.by == (tenant.line.public_id,)


async def test_unknown_fields_of_an_agent_are_refused(store: Store, tenant: Tenant) -> None:
    with pytest.raises(ValueError, match="workspace_id"):
        await store.agents.change(tenant.agent.id, workspace_id=tenant.agent.id)


# --- credentials ----------------------------------------------------------------------------------------------------


async def test_the_exchange_gets_the_carriers_own_credential(store: Store, tenant: Tenant) -> None:
    assert isinstance(store.credentials, CredentialSource)
    opened = await store.credentials.credential(tenant.credential.public_id)
    assert isinstance(opened, AcmeCredential)
    assert opened.api_key.get_secret_value() == "secret-0123456789"
    assert tenant.credential.account == "AC1"
    assert await store.credentials.credential(tenant.credential.public_id) is opened


@pytest.mark.parametrize("text", ["", "crd_nothing", "crd_" + "0" * 32, "../etc"])
async def test_an_unknown_credential_is_told(store: Store, text: str) -> None:
    with pytest.raises(UnknownCredential):
        await store.credentials.credential(text)


async def test_a_credential_that_lacks_something_is_kept_and_refused_at_use(store: Store, tenant: Tenant) -> None:
    row = await store.credentials.create(tenant.workspace.id, name="x", provider="acme", api_key="k" * 20)
    assert (row.status, row.missing) == ("incomplete", ["account_sid"])
    with pytest.raises(CredentialIncomplete) as refused:
        await store.credentials.credential(row.public_id)
    assert refused.value.missing == ["account_sid"]
    completed = await store.credentials.change(row, metadata={"account_sid": "AC9"})
    assert (completed.status, completed.missing, completed.account) == ("active", [], "AC9")
    assert (await store.credentials.credential(row.public_id)).account == "AC9"


async def test_a_credential_kept_before_its_carrier_looked_closely_is_refused_by_its_fields(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(provider: str, api_key: str, metadata: Mapping[str, Any]) -> Credential:
        return AcmeCredential(api_key=SecretStr(api_key), account_sid="AC\u200b1")

    monkeypatch.setattr(store.credentials, "_build", strict)
    with pytest.raises(CredentialIncomplete, match=r"acme account_sid cannot be right: character 3 is U\+200B") as told:
        await store.credentials.credential(tenant.credential.public_id)
    assert told.value.missing == ["account_sid"]


async def test_a_rotated_key_is_used_at_once(store: Store, tenant: Tenant) -> None:
    await store.credentials.credential(tenant.credential.public_id)
    await store.credentials.change(tenant.credential, api_key="another-0123456789", name="renamed")
    opened = await store.credentials.credential(tenant.credential.public_id)
    assert opened.secrets() == ("another-0123456789",)
    assert opened.account == "AC1"


async def test_a_client_cannot_say_where_requests_go(store: Store, tenant: Tenant) -> None:
    inside: dict[str, Any] = {"account_sid": "AC1", "base_url": "http://169.254.169.254"}
    with pytest.raises(DetailRefused):
        await store.credentials.create(
            tenant.workspace.id, name="x", provider="acme", api_key="k" * 20, metadata=inside
        )
    with pytest.raises(DetailRefused):
        await store.credentials.change(tenant.credential, metadata=inside)
    ours = await store.credentials.create(
        tenant.workspace.id, name="x", provider="acme", api_key="k" * 20, metadata=inside, trusted=True
    )
    await store.credentials.change(ours, metadata={"account_sid": "AC2"})
    opened = await store.credentials.credential(ours.public_id)
    assert isinstance(opened, AcmeCredential)
    assert (opened.base_url, opened.account) == ("http://169.254.169.254", "AC2")


async def test_an_unknown_carrier_is_refused(store: Store, tenant: Tenant) -> None:
    with pytest.raises(UnknownProvider):
        await store.credentials.create(tenant.workspace.id, name="x", provider="nobody", api_key="k")


async def test_a_credential_with_lines_cannot_be_deleted(store: Store, tenant: Tenant) -> None:
    with pytest.raises(InUse) as refused:
        await store.credentials.delete(tenant.credential)
    assert refused.value.by == (tenant.line.public_id,)
    await store.lines.release(tenant.line.id)
    await store.credentials.delete(tenant.credential)
    assert await store.credentials.get(tenant.workspace.id, tenant.credential.id) is None
    with pytest.raises(UnknownCredential):
        await store.credentials.credential(tenant.credential.public_id)


async def test_the_default_credential_comes_first(store: Store, tenant: Tenant) -> None:
    later = await store.credentials.create(
        tenant.workspace.id, name="d", provider="acme", api_key="k" * 20, metadata={"account_sid": "A"}, is_default=True
    )
    assert [row.id for row in await store.credentials.list(tenant.workspace.id)] == [later.id, tenant.credential.id]


# --- lines ----------------------------------------------------------------------------------------------------------


def line(tenant: Tenant, number: str = "+12125550100", **fields: Any) -> Line:
    return Line(
        **{
            "number": number,
            "agent_id": tenant.agent.public_id,
            "credential_id": tenant.credential.public_id,
            "provider": "acme",
            **fields,
        }
    )


async def test_a_line_assigned_by_the_exchange_is_the_one_the_faces_see(store: Store, tenant: Tenant) -> None:
    assert isinstance(store.lines, NumberRegistry)
    sync = SyncResult(ok=True, message="set", changed=("voice_url",), webhook_url="https://x.example/w")
    await store.lines.assign(line(tenant, "+12125550199", sync=sync))
    row = await store.lines.by_number("+12125550199", tenant.workspace.id)
    assert row is not None
    assert row.sync is not None
    assert (row.agent_id, row.sync["ok"]) == (tenant.agent.id, True)
    assert await store.lines.lookup("+12125550199") == line(tenant, "+12125550199", sync=sync)
    assert [one.number for one in await store.lines.lines()] == ["+12125550100", "+12125550199"]


async def test_assigning_again_changes_the_agent_and_keeps_the_row(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    await store.lines.assign(line(tenant, agent_id=ben.public_id))
    row = await store.lines.get(tenant.workspace.id, tenant.line.id)
    assert row is not None
    assert row.agent_id == ben.id


async def test_a_number_in_service_elsewhere_is_not_taken_over(store: Store, tenant: Tenant) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    with pytest.raises(NumberAlreadyAssigned):
        await store.lines.assign(line(other, tenant.line.number))
    with pytest.raises(Taken):
        await store.lines.create(other.credential, tenant.line.number)
    held = await store.lines.create(other.credential, tenant.line.number, status="inactive")
    with pytest.raises(Taken):
        await store.lines.change(held.id, status="active")
    assert (await store.lines.lookup(tenant.line.number)).credential_id == tenant.credential.public_id


async def test_of_many_registering_one_number_one_gets_it(store: Store, tenant: Tenant) -> None:
    results = await asyncio.gather(
        *(store.lines.create(tenant.credential, "+12125550142") for _ in range(10)), return_exceptions=True
    )
    assert sum(not isinstance(r, BaseException) for r in results) == 1
    assert all(isinstance(r, Taken) for r in results if isinstance(r, BaseException))


async def test_a_released_number_may_be_registered_by_anybody(store: Store, tenant: Tenant) -> None:
    await store.lines.unassign(tenant.line.number)
    with pytest.raises(NumberNotAssigned):
        await store.lines.lookup(tenant.line.number)
    with pytest.raises(NumberNotAssigned):
        await store.lines.unassign(tenant.line.number)
    assert await store.lines.get(tenant.workspace.id, tenant.line.id) is None
    other = await make_tenant(store, tenant.line.number, "other")
    assert (await store.lines.lookup(tenant.line.number)).agent_id == other.agent.public_id


async def test_a_line_without_an_agent_is_still_looked_up(store: Store, tenant: Tenant) -> None:
    await store.lines.change(tenant.line.id, agent_id=None)
    assert (await store.lines.lookup(tenant.line.number)).agent_id == ""


async def test_lines_of_another_workspace_are_not_there(store: Store, tenant: Tenant) -> None:
    other = await store.workspaces.create("other")
    assert await store.lines.get(other.id, tenant.line.id) is None
    assert await store.lines.by_number(tenant.line.number, other.id) is None
    assert list(await store.lines.list(other.id)) == []
    assert await store.lines.exists(tenant.line.id)
