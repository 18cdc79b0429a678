"""Calls of dead processes: who adopts which, what is left alone, and what a process that was only slow gets back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from sqlalchemy import select, update
from tenants import AcmeCredential, Tenant

from anycarrier import Call, CallStatus, Direction, EndReason, Exchange, Provider, hookimpl, plugins
from anycarrier.call_phases import RING_TIME, RULES, Phase
from anycarrier.calls import TransferStatus
from anycarrier_server.outage import DatabaseUnavailable
from anycarrier_server.settings import Settings
from anycarrier_server.store import NewCall, Store, parse_id
from anycarrier_server.store.claims import ALIVE_SECONDS, Claims
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import CallRow, Claim
from anycarrier_server.store.statements import Statement, table_of
from anycarrier_server.work import finished_calls, reconciler
from anycarrier_server.work.reconciler import INVENTORY_EVERY, Reconciler, others_live
from fake_carriers import CommandProvider

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
    def anycarrier_providers(self) -> list[type[Provider]]:
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
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
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
        over = await process.exchange.wait_for(call.reference, timeout=20)
        assert (over.owner, over.reason, Acme.stands) == (store.owner, EndReason.MEDIA_ERROR, CallStatus.ENDED)
        assert Acme.log[-1] == ("fetch_call", call.id) and ("hang_up", call.id) in Acme.log
        assert await ends(store, call) == ["call.ended"]
        assert await process.reconciler.round() == 0


async def test_an_adopted_call_stays_watched_until_it_is_over(process: Process, store: Store, tenant: Tenant) -> None:
    call = await left(store, tenant, direction=Direction.OUTBOUND, status=CallStatus.QUEUED)
    Acme.stands = CallStatus.QUEUED
    assert await process.reconciler.round() == 1
    async with asyncio.timeout(20):
        while ("fetch_call", call.id) not in Acme.log:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert process.exchange.call_watch.watches(call.reference) and ("hang_up", call.id) not in Acme.log
    assert await process.reconciler.round() == 0, "it is this process's by now"
    Acme.stands = CallStatus.ENDED
    process.exchange.call_watch.hurry()
    assert (await process.exchange.wait_for(call.reference, timeout=20)).ended


async def test_a_transferred_call_of_a_dead_process_is_not_hung_up(
    process: Process, store: Store, tenant: Tenant
) -> None:
    handed_on = {"status": CallStatus.ANSWERED, "answered_at": utc_now(), "transfer": TransferStatus.ANSWERED}
    call = await left(store, tenant, **handed_on)
    assert await process.reconciler.round() == 1
    async with asyncio.timeout(20):
        while ("fetch_call", call.id) not in Acme.log:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert ("hang_up", call.id) not in Acme.log
    Acme.stands = CallStatus.ENDED
    process.exchange.call_watch.hurry()
    assert (await process.exchange.wait_for(call.reference, timeout=20)).reason is EndReason.TRANSFERRED


async def test_a_dial_that_the_carrier_has_not_named_is_given_its_time(
    process: Process, store: Store, tenant: Tenant
) -> None:
    watch = process.exchange.call_watch
    watch.rules = {**watch.rules, Phase.UNCONFIRMED: replace(RULES[Phase.UNCONFIRMED], ask_after=0, hang_up_after=0)}
    call = await left(
        store, tenant, id="", direction=Direction.OUTBOUND, status=CallStatus.QUEUED, created_at=utc_now() - LONG_AGO
    )
    dialled = utc_now() - timedelta(seconds=10)
    dialled_by_loop = asyncio.get_running_loop().time() - 10
    async with store.db.write() as session:  # scheduled long ago, dialled just now
        row = update(CallRow).where(CallRow.id == parse_id("call", call.reference))
        await session.execute(row.values(dial_claimed_at=dialled, updated_at=utc_now() - LONG_AGO))
    assert await process.reconciler.round() == 1
    known = watch._watched[call.reference]
    assert known.due_at - dialled_by_loop == pytest.approx(RING_TIME, abs=5)
    watch._again(known, 0.0)  # its time is over
    over = await process.exchange.wait_for(call.reference, timeout=20)
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
    assert (await process.exchange.wait_for(call.reference, timeout=20)).reason is EndReason.MEDIA_ERROR


async def test_a_process_that_was_taken_for_dead_gets_its_talking_calls_back(
    process: Process, store: Store, tenant: Tenant, tmp_path: Path
) -> None:
    watch = process.exchange.call_watch
    watch.rules = {**watch.rules, Phase.ABANDONED: replace(RULES[Phase.ABANDONED], ask_after=600, hang_up_after=0)}
    slow_store = Store(store.db, store.sealer, Settings(data_dir=tmp_path), root=b"r" * 32)
    slow = Process(slow_store)
    await slow.reconciler.sign_of_life()
    call = await left(store, tenant, owner=slow_store.owner, status=CallStatus.ANSWERED)
    slow.exchange.switchboard.sessions[call.reference] = SimpleNamespace(call=call, stop=lambda why: None)  # type: ignore[assignment]
    await slow_store.claims.drop(f"process:{slow_store.owner}")  # its sign of life has lapsed
    assert await process.reconciler.round() == 1
    slow.reconciler._beat_at = asyncio.get_running_loop().time() - ALIVE_SECONDS - 1
    await slow.reconciler.sign_of_life()
    watch.hurry()  # to look at it now, when it would be hung up
    async with asyncio.timeout(20):
        while watch.watches(call.reference):
            await asyncio.sleep(0.01)
    known = await store.callbook.get(call.reference)
    assert known is not None and (known.owner, known.ended) == (slow_store.owner, False)
    assert ("hang_up", call.id) not in Acme.log
    slow.exchange.switchboard.sessions.clear()
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
    assert (await process.exchange.wait_for(row.reference, timeout=20)).reason is EndReason.PROVIDER_UNAVAILABLE
    assert not any(entry[0] == "dial" for entry in Acme.log)


# --- what it does by the clock, and what it leaves alone ------------------------------------------------------------


class Watched:
    """A call watch that notes what is asked of it."""

    def __init__(self) -> None:
        self.adopted: list[tuple[str, str, float, datetime | None]] = []
        self.noted: list[str] = []
        self.hurried = 0
        self.takes = True

    async def adopt(self, reference: str, owner: str, *, ring_time: float, dialled_at: datetime | None) -> bool:
        self.adopted.append((reference, owner, ring_time, dialled_at))
        return self.takes

    def watches(self, reference: str) -> bool:
        return reference in self.noted

    def note(self, call: Call) -> None:
        self.noted.append(call.reference)

    def hurry(self) -> None:
        self.hurried += 1


async def nothing(credential_id: str) -> None:
    """The carrier has no sockets of its own."""


class Office:
    """A service of which the reconciler sees only its store, its calls and its watch; ``settled`` are finished."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.watch = Watched()
        self.settled: list[str] = []
        board = SimpleNamespace(calls=store.callbook, sessions={})
        exchange = SimpleNamespace(
            switchboard=board, call_watch=self.watch, listeners=SimpleNamespace(credentials=set), start_listener=nothing
        )
        self.sessions: dict[str, Any] = board.sessions
        self.talking: set[str] = set()
        self.service: Any = SimpleNamespace(
            store=store, exchange=exchange, agents=SimpleNamespace(talking=self.talking)
        )
        self.reconciler = Reconciler(self.service)

        async def settle(service: Any, row: CallRow) -> None:
            assert service is self.service
            self.settled.append(row.reference)

        monkeypatch.setattr(finished_calls, "finish", settle)


