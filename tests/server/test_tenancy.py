"""Keys, agents, credentials, lines: what belongs to whom, and what must be unique."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from tenants import AcmeCredential, Tenant, build_acme, make_tenant

from anycarrier.credentials import Credential, CredentialSource
from anycarrier.errors import NumberAlreadyAssigned, NumberNotAssigned, UnknownCredential, UnknownProvider
from anycarrier.numbers import SyncResult
from anycarrier.routing import Line, NumberRegistry
from anycarrier_server.domain.access import authenticate, key_in
from anycarrier_server.refusals import InUse, Taken
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store, credentials, parse_id, public_id
from anycarrier_server.store.agents import SpeechUse, handle_from
from anycarrier_server.store.credentials import (
    Carriers,
    CredentialIncomplete,
    CredentialMalformed,
    Credentials,
    DetailRefused,
    masked,
)
from anycarrier_server.store.models import CredentialRow, LineRow

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
    row = await store.credentials.create(tenant.workspace.id, name="x", provider="acme", api_key=SecretStr("k" * 20))
    assert (row.status, row.missing) == ("incomplete", ["account_sid"])
    with pytest.raises(CredentialIncomplete) as refused:
        await store.credentials.credential(row.public_id)
    assert refused.value.missing == ["account_sid"]
    completed = await store.credentials.change(row, metadata={"account_sid": "AC9"})
    assert (completed.status, completed.missing, completed.account) == ("active", [], "AC9")
    assert (await store.credentials.credential(row.public_id)).account == "AC9"


async def test_a_credential_that_cannot_be_right_is_not_kept_nor_is_such_a_change(store: Store, tenant: Tenant) -> None:
    wrong = {"account_sid": "AC\u200b1"}
    key = SecretStr("k" * 20)
    with pytest.raises(CredentialMalformed, match=r"acme account_sid cannot be right") as refused:
        await store.credentials.create(tenant.workspace.id, name="x", provider="acme", api_key=key, metadata=wrong)
    assert "k" * 20 not in str(refused.value)
    with pytest.raises(CredentialMalformed):
        await store.credentials.change(tenant.credential, name="renamed", metadata=wrong)
    (row,) = await store.credentials.list(tenant.workspace.id)
    assert (row.name, row.status, row.account) == ("carrier", "active", "AC1")


async def test_a_credential_kept_before_its_carrier_looked_closely_is_refused_by_its_fields(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(provider: str, api_key: SecretStr, metadata: Mapping[str, Any]) -> Credential:
        return AcmeCredential(api_key=api_key, account_sid="AC\u200b1")

    monkeypatch.setattr(store.credentials, "_build", strict)
    with pytest.raises(CredentialIncomplete, match=r"acme account_sid cannot be right: character 3 is U\+200B") as told:
        await store.credentials.credential(tenant.credential.public_id)
    assert told.value.missing == ["account_sid"]

    def needs_more(provider: str, api_key: SecretStr, metadata: Mapping[str, Any]) -> Credential:
        return AcmeCredential(api_key=api_key)

    monkeypatch.setattr(store.credentials, "_build", needs_more)
    with pytest.raises(CredentialIncomplete, match=r"cannot be used: account_sid: Field required. Correct it first"):
        await store.credentials.credential(tenant.credential.public_id)


async def test_a_rotated_key_is_used_at_once(store: Store, tenant: Tenant) -> None:
    await store.credentials.credential(tenant.credential.public_id)
    await store.credentials.change(tenant.credential, api_key=SecretStr("another-0123456789"), name="renamed")
    opened = await store.credentials.credential(tenant.credential.public_id)
    assert opened.secrets() == ("another-0123456789",)
    assert opened.account == "AC1"


async def test_a_client_cannot_say_where_requests_go(store: Store, tenant: Tenant) -> None:
    inside: dict[str, Any] = {"account_sid": "AC1", "base_url": "http://169.254.169.254"}
    with pytest.raises(DetailRefused):
        await store.credentials.create(
            tenant.workspace.id, name="x", provider="acme", api_key=SecretStr("k" * 20), metadata=inside
        )
    with pytest.raises(DetailRefused):
        await store.credentials.change(tenant.credential, metadata=inside)
    ours = await store.credentials.create(
        tenant.workspace.id, name="x", provider="acme", api_key=SecretStr("k" * 20), metadata=inside, trusted=True
    )
    await store.credentials.change(ours, metadata={"account_sid": "AC2"})
    opened = await store.credentials.credential(ours.public_id)
    assert isinstance(opened, AcmeCredential)
    assert (opened.base_url, opened.account) == ("http://169.254.169.254", "AC2")


async def test_a_client_may_name_a_server_of_the_operators(store: Store, tenant: Tenant) -> None:
    served = Credentials(store.db, store.sealer, build_acme, base_urls=["http://pbx.example:8088"])
    key, where = SecretStr("k" * 20), {"account_sid": "AC1", "base_url": " http://pbx.example:8088/ "}
    row = await served.create(tenant.workspace.id, name="x", provider="acme", api_key=key, metadata=where)
    opened = await served.credential(row.public_id)
    assert isinstance(opened, AcmeCredential) and opened.base_url == "http://pbx.example:8088"
    here = "http://pbx.example:8088"
    for other in ("http://pbx.example:8089", f"{here}@evil.example", f"{here}/admin", None):
        with pytest.raises(DetailRefused, match=r"the operator names servers .* setting base_urls"):
            await served.change(row, metadata={"base_url": other})
    moved = await served.change(tenant.credential, metadata={"base_url": "http://pbx.example:8088"})
    assert served.held(moved)[1]["base_url"] == "http://pbx.example:8088"


async def test_a_credential_that_nobody_could_complete_is_refused_at_once(store: Store, tenant: Tenant) -> None:
    """It needs an address, which a client may not give."""
    store = Credentials(store.db, store.sealer, Carriers().build)
    with pytest.raises(DetailRefused, match=r"asterisk needs base_url; .* setting base_urls, and has named none"):
        await store.create(
            tenant.workspace.id, name="x", provider="asterisk", api_key=SecretStr("a-password"),
            metadata={"username": "us", "endpoint": "PJSIP/{number}@trunk"},
        )  # fmt: skip
    assert not [row for row in await store.list(tenant.workspace.id) if row.provider == "asterisk"]


async def test_a_misspelt_detail_is_refused_when_it_is_changed_and_may_be_removed(store: Store, tenant: Tenant) -> None:
    kept = Credentials(store.db, store.sealer, Carriers().build)
    row = await kept.create(tenant.workspace.id, name="x", provider="plivo", api_key=SecretStr("a" * 40))
    assert (row.status, row.missing) == ("incomplete", ["auth_id"])
    with pytest.raises(DetailRefused, match=r"metadata.authid .* did you mean auth_id\?"):
        await kept.change(row, metadata={"authid": "MA" + "X" * 18})
    row = await kept.change(row, metadata={"authid": None, "auth_id": "MA" + "X" * 18, "note": "free"})
    assert (row.status, kept.held(row)[1]) == ("active", {"auth_id": "MA" + "X" * 18, "note": "free"})


async def test_an_unknown_carrier_is_refused(store: Store, tenant: Tenant) -> None:
    with pytest.raises(UnknownProvider):
        await store.credentials.create(tenant.workspace.id, name="x", provider="nobody", api_key=SecretStr("k"))


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
        tenant.workspace.id,
        name="d",
        provider="acme",
        api_key=SecretStr("k" * 20),
        metadata={"account_sid": "A"},
        is_default=True,
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


# --- each field and each condition ----------------------------------------------------------------------------------


async def test_a_key_is_kept_with_what_was_said_of_it(store: Store, tenant: Tenant) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    key, secret = await store.keys.create(
        tenant.workspace.id, "ci", agent_id=tenant.agent.id, description="the build", created_by="ben",
        creator_type="agent", style="oi_sk", expires_at=until,
    )  # fmt: skip
    (kept,) = await store.keys.list(tenant.workspace.id)
    assert (kept.id, kept.label, kept.agent_id, kept.description) == (key.id, "ci", tenant.agent.id, "the build")
    assert (kept.created_by, kept.creator_type, kept.expires_at) == ("ben", "agent", until)
    assert secret.startswith("oi_sk_") and len(secret) > 40
    assert kept.display_prefix == secret[:10] and kept.hash == hashlib.sha256(secret.encode()).hexdigest()
    plain, other = await store.keys.create(tenant.workspace.id, "ops")
    assert (plain.created_by, plain.creator_type, plain.description) == ("", "human", None)
    assert plain.display_prefix == other[:15] and plain.agent_id is None and plain.expires_at is None


async def test_a_key_ends_at_its_hour_and_not_before(store: Store, tenant: Tenant) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    _, secret = await store.keys.create(tenant.workspace.id, "a", expires_at=until)
    assert await store.keys.authenticate(secret, at=until - timedelta(seconds=1)) is not None
    assert await store.keys.authenticate(secret, at=until) is None


async def test_a_key_that_was_ended_stays_ended_as_of_then_and_is_still_listed(store: Store, tenant: Tenant) -> None:
    first, _ = await store.keys.create(tenant.workspace.id, "a")
    second, secret = await store.keys.create(tenant.workspace.id, "b")
    ended = await store.keys.revoke(tenant.workspace.id, first.id)
    assert ended is not None and ended.revoked_at is not None
    again = await store.keys.revoke(tenant.workspace.id, first.id)
    assert again is not None and again.revoked_at == ended.revoked_at
    assert await store.keys.revoke(tenant.workspace.id, None) is None
    assert [key.id for key in await store.keys.list(tenant.workspace.id)] == [second.id, first.id]
    assert await store.keys.authenticate(secret) is not None


async def test_all_keys_of_an_agent_end_and_nobody_elses(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    theirs = [(await store.keys.create(tenant.workspace.id, "a", agent_id=ben.id))[1] for _ in range(2)]
    _, ours = await store.keys.create(tenant.workspace.id, "b", agent_id=tenant.agent.id)
    _, admin = await store.keys.create(tenant.workspace.id, "c")
    before, secret = await store.keys.create(tenant.workspace.id, "d", agent_id=ben.id)
    ended = await store.keys.revoke(tenant.workspace.id, before.id)
    assert before.agent_id == ben.id and ended is not None
    await store.agents.delete(ben.id)
    assert [await store.keys.authenticate(each) for each in (*theirs, secret)] == [None, None, None]
    assert await store.keys.authenticate(ours) is not None and await store.keys.authenticate(admin) is not None
    after = {key.id: key.revoked_at for key in await store.keys.list(tenant.workspace.id)}
    assert after[before.id] == ended.revoked_at, "one ended before stays as of then"


async def test_the_admin_key_of_the_settings_is_no_agents_and_says_where_it_is_from(
    store: Store, tenant: Tenant
) -> None:
    secret = "a-fixed-key-of-some-length-000000"
    made = await store.keys.ensure_admin(tenant.workspace.id, secret)
    assert (made.agent_id, made.created_by, made.label) == (None, "settings", "admin key from settings")
    found = await store.keys.authenticate(secret)
    assert found is not None and (found.id, found.workspace_id) == (made.id, tenant.workspace.id)
    other = await store.keys.ensure_admin(tenant.workspace.id, secret + "1")
    assert other.id != made.id


async def test_handles_are_made_from_names_and_none_is_taken_twice(store: Store, tenant: Tenant) -> None:
    names = {"Sales Line": "sales-line", " Ünder & Co. ": "nder-co", "日本": "agent", "x" * 50: "x" * 40}
    for name, handle in names.items():
        assert handle_from(name) == handle
        made = await store.agents.create(tenant.workspace.id, name=name)
        assert made.handle == f"{handle}-{made.id.hex[:6]}" and made.name == name
    await store.agents.create(tenant.workspace.id, name="Bot", handle="bot")
    with pytest.raises(Taken, match="bot"):
        await store.agents.create(tenant.workspace.id, name="Bot", handle="bot")
    with pytest.raises(ValueError, match="color, weight"):
        await store.agents.create(tenant.workspace.id, name="Bot", weight=1, color=2, description="")


async def test_an_agent_is_found_deleted_or_not_by_our_own_processes_only(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben", handle="ben", description="d")
    assert [agent.id for agent in await store.agents.list(tenant.workspace.id)] == [tenant.agent.id, ben.id]
    before = ben.updated_at
    changed = await store.agents.change(ben.id, name="Benjamin", settings={"a": 1})
    assert (changed.id, changed.name, changed.description, changed.settings) == (ben.id, "Benjamin", "d", {"a": 1})
    assert changed.updated_at > before
    kept = await store.agents.get(tenant.workspace.id, tenant.agent.id)
    assert kept is not None and kept.name == "Aria"
    assert await store.agents.find(None) is None and await store.agents.get(tenant.workspace.id, None) is None
    await store.agents.delete(ben.id)
    gone = await store.agents.find(ben.id)
    assert gone is not None and gone.deleted_at is not None
    assert await store.agents.by_handle(tenant.workspace.id, "ben") is None
    assert [agent.id for agent in await store.agents.list(tenant.workspace.id)] == [tenant.agent.id]


async def test_agents_that_use_speech_alike_are_counted_together_and_the_deleted_not_at_all(store: Store) -> None:
    tenant = await make_tenant(store, "+12125550155", "speaking")
    of, voiced = tenant.workspace.id, {"synthesizer": "espeak", "recognizer": "vosk", "first_message": "Hello"}
    for name in ("a", "b"):
        await store.agents.create(of, name=name, settings=voiced)
    await store.agents.create(of, name="c", settings={**voiced, "first_message": ""}, handler="app:agent")
    await store.agents.create(of, name="d", settings={"fallback_synthesizer": "x"}, websocket_url="wss://a.example/")
    gone = await store.agents.create(of, name="e", settings=voiced)
    await store.agents.delete(gone.id)
    form = {"language": "de", "phrases": ["yes"], "grammar": "#JSGF V1.0; ..."}
    for settings in (form, {**form, "phrases": ["no", "yes"]}, {"phrases": [], "grammar": None}):
        await store.agents.create(of, name="f", settings=settings)
    named = {"synthesizer": "espeak", "recognizer": "vosk"}
    found = list(await store.agents.speech())
    expected = [
        SpeechUse(2, of, None, False, {**named, "first_message": "."}),
        SpeechUse(2, of, None, False, {}),
        SpeechUse(1, of, None, True, {"fallback_synthesizer": "x"}),
        SpeechUse(1, of, "app:agent", False, named),
        SpeechUse(2, of, None, False, {"language": "de", "grammar": ".", "phrases": (".",)}),
    ]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


async def test_an_agent_is_free_once_its_line_is_released(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    await store.agents.delete(ben.id)  # another's line holds nobody
    await store.lines.release(tenant.line.id)
    await store.agents.delete(tenant.agent.id)
    assert await store.agents.get(tenant.workspace.id, tenant.agent.id) is None


async def test_a_credentials_details_are_merged_and_its_key_stays_masked(store: Store, tenant: Tenant) -> None:
    create, change = store.credentials.create, store.credentials.change
    said = {"account_sid": " AC5 ", "base_url": "https://a.example"}
    row = await create(
        tenant.workspace.id,
        name="x",
        provider="acme",
        api_key=SecretStr(" key-0123456789 "),
        metadata=said,
        trusted=True,
    )
    assert (row.name, row.provider, row.workspace_id, row.is_default) == ("x", "acme", tenant.workspace.id, False)
    assert (row.masked_key, row.account, row.status, row.missing) == ("…6789", "AC5", "active", [])
    assert store.credentials.held(row) == (
        SecretStr("key-0123456789"),
        {"account_sid": "AC5", "base_url": "https://a.example"},
    )
    renamed = await change(row, name="y")
    assert (renamed.name, renamed.version) == ("y", row.version) and renamed.updated_at > row.updated_at
    merged = await change(row, metadata={"base_url": None, "account_sid": "AC6"}, trusted=True)
    assert store.credentials.held(merged) == (SecretStr("key-0123456789"), {"account_sid": "AC6"})
    assert (merged.name, merged.version) == ("y", row.version + 1)
    rekeyed = await change(row, api_key=SecretStr("another-abcdefgh"))
    assert store.credentials.held(rekeyed) == (SecretStr("another-abcdefgh"), {"account_sid": "AC6"})
    assert (rekeyed.masked_key, rekeyed.version) == ("…efgh", row.version + 2)
    lacking = await change(row, metadata={"account_sid": None})
    assert (lacking.status, lacking.missing, lacking.account) == ("incomplete", ["account_sid"], None)
    untouched = await store.credentials.get(tenant.workspace.id, tenant.credential.id)
    assert untouched is not None and (untouched.name, untouched.version) == ("carrier", tenant.credential.version)
    assert masked("eleven-char") == "…" and masked("twelve-chars") == "…hars"


async def test_a_credential_that_is_deleted_forgets_its_secret_and_cannot_be_changed(
    store: Store, tenant: Tenant
) -> None:
    row = await store.credentials.create(
        tenant.workspace.id, name="x", provider="acme", api_key=SecretStr("k" * 20), metadata={"account_sid": "AC5"}
    )
    await store.credentials.credential(row.public_id)
    await store.credentials.delete(row)  # the lines of another credential hold it not
    with pytest.raises(UnknownCredential, match=row.public_id):
        await store.credentials.change(row, name="y")
    with pytest.raises(UnknownCredential, match=row.public_id):
        await store.credentials.credential(row.public_id)
    async with store.db.read() as session:
        gone = await session.get(CredentialRow, row.id)
    assert gone is not None and (gone.sealed, gone.status, gone.deleted_at is None) == (b"", "deleted", False)
    assert [one.id for one in await store.credentials.list(tenant.workspace.id)] == [tenant.credential.id]
    assert (await store.credentials.credential(tenant.credential.public_id)).account == "AC1"


async def test_credentials_are_listed_by_carrier_and_the_oldest_first(store: Store, tenant: Tenant) -> None:
    second = await store.credentials.create(tenant.workspace.id, name="b", provider="acme", api_key=SecretStr("k" * 20))
    listed = store.credentials.list
    assert [row.id for row in await listed(tenant.workspace.id)] == [tenant.credential.id, second.id]
    assert [row.id for row in await listed(tenant.workspace.id, provider="acme")] == [tenant.credential.id, second.id]
    assert await listed(tenant.workspace.id, provider="other") == []
    assert await store.credentials.get(tenant.workspace.id, None) is None


async def test_a_credential_is_looked_at_again_after_a_second_and_opened_again_when_it_has_changed(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store(store.db, store.sealer, Settings(), root=b"r" * 32, build=build_acme)
    id_, now = tenant.credential.public_id, time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(credentials, "time", clock)
    first = await store.credentials.credential(id_)
    await other.credentials.change(tenant.credential, metadata={"account_sid": "AC2"})
    assert await store.credentials.credential(id_) is first, "used without another look"
    now += credentials.FRESH + 0.01
    second = await store.credentials.credential(id_)
    assert second.account == "AC2"
    now += 10 * credentials.FRESH
    assert await store.credentials.credential(id_) is second, "it is not built anew without need"


async def test_a_line_is_kept_with_its_credentials_workspace_and_carrier(store: Store, tenant: Tenant) -> None:
    made = await store.lines.create(
        tenant.credential, "+12125550160", agent_id=tenant.agent.id, friendly_name="desk", status="inactive"
    )
    kept = await store.lines.get(tenant.workspace.id, made.id)
    assert kept is not None
    assert (kept.workspace_id, kept.credential_id, kept.provider) == (tenant.workspace.id, tenant.credential.id, "acme")
    assert (kept.number, kept.friendly_name, kept.status) == ("+12125550160", "desk", "inactive")
    with pytest.raises(NumberNotAssigned, match="60"):
        await store.lines.lookup("+12125550160")
    assert [one.number for one in await store.lines.lines()] == [tenant.line.number], "in service only"
    with pytest.raises(NumberNotAssigned):
        await store.lines.unassign("+12125550160")
    with pytest.raises(ValueError, match="not fields of a line: color, weight"):
        await store.lines.create(tenant.credential, "+1", weight=1, color=1, agent_id=None)
    with pytest.raises(ValueError, match="not fields of a line: color, weight"):
        await store.lines.change(made.id, weight=1, color=1)
    with pytest.raises(Taken, match="number"):
        await store.lines.create(tenant.credential, "+12125550160")
    before = kept.updated_at
    changed = await store.lines.change(made.id, friendly_name="front")
    assert (changed.id, changed.friendly_name) == (made.id, "front") and changed.updated_at > before
    other = await store.lines.get(tenant.workspace.id, tenant.line.id)
    assert other is not None and other.friendly_name != "front"


async def test_lines_are_listed_by_agent_and_credential_the_oldest_first(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    account = await store.credentials.create(
        tenant.workspace.id, name="b", provider="acme", api_key=SecretStr("k" * 20), metadata={"account_sid": "AC2"}
    )
    second = await store.lines.create(tenant.credential, "+12125550161", agent_id=ben.id)
    third = await store.lines.create(account, "+12125550162", agent_id=ben.id)
    gone = await store.lines.create(account, "+12125550163", agent_id=ben.id)
    await store.lines.release(gone.id)

    async def listed(**asked: Any) -> list[Any]:
        return [one.id for one in await store.lines.list(tenant.workspace.id, **asked)]

    assert await listed() == [tenant.line.id, second.id, third.id]
    assert await listed(agent_id=ben.id) == [second.id, third.id]
    assert await listed(credential_id=tenant.credential.id) == [tenant.line.id, second.id]
    assert await listed(agent_id=ben.id, credential_id=account.id) == [third.id]


async def test_a_line_exists_for_others_and_a_released_one_is_history(store: Store, tenant: Tenant) -> None:
    other = await store.workspaces.create("other")
    exists = store.lines.exists
    assert await exists(tenant.line.id) and await exists(tenant.line.id, outside=other.id)
    assert not await exists(tenant.line.id, outside=tenant.workspace.id)
    assert not await exists(None) and not await exists(tenant.agent.id)
    await store.lines.release(tenant.line.id)
    assert await exists(tenant.line.id)
    async with store.db.read() as session:
        first = await session.get(LineRow, tenant.line.id)
    assert first is not None and first.status == "released" and first.released_at is not None
    await store.lines.release(tenant.line.id)
    async with store.db.read() as session:
        again = await session.get(LineRow, tenant.line.id)
    assert again is not None and again.released_at == first.released_at
    assert await store.lines.get(tenant.workspace.id, tenant.line.id) is None
    assert await store.lines.get(tenant.workspace.id, None) is None


async def test_an_active_line_comes_before_one_that_is_only_held(store: Store, tenant: Tenant) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    number = "+12125550164"
    held = await store.lines.create(other.credential, number, status="inactive")
    active = await store.lines.create(tenant.credential, number)
    assert [row.id for row in await store.lines.held(number)] == [active.id, held.id]
    found = [await store.lines.by_number(number, of) for of in (None, other.workspace.id, tenant.workspace.id)]
    assert [row.id if row is not None else None for row in found] == [active.id, held.id, active.id]
    await store.lines.unassign(number)
    assert [row.id for row in await store.lines.held(number)] == [held.id]
    async with store.db.read() as session:
        gone = await session.get(LineRow, active.id)
    assert gone is not None and gone.status == "released" and gone.released_at is not None


async def test_what_was_set_for_a_number_is_of_the_agent_it_was_set_for(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    await store.lines.change(tenant.line.id, call_handling={"incoming_call_action": "auto_reject"}, status="inactive")
    await store.lines.assign(line(tenant))
    same = await store.lines.get(tenant.workspace.id, tenant.line.id)
    assert same is not None and same.status == "active"
    assert same.call_handling == {"incoming_call_action": "auto_reject"}
    await store.lines.assign(line(tenant, agent_id=ben.public_id))
    moved = await store.lines.get(tenant.workspace.id, tenant.line.id)
    assert moved is not None and (moved.agent_id, moved.call_handling) == (ben.id, {})
    nobody = "crd_" + "0" * 32
    with pytest.raises(UnknownCredential, match=nobody):
        await store.lines.assign(line(tenant, "+12125550169", credential_id=nobody))
    other = await make_tenant(store, "+12125550101", "other")
    with pytest.raises(NumberAlreadyAssigned, match=tenant.credential.public_id):
        await store.lines.assign(line(other, tenant.line.number))
