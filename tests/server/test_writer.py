"""Hot writes: never waiting, in order, nothing lost, failures told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tenants import Tenant

from anycarrier_server.refusals import StoreOverloaded
from anycarrier_server.store import Store, transcripts
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.writer import Row, RowsRefused, StoreBehind, Writer


async def opened(store: Store, tenant: Tenant) -> UUID:
    return UUID((await store.callbook.open(tenant.call())).reference)


async def said(store: Store, call_id: UUID) -> Sequence[tuple[int, str]]:
    return [(segment.seq, segment.text) for segment in await store.transcripts.of_call(call_id)]


async def test_what_was_said_since_is_each_calls_own_in_order_without_the_system(store: Store, tenant: Tenant) -> None:
    one, two = [await opened(store, tenant) for _ in range(2)]
    for text_ in ("a", "b", "c"):
        store.writer.segment(one, party="local", text=f"1{text_}", ts_ms=0)
        store.writer.segment(two, party="remote", text=f"2{text_}", ts_ms=0)
    store.writer.segment(one, party="system", text="transferred", ts_ms=0)
    await store.writer.flush()

    async def since(workspace: UUID, after: dict[UUID, int], limit: int = 10) -> list[str]:
        return [row.text for row in await store.transcripts.since(workspace, after, limit=limit)]

    ours = tenant.workspace.id
    assert await since(ours, {one: -1}) == ["1a", "1b", "1c"]
    assert sorted(await since(ours, {one: 0, two: 1})) == ["1b", "1c", "2c"]
    assert {said[1] for said in await since(ours, {one: -1, two: -1}, limit=4)} == {"a", "b"}
    assert await since((await store.workspaces.create("other")).id, {one: -1}) == []


async def test_what_was_said_is_there_after_flush_numbered_from_zero(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    store.writer.segment(call_id, party="local", text="Good morning.", ts_ms=100)
    store.writer.segment(call_id, party="remote", text="Hi.", ts_ms=900)
    await store.writer.flush()
    segments = await store.transcripts.of_call(call_id)
    assert [(s.seq, s.party, s.text, s.ts_ms) for s in segments] == [
        (0, "local", "Good morning.", 100),
        (1, "remote", "Hi.", 900),
    ]
    assert segments[0].line_id == tenant.line.id
    assert segments[0].workspace_id == tenant.workspace.id


async def test_rows_are_written_without_anybody_flushing(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    store.writer.segment(call_id, party="local", text="a", ts_ms=0)
    async with asyncio.timeout(20):
        while not await said(store, call_id):
            await asyncio.sleep(0.01)


async def test_many_calls_at_once_keep_each_their_order(store: Store, tenant: Tenant) -> None:
    calls = [await opened(store, tenant) for _ in range(5)]
    for number in range(200):
        for call_id in calls:
            store.writer.segment(call_id, party="remote", text=str(number), ts_ms=number)
            store.writer.event(call_id, "dtmf", {"digit": str(number % 10)})
    await store.writer.flush()
    for call_id in calls:
        assert await said(store, call_id) == [(n, str(n)) for n in range(200)]
        digits = [e.payload["digit"] for e in await store.calls.events(call_id) if e.kind == "dtmf"]
        assert digits == [str(n % 10) for n in range(200)]


async def test_the_log_is_in_the_order_in_which_things_happened(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    now = utc_now() + timedelta(seconds=1)
    store.writer.event(call_id, "third", at=now + timedelta(milliseconds=2))
    store.writer.event(call_id, "first", at=now)
    store.writer.event(call_id, "second", at=now)
    await store.writer.flush()
    assert [e.kind for e in await store.calls.events(call_id)][-3:] == ["first", "second", "third"]


async def test_a_call_taken_over_by_another_process_goes_on_counting(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    other_db = Database(store.db.url.render_as_string(hide_password=False))
    other = Writer(other_db)
    await other.start()
    for writer in (store.writer, other, store.writer, other):
        writer.segment(call_id, party="local", text="x", ts_ms=0)
        await writer.flush()
    await other.stop()
    await other_db.close()
    assert [seq for seq, _ in await said(store, call_id)] == [0, 1, 2, 3]


async def test_stopping_writes_what_waits_and_takes_no_more(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    writer = Writer(store.db, linger=60)
    await writer.start()
    for number in range(1000):
        writer.segment(call_id, party="local", text=str(number), ts_ms=0)
    await writer.stop()
    assert len(await said(store, call_id)) == 1000
    with pytest.raises(StoreOverloaded):
        writer.segment(call_id, party="local", text="late", ts_ms=0)


async def test_appending_does_not_wait_for_the_database(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    async with store.db.write():  # on SQLite nobody else can write now
        for number in range(1000):
            store.writer.segment(call_id, party="local", text=str(number), ts_ms=0)
        assert store.writer.waiting == 1000, "nothing was written, and nobody was waited for"
    await store.writer.flush()
    assert store.writer.waiting == 0


async def test_a_row_of_an_unknown_call_is_refused_and_told_and_holds_up_nobody(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    store.writer.segment(call_id, party="local", text="before", ts_ms=0)
    store.writer.segment(uuid4(), party="local", text="nobody's", ts_ms=0)
    store.writer.segment(call_id, party="local", text="after", ts_ms=0)
    with pytest.raises(RowsRefused) as refused:
        await store.writer.flush()
    assert refused.value.count == 1
    assert await said(store, call_id) == [(0, "before"), (1, "after")]
    await store.writer.flush()


async def test_text_no_database_can_hold_is_kept_as_far_as_it_can_be(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    store.writer.segment(call_id, party="remote", text="a\0b\ud800c 日本 🎉", ts_ms=0)
    await store.writer.flush()
    assert await said(store, call_id) == [(0, "ab?c 日本 🎉")]


class Failing(Writer):
    """A writer whose database is unavailable ``times`` times."""

    times = 0

    async def _write(self, batch: list[Row]) -> None:
        if self.times:
            self.times -= 1
            raise OperationalError("INSERT", {}, Exception("disk is full"))
        await super()._write(batch)


async def test_rows_survive_a_database_that_is_away_and_are_written_once(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycarrier_server.store.writer.PAUSES", (0.01,))
    call_id = await opened(store, tenant)
    writer = Failing(store.db)
    writer.times = 3
    await writer.start()
    for number in range(10):
        writer.segment(call_id, party="local", text=str(number), ts_ms=0)
    await writer.flush()
    assert await said(store, call_id) == [(n, str(n)) for n in range(10)]
    assert writer.problem is None
    await writer.stop()


async def test_a_flush_that_takes_too_long_says_why_and_loses_nothing(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycarrier_server.store.writer.PAUSES", (0.01,))
    call_id = await opened(store, tenant)
    writer = Failing(store.db)
    writer.times = 10**9
    await writer.start()
    writer.segment(call_id, party="local", text="kept", ts_ms=0)
    async with asyncio.timeout(20):
        while writer.problem is None:  # however slow the first attempt is, its failure is known
            await asyncio.sleep(0.01)
    with pytest.raises(StoreBehind, match="disk is full"):
        await writer.flush(timeout=0.1)
    writer.times = 0
    await writer.flush()
    assert await said(store, call_id) == [(0, "kept")]
    await writer.stop()


async def test_a_queue_that_is_full_says_so_and_keeps_what_it_has(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    writer = Writer(store.db, queue=3)
    for number in range(3):
        writer.segment(call_id, party="local", text=str(number), ts_ms=0)
    with pytest.raises(StoreOverloaded, match="3 rows"):
        writer.segment(call_id, party="local", text="too much", ts_ms=0)
    await writer.start()
    await writer.stop()
    assert len(await said(store, call_id)) == 3


async def test_one_transaction_holds_up_to_a_batch(store: Store, tenant: Tenant) -> None:
    batches: list[int] = []

    class Counting(Writer):
        async def _write(self, batch: list[Any]) -> None:
            batches.append(len(batch))
            await super()._write(batch)

    call_id = await opened(store, tenant)
    writer = Counting(store.db)
    for number in range(600):
        writer.segment(call_id, party="local", text=str(number), ts_ms=0)
    await writer.start()
    await writer.stop()
    assert batches == [256, 256, 88]


# --- fair to every call ---------------------------------------------------------------------------------------------


class Noting(Writer):
    """A writer that writes nothing, and remembers whose rows came in each batch."""

    def __init__(self, db: Database, **options: Any) -> None:
        super().__init__(db, **options)
        self.batches: list[list[UUID]] = []

    async def _write(self, batch: list[Row]) -> None:
        self.batches.append([row.values["call_id"] for row in batch])


async def written(writer: Noting) -> list[list[UUID]]:
    await writer.start()
    await writer.stop()
    return writer.batches


async def test_one_calls_rows_never_stand_before_anothers(store: Store) -> None:
    writer, flooding, quiet = Noting(store.db), uuid4(), uuid4()
    for _ in range(2000):
        writer.segment(flooding, party="remote", text="flood", ts_ms=0)
    writer.segment(quiet, party="remote", text="said once", ts_ms=0)
    batches = await written(writer)
    assert quiet in batches[0]
    assert [len(batch) for batch in batches][:-1] == [256] * 7


async def test_a_workspace_with_many_calls_has_no_larger_share_than_one_with_few(store: Store) -> None:
    writer, crowded, quiet = Noting(store.db), uuid4(), uuid4()
    calls = [uuid4() for _ in range(100)]
    for call_id in calls:
        for _ in range(20):
            writer.segment(call_id, party="remote", text="many", ts_ms=0, workspace_id=crowded)
    few = uuid4()
    for _ in range(128):
        writer.segment(few, party="remote", text="few", ts_ms=0, workspace_id=quiet)
    batches = await written(writer)
    assert batches[0].count(few) == 128
    assert all(set(calls) & set(batch) for batch in batches)
    first_two = {*batches[0], *batches[1]}
    assert set(calls) <= first_two, "nobody of the crowd waits for the others of it to be done"


async def test_more_calls_than_a_batch_has_rows_all_come_in_turn(store: Store) -> None:
    writer = Noting(store.db, batch=8)
    calls = [uuid4() for _ in range(20)]
    for call_id in calls:
        for _ in range(3):
            writer.event(call_id, "digit")
    batches = await written(writer)
    assert set(calls) <= {call_id for batch in batches[:3] for call_id in batch}
    assert sorted(call_id for batch in batches for call_id in batch) == sorted(calls * 3)


async def test_a_call_over_its_share_loses_its_own_rows_and_nobody_elses(store: Store, tenant: Tenant) -> None:
    flooding, quiet = await opened(store, tenant), await opened(store, tenant)
    writer = Writer(store.db, call_queue=5)
    for number in range(5):
        writer.segment(flooding, party="local", text=str(number), ts_ms=0)
    with pytest.raises(StoreOverloaded, match="5 rows of this call"):
        writer.segment(flooding, party="local", text="too much", ts_ms=0)
    writer.segment(quiet, party="local", text="kept", ts_ms=0)
    assert (writer.waiting_of(flooding), writer.waiting_of(quiet), writer.waiting) == (5, 1, 6)
    await writer.start()
    await writer.flush()
    writer.segment(flooding, party="local", text="room again", ts_ms=0)
    await writer.stop()
    assert [text for _, text in await said(store, flooding)] == [*"01234", "room again"]
    assert await said(store, quiet) == [(0, "kept")]


async def test_a_workspace_over_its_share_leaves_the_others_theirs(store: Store) -> None:
    writer, ours, theirs = Noting(store.db, workspace_queue=4), uuid4(), uuid4()
    for _ in range(4):
        writer.event(uuid4(), "digit", workspace_id=theirs)
    with pytest.raises(StoreOverloaded, match="4 rows of this workspace"):
        writer.event(uuid4(), "digit", workspace_id=theirs)
    writer.event(uuid4(), "digit", workspace_id=ours)
    assert sum(map(len, await written(writer))) == 5


async def test_who_waits_for_one_calls_rows_waits_for_no_others(store: Store) -> None:
    flooding, quiet = uuid4(), uuid4()
    release = asyncio.Event()

    class Slow(Noting):
        async def _write(self, batch: list[Row]) -> None:
            await super()._write(batch)
            if len(self.batches) > 1:
                await release.wait()

    writer = Slow(store.db)
    for _ in range(1000):
        writer.event(flooding, "digit")
    writer.event(quiet, "digit")
    await writer.start()
    await writer.flush(20, call_id=quiet)
    with pytest.raises(StoreBehind):
        await writer.flush(0.05, call_id=flooding)
    release.set()
    await writer.stop()


async def test_a_refused_row_is_told_to_who_waits_for_its_call_only(store: Store, tenant: Tenant) -> None:
    call_id, nobodys = await opened(store, tenant), uuid4()
    store.writer.segment(call_id, party="local", text="kept", ts_ms=0)
    store.writer.segment(nobodys, party="local", text="nobody's", ts_ms=0)
    await store.writer.flush(call_id=call_id)
    with pytest.raises(RowsRefused):
        await store.writer.flush(call_id=nobodys)
    await store.writer.flush()


async def test_a_transcript_is_read_up_to_a_bound(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    for number in range(transcripts.LONGEST + 10):
        store.writer.segment(call_id, party="remote", text=str(number), ts_ms=number)
        if not number % 1000:
            await store.writer.flush()
    await store.writer.flush()
    read = await said(store, call_id)
    assert len(read) == transcripts.LONGEST and read[-1] == (transcripts.LONGEST - 1, str(transcripts.LONGEST - 1))


# --- search ---------------------------------------------------------------------------------------------------------


async def fill(store: Store, call_id: UUID, *texts: str, party: str = "remote") -> None:
    for text_ in texts:
        store.writer.segment(call_id, party=party, text=text_, ts_ms=0)
    await store.writer.flush()


async def found(store: Store, tenant: Tenant, query: str, **which: Any) -> list[str]:
    return [s.text for s in await store.transcripts.search(tenant.workspace.id, query, **which)]


async def test_a_search_finds_all_words_in_any_order_and_case(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    await fill(store, call_id, "I would like a Table for two", "a table", "nothing")
    assert await found(store, tenant, "TABLE like") == ["I would like a Table for two"]
    assert sorted(await found(store, tenant, "table")) == ["I would like a Table for two", "a table"]
    assert await found(store, tenant, "tabl") == []


async def test_the_better_match_comes_first(store: Store, tenant: Tenant) -> None:
    call_id = await opened(store, tenant)
    await fill(store, call_id, "one refund among very many other words that say nothing", "refund refund refund")
    assert (await found(store, tenant, "refund"))[0] == "refund refund refund"


SYNTAX = ['"', "a AND", "text:hello", "hello*", "NEAR(hello)", "-hello", "(", "hello | bye", "' OR 1=1 --", "\\", "^"]


@pytest.mark.parametrize("query", SYNTAX)
async def test_nothing_in_a_query_is_syntax(store: Store, tenant: Tenant, query: str) -> None:
    await fill(store, await opened(store, tenant), "hello there")
    result = await found(store, tenant, query)
    assert result in ([], ["hello there"])
    assert ("hello there" in result) == (query in ("hello*", "-hello"))


@pytest.mark.parametrize("query", ["", "   ", "!?", "\0"])
async def test_a_query_without_words_finds_nothing(store: Store, tenant: Tenant, query: str) -> None:
    await fill(store, await opened(store, tenant), "hello")
    assert await found(store, tenant, query) == []


async def test_a_search_stays_in_its_workspace_line_and_party(store: Store, tenant: Tenant) -> None:
    from tenants import make_tenant

    other = await make_tenant(store, "+12125550101", "other")
    await fill(store, await opened(store, tenant), "secret word")
    await fill(store, await opened(store, tenant), "secret word of ours", party="local")
    await fill(store, await opened(store, other), "secret word of others")
    assert len(await found(store, tenant, "secret")) == 2
    assert await found(store, tenant, "secret", party="local") == ["secret word of ours"]
    assert await found(store, tenant, "secret", line_id=other.line.id) == []
    assert len(await found(store, tenant, "secret", line_id=tenant.line.id, agent_id=tenant.agent.id)) == 2
    assert await found(store, tenant, "secret", party='local" OR "p') == []
    assert await found(store, tenant, str(other.workspace.id)) == []
    assert await found(store, tenant, f"w{other.workspace.id.hex}") == []


async def test_a_tenant_is_found_behind_a_thousand_matches_of_others(store: Store, tenant: Tenant) -> None:
    from tenants import make_tenant

    await fill(store, await opened(store, tenant), "the needle")
    other = await make_tenant(store, "+12125550101", "other")
    await fill(store, await opened(store, other), *(["the hay"] * 1500))
    assert await found(store, tenant, "the") == ["the needle"]
    assert len(await store.transcripts.search(other.workspace.id, "the", limit=2000)) == 1000


async def test_deleting_a_segment_takes_it_out_of_the_index(store: Store, tenant: Tenant) -> None:
    await fill(store, await opened(store, tenant), "to be forgotten", "to be kept")
    async with store.db.write() as session:
        await session.execute(text("DELETE FROM transcripts WHERE text = 'to be forgotten'"))
    assert await found(store, tenant, "be") == ["to be kept"]
