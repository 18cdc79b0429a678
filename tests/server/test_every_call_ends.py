"""Every call ends, whatever is lost: random lives of calls on both carriers' adapters, in memory and in SQL.

Callbacks, commands and answers get lost, REST is down for a while, streams do not come or break, a process dies and
another adopts its calls. In virtual time; what the carriers do is in ``wire_carriers.py``.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import text
from tenants import build_acme

from anycarrier import Call, EndReason, Exchange, Line, MediaSession, MemoryNumberRegistry, Policy, plugins
from anycarrier.call_phases import RULES, Phase
from anycarrier.callbook import CallBook, MemoryCallBook, MemoryOnce, OnceStore
from anycarrier.errors import AnycarrierError
from anycarrier_server.encryption import Sealer
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store, migrations
from anycarrier_server.store.callbook import SqlCallBook
from anycarrier_server.store.claims import SqlOnce
from anycarrier_server.store.database import Database
from virtual_time import ExactLoop, virtually
from wire_carriers import OURS, THEIRS, Plan, TelnyxWire, TwilioWire, World

WIRES = {"twilio": TwilioWire(), "telnyx": TelnyxWire()}
ADOPTED_AFTER = 25.0
REQUEST = 15.0
ANSWERED_BY_US = 45.0
"""Seconds until an answer of ours that had to be repeated has been heard."""
BOUND = max(
    rule.bound() or 0.0
    for phase, rule in RULES.items()
    if phase not in (Phase.TALKING, Phase.TRANSFERRED, Phase.QUEUED)
)
"""Seconds from the last thing that happens to a call until it is over, whatever phase it is in by then."""


async def stay(session: MediaSession) -> None:
    async for _ in session:
        pass


class Mortal:
    """A process's view of the shared call book, until it dies."""

    def __init__(self, book: Any) -> None:
        self.book = book
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        if self.dead:
            raise ConnectionError("the process is dead")
        return getattr(self.book, name)


@dataclass
class Shared:
    """What processes have in common."""

    book: CallBook
    once: OnceStore
    credential_id: str
    database: Database | None = None

    async def ends(self) -> list[str]:
        """The kinds of the end events that subscribers would get."""
        assert self.database is not None
        async with self.database.read() as session:
            query = "SELECT kind FROM outbox WHERE kind IN ('call.ended', 'call.failed')"
            kinds = await session.execute(text(query))
            return [row.kind for row in kinds]


