"""Calls of dead processes: who adopts which, what is left alone, and what a process that was only slow gets back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from fake_carriers import CommandProvider
from sqlalchemy import update
from tenants import AcmeCredential, Tenant

from linecard import Call, CallStatus, Direction, EndReason, Exchange, Provider, hookimpl, plugins
from linecard.call_phases import RULES, Phase
from linecard.calls import TransferStatus
from linecard.server.reconciler import Reconciler
from linecard.server.settings import Settings
from linecard.server.store import NewCall, Store, parse_id
from linecard.server.store.claims import ALIVE_SECONDS
from linecard.server.store.columns import utc_now
from linecard.server.store.models import CallRow

DEAD = "host:1:dead"
LONG_AGO = timedelta(seconds=ALIVE_SECONDS + 5)


class Acme(CommandProvider):
    """A carrier whose one leg stands as a test says."""

    name = "acme"
    credential_type = AcmeCredential
    log: ClassVar[list[tuple[Any, ...]]] = []
    stands: ClassVar[CallStatus] = CallStatus.ANSWERED

    async def fetch_call(self, call_id: str) -> Call:
        self.log.append(("fetch_call", call_id))
        return Call(id=call_id, provider="acme", direction=Direction.INBOUND, from_="", to="", status=Acme.stands)

    async def hang_up(self, call_id: str) -> None:
        await super().hang_up(call_id)
        Acme.stands = CallStatus.ENDED


class Plugin:
    @hookimpl
    def linecard_providers(self) -> list[type[Provider]]:
        return [Acme]


class Process:
    """One process of the service, as far as calls of dead ones go: its store, its exchange and its reconciler."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.exchange = Exchange(
            registry=store.lines,
            credentials=store.credentials,
            public_url="https://voice.example.com",
            secret="s" * 32,
            agents=_nobody,
            calls=store.callbook,
            once=store.once,
            owner=store.owner,
        )
        self.exchange.call_watch.rules = {
            phase: replace(rule, ask_after=0.1, hang_up_after=0.1 if rule.hang_up_after else None)
            for phase, rule in RULES.items()
        }
        self.reconciler = Reconciler(SimpleNamespace(store=store, exchange=self.exchange))  # type: ignore[arg-type]


async def _nobody(session: object) -> None:
    raise AssertionError("nobody talks here")


