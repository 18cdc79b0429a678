"""Webhooks out: both signatures, retries, order, no delivery by two, none lost when a process dies."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, update
from tenants import Tenant, make_tenant

from anycarrier.calls import CallStatus, EndReason
from anycarrier_server.encryption import inkbox_headers, oneinbox_headers
from anycarrier_server.refusals import TooManyWebhooks
from anycarrier_server.store import NewCall, Store
from anycarrier_server.store import outbox as store_outbox
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Attempt, CallRow, Delivery, OutboxEvent, Subscription
from anycarrier_server.store.outbox import LEASE, Outbox
from anycarrier_server.url_guard import GuardedTransport, UrlGuard
from anycarrier_server.work import webhook_delivery
from anycarrier_server.work.webhook_delivery import INKBOX_PAUSES, ONEINBOX_PAUSES, Sender, Style


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue's clock, and this module's, all but stands still: what is due again in a second is not due yet, however
    long a test takes. A microsecond a look, because the log is read by time."""
    began, looks = utc_now(), itertools.count()

    def now() -> datetime:
        return began + timedelta(microseconds=next(looks))

    for module in (webhook_delivery, store_outbox):
        monkeypatch.setattr(module, "utc_now", now)
    monkeypatch.setitem(globals(), "utc_now", now)


async def write(event: OutboxEvent, call: CallRow | None) -> str | None:
    """What a face would write, in little."""
    return json.dumps({"id": event.public_id, "event": event.kind, **event.payload})


TYPES = {kind: kind for kind in ("call.started", "call.ended", "call.failed", "call.analyzed", "transcript.partial")}
STYLES = {
    "oneinbox": Style(TYPES, write, ONEINBOX_PAUSES),
    "inkbox": Style(TYPES, write, INKBOX_PAUSES, stubborn=True),
}


