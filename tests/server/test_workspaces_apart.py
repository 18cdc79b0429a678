"""Every question to the store that names a workspace: asked with another workspace's ids, it finds nothing of theirs.

The table below has a row for each; a new method of the store that takes a workspace and has no row fails the last test.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from tenants import Tenant, make_tenant

from anycarrier_server.store import CallFilter, NewCall, Store
from anycarrier_server.store.models import ApiKey, ContactRule, EngineRow, Recording, Subscription
from anycarrier_server.store.transcripts import Transcripts


@dataclass
class Household:
    """A workspace with one of everything, all of it alike in both workspaces but for the ids."""

    tenant: Tenant
    call_id: UUID
    key: ApiKey
    rule: ContactRule
    subscription: Subscription
    engine: EngineRow
    recording: Recording
    attempt_id: UUID

    @property
    def id(self) -> UUID:
        return self.tenant.workspace.id


async def furnish(store: Store, name: str, number: str) -> Household:
    tenant = await make_tenant(store, number, name)
    workspace, agent, line = tenant.workspace.id, tenant.agent, tenant.line
    await store.agents.change(agent.id, handle="aria")
    call, _ = await store.calls.create(NewCall(line=line, to_number="+14155550177", agent_id=agent.id))
    store.writer.segment(call.id, party="remote", text="zeppelin please", ts_ms=0, workspace_id=workspace)
    await store.writer.flush()
    await store.limits.reserve(workspace, call.id)
    key, _ = await store.keys.create(workspace, "ops")
    rule = await store.rules.create(agent, action="block", match_target="+14155550177")
    subscribed = {"face": "oneinbox", "url": "https://x.example/", "events": ["call.ended"]}
    subscription = await store.webhooks.create(workspace, **subscribed)
    await store.webhooks.ensure_signing_key(workspace)
    engine = await store.engines.put(workspace, "acme", {"api_key": f"key of {name}"}, frozenset({"api_key"}))
    recording = await store.recordings.begin(workspace, call.id, f"{name}.wav", format="wav")
    asked = {"url": "https://x.example/", "body": "{}", "status": 200, "response": "", "error": None}
    await store.webhooks.log_synchronous(
        workspace, line_id=line.id, agent_id=agent.id, call_id=call.id, duration_ms=1, **asked
    )
    (logged,) = await store.webhooks.log(workspace)
    return Household(tenant, call.id, key, rule, subscription, engine, recording, logged.attempt.id)


Ask = Callable[[Store, UUID, Household], Awaitable[Any]]
"""Asks the store, as the workspace of that id, for what the household has."""

QUESTIONS: dict[str, Ask] = {
    "agents.get": lambda s, w, h: s.agents.get(w, h.tenant.agent.id),
    "agents.by_handle": lambda s, w, h: s.agents.by_handle(w, "aria"),
    "agents.list": lambda s, w, h: s.agents.list(w),
    "calls.get": lambda s, w, h: s.calls.get(w, h.call_id),
    "calls.seen": lambda s, w, h: s.calls.seen(w, [h.call_id], agent_id=None),
    "calls.page": lambda s, w, h: s.calls.page(w, CallFilter()),
    "calls.total": lambda s, w, h: s.calls.total(w, CallFilter(agent_id=h.tenant.agent.id)),
    "credentials.get": lambda s, w, h: s.credentials.get(w, h.tenant.credential.id),
    "credentials.list": lambda s, w, h: s.credentials.list(w),
    "engines.list": lambda s, w, h: s.engines.list(w),
    "keys.list": lambda s, w, h: s.keys.list(w),
    "limits.snapshot": lambda s, w, h: _used(s, w),
    "lines.get": lambda s, w, h: s.lines.get(w, h.tenant.line.id),
    "lines.by_number": lambda s, w, h: s.lines.by_number(h.tenant.line.number, w),
    "lines.list": lambda s, w, h: s.lines.list(w),
    "rules.list": lambda s, w, h: s.rules.list(w, agent_id=h.tenant.agent.id),
    "transcripts.search": lambda s, w, h: s.transcripts.search(w, "zeppelin"),
    "transcripts.search of an agent": lambda s, w, h: s.transcripts.search(
        w, "zeppelin", agent_id=h.tenant.agent.id
    ),
    "transcripts.since": lambda s, w, h: s.transcripts.since(w, {h.call_id: -1}, limit=10),
    "webhooks.get": lambda s, w, h: s.webhooks.get(w, h.subscription.id),
    "webhooks.list": lambda s, w, h: s.webhooks.list(w),
    "webhooks.log": lambda s, w, h: s.webhooks.log(w, call_id=h.call_id),
    "webhooks.logged": lambda s, w, h: s.webhooks.logged(w, h.attempt_id),
    "webhooks.signing_key": lambda s, w, h: s.webhooks.signing_key(w),
    "webhooks.signing_key_row": lambda s, w, h: s.webhooks.signing_key_row(w),
}

CHANGES: dict[str, Ask] = {
    "engines.delete": lambda s, w, h: s.engines.delete(w, "acme"),
    "engines.put": lambda s, w, h: s.engines.put(w, "acme", {"api_key": "another"}, frozenset()),
    "keys.revoke": lambda s, w, h: s.keys.revoke(w, h.key.id),
    "webhooks.rotate_signing_key": lambda s, w, h: s.webhooks.rotate_signing_key(w),
    "workspaces.get": lambda s, w, h: s.workspaces.get(w),
}
"""Told apart by what is left of the other household afterwards."""

MADE_FOR_ONE = {
    "agents.create", "credentials.create", "keys.create", "keys.ensure_admin", "outbox.publish", "recordings.begin",
    "webhooks.create", "webhooks.ensure_signing_key", "webhooks.log_synchronous", "writer.segment", "writer.event",
    "limits.admit", "limits.foresee", "limits.reserve",
}  # fmt: skip
"""They write something new, in the workspace they are told, and look nobody up; of limits, ``test_limits.py``."""


async def _used(store: Store, workspace: UUID) -> int:
    return (await store.limits.snapshot(workspace)).calls_used


def ids_in(found: Any) -> set[Any]:
    """Ids of the rows in an answer, or the answer itself when it is no row."""
    if found is None or found == 0:
        return set()
    if hasattr(found, "attempt"):
        return {found.attempt.id}
    if hasattr(found, "items") and not isinstance(found, dict):  # a page
        return ids_in(found.items)
    if isinstance(found, list | tuple):
        return {id_ for one in found for id_ in ids_in(one)}
    if hasattr(found, "id"):
        return {found.id}
    if hasattr(found, "call_id"):
        return {found.call_id}
    return {found}


@pytest.fixture
async def households(store: Store) -> tuple[Household, Household]:
    return await furnish(store, "ours", "+12125550100"), await furnish(store, "theirs", "+12125550101")


@pytest.mark.parametrize("question", QUESTIONS)
async def test_what_is_found_in_ones_own_workspace_is_not_found_from_another(
    store: Store, households: tuple[Household, Household], question: str
) -> None:
    ours, theirs = households
    empty = await store.workspaces.create("empty")
    ask = QUESTIONS[question]
    own = ids_in(await ask(store, theirs.id, theirs))
    assert own, "the question finds what is there"
    assert not ids_in(await ask(store, empty.id, theirs)), "a workspace that has nothing"
    seen = ids_in(await ask(store, ours.id, theirs))
    if question not in ("limits.snapshot",):  # a number of calls, and both have made one
        assert not seen & own, "a workspace that has the like of it"


async def test_changes_reach_ones_own_workspace_only(store: Store, households: tuple[Household, Household]) -> None:
    ours, theirs = households
    signing = await store.webhooks.signing_key(theirs.id)
    for name, change in CHANGES.items():
        await change(store, ours.id, theirs)
        (key,) = await store.keys.list(theirs.id)
        assert key.revoked_at is None, name
        (engine,) = await store.engines.list(theirs.id)
        assert store.engines.settings(engine) == {"api_key": "key of theirs"}, name
        assert await store.webhooks.signing_key(theirs.id) == signing, name
    assert not await store.engines.delete(ours.id, "unknown")


async def test_numbers_of_several_workspaces_are_counted_apart(
    store: Store, households: tuple[Household, Household]
) -> None:
    ours, theirs = households
    await store.calls.create(NewCall(line=ours.tenant.line, to_number="+14155550178", agent_id=ours.tenant.agent.id))
    assert await store.calls.total(ours.id, CallFilter()) == 2
    assert await store.calls.total(theirs.id, CallFilter()) == 1
    recorded = CallFilter(from_number=theirs.tenant.line.number)
    assert (await store.calls.total(ours.id, recorded), await store.calls.total(theirs.id, recorded)) == (0, 1)
    assert len(await store.rules.list(ours.id)) == len(await store.rules.list(theirs.id)) == 1
    assert not await store.calls.seen(theirs.id, [ours.call_id], agent_id=ours.tenant.agent.id)


def test_every_question_with_a_workspace_is_asked_here() -> None:
    parts = {
        name: kind
        for name, kind in vars_of_store().items()
        if isinstance(kind, type) and kind.__module__.startswith("anycarrier_server.store")
    }
    assert parts["transcripts"] is Transcripts
    taking = {
        f"{part}.{name}"
        for part, kind in parts.items()
        for name, method in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(method)
        if "workspace_id" in inspect.signature(method).parameters
    }
    assert taking - {question.partition(" ")[0] for question in QUESTIONS} - set(CHANGES) == MADE_FOR_ONE


def vars_of_store() -> dict[str, type]:
    """The parts of a store by their names: what ``Store.__init__`` assigns."""
    from anycarrier_server import store as package

    source = inspect.getsource(Store.__init__)
    names = [line.strip().removeprefix("self.").partition(" = ") for line in source.splitlines() if " = " in line]
    return {name: vars(package).get(made.partition("(")[0]) for name, _, made in names}  # type: ignore[misc]