@pytest.fixture
async def process(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    monkeypatch.setenv("LINECARD_PLUGINS", "")
    plugins.reset()
    plugins.register(Plugin(), "acme")
    Acme.log.clear()
    Acme.stands = CallStatus.ANSWERED
    made = Process(store)
    await made.reconciler.sign_of_life()
    yield made
    await made.exchange.stop()
    plugins.reset()


async def left(
    store: Store, tenant: Tenant, *, owner: str | None = DEAD, ago: timedelta = LONG_AGO, **fields: Any
) -> Call:
    """A call of that owner, of which nothing was written for so long."""
    call = await store.callbook.open(tenant.call(**fields))
    async with store.db.write() as session:
        row = update(CallRow).where(CallRow.id == parse_id("call", call.reference))
        await session.execute(row.values(owner=owner, updated_at=utc_now() - ago))
    found = await store.callbook.get(call.reference)
    assert found is not None
    return found


async def ends(store: Store, call: Call) -> list[str]:
    id_ = parse_id("call", call.reference)
    assert id_ is not None
    return [event.kind for event in await store.calls.events(id_) if event.kind == "call.ended"]


async def test_a_dead_process_s_call_is_adopted_hung_up_and_over_once(
    process: Process, store: Store, tenant: Tenant
) -> None:
    for status in (CallStatus.ANSWERED, CallStatus.RINGING):
        Acme.stands = status
        call = await left(store, tenant, status=status)
        assert await process.reconciler.round() == 1
        over = await process.exchange.wait_for(call.reference, timeout=5)
        assert (over.owner, over.reason, Acme.stands) == (store.owner, EndReason.MEDIA_ERROR, CallStatus.ENDED)
        assert Acme.log[-1] == ("fetch_call", call.id) and ("hang_up", call.id) in Acme.log
        assert await ends(store, call) == ["call.ended"]
        assert await process.reconciler.round() == 0


async def test_an_adopted_call_stays_watched_until_it_is_over(process: Process, store: Store, tenant: Tenant) -> None:
    call = await left(store, tenant, direction=Direction.OUTBOUND, status=CallStatus.QUEUED)
    Acme.stands = CallStatus.QUEUED
    assert await process.reconciler.round() == 1
    await asyncio.sleep(0.3)
    assert process.exchange.call_watch.watches(call.reference) and ("hang_up", call.id) not in Acme.log
    assert await process.reconciler.round() == 0, "it is this process's by now"
    Acme.stands = CallStatus.ENDED
    process.exchange.call_watch.hurry()
    assert (await process.exchange.wait_for(call.reference, timeout=5)).ended


async def test_a_transferred_call_of_a_dead_process_is_not_hung_up(
    process: Process, store: Store, tenant: Tenant
) -> None:
    handed_on = {"status": CallStatus.ANSWERED, "answered_at": utc_now(), "transfer": TransferStatus.ANSWERED}
    call = await left(store, tenant, **handed_on)
    assert await process.reconciler.round() == 1
    await asyncio.sleep(0.3)
    assert ("fetch_call", call.id) in Acme.log and ("hang_up", call.id) not in Acme.log
    Acme.stands = CallStatus.ENDED
    process.exchange.call_watch.hurry()
    assert (await process.exchange.wait_for(call.reference, timeout=5)).reason is EndReason.TRANSFERRED


async def test_a_dial_that_the_carrier_has_not_named_is_given_its_time(
    process: Process, store: Store, tenant: Tenant
) -> None:
    rules = dict(process.exchange.call_watch.rules)
    rules[Phase.UNCONFIRMED] = replace(RULES[Phase.UNCONFIRMED], ask_after=-29.5, hang_up_after=-29.5)  # and ring time
    process.exchange.call_watch.rules = rules
    call = await left(store, tenant, id="", direction=Direction.OUTBOUND, status=CallStatus.QUEUED)
    assert await process.reconciler.round() == 1
    await asyncio.sleep(0.2)
    known = await store.callbook.get(call.reference)
    assert known is not None and not known.ended
    over = await process.exchange.wait_for(call.reference, timeout=5)
    assert over.reason is EndReason.PROVIDER_UNAVAILABLE


async def test_what_is_not_orphaned_is_left_alone(
    process: Process, store: Store, tenant: Tenant, tmp_path: Path
) -> None:
    second = Store(store.db, store.sealer, Settings(data_dir=tmp_path), root=b"r" * 32)
    await second.claims.alive()
    await left(store, tenant, owner=second.owner)
    await left(store, tenant, ago=timedelta())
    await left(store, tenant, status=CallStatus.ENDED)
    later = NewCall(
        line=tenant.line, to_number="+14155550123", agent_id=None, scheduled_at=utc_now() + timedelta(days=1)
    )
    waiting, _ = await store.calls.create(later)
    async with store.db.write() as session:
        row = update(CallRow).where(CallRow.id == waiting.id)
        await session.execute(row.values(owner=DEAD, updated_at=utc_now() - LONG_AGO))
    assert await process.reconciler.round() == 0
    await second.claims.drop(f"process:{second.owner}")
    assert await process.reconciler.round() == 1, "that of the process that has died since"


async def test_of_two_processes_one_adopts(
    process: Process, store: Store, tenant: Tenant, tmp_path: Path
) -> None:
    rival_store = Store(store.db, store.sealer, Settings(data_dir=tmp_path), root=b"r" * 32)
    rival = Process(rival_store)
    await rival.reconciler.sign_of_life()
    for _ in range(5):
        await left(store, tenant, direction=Direction.OUTBOUND, status=CallStatus.INITIATED)
    adopted = await asyncio.gather(process.reconciler.round(), rival.reconciler.round())
    assert sum(adopted) == 5
    await rival.exchange.stop()


async def test_an_open_call_of_ours_that_nobody_watches_is_watched_again(
    process: Process, store: Store, tenant: Tenant
) -> None:
    """Written down by a request that failed half-way, say."""
    call = await left(store, tenant, owner=store.owner, status=CallStatus.ANSWERED)
    assert not process.exchange.call_watch.watches(call.reference)
    await process.reconciler.take_inventory()
    assert (await process.exchange.wait_for(call.reference, timeout=5)).reason is EndReason.MEDIA_ERROR


async def test_a_process_that_was_taken_for_dead_gets_its_talking_calls_back(
    process: Process, store: Store, tenant: Tenant, tmp_path: Path
) -> None:
    rules = dict(process.exchange.call_watch.rules)
    rules[Phase.ABANDONED] = replace(rules[Phase.ABANDONED], ask_after=0.5, hang_up_after=0.5)
    process.exchange.call_watch.rules = rules
    slow_store = Store(store.db, store.sealer, Settings(data_dir=tmp_path), root=b"r" * 32)
    slow = Process(slow_store)
    await slow.reconciler.sign_of_life()
    call = await left(store, tenant, owner=slow_store.owner, status=CallStatus.ANSWERED)
    slow.exchange.sessions[call.reference] = SimpleNamespace(call=call, stop=lambda why: None)  # type: ignore[assignment]
    await slow_store.claims.drop(f"process:{slow_store.owner}")  # its sign of life has lapsed
    assert await process.reconciler.round() == 1
    slow.reconciler._beat_at = asyncio.get_running_loop().time() - ALIVE_SECONDS - 1
    await slow.reconciler.sign_of_life()
    await asyncio.sleep(0.8)
    known = await store.callbook.get(call.reference)
    assert known is not None and (known.owner, known.ended) == (slow_store.owner, False)
    assert ("hang_up", call.id) not in Acme.log
    slow.exchange.sessions.clear()
    await slow.exchange.stop()


async def test_a_call_that_cannot_be_dialled_is_not_open_for_ever(
    process: Process, store: Store, tenant: Tenant
) -> None:
    """Claimed by the scheduler of a process that died before it dialled: nobody dials it again, and it ends."""
    rules = dict(process.exchange.call_watch.rules)
    rules[Phase.UNCONFIRMED] = replace(RULES[Phase.UNCONFIRMED], ask_after=-30, hang_up_after=-30)
    process.exchange.call_watch.rules = rules
    due = NewCall(line=tenant.line, to_number="+14155550123", agent_id=None, scheduled_at=utc_now())
    row, _ = await store.calls.create(due)
    assert [claimed.id for claimed in await store.calls.claim_due(DEAD)] == [row.id]
    async with store.db.write() as session:
        await session.execute(update(CallRow).where(CallRow.id == row.id).values(updated_at=utc_now() - LONG_AGO))
    assert await process.reconciler.round() == 1
    assert (await process.exchange.wait_for(row.reference, timeout=5)).reason is EndReason.PROVIDER_UNAVAILABLE
    assert not any(entry[0] == "dial" for entry in Acme.log)
