"""Hot writes: never waiting, in order, nothing lost, failures told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tenants import Tenant

from linecard.server.refusals import StoreOverloaded
from linecard.server.store import Store
from linecard.server.store.columns import utc_now
from linecard.server.store.database import Database
from linecard.server.store.writer import Row, RowsRefused, StoreBehind, Writer


async def opened(store: Store, tenant: Tenant) -> UUID:
    return UUID((await store.callbook.open(tenant.call())).reference)


async def said(store: Store, call_id: UUID) -> Sequence[tuple[int, str]]:
    return [(segment.seq, segment.text) for segment in await store.transcripts.of_call(call_id)]


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
    async with asyncio.timeout(5):
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
        started = time.perf_counter()
        for number in range(1000):
            store.writer.segment(call_id, party="local", text=str(number), ts_ms=0)
        assert time.perf_counter() - started < 0.5
    await store.writer.flush()


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
    """A writer whose database is away ``times`` times."""

    times = 0

    async def _write(self, batch: list[Row]) -> None:
        if self.times:
            self.times -= 1
            raise OperationalError("INSERT", {}, Exception("disk is full"))
        await super()._write(batch)


async def test_rows_survive_a_database_that_is_away_and_are_written_once(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linecard.server.store.writer.PAUSES", (0.01,))
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
    monkeypatch.setattr("linecard.server.store.writer.PAUSES", (0.01,))
    call_id = await opened(store, tenant)
    writer = Failing(store.db)
    writer.times = 10**9
    await writer.start()
    writer.segment(call_id, party="local", text="kept", ts_ms=0)
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
