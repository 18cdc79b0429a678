"""Webhooks out: both signatures, retries, order, no delivery by two, none lost when a process dies."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, update
from tenants import Tenant, make_tenant

from linecard.calls import CallStatus, EndReason
from linecard.server import outbox
from linecard.server.outbox import INKBOX_PAUSES, ONEINBOX_PAUSES, Sender, Style
from linecard.server.outward import GuardedTransport, Outward
from linecard.server.refusals import TooManyWebhooks
from linecard.server.signing import inkbox_headers, oneinbox_headers
from linecard.server.store import NewCall, Store
from linecard.server.store.columns import utc_now
from linecard.server.store.database import Database
from linecard.server.store.models import Attempt, Delivery, Subscription
from linecard.server.store.outbox import LEASE, Outbox
from linecard.server.store.receivers import Addressed


async def write(receiver: Addressed) -> tuple[str, str] | None:
    """What a face would write, in little."""
    wanted = receiver.subscription.events if receiver.subscription is not None else [receiver.event.kind]
    if receiver.event.kind not in wanted:
        return None
    body = {"id": receiver.event.public_id, "event": receiver.event.kind, **receiver.event.payload}
    return receiver.event.kind, json.dumps(body)


STYLES = {
    "oneinbox": Style(write, ONEINBOX_PAUSES),
    "inkbox": Style(write, INKBOX_PAUSES, stubborn=True),
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
    return Sender(store.outbox, store.webhooks, client, STYLES, jitter=lambda: 0.0)


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
    await subscribe(store, tenant, url="https://hook.example/bad")
    await subscribe(store, tenant, url="https://hook.example/good")

    async def picky(receiver: Addressed) -> tuple[str, str] | None:
        if receiver.url.endswith("bad"):
            raise RuntimeError("a bug in a face")
        return await write(receiver)

    receiver = Receiver()
    post = sender(store, receiver)
    post.styles = {"oneinbox": Style(picky, ONEINBOX_PAUSES)}
    await talked(store, tenant)
    await post.run_once()
    assert {request.url.path for request in receiver.got} == {"/good"}
    assert "could not be written" in caplog.text


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
    monkeypatch.setattr(outbox, "SLOW_AFTER", 0.05)
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
    store.on_announcement = post.wake
    post.start()
    for call in range(1, 4):
        await talked(store, loud)
        await talked(store, tenant)
        async with asyncio.timeout(10), news:
            await news.wait_for(lambda call=call: got["quiet.example"] == got["good.example"] == 2 * call)  # type: ignore[misc]
    async with asyncio.timeout(10), news:
        await news.wait_for(lambda: got["silent.example"] == 60)  # of each lane one, and no lane twice
    never.set()
    await post.stop()


async def test_what_is_under_way_is_bounded_by_workspace_slow_or_not(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SLOW_AFTER", 0.02)
    for name, value in {"AT_ONCE_EACH": 6, "CLAIM_EACH": 2, "SLOW_AT_ONCE_EACH": 10}.items():
        monkeypatch.setattr(outbox, name, value)
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
    async with asyncio.timeout(10):
        while under_way < 16:
            await asyncio.sleep(0.01)
    for _ in range(5):
        await asyncio.sleep(0.03)
        post.wake()
    assert under_way == 6 + 10
    never.set()
    async with asyncio.timeout(10):
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


async def test_workspaces_take_turns_and_slow_receivers_are_taken_apart(store: Store, tenant: Tenant) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    slow = await subscribe(store, other, url="https://hook.example/slow", events=["call.ended"])
    for number in range(5):
        await subscribe(store, other, url=f"https://hook.example/{number}", events=["call.ended"])
    await subscribe(store, tenant, url="https://hook.example/mine", events=["call.ended"])
    await talked(store, other)
    await talked(store, tenant)
    while await store.outbox.fan_out(sender(store, Receiver())._write):
        pass
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
    while await store.outbox.fan_out(sender(store, Receiver())._write):
        pass
    of = Counter(one.receiver for one in await deliveries(store))
    assert of == {
        f"host:{tenant.workspace.id.hex}:own.example": 2,
        f"host:{tenant.workspace.id.hex}:own.example:444": 1,
        f"host:{other.workspace.id.hex}:own.example": 1,
    }
    assert len({one.lane for one in await deliveries(store)}) == 4  # each call is told in its own order all the same


async def test_what_is_old_is_deleted_and_what_nobody_takes_is_given_up_in_time(store: Store, tenant: Tenant) -> None:
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
    assert await store.outbox.clean(at=now + timedelta(days=8), limit=3) == 4  # events: two of each call
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
    store.on_announcement = post.wake
    post.start()
    await talked(store, tenant)
    async with asyncio.timeout(5):
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
        transport=GuardedTransport(Outward(resolve=inside), httpx.MockTransport(receiver))
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
    post.http = httpx.AsyncClient(transport=GuardedTransport(Outward(resolve=nowhere), httpx.MockTransport(receiver)))
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
        duration_ms=12, success=True,
    )  # fmt: skip
    (logged,) = await store.webhooks.log(tenant.workspace.id, line_id=tenant.line.id)
    assert (logged.delivery.subscription_id, logged.attempt.success) == (None, True)