@pytest.fixture
def office(store: Store, monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(store, monkeypatch)


async def test_an_orphan_is_adopted_from_its_owner_with_its_own_ring_time_and_the_moment_of_its_dial(
    office: Office, store: Store, tenant: Tenant
) -> None:
    dialled_at = (utc_now() - timedelta(seconds=7)).replace(microsecond=0)
    plain = await left(store, tenant, owner=None, created_at=utc_now() - timedelta(minutes=3))
    timed = await left(store, tenant, status=CallStatus.RINGING)
    id_ = parse_id("call", timed.reference)
    assert id_ is not None
    await store.calls.note(id_, options={"timeout": 55})
    async with store.db.write() as session:
        row = update(CallRow).where(CallRow.id == id_)
        await session.execute(row.values(dial_claimed_at=dialled_at, updated_at=utc_now() - LONG_AGO))
    assert await office.reconciler.round() == 2
    assert office.watch.adopted == [
        (plain.reference, "", RING_TIME, plain.created_at),
        (timed.reference, DEAD, 55.0, dialled_at),
    ]
    office.watch.takes = False  # another process was quicker
    assert await office.reconciler.round() == 0


async def test_what_a_dead_process_did_not_finish_is_finished_by_one_and_only_of_calls_that_are_over(
    office: Office, store: Store, tenant: Tenant, tmp_path: Path
) -> None:
    over = await left(store, tenant, status=CallStatus.ENDED)
    going_on = await left(store, tenant, ago=timedelta())
    mine = await left(store, tenant, status=CallStatus.ENDED)
    taken = await left(store, tenant, status=CallStatus.ENDED)
    await office.reconciler.sign_of_life()
    await store.claims.claim_call(mine.reference)
    dead = Store(store.db, store.sealer, Settings(data_dir=tmp_path), root=b"r" * 32)
    for reference in (over.reference, going_on.reference, taken.reference, "0" * 32):
        await dead.claims.claim_call(reference)
    assert await dead.claims.take(f"settle:{taken.reference}", 60)
    before = utc_now()
    await office.reconciler.round()
    assert office.settled == [over.reference]
    after = utc_now()
    lease = await store.db.row(
        Statement(select(table_of(Claim)).where(table_of(Claim).c.name == f"settle:{over.reference}"))
    )
    assert before <= lease.expires_at - timedelta(seconds=60) <= after


async def test_after_an_outage_what_ended_here_is_settled_unless_it_still_talks(
    office: Office, store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconciler, "EVERY", 0.01)
    await office.reconciler.sign_of_life()
    over, talking = [await left(store, tenant, status=CallStatus.ENDED) for _ in range(2)]
    for call in (over, talking):
        await store.claims.claim_call(call.reference)
    office.talking.add(talking.reference)
    rounds, fails = 0, list[Exception]()
    told = asyncio.Event()

    async def round_() -> int:
        nonlocal rounds
        rounds += 1
        told.set()
        if fails:
            raise fails.pop()
        return 0

    async def some(count: int) -> None:
        wanted = rounds + count
        while rounds < wanted:
            told.clear()
            await told.wait()

    monkeypatch.setattr(office.reconciler, "round", round_)
    office.reconciler.start()
    async with asyncio.timeout(30):
        await some(2)
        assert (office.watch.hurried, office.settled) == (0, []), "nothing was missed yet"
        fails.append(DatabaseUnavailable("TimeoutError"))
        await some(4)
        assert (office.watch.hurried, office.settled) == (1, [over.reference]), "once, when it is over"
        assert "looking after the calls of dead processes: the database is unavailable (TimeoutError)" in caplog.text
        office.reconciler.missed_something()
        await some(3)
        assert (office.watch.hurried, office.settled) == (2, [over.reference] * 2)
        fails.append(RuntimeError("a bug"))
        await some(3)
    assert office.watch.hurried == 2, "a bug is no outage, and the rounds go on"
    await office.reconciler.stop()
    before = rounds
    await asyncio.sleep(0.05)
    assert rounds == before


async def test_the_sign_of_life_is_given_again_and_again(
    office: Office, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconciler, "EVERY", 0.01)
    beats, third = 0, asyncio.Event()

    async def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == 1:
            raise DatabaseUnavailable("TimeoutError")
        if beats == 3:
            third.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # a connection that is given back, say
                left_off.append("beat")

    async def stop() -> None:
        left_off.append("keys")

    left_off: list[str] = []
    monkeypatch.setattr(office.reconciler._keys, "stop", stop)
    monkeypatch.setattr(office.reconciler, "sign_of_life", beat)
    office.reconciler.start()
    names = {"sign of life", "reconcile calls"}
    assert names <= {task.get_name() for task in asyncio.all_tasks()}
    async with asyncio.timeout(20):
        await third.wait()
    assert "saying that this process lives: the database is unavailable (TimeoutError)" in caplog.text
    await office.reconciler.stop()
    assert left_off == ["beat", "keys"], "what is under way is waited for"
    assert not names & {task.get_name() for task in asyncio.all_tasks()}
    before = beats
    await asyncio.sleep(0.05)
    assert beats == before


async def test_stopping_leaves_what_was_held_to_anybody_at_once(office: Office, store: Store) -> None:
    await office.reconciler.sign_of_life()
    assert not await Claims(store.db, "another").take(f"process:{store.owner}", 5)
    await office.reconciler.stop()
    assert await Claims(store.db, "another").take(f"process:{store.owner}", 5)


async def test_the_inventory_is_taken_now_and_then_of_calls_that_are_ours_and_not_watched(
    office: Office, store: Store, tenant: Tenant
) -> None:
    await office.reconciler.sign_of_life()
    first, second = [await left(store, tenant, owner=store.owner, status=CallStatus.ANSWERED) for _ in range(2)]
    await left(store, tenant, owner="host:2:other", ago=timedelta())
    office.watch.noted.append(first.reference)
    office.reconciler._inventory_at = asyncio.get_running_loop().time() - INVENTORY_EVERY
    await office.reconciler.round()
    assert office.watch.noted == [first.reference, second.reference]
    third = await left(store, tenant, owner=store.owner, status=CallStatus.ANSWERED)
    office.reconciler._inventory_at += 5
    await office.reconciler.round()
    assert third.reference not in office.watch.noted, "not before its time"
    office.reconciler._inventory_at -= INVENTORY_EVERY + 5
    await office.reconciler.round()
    assert office.watch.noted == [first.reference, second.reference, third.reference]


@pytest.mark.parametrize(
    ("late", "talking", "back"),
    [(ALIVE_SECONDS - 8, True, False), (ALIVE_SECONDS + 1, True, True), (ALIVE_SECONDS + 1, False, False)],
)
async def test_only_a_process_that_was_silent_for_too_long_takes_calls_back_and_only_those_that_talk(
    office: Office, store: Store, tenant: Tenant, late: float, talking: bool, back: bool
) -> None:
    await office.reconciler.sign_of_life()
    call = await left(store, tenant, owner="host:2:adopter", status=CallStatus.ANSWERED)
    other = await left(store, tenant, owner="host:2:adopter", status=CallStatus.ANSWERED)
    mine = await left(store, tenant, owner=store.owner, status=CallStatus.ANSWERED)
    if talking:
        office.sessions[call.reference] = object()
    began = asyncio.get_running_loop().time()
    office.reconciler._beat_at = began - late
    await office.reconciler.sign_of_life()
    owners = [(await store.callbook.get(one.reference)).owner for one in (call, other)]  # type: ignore[union-attr]
    assert owners == [store.owner if back else "host:2:adopter", "host:2:adopter"]
    assert (mine.reference in office.watch.noted) is back
    assert office.reconciler._beat_at >= began


async def test_the_first_sign_of_life_takes_nothing_back(office: Office, store: Store, tenant: Tenant) -> None:
    call = await left(store, tenant, owner="host:2:adopter", status=CallStatus.ANSWERED)
    office.sessions[call.reference] = object()
    await office.reconciler.sign_of_life()
    known = await store.callbook.get(call.reference)
    assert known is not None and known.owner == "host:2:adopter"


async def test_others_live_when_another_process_has_said_so_lately(store: Store) -> None:
    long_ago = utc_now() - timedelta(seconds=ALIVE_SECONDS + 1)
    assert not await others_live(store)
    await store.claims.alive()
    assert not await others_live(store), "we are no other"
    other = Claims(store.db, "host:2:other")
    await other.take("settle:something", 60)
    await other.take("opens:host", 60)
    await other.take("sealing:host", 60)
    await other.alive(at=long_ago)
    assert not await others_live(store), "it has said nothing since"
    await other.alive()
    assert await others_live(store)