class Life:
    """A call and the processes it meets."""

    def __init__(self, wire: TwilioWire | TelnyxWire, plan: Plan, shared: Shared) -> None:
        self.plan, self.shared = plan, shared
        self.world = World(wire, plan, shared.credential_id)
        self.ends: list[Call] = []
        self.exchange = self.process()

    def process(self) -> Exchange:
        """One that serves our address from now on."""
        registry = MemoryNumberRegistry()
        wire = self.world.wire
        line = Line(number=OURS, agent_id="a", credential_id=self.shared.credential_id, provider=wire.name)
        registry._lines[OURS] = line  # type: ignore[attr-defined]
        exchange = Exchange(
            registry=registry,
            credentials={self.shared.credential_id: wire.credential},
            public_url="https://voice.example.com",
            secret="s" * 40,
            agents=stay,
            policy=Policy(allow=["US"]),
            calls=Mortal(self.shared.book),  # type: ignore[arg-type]
            once=self.shared.once,
            http=self.world.client(),
        )
        exchange.switchboard.observers.append(self._observe)
        self.world.serving = exchange
        return exchange

    def _observe(self, event: Any, call: Call | None) -> None:
        if call is not None and call.ended and not event.event_id:  # the watch's own
            self.ends.append(call)

    async def run(self) -> Call | None:
        """The whole story; the call as it is at the end."""
        plan, world = self.plan, self.world
        if plan.outbound:
            world.spawn(self._dial())
        else:
            world.spawn(world.ring())
        await asyncio.sleep(1)
        for at, act in ((plan.stopped_after, self._stop), (plan.dies_after, self._die)):
            if at is not None:
                world.spawn(self._at(at, act))
        call = await self._known()
        if call is None:
            return None  # the dial never got into the book, or nobody was there to hear it ring
        over = await self._over(call, world.began + self._last_change() + BOUND + 2 * REQUEST)
        for _ in range(200):  # what is over here is over there, as soon as the carrier lets us
            if all(leg.state == "ended" for leg in world.legs):
                break
            await asyncio.sleep(60)
        return over

    def _last_change(self) -> float:
        """Seconds after the beginning from which on nothing happens to the call but by us."""
        plan = self.plan
        changes = [plan.queued_for + plan.ring_time + 1]
        if not plan.outbound or plan.answers_after is not None:
            answered = plan.queued_for + (plan.answers_after or 0.0) if plan.outbound else ANSWERED_BY_US
            lasts = plan.talks_for if plan.stream_comes else 0.0
            changes.append(answered + (min(lasts, plan.stream_lost_after) if plan.stream_lost_after else lasts))
        if plan.dies_after is not None:
            changes.append(plan.dies_after + ADOPTED_AFTER)
        if plan.down is not None:
            changes.append(sum(plan.down) + 60)
        if plan.stopped_after is not None:
            changes.append(plan.stopped_after)
        return max(changes) + 1 + sum(mishap == "unanswered" for mishap in plan.mishaps) * REQUEST

    async def _dial(self) -> None:
        try:
            await self.exchange.dial(from_=OURS, to=THEIRS, timeout=self.plan.ring_time)
        except (AnycarrierError, ConnectionError):
            pass

    async def _at(self, seconds: float, act: Any) -> None:
        await asyncio.sleep(seconds - 1)
        await act()

    async def _stop(self) -> None:
        self.world.api_stopped = True
        call = await self._known()
        if self.world.serving is not None and call is not None:
            try:
                await self.world.serving.hang_up(call)
            except AnycarrierError:
                pass

    async def _die(self) -> None:
        """As kill -9 does: nothing more is written, nothing is said, every socket is gone."""
        dead, world = self.exchange, self.world
        world.serving = None
        dead.calls.dead = True  # type: ignore[attr-defined]
        dead.call_watch.stop()
        for task in list(dead._tasks):
            task.cancel()
        for leg in world.legs:
            if leg.stream is not None and leg.stream.open:
                leg.stream.drop()
                world._stream_is_over(leg)
        await asyncio.sleep(ADOPTED_AFTER)
        heir = self.exchange = self.process()
        call = await self._known()
        if call is not None and not call.ended:
            await heir.call_watch.adopt(call.reference, dead.owner, ring_time=self.plan.ring_time)

    async def _known(self) -> Call | None:
        calls = await self.shared.book.in_progress()
        if not calls and self.world.legs:
            found = await self.shared.book.get(self.world.legs[-1].id)
            return found
        return calls[0] if calls else None

    async def _over(self, call: Call, deadline: float) -> Call:
        loop = asyncio.get_running_loop()
        while loop.time() < deadline:
            known = await self.shared.book.get(call.reference)
            assert known is not None
            if known.ended:
                return known
            await asyncio.sleep(5)
        raise AssertionError(f"{loop.time() - self.world.began:.0f} s after it began the call is still {known}")

    async def stop(self) -> None:
        await self.exchange.stop()
        await self.world.stop()


MISHAPS = st.lists(st.sampled_from(["ok", "refused", "throttled", "lost", "unanswered"]), max_size=3).map(tuple)
PLANS = st.builds(
    Plan,
    outbound=st.booleans(),
    ring_time=st.sampled_from([10.0, 30.0, 90.0]),
    queued_for=st.sampled_from([0.0, 0.0, 7.0, 400.0, 9000.0]),
    answers_after=st.none() | st.floats(0.5, 40),
    talks_for=st.floats(0.2, 5000),
    stream_comes=st.booleans(),
    stream_lost_after=st.none() | st.floats(0.2, 2000),
    stopped_after=st.none() | st.floats(1, 300),
    dies_after=st.none() | st.floats(1, 300),
    lost_callbacks=st.frozensets(st.sampled_from(["initiated", "ringing", "answered", "ended"])),
    down=st.none() | st.tuples(st.floats(0, 600), st.floats(1, 900)),
    mishaps=MISHAPS,
    forgets=st.booleans(),
)