class Receiver:
    """The other end: keeps what it gets, answers as told."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200)) -> None:
        self.answer = answer
        self.got: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.got.append(request)
        return self.answer(request)

    @property
    def kinds(self) -> list[str]:
        return [json.loads(request.content)["event"] for request in self.got]


def sender(store: Store, receiver: Any) -> Sender:
    client = httpx.AsyncClient(transport=httpx.MockTransport(receiver))
    return Sender(store.outbox, store.webhooks, client, STYLES, timeout=60, jitter=lambda: 0.0)


async def subscribe(store: Store, tenant: Tenant, face: str = "oneinbox", **fields: Any) -> Subscription:
    events = fields.pop("events", ["call.started", "call.ended", "call.failed"])
    if face == "oneinbox":
        fields.setdefault("secret", "s3cret")
    url = fields.pop("url", "https://hook.example/a")
    return await store.webhooks.create(tenant.workspace.id, face=face, url=url, events=events, **fields)


async def talked(store: Store, tenant: Tenant) -> UUID:
    """A call from ring to hang-up."""
    call = await store.callbook.open(tenant.call())
    now = utc_now()
    await store.callbook.update(
        call.reference, lambda c: c.model_copy(update={"status": CallStatus.ANSWERED, "answered_at": now})
    )
    over = {"status": CallStatus.ENDED, "ended_at": now, "reason": EndReason.USER_HANGUP}
    await store.callbook.update(call.reference, lambda c: c.model_copy(update=over))
    return UUID(call.reference)


async def fan_out(store: Store) -> None:
    """Write down who is to be told of all that has happened."""
    while await store.outbox.fan_out(sender(store, Receiver())._write):
        pass


async def all_due(store: Store) -> None:
    """Let the pauses be over."""
    async with store.db.write() as session:
        await session.execute(update(Delivery).values(next_at=utc_now() - timedelta(seconds=1)))


async def deliveries(store: Store) -> list[Delivery]:
    async with store.db.read() as session:
        return list(await session.scalars(select(Delivery).order_by(Delivery.id)))


# --- signatures -----------------------------------------------------------------------------------------------------


def test_the_inkbox_signature_is_the_one_of_the_test_vector() -> None:
    signed = inkbox_headers("whsec_abc", "r1", 1700000000, b"{}")
    assert signed == {
        "X-Inkbox-Request-ID": "r1",
        "X-Inkbox-Timestamp": "1700000000",
        "X-Inkbox-Signature": "sha256=f0762173346f1f5dcb7f745dcfa953b91812f924729303ea561bd4e36cc3c7e1",
    }


def test_the_oneinbox_signature_covers_time_and_body() -> None:
    signed = oneinbox_headers("s3cret", "evt_1", 1700000000, b'{"a":1}')
    expected = hmac.new(b"s3cret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert signed["X-OneInbox-Signature"] == f"v1={expected}"
    assert oneinbox_headers("s3cret", "evt_1", 1700000001, b'{"a":1}') != signed
    assert oneinbox_headers("other", "evt_1", 1700000000, b'{"a":1}') != signed


async def test_what_arrives_can_be_verified_with_the_subscriptions_secret(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant)
    await talked(store, tenant)
    receiver = Receiver()
    await sender(store, receiver).run_once()
    for request in receiver.got:
        timestamp = request.headers["x-oneinbox-timestamp"]
        expected = hmac.new(b"s3cret", f"{timestamp}.".encode() + request.content, hashlib.sha256).hexdigest()
        assert request.headers["x-oneinbox-signature"] == f"v1={expected}"
        assert request.headers["x-oneinbox-event-id"] == json.loads(request.content)["id"]
    assert receiver.kinds == ["call.started", "call.ended"]


async def test_an_agents_deliveries_are_signed_once_it_has_a_key_and_carry_the_token(
    store: Store, tenant: Tenant
) -> None:
    await subscribe(store, tenant, "inkbox", agent_id=tenant.agent.id, events=["call.ended"], auth_token="tok")
    receiver = Receiver()
    post = sender(store, receiver)
    await talked(store, tenant)
    await post.run_once()
    key, _ = await store.webhooks.rotate_signing_key(tenant.workspace.id, tenant.agent.id)
    await talked(store, tenant)
    await post.run_once()
    unsigned, signed = receiver.got
    assert "x-inkbox-signature" not in unsigned.headers
    assert unsigned.headers["authorization"] == "Bearer tok"
    message = f"{signed.headers['x-inkbox-request-id']}.{signed.headers['x-inkbox-timestamp']}.".encode()
    expected = hmac.new(key.removeprefix("whsec_").encode(), message + signed.content, hashlib.sha256).hexdigest()
    assert signed.headers["x-inkbox-signature"] == f"sha256={expected}"


# --- who is told ----------------------------------------------------------------------------------------------------


async def test_subscribers_hear_only_their_own_workspace_agent_line_and_events(store: Store, tenant: Tenant) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    await subscribe(store, other, url="https://hook.example/other")
    await subscribe(store, tenant, url="https://hook.example/ben", agent_id=ben.id)
    await subscribe(store, tenant, url="https://hook.example/failed", events=["call.failed"])
    paused = await subscribe(store, tenant, url="https://hook.example/paused")
    await store.webhooks.change(paused, status="paused")
    await subscribe(store, tenant, url="https://hook.example/line", line_id=tenant.line.id)
    await talked(store, tenant)
    theirs = await talked(store, other)  # both workspaces have events in the same fan-out
    receiver = Receiver()
    await sender(store, receiver).run_once()
    assert sorted(str(request.url) for request in receiver.got) == [
        *["https://hook.example/line"] * 2, *["https://hook.example/other"] * 2
    ]  # fmt: skip
    sent = {(one.workspace_id, one.url, one.call_id == theirs) for one in await deliveries(store)}
    assert sent == {
        (tenant.workspace.id, "https://hook.example/line", False),
        (other.workspace.id, "https://hook.example/other", True),
    }


async def test_a_calls_own_url_is_told_too_but_nobody_twice(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant, url="https://hook.example/a")
    for own in ("https://hook.example/a", "https://hook.example/own"):
        row, _ = await store.calls.create(
            NewCall(line=tenant.line, to_number="+14155550178", agent_id=tenant.agent.id, webhook_url=own)
        )
        await store.callbook.update(row.reference, lambda c: c.model_copy(update={"status": CallStatus.ENDED}))
    receiver = Receiver()
    await sender(store, receiver).run_once()
    assert sorted(str(request.url) for request in receiver.got) == [
        "https://hook.example/a",
        "https://hook.example/a",
        "https://hook.example/own",
    ]
    own_one = next(request for request in receiver.got if request.url.path == "/own")
    key = await store.webhooks.signing_key(tenant.workspace.id)
    assert key is not None
    timestamp = int(own_one.headers["x-oneinbox-timestamp"])
    signed = oneinbox_headers(key, own_one.headers["x-oneinbox-event-id"], timestamp, own_one.content)
    assert own_one.headers["x-oneinbox-signature"] == signed["X-OneInbox-Signature"]


async def test_an_event_published_once_is_not_published_again(store: Store, tenant: Tenant) -> None:
    call_id = await talked(store, tenant)
    publish = store.outbox.publish
    first = await publish(tenant.workspace.id, "call.analyzed", call_id=call_id, once=f"{call_id}:analyzed")
    again = await publish(tenant.workspace.id, "call.analyzed", call_id=call_id, once=f"{call_id}:analyzed")
    assert (first, again) == (True, False)


async def test_a_receiver_that_cannot_be_written_for_does_not_hold_up_the_others(
    store: Store, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    await subscribe(store, tenant, face="inkbox", url="https://hook.example/bad")
    await subscribe(store, tenant, url="https://hook.example/good")

    async def broken(event: OutboxEvent, call: CallRow | None) -> str | None:
        raise RuntimeError("a bug in a face")

    receiver = Receiver()
    post = sender(store, receiver)
    post.styles = STYLES | {"inkbox": Style(TYPES, broken, INKBOX_PAUSES)}
    await talked(store, tenant)
    await post.run_once()
    assert {request.url.path for request in receiver.got} == {"/good"}
    assert "could not be written" in caplog.text


async def test_an_event_is_written_once_for_all_receivers_of_a_face(store: Store, tenant: Tenant) -> None:
    for number in range(5):
        await subscribe(store, tenant, url=f"https://hook.example/{number}", events=["call.ended"])
    await subscribe(store, tenant, face="inkbox", url="https://hook.example/ink", events=["call.ended"])
    await subscribe(store, tenant, url="https://hook.example/started", events=["call.started"])
    written: list[tuple[str, str]] = []

    def noting(face: str) -> Style:
        async def noted(event: OutboxEvent, call: CallRow | None) -> str | None:
            written.append((face, event.kind))
            return f"{face} {event.kind}"

        return replace(STYLES[face], write=noted)

    receiver = Receiver()
    post = sender(store, receiver)
    post.styles = {face: noting(face) for face in STYLES}
    await talked(store, tenant)
    await post.run_once()
    assert sorted(written) == [("inkbox", "call.ended"), ("oneinbox", "call.ended"), ("oneinbox", "call.started")]
    told = sorted((request.url.path, request.content.decode()) for request in receiver.got)
    assert told == [
        *((f"/{number}", "oneinbox call.ended") for number in range(5)),
        ("/ink", "inkbox call.ended"),
        ("/started", "oneinbox call.started"),
    ]


async def test_a_workspace_has_so_many_subscriptions_and_no_more_however_many_ask_at_once(
    store: Store, tenant: Tenant
) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    made = await asyncio.gather(*(subscribe(store, tenant, most=3) for _ in range(8)), return_exceptions=True)
    assert len([one for one in made if isinstance(one, Subscription)]) == 3
    refused = [one for one in made if isinstance(one, TooManyWebhooks)]
    assert len(refused) == 5 and all("3 webhook subscriptions" in str(one) for one in refused)
    await subscribe(store, other, most=3)
    await store.webhooks.delete(next(one for one in made if isinstance(one, Subscription)))
    await subscribe(store, tenant, most=3)


# --- fairness -------------------------------------------------------------------------------------------------------


async def test_sixty_silent_receivers_hold_up_neither_another_workspace_nor_their_own_workspaces_good_one(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "SLOW_AFTER", 0.05)
    loud = await make_tenant(store, "+12125550101", "loud")
    for number in range(60):
        await subscribe(store, loud, url=f"https://silent.example/{number}")
    await subscribe(store, loud, url="https://good.example/")
    await subscribe(store, tenant, url="https://quiet.example/")
    never, news = asyncio.Event(), asyncio.Condition()
    got: Counter[str] = Counter()

    async def answer(request: httpx.Request) -> httpx.Response:
        async with news:
            got[request.url.host] += 1
            news.notify_all()
        if request.url.host == "silent.example":
            await never.wait()
        return httpx.Response(200)

    post = sender(store, answer)
    store.db.on_announcement = post.wake
    post.start()
    for call in range(1, 4):
        await talked(store, loud)
        await talked(store, tenant)
        async with asyncio.timeout(30), news:
            await news.wait_for(lambda call=call: got["quiet.example"] == got["good.example"] == 2 * call)  # type: ignore[misc]
    async with asyncio.timeout(30), news:
        await news.wait_for(lambda: got["silent.example"] == 60)  # of each lane one, and no lane twice
    never.set()
    await post.stop()


async def test_what_is_under_way_is_bounded_by_workspace_slow_or_not(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "SLOW_AFTER", 0.02)
    for name, value in {"AT_ONCE_EACH": 6, "CLAIM_EACH": 2, "SLOW_AT_ONCE_EACH": 10}.items():
        monkeypatch.setattr(webhook_delivery, name, value)
    for number in range(30):
        await subscribe(store, tenant, url=f"https://silent.example/{number}", events=["call.ended"])
    never, under_way = asyncio.Event(), 0

    async def silent(request: httpx.Request) -> httpx.Response:
        nonlocal under_way
        under_way += 1
        await never.wait()
        return httpx.Response(200)

    post = sender(store, silent)
    await talked(store, tenant)
    post.start()
    async with asyncio.timeout(30):
        while under_way < 16:
            await asyncio.sleep(0.01)
    for _ in range(5):
        await asyncio.sleep(0.03)
        post.wake()
    assert under_way == 6 + 10
    never.set()
    async with asyncio.timeout(30):
        while under_way < 30:  # who answers late is slow, and is not forgotten
            await asyncio.sleep(0.01)
    await post.stop()


async def test_a_workspace_with_many_events_delays_nobody_elses_next_one(store: Store, tenant: Tenant) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    for who in (other, tenant):
        await subscribe(store, who)
    for _ in range(8):
        await talked(store, other)
    mine = await talked(store, tenant)
    assert await store.outbox.fan_out(sender(store, Receiver())._write, limit=4) == 4
    assert [one.event_type for one in await deliveries(store) if one.call_id == mine] == ["call.started", "call.ended"]


async def test_who_has_few_receivers_is_written_for_before_who_has_many(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_outbox, "ROWS_AT_ONCE", 7)
    for number in range(3):
        loud = await make_tenant(store, f"+1212555011{number}", f"loud {number}")
        for receiver in range(6):
            await subscribe(store, loud, url=f"https://hook.example/{receiver}", events=["call.ended"])
        await talked(store, loud)
        await talked(store, loud)
    await subscribe(store, tenant, url="https://hook.example/mine", events=["call.ended"])
    mine = await talked(store, tenant)
    write = sender(store, Receiver())._write
    assert await store.outbox.fan_out(write) == 6  # each workspace's first, of which nobody wants to hear, and two more
    assert [one.call_id == mine for one in await deliveries(store)] == [True] + 6 * [False]


async def test_a_look_for_slow_receivers_that_found_nothing_is_not_repeated_at_once(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "SLOW_LOOK_APART", 600)
    slow = await subscribe(store, tenant, url="https://slow.example/", events=["call.ended"])
    for number in range(5):
        await subscribe(store, tenant, url=f"https://hook.example/{number}", events=["call.ended"])
    over = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "slow.example":
            await over.wait()
        return httpx.Response(200)

    post = sender(store, answer)
    post._slow[f"subscription:{slow.id.hex}"] = None
    looked: list[bool] = []
    claim = store.outbox.claim

    async def noted(**how: Any) -> list[Delivery]:
        looked.append(how["slow_ones"])
        return await claim(**how)

    monkeypatch.setattr(store.outbox, "claim", noted)
    await talked(store, tenant)
    await post._fan_out()
    for _ in range(3):
        await post._hand_out()
    assert looked == [False, True, False, True, False], "it found one, then none, and then it is not asked"
    assert post._under_way(slow=True) == {tenant.workspace.id: 1}
    post._slow_at -= webhook_delivery.SLOW_LOOK_APART
    await talked(store, tenant)
    await post._fan_out()
    await post._hand_out()
    assert looked[5:] == [False, True]
    over.set()
    await post.stop()


async def test_workspaces_take_turns_and_slow_receivers_are_taken_apart(store: Store, tenant: Tenant) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    slow = await subscribe(store, other, url="https://hook.example/slow", events=["call.ended"])
    for number in range(5):
        await subscribe(store, other, url=f"https://hook.example/{number}", events=["call.ended"])
    await subscribe(store, tenant, url="https://hook.example/mine", events=["call.ended"])
    await talked(store, other)
    await talked(store, tenant)
    await fan_out(store)
    known = [f"subscription:{slow.id.hex}"]
    claim = store.outbox.claim
    first = await claim(limit=4, each=2, slow=known)
    assert Counter(one.workspace_id for one in first) == {other.workspace.id: 2, tenant.workspace.id: 1}
    assert await claim(slow=known, full=[other.workspace.id]) == []
    assert [one.url for one in await claim(slow=known, slow_ones=True)] == ["https://hook.example/slow"]
    assert len(await claim(slow=known)) == 3


async def test_the_own_urls_of_one_workspaces_calls_are_slow_together_by_their_host(
    store: Store, tenant: Tenant
) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    for who, url in (
        (tenant, "https://Own.example/1"), (tenant, "https://own.example/2"), (tenant, "https://own.example:444/"),
        (other, "https://own.example/1"),
    ):  # fmt: skip
        new = NewCall(line=who.line, to_number="+14155550178", agent_id=who.agent.id, webhook_url=url)
        row, _ = await store.calls.create(new)
        await store.callbook.update(row.reference, lambda c: c.model_copy(update={"status": CallStatus.ENDED}))
    await fan_out(store)
    of = Counter(one.receiver for one in await deliveries(store))
    assert of == {
        f"host:{tenant.workspace.id.hex}:own.example": 2,
        f"host:{tenant.workspace.id.hex}:own.example:444": 1,
        f"host:{other.workspace.id.hex}:own.example": 1,
    }
    assert len({one.lane for one in await deliveries(store)}) == 4  # each call is told in its own order all the same


async def test_what_is_old_is_deleted_and_what_nobody_takes_is_given_up_in_time(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    receiver = Receiver()
    post = sender(store, receiver)
    await talked(store, tenant)
    await post.run_once()
    receiver.answer = lambda _: httpx.Response(503)
    await talked(store, tenant)
    await post.run_once()
    now = utc_now()
    assert await store.outbox.clean(at=now + timedelta(hours=23)) == 0
    assert [one.status for one in await deliveries(store)] == ["delivered", "pending"]
    assert await store.outbox.clean(at=now + timedelta(hours=25)) == 0
    assert [one.status for one in await deliveries(store)] == ["delivered", "failed"]
    looks, transact = [], store.db.transact

    async def counted(work: Any) -> Any:
        looks.append(await transact(work))
        return looks[-1]

    monkeypatch.setattr(store.db, "transact", counted)
    assert await store.outbox.clean(at=now + timedelta(days=8), limit=3) == 4  # events: two of each call
    assert looks[1:] == [3, 1, 0], "each look is a short transaction"
    assert await store.outbox.waiting() == (False, False)
    assert len(await store.webhooks.log(tenant.workspace.id)) == 2
    assert await store.outbox.clean(at=now + timedelta(days=32)) == 2
    assert list(await store.webhooks.log(tenant.workspace.id)) == await deliveries(store) == []


# --- retries and order ----------------------------------------------------------------------------------------------


async def test_a_failing_receiver_is_tried_again_at_the_stated_pauses_with_the_same_event(
    store: Store, tenant: Tenant
) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    receiver = Receiver(lambda _: httpx.Response(503, text="down"))
    post = sender(store, receiver)
    pauses = []
    while True:
        before = utc_now()
        if not await post.run_once():
            break
        (delivery,) = await deliveries(store)
        if delivery.status != "pending":
            break
        pauses.append(round((delivery.next_at - before).total_seconds(), 0))
        await all_due(store)
    assert pauses == list(ONEINBOX_PAUSES)
    assert len(receiver.got) == 6
    assert len({request.headers["x-oneinbox-event-id"] for request in receiver.got}) == 1
    assert len({request.content for request in receiver.got}) == 1
    (delivery,) = await deliveries(store)
    assert (delivery.status, delivery.attempts) == ("failed", 6)
    logged = await store.webhooks.log(tenant.workspace.id, success=False)
    assert len(logged) == 6
    assert (logged[0].attempt.response_status, logged[0].attempt.response_body) == (503, "down")


async def test_the_inkbox_face_tries_three_times_whatever_the_refusal(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant, "inkbox", events=["call.ended"])
    await talked(store, tenant)
    receiver = Receiver(lambda _: httpx.Response(404))
    post = sender(store, receiver)
    while await post.run_once():
        await all_due(store)
    assert len(receiver.got) == 3


@pytest.mark.parametrize(("status", "attempts"), [(400, 1), (404, 1), (410, 1), (302, 6), (408, 6), (429, 6), (500, 6)])
async def test_a_plain_refusal_is_final_and_trouble_is_not(
    store: Store, tenant: Tenant, status: int, attempts: int
) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    receiver = Receiver(lambda _: httpx.Response(status, headers={"location": "https://elsewhere.example/"}))
    post = sender(store, receiver)
    while await post.run_once():
        await all_due(store)
    assert len(receiver.got) == attempts


async def test_later_events_wait_for_the_earlier_one_of_the_same_subscription_only(
    store: Store, tenant: Tenant
) -> None:
    await subscribe(store, tenant, url="https://hook.example/slow")
    await subscribe(store, tenant, url="https://hook.example/fast")
    down = True

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503 if down and request.url.path == "/slow" else 200)

    receiver = Receiver(answer)
    post = sender(store, receiver)
    await talked(store, tenant)
    await talked(store, tenant)
    await post.run_once()
    told = [(r.url.path, kind) for r, kind in zip(receiver.got, receiver.kinds, strict=True)]
    assert [kind for path, kind in told if path == "/fast"] == ["call.started", "call.ended"] * 2
    assert [kind for path, kind in told if path == "/slow"] == ["call.started"]
    down = False
    await all_due(store)
    await post.run_once()
    slow = [json.loads(r.content)["event"] for r in receiver.got if r.url.path == "/slow"]
    assert slow == ["call.started", "call.started", "call.ended", "call.started", "call.ended"]


async def test_events_that_waited_too_long_behind_a_dead_receiver_get_one_attempt(
    store: Store, tenant: Tenant
) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    receiver = Receiver(lambda _: httpx.Response(503))
    post = sender(store, receiver)
    while await post.queue.fan_out(post._write):
        pass
    async with store.db.write() as session:
        await session.execute(update(Delivery).values(created_at=utc_now() - timedelta(hours=1)))
    await post.run_once()
    assert [d.status for d in await deliveries(store)] == ["failed"]


async def test_two_processes_never_send_the_same_delivery(store: Store, tenant: Tenant) -> None:
    other_db = Database(store.db.url.render_as_string(hide_password=False))
    for number in range(4):
        await subscribe(store, tenant, url=f"https://hook.example/{number}")
    await asyncio.gather(*(talked(store, tenant) for _ in range(10)))
    receiver = Receiver()

    async def slowly(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return await receiver(request)

    here, there = sender(store, slowly), sender(store, slowly)
    there.queue = Outbox(other_db)
    while True:
        sent = await asyncio.gather(here.run_once(), there.run_once())
        if not any(sent):
            break
    await other_db.close()
    got = [(str(r.url), r.headers["x-oneinbox-event-id"]) for r in receiver.got]
    assert len(got) == len(set(got)) == 80
    assert {d.status for d in await deliveries(store)} == {"delivered"}


async def test_of_many_claiming_at_once_each_delivery_goes_to_one(store: Store, tenant: Tenant) -> None:
    for number in range(6):
        await subscribe(store, tenant, url=f"https://hook.example/{number}", events=["call.ended"])
    await talked(store, tenant)
    post = sender(store, Receiver())
    await store.outbox.fan_out(post._write)
    ids: list[int] = []
    while any(claimed := await asyncio.gather(*(store.outbox.claim(limit=2) for _ in range(10)))):
        ids += [delivery.id for part in claimed for delivery in part]
    assert len(ids) == len(set(ids)) == 6


async def test_what_is_only_good_at_once_is_sent_once_and_holds_up_nothing(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant)
    await talked(store, tenant)
    receiver = Receiver(lambda _: httpx.Response(500))
    post = sender(store, receiver)
    post.styles = {face: replace(style, fleeting=("call.started",)) for face, style in STYLES.items()}
    await post.run_once()
    assert receiver.kinds == ["call.started", "call.ended"]
    assert [delivery.status for delivery in await deliveries(store)] == ["failed", "pending"]


async def test_what_a_dead_process_had_is_sent_by_another_with_the_same_event(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    receiver = Receiver()
    post = sender(store, receiver)
    await store.outbox.fan_out(post._write)
    (dead,) = await store.outbox.claim()
    assert await store.outbox.claim() == []
    later = utc_now() + LEASE + timedelta(seconds=1)
    (taken,) = await store.outbox.claim(at=later)
    assert (taken.id, taken.event_id, taken.body) == (dead.id, dead.event_id, dead.body)
    # The first one was only slow: its late note is logged and changes nothing.
    late = Attempt(workspace_id=dead.workspace_id, delivery_id=dead.id, success=True)
    assert not await store.outbox.finish(dead, late, retry_at=None)
    assert (await deliveries(store))[0].status == "pending"


async def test_a_running_sender_delivers_when_woken_and_stops_cleanly(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant)
    arrived = asyncio.Event()
    receiver = Receiver()

    async def noting(request: httpx.Request) -> httpx.Response:
        answer = await receiver(request)
        if len(receiver.got) == 2:
            arrived.set()
        return answer

    post = sender(store, noting)
    store.db.on_announcement = post.wake
    post.start()
    await talked(store, tenant)
    async with asyncio.timeout(20):
        await arrived.wait()
    await post.stop()
    assert receiver.kinds == ["call.started", "call.ended"]
    assert {d.status for d in await deliveries(store)} == {"delivered"}


async def test_a_url_that_turned_inside_is_refused_for_good_and_logged(store: Store, tenant: Tenant) -> None:
    async def inside(host: str, port: int) -> list[str]:
        return ["10.0.0.1"]

    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    receiver = Receiver()
    post = sender(store, receiver)
    post.http = httpx.AsyncClient(
        transport=GuardedTransport(UrlGuard(resolve=inside), httpx.MockTransport(receiver))
    )
    await post.run_once()
    (logged,) = await store.webhooks.log(tenant.workspace.id)
    assert "private or reserved" in (logged.attempt.error_detail or "")
    assert logged.delivery.status == "failed"
    assert receiver.got == []


async def test_a_name_that_does_not_resolve_now_is_tried_again(store: Store, tenant: Tenant) -> None:
    async def nowhere(host: str, port: int) -> list[str]:
        return []

    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    receiver = Receiver()
    post = sender(store, receiver)
    good = post.http
    post.http = httpx.AsyncClient(transport=GuardedTransport(UrlGuard(resolve=nowhere), httpx.MockTransport(receiver)))
    await post.run_once()
    (waiting,) = await deliveries(store)
    assert (waiting.status, receiver.got) == ("pending", [])
    post.http = good
    await all_due(store)
    await post.run_once()
    assert receiver.kinds == ["call.ended"]


async def test_a_receiver_that_drips_is_given_up_after_the_time_allowed(store: Store, tenant: Tenant) -> None:
    async def drip() -> Any:
        while True:
            yield b"."
            await asyncio.sleep(0.001)

    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    never = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        await never.wait()
        return httpx.Response(200)

    post = sender(store, hang)
    post.timeout = 0.05
    await post.run_once()
    post.http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500, content=drip())))
    await all_due(store)
    await post.run_once()
    newest, oldest = await store.webhooks.log(tenant.workspace.id)
    assert oldest.attempt.error_detail == "no answer within 0.05 s"
    assert newest.attempt.response_status == 500
    assert len(newest.attempt.response_body or "") <= 2000


async def test_a_replay_is_the_same_event_signed_anew_and_logged_as_such(store: Store, tenant: Tenant) -> None:
    subscription = await subscribe(store, tenant, "inkbox", events=["call.ended"], secret="whsec_abc")
    await talked(store, tenant)
    receiver = Receiver()
    post = sender(store, receiver)
    await post.run_once()
    (logged,) = await store.webhooks.log(tenant.workspace.id)
    attempt = await post.replay(logged, subscription)
    first, second = receiver.got
    assert first.content == second.content
    assert first.headers["x-inkbox-request-id"] != second.headers["x-inkbox-request-id"]
    assert attempt.is_replay
    newest = (await store.webhooks.log(tenant.workspace.id))[0]
    assert (newest.attempt.id, newest.delivery.event_id) == (attempt.id, logged.delivery.event_id)
    found = await store.webhooks.logged(tenant.workspace.id, attempt.id)
    assert found is not None
    other = await store.workspaces.create("other")
    assert await store.webhooks.logged(other.id, attempt.id) is None


async def test_nothing_more_goes_to_a_subscription_that_was_deleted(store: Store, tenant: Tenant) -> None:
    subscription = await subscribe(store, tenant)
    receiver = Receiver(lambda _: httpx.Response(503))
    post = sender(store, receiver)
    await talked(store, tenant)
    await post.run_once()
    await store.webhooks.delete(subscription)
    await all_due(store)
    await talked(store, tenant)
    await post.run_once()
    assert len(receiver.got) == 1
    assert {d.status for d in await deliveries(store)} == {"failed"}


async def test_keys_are_made_once_however_many_ask(store: Store, tenant: Tenant) -> None:
    made = await asyncio.gather(*(store.webhooks.ensure_signing_key(tenant.workspace.id) for _ in range(8)))
    assert len({key for key, _ in made}) == 1
    assert sum(fresh for _, fresh in made) == 1


async def test_an_incoming_call_webhook_is_in_the_log(store: Store, tenant: Tenant) -> None:
    call_id = await talked(store, tenant)
    await store.webhooks.log_synchronous(
        tenant.workspace.id, line_id=tenant.line.id, agent_id=tenant.agent.id, call_id=call_id,
        url="https://hook.example/in", body="{}", status=200, response='{"action":"answer"}', error=None,
        duration_ms=12,
    )  # fmt: skip
    (logged,) = await store.webhooks.log(tenant.workspace.id, line_id=tenant.line.id)
    assert (logged.delivery.subscription_id, logged.attempt.success) == (None, True)


# --- at the edges ---------------------------------------------------------------------------------------------------


def of_attempt(attempts: int, *, ago: float = 0.0, status: int | None = 503, kind: str = "call.ended") -> Any:
    """A delivery tried so often that was made so many seconds ago, and what its receiver answered."""
    delivery = Delivery(
        face="oneinbox", event_type=kind, attempts=attempts, created_at=utc_now() - timedelta(seconds=ago)
    )
    return delivery, Attempt(response_status=status)


@pytest.mark.parametrize("attempts", range(1, len(ONEINBOX_PAUSES) + 1))
@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_each_pause_is_the_stated_one_and_up_to_a_quarter_more(attempts: int, jitter: float) -> None:
    post = Sender(None, None, None, STYLES, jitter=lambda: jitter)  # type: ignore[arg-type]
    before = utc_now()
    again = post._retry_at(*of_attempt(attempts))
    assert again is not None
    expected = ONEINBOX_PAUSES[attempts - 1] * (1 + jitter / 4)
    assert (again - before).total_seconds() == pytest.approx(expected, abs=0.5)
    assert post._retry_at(*of_attempt(len(ONEINBOX_PAUSES) + 1)) is None


@pytest.mark.parametrize(
    ("status", "again"),
    [(None, True), (302, True), (399, True), (400, False), (407, False), (408, True), (428, False), (429, True),
     (499, False), (500, True)],
)  # fmt: skip
def test_which_answers_are_worth_another_attempt(status: int | None, again: bool) -> None:
    post = Sender(None, None, None, STYLES, jitter=lambda: 0.0)  # type: ignore[arg-type]
    assert (post._retry_at(*of_attempt(1, status=status)) is not None) is again
    post.styles = {"oneinbox": replace(STYLES["oneinbox"], stubborn=True)}
    assert post._retry_at(*of_attempt(1, status=status)) is not None


def test_what_has_waited_for_longer_than_all_pauses_is_tried_once_and_what_was_tried_goes_on() -> None:
    post = Sender(None, None, None, STYLES, jitter=lambda: 0.0)  # type: ignore[arg-type]
    longest = 1.5 * sum(ONEINBOX_PAUSES) + 60
    assert post._retry_at(*of_attempt(1, ago=longest - 5)) is not None
    assert post._retry_at(*of_attempt(1, ago=longest + 1)) is None
    assert post._retry_at(*of_attempt(2, ago=longest + 1)) is not None


async def test_what_was_sent_and_what_failed_for_good_is_counted(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    status = 200
    receiver = Receiver(lambda _: httpx.Response(status))
    post = sender(store, receiver)
    for status, counts in ((200, (1, 0)), (404, (1, 1)), (503, (1, 1)), (200, (3, 1))):  # noqa: B007 the answer
        await talked(store, tenant)
        await all_due(store)
        await post.run_once()
        assert (post.sent, post.failed) == counts
    attempts = [logged.attempt for logged in await store.webhooks.log(tenant.workspace.id)]
    assert sorted(one.response_status or 0 for one in attempts) == [200, 200, 200, 404, 503]
    for one in attempts:
        assert one.success is (one.response_status == 200)
        assert one.error_detail == (None if one.success else f"answered {one.response_status}")
        assert one.duration_ms is not None and 0 <= one.duration_ms < 60_000
        assert one.workspace_id == tenant.workspace.id and not one.is_replay


async def test_a_refused_connection_is_logged_by_its_kind_and_tried_again(store: Store, tenant: Tenant) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("to 10.0.0.1: refused")

    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    await sender(store, Receiver(refuse)).run_once()
    (logged,) = await store.webhooks.log(tenant.workspace.id)
    assert (logged.attempt.error_detail, logged.attempt.response_status) == ("ConnectError", None)
    assert logged.delivery.status == "pending"


async def test_a_delivery_says_what_it_is_and_asks_for_no_compression(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    receiver = Receiver()
    await sender(store, receiver).run_once()
    (request,) = receiver.got
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    assert (request.headers["user-agent"], request.headers["accept-encoding"]) == ("anycarrier", "identity")
    assert "authorization" not in request.headers
    assert abs(int(request.headers["x-oneinbox-timestamp"]) - utc_now().timestamp()) < 60


@pytest.mark.parametrize(
    ("content", "kept"),
    [(b"a\0b", "ab"), (b"caf\xe9", "caf\ufffd"), (b"x" * 1999, "x" * 1999), (b"x" * 2001, "x" * 2000), (b"", "")],
)
async def test_of_an_answer_the_beginning_is_kept_as_text(
    store: Store, tenant: Tenant, content: bytes, kept: str
) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    await sender(store, Receiver(lambda _: httpx.Response(200, content=content))).run_once()
    (logged,) = await store.webhooks.log(tenant.workspace.id)
    assert logged.attempt.response_body == kept


async def test_an_answer_is_read_no_further_than_its_beginning_and_never_unpacked(
    store: Store, tenant: Tenant
) -> None:
    read = 0

    async def chunks() -> Any:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x" * 500

    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    packed = {"content-encoding": "gzip"}
    receiver = Receiver(lambda _: httpx.Response(200, headers=packed, content=chunks()))
    await sender(store, receiver).run_once()
    (logged,) = await store.webhooks.log(tenant.workspace.id)
    assert (read, logged.attempt.response_body, logged.attempt.success) == (4, "x" * 2000, True)


async def test_a_subscription_that_has_moved_gets_what_was_waiting_at_its_new_url(
    store: Store, tenant: Tenant
) -> None:
    subscription = await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    post = sender(store, receiver := Receiver())
    await fan_out(store)
    await store.webhooks.change(subscription, url="https://new.example/")
    await post.run_once()
    assert [str(request.url) for request in receiver.got] == ["https://new.example/"]


async def test_a_test_post_is_signed_as_any_other_and_stays_out_of_queue_and_log(
    store: Store, tenant: Tenant
) -> None:
    subscription = await subscribe(store, tenant)
    receiver = Receiver(lambda _: httpx.Response(202, text="thanks"))
    attempt = await sender(store, receiver).test(subscription, "evt_test", "call.ended", '{"event":"call.ended"}')
    (request,) = receiver.got
    assert (str(request.url), request.content) == (subscription.url, b'{"event":"call.ended"}')
    timestamp = int(request.headers["x-oneinbox-timestamp"])
    signed = oneinbox_headers("s3cret", "evt_test", timestamp, request.content)
    assert request.headers["x-oneinbox-signature"] == signed["X-OneInbox-Signature"]
    assert request.headers["x-oneinbox-event-id"] == "evt_test"
    assert (attempt.success, attempt.response_status, attempt.response_body) == (True, 202, "thanks")
    assert attempt.workspace_id == tenant.workspace.id
    assert list(await store.webhooks.log(tenant.workspace.id)) == await deliveries(store) == []


async def test_an_inkbox_delivery_of_a_workspaces_subscription_is_signed_with_the_key_of_the_calls_agent(
    store: Store, tenant: Tenant
) -> None:
    key, _ = await store.webhooks.rotate_signing_key(tenant.workspace.id, tenant.agent.id)
    await subscribe(store, tenant, "inkbox", events=["call.ended"])
    await talked(store, tenant)
    await sender(store, receiver := Receiver()).run_once()
    (request,) = receiver.got
    timestamp = int(request.headers["x-inkbox-timestamp"])
    signed = inkbox_headers(key, request.headers["x-inkbox-request-id"], timestamp, request.content)
    assert request.headers["x-inkbox-signature"] == signed["X-Inkbox-Signature"]


async def test_a_receiver_is_slow_until_it_answers_in_time_and_the_longest_known_is_forgotten_first(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "SLOW_AFTER", 0.02)
    monkeypatch.setattr(webhook_delivery, "SLOW_KNOWN", 2)
    for name in "abc":
        await subscribe(store, tenant, url=f"https://hook.example/{name}", events=["call.ended"])
    slow = {"/a", "/b", "/c"}

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path in slow:
            await asyncio.sleep(0.05 + 0.03 * ("/a", "/b", "/c").index(request.url.path))
        return httpx.Response(200)

    post = sender(store, answer)
    await talked(store, tenant)
    await post.run_once()
    assert len(post._slow) == 2, "of three the one found first is forgotten"
    kept = list(post._slow)
    for delivery in await deliveries(store):
        if delivery.receiver == kept[0]:
            post._is_late(webhook_delivery.Post(delivery))  # found slow again: it is the newest now
    assert list(post._slow) == [kept[1], kept[0]]
    slow.clear()
    await talked(store, tenant)
    await post.run_once()
    assert not post._slow


async def test_who_is_late_leaves_the_places_of_the_prompt_while_there_is_room(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "SLOW_AT_ONCE_EACH", 2)
    monkeypatch.setattr(webhook_delivery, "SLOW_AT_ONCE", 3)
    post = sender(store, Receiver())
    ours, theirs = uuid4(), uuid4()
    owners = enumerate([ours] * 4 + [theirs] * 3)
    posts = [webhook_delivery.Post(Delivery(workspace_id=of, receiver=f"r{n}")) for n, of in owners]
    post._going = {object(): one for one in posts}  # type: ignore[misc]
    for one in posts[:-1]:
        post._is_late(one)
    assert [one.slow for one in posts] == [True, True, False, False, True, False, False]
    assert post._under_way(slow=True) == {ours: 2, theirs: 1}
    assert post._under_way(slow=False) == {ours: 2, theirs: 2}
    assert list(post._slow) == [f"r{n}" for n in range(6)]
    assert post._due.is_set()


async def test_a_round_says_whether_there_may_be_more_and_takes_nothing_without_room(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "AT_ONCE", 3)
    monkeypatch.setattr(webhook_delivery, "AT_ONCE_EACH", 4)
    for number in range(5):
        await subscribe(store, tenant, url=f"https://silent.example/{number}", events=["call.ended"])
    never = asyncio.Event()

    async def silent(request: httpx.Request) -> httpx.Response:
        await never.wait()
        return httpx.Response(200)

    post = sender(store, silent)
    assert not await post._fan_out() and not await post._hand_out()
    await talked(store, tenant)
    assert await post._fan_out() and post._due.is_set() and not await post._fan_out()
    assert await post._hand_out() and len(post._going) == 2, "of a workspace so many at one look"
    assert await post._hand_out() and len(post._going) == 3, "of a process so many at once"
    assert not await post._hand_out() and len(post._going) == 3
    monkeypatch.setattr(webhook_delivery, "AT_ONCE", 10)
    assert not await post._hand_out(), "and of a workspace, where two more would be too many"
    monkeypatch.setattr(webhook_delivery, "AT_ONCE_EACH", 5)
    assert await post._hand_out() and len(post._going) == 5
    never.set()
    await post.stop()
    assert not post._going and {one.status for one in await deliveries(store)} == {"delivered"}


async def test_a_sender_goes_on_after_a_failure_and_looks_without_being_woken(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "POLL", 0.01)
    monkeypatch.setattr(webhook_delivery, "CLEAN_EVERY", 0.01)
    await subscribe(store, tenant, events=["call.ended"])
    arrived, cleaned, failing = asyncio.Event(), asyncio.Event(), ["waiting", "clean"]
    waiting, clean = store.outbox.waiting, store.outbox.clean

    async def look(**asked: Any) -> tuple[bool, bool]:
        if "waiting" in failing:
            failing.remove("waiting")
            raise RuntimeError("the database said no")
        return await waiting(**asked)

    async def delete_old(**asked: Any) -> int:
        if "clean" in failing:
            failing.remove("clean")
            raise RuntimeError("the database said no")
        cleaned.set()
        return await clean(**asked)

    monkeypatch.setattr(store.outbox, "waiting", look)
    monkeypatch.setattr(store.outbox, "clean", delete_old)

    async def answer(request: httpx.Request) -> httpx.Response:
        arrived.set()
        return httpx.Response(200)

    post = sender(store, answer)
    post.start()
    await talked(store, tenant)  # and nobody calls ``wake``
    async with asyncio.timeout(20):
        await arrived.wait()
        await cleaned.wait()
    await post.stop()
    assert not failing and post.sent == 1


async def test_whats_waiting_is_told_apart_new_due_later_and_taken(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    now = utc_now()
    assert await store.outbox.waiting() == (False, False)
    await talked(store, tenant)
    assert await store.outbox.waiting() == (True, False)
    await fan_out(store)
    assert await store.outbox.waiting() == (False, True)
    assert await store.outbox.waiting(at=now - timedelta(minutes=1)) == (False, False)
    assert await store.outbox.claim(at=now - timedelta(minutes=1)) == []
    at = utc_now()
    (mine,) = await store.outbox.claim(at=at)
    assert (mine.attempts, mine.lease_until) == (1, at + LEASE) and mine.lease_token
    assert await store.outbox.waiting(at=at + LEASE - timedelta(seconds=1)) == (False, False)
    assert await store.outbox.waiting(at=at + LEASE) == (False, True)
    (again,) = await store.outbox.claim(at=at + LEASE)
    assert again.attempts == 2 and again.lease_token != mine.lease_token


async def test_an_attempt_settles_its_delivery_as_it_went(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    await fan_out(store)
    again = utc_now() + timedelta(minutes=5)
    for success, retry_at, becomes in ((False, again, "pending"), (False, None, "failed")):
        (mine,) = await store.outbox.claim()
        attempt = Attempt(workspace_id=mine.workspace_id, delivery_id=mine.id, success=success, error_detail="x")
        assert await store.outbox.finish(mine, attempt, retry_at=retry_at)
        assert not await store.outbox.finish(mine, attempt, retry_at=None), "once"
        (kept,) = await deliveries(store)
        assert (kept.status, kept.lease_until, kept.lease_token) == (becomes, None, None)
        assert kept.next_at == (retry_at or mine.next_at)
        assert (kept.finished_at is None) is (becomes == "pending")
        await all_due(store)
    logged = await store.webhooks.log(tenant.workspace.id)
    assert len(logged) == 4 and len({one.attempt.id for one in logged}) == 4
    assert {one.attempt.is_replay for one in logged} == {False}
    assert all(utc_now() - one.attempt.created_at < timedelta(minutes=1) for one in logged)


async def test_a_published_event_is_kept_as_it_was_told_and_its_key_is_of_that_event_only(
    store: Store, tenant: Tenant
) -> None:
    call_id = await talked(store, tenant)
    publish = store.outbox.publish
    assert await publish(tenant.workspace.id, "call.analyzed", call_id=call_id, payload={"a": 1}, once="k1")
    assert await publish(tenant.workspace.id, "call.analyzed", once="k2")
    assert await publish(tenant.workspace.id, "call.analyzed") and await publish(tenant.workspace.id, "call.analyzed")
    async with store.db.read() as session:
        kept = list(
            await session.scalars(
                select(OutboxEvent).where(OutboxEvent.kind == "call.analyzed").order_by(OutboxEvent.id)
            )
        )
    assert [(one.workspace_id, one.call_id, one.payload) for one in kept] == [
        (tenant.workspace.id, call_id, {"a": 1}), *[(tenant.workspace.id, None, {})] * 3
    ]  # fmt: skip
    assert len({one.event_id for one in kept}) == 4 and all(one.fanned_out_at is None for one in kept)
    assert all(abs(utc_now() - one.at) < timedelta(minutes=1) for one in kept)


async def test_a_calls_own_url_is_told_beside_the_subscription_of_another_face_there(
    store: Store, tenant: Tenant
) -> None:
    url = "https://hook.example/a"
    await subscribe(store, tenant, "inkbox", url=url, events=["call.failed"])
    new = NewCall(line=tenant.line, to_number="+14155550178", agent_id=tenant.agent.id, webhook_url=url)
    faces = []
    for own in ("oneinbox", "inkbox"):
        row, _ = await store.calls.create(new if own == "oneinbox" else replace(new, id=uuid4()))
        await store.callbook.update(row.reference, lambda c: c.model_copy(update={"status": CallStatus.ENDED}))
        post = sender(store, Receiver())
        post.own = lambda _, own=own: own  # type: ignore[misc]
        while await store.outbox.fan_out(post._write):
            pass
        faces.append(sorted(one.face for one in await deliveries(store) if one.call_id == row.id))
    assert faces == [["inkbox", "oneinbox"], ["inkbox"]]


async def test_one_fan_out_takes_so_many_deliveries_and_leaves_the_rest_to_the_next(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_outbox, "ROWS_AT_ONCE", 21)
    for number in range(21):
        await subscribe(store, tenant, url=f"https://hook.example/{number}", events=["call.ended"])
    for _ in range(2):
        await talked(store, tenant)
    write_ = sender(store, Receiver())._write
    assert await store.outbox.fan_out(write_) == 2  # started, which nobody wants, and ended
    assert len(await deliveries(store)) == 21
    assert await store.outbox.fan_out(write_) == 2
    assert await store.outbox.fan_out(write_) == 0
    made = await deliveries(store)
    assert len(made) == 42 and len({(one.event_id, one.subscription_id) for one in made}) == 42


def test_rows_go_in_pieces_of_a_few_lengths() -> None:
    for count, lengths in ((0, []), (1, [1]), (4, [4]), (5, [4, 1]), (16, [16]), (22, [16, 4, 1, 1]), (32, [16, 16])):
        rows = [{"n": n} for n in range(count)]
        pieces = list(store_outbox._in_lengths(rows))
        assert [len(piece) for piece in pieces] == lengths
        assert [row for piece in pieces for row in piece] == rows


async def test_cleaning_keeps_what_is_under_way_and_what_is_just_old_enough(store: Store, tenant: Tenant) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    await fan_out(store)
    later = utc_now() + timedelta(hours=25)
    (mine,) = await store.outbox.claim(at=later)
    await store.outbox.clean(at=later)
    assert [one.status for one in await deliveries(store)] == ["pending"], "it is being sent"
    await store.outbox.clean(at=later + LEASE)
    (given_up,) = await deliveries(store)
    assert (given_up.status, given_up.finished_at) == ("failed", later + LEASE)
    attempt = Attempt(workspace_id=mine.workspace_id, delivery_id=mine.id, success=False)
    assert not await store.outbox.finish(mine, attempt, retry_at=None)
    async with store.db.read() as session:
        events = len(list(await session.scalars(select(OutboxEvent))))
    assert await store.outbox.clean(at=utc_now() + timedelta(days=7, seconds=-5)) == 0
    assert await store.outbox.clean(at=utc_now() + timedelta(days=7, seconds=5)) == events
    assert await store.outbox.clean(at=later + LEASE + timedelta(days=30)) == 0
    assert await store.outbox.clean(at=later + LEASE + timedelta(days=30, seconds=1)) == 1


async def test_what_was_under_way_to_a_subscription_that_is_gone_is_not_sent_and_says_so(
    store: Store, tenant: Tenant
) -> None:
    subscription = await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    post = sender(store, receiver := Receiver())
    await fan_out(store)
    (mine,) = await store.outbox.claim()
    await store.webhooks.delete(subscription)
    await post._deliver(webhook_delivery.Post(mine))
    assert receiver.got == [] and (await deliveries(store))[0].status == "failed"
    async with store.db.read() as session:
        (attempt,) = await session.scalars(select(Attempt))
    assert (attempt.success, attempt.error_detail) == (False, "the subscription is gone")
    assert attempt.delivery_id == mine.id


async def test_a_delivery_that_cannot_be_noted_is_logged_and_hinders_no_stop(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await subscribe(store, tenant, events=["call.ended"])
    await talked(store, tenant)
    going, go_on = asyncio.Event(), asyncio.Event()

    async def finish(*_: Any, **__: Any) -> bool:
        going.set()
        await go_on.wait()
        raise RuntimeError("the database said no")

    monkeypatch.setattr(store.outbox, "finish", finish)
    post = sender(store, Receiver())
    await post._fan_out()
    await post._hand_out()
    async with asyncio.timeout(20):
        await going.wait()
        asyncio.get_running_loop().call_later(0.01, go_on.set)
        await post.stop()
        while post._going:
            await asyncio.sleep(0)
    assert "could not be noted and will be sent again: the database said no" in caplog.text
    assert [one.status for one in await deliveries(store)] == ["pending"]