def allowed(carrier: str, plan: Plan) -> Plan:
    """The plan, without what the carrier cannot do: only one of them queues dials, and only outbound ones."""
    if carrier == "telnyx" or not plan.outbound:
        plan = Plan(**{**vars(plan), "queued_for": 0.0})
    return plan


async def story(carrier: str, plan: Plan, shared: Shared) -> tuple[Life, Call | None]:
    life = Life(WIRES[carrier], allowed(carrier, plan), shared)
    if life.plan.ring_time > 1:
        note(f"{life.plan}")
    try:
        over = await life.run()
        assert life.world.violations == []
        assert len(life.ends) <= 1, "told of two ends"
        if over is not None:
            assert over.reason is not None
            assert await shared.book.in_progress() == [], "its place in the limits is free again"
            if over.id:
                assert all(leg.state == "ended" for leg in life.world.legs), "and it is over at the carrier"
        return life, over
    finally:
        await life.stop()


@pytest.fixture(scope="module", autouse=True)
def carriers() -> Iterator[None]:
    plugins.reset()
    asyncio.run(_import_what_is_imported_on_first_use())
    yield
    plugins.reset()


async def _import_what_is_imported_on_first_use() -> None:
    for name in WIRES:
        await story(name, Plan(answers_after=1, talks_for=0.1, ring_time=1), in_memory())


def in_memory() -> Shared:
    return Shared(MemoryCallBook(), MemoryOnce(), "main")


@pytest.mark.parametrize("carrier", WIRES)
@settings(max_examples=150)
@given(plan=PLANS)
def test_every_call_ends_in_memory(carrier: str, plan: Plan) -> None:
    virtually(story(carrier, plan, in_memory()), ExactLoop)


@pytest.mark.parametrize("carrier", WIRES)
@settings(max_examples=50)
@given(
    plan=st.builds(
        Plan,
        outbound=st.booleans(),
        queued_for=st.sampled_from([0.0, 9000.0]),
        answers_after=st.floats(0.5, 25),
        talks_for=st.floats(10, 20_000),
        lost_callbacks=st.frozensets(st.sampled_from(["initiated", "ringing", "answered"])),
        down=st.none() | st.tuples(st.floats(60, 600), st.floats(1, 900)),
    )
)
def test_a_healthy_call_lasts_until_the_far_end_hangs_up(carrier: str, plan: Plan) -> None:
    async def scenario() -> None:
        life, over = await story(carrier, plan, in_memory())
        assert over is not None and over.reason is EndReason.USER_HANGUP
        assert life.world.hung_up_by_us == 0

    virtually(scenario(), ExactLoop)


# --- in SQL ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A migrated SQLite file with a workspace and one credential for each carrier."""
    file = tmp_path_factory.mktemp("template") / "anycarrier.db"

    async def make() -> dict[str, str]:
        database = Database(f"sqlite:///{file}")
        await migrations.upgrade(database)
        store = Store(database, Sealer([b"k" * 32]), Settings(data_dir=file.parent), root=b"r" * 32, build=build_acme)
        workspace = await store.workspaces.create("acme")
        ids = {}
        for name in WIRES:
            row = await store.credentials.create(
                workspace.id,
                name=name,
                provider="acme",
                api_key=SecretStr("secret-0123456789"),
                metadata={"account_sid": "AC1"},
            )
            ids[name] = row.public_id
        await database.close()
        return ids

    return file, asyncio.run(make())


@pytest.mark.parametrize("carrier", WIRES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=PLANS)
def test_every_call_ends_in_sql_with_one_end_event(
    carrier: str, plan: Plan, template: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    async def scenario() -> None:
        database = Database(f"sqlite:///{shutil.copy(template[0], tmp_path / 'anycarrier.db')}")
        try:
            shared = Shared(SqlCallBook(database), SqlOnce(database), template[1][carrier], database)
            _, over = await story(carrier, plan, shared)
            ends = await shared.ends()
            assert len(ends) == 1 or (over is None and not ends), ends
        finally:
            await database.close()

    for leftover in tmp_path.glob("anycarrier.db*"):
        leftover.unlink()
    virtually(scenario(), ExactLoop)
