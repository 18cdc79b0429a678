"""Sending webhooks: takes events from the store's outbox, has a face write them, signs, posts, retries.

Any number of processes may run one; the store sees to it that each delivery is sent by one at a time, in the order
of its lane. A receiver may still hear the same event twice (after a crash between answer and note): the event id is
the same then, and is what receivers drop repeats by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import httpx

from anycarrier.errors import AnycarrierError
from anycarrier_server.encryption import inkbox_headers, oneinbox_headers
from anycarrier_server.fair_scheduling import WORKSPACE
from anycarrier_server.outage import Watch
from anycarrier_server.refusals import HostUnknown, UrlRefused
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Attempt, CallRow, Delivery, OutboxEvent, Subscription
from anycarrier_server.store.outbox import Outbox as Queue
from anycarrier_server.store.webhooks import Addressed, Logged, Webhooks

log = logging.getLogger("anycarrier")

POLL = 1.0
"""Seconds between looks when nobody called :meth:`Sender.wake`: for other processes' events, and retries."""

CLEAN_EVERY = 600.0
"""Seconds between deletions of what is old."""

SLOW_AFTER = 0.5
"""Seconds after which a receiver counts as slow, until it has answered sooner."""

SLOW_KNOWN = 500
"""Slow receivers a process keeps in mind; one that is forgotten is found slow again by its next delivery."""

AT_ONCE, AT_ONCE_EACH, CLAIM_EACH = 100, 20, 2
"""Deliveries under way to receivers that are not slow: of a process, of a workspace, and taken for it at one look."""

LOOK_APART = 0.02
"""Seconds between two looks at least: opening a connection costs milliseconds of everybody's time, so one event for a
hundred receivers goes out over a second and not in one piece."""

SLOW_LOOK_APART = 0.25
"""The same for slow receivers when the last look found nothing for them."""

SLOW_AT_ONCE, SLOW_AT_ONCE_EACH = 256, 64
"""The same to slow receivers. What was sent before its receiver was found slow moves over here when there is room."""

BODY_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Style:
    """How one face tells things.

    ``types`` are its event types by the kind of our event; it tells nothing of kinds that are not there, and a
    subscription gets the types it asked for. ``write`` gives the body, the same for all of this face's receivers, or
    None when nobody gets this one. ``pauses`` are the seconds before each further attempt. ``stubborn`` retries every
    refusal; otherwise a 4xx other than 408 and 429 is final. Events of the kinds in ``fleeting`` are sent once: late,
    they would say nothing, and hold up what comes after them.
    """

    types: Mapping[str, str]
    write: Callable[[OutboxEvent, CallRow | None], Awaitable[str | None]]
    pauses: Sequence[float]
    stubborn: bool = False
    fleeting: Collection[str] = ()


ONEINBOX_PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
INKBOX_PAUSES = (1.0, 5.0)


@dataclass(slots=True, eq=False)
class Post:
    """A delivery under way. ``late``: its receiver has not answered for ``SLOW_AFTER``. ``slow``: it takes one of the
    places for slow receivers."""

    delivery: Delivery
    slow: bool = False
    late: bool = False


@dataclass(slots=True)
class Sender:
    """Sends one process's webhooks. ``styles`` are the faces by name; ``own`` is the face of calls' own URLs.

    Workspaces take turns, and each has a limited number of deliveries under way at once. Slow and dead receivers
    have limits of their own, so they delay neither other workspaces nor the same workspace's good receivers.
    """

    queue: Queue
    webhooks: Webhooks
    http: httpx.AsyncClient
    styles: Mapping[str, Style]
    own: Callable[[Addressed], str] = lambda _: "oneinbox"
    timeout: float = 10.0
    jitter: Callable[[], float] = random.random
    sent: int = 0
    failed: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _loops: list[asyncio.Task[None]] = field(default_factory=list)
    _slow_at: float = 0.0
    _going: dict[asyncio.Task[None], Post] = field(default_factory=dict)
    _slow: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _bodies: dict[str, tuple[OutboxEvent, str | None]] = field(default_factory=dict)  # by face: of its last event

    def wake(self) -> None:
        """There is news: look now. Cheap; may be called after every commit."""
        self._news.set()

    def start(self) -> None:
        """Begin to send, until :meth:`stop`."""
        new = asyncio.get_running_loop().create_task
        self._loops = [
            new(self._repeat("writing webhooks", self._fan_out, self._news), name="write webhooks"),
            new(self._repeat("sending webhooks", self._hand_out, self._due), name="send webhooks"),
            new(self._clean(), name="delete old webhooks"),
        ]

    async def stop(self) -> None:
        """Finish what is on its way and stop; the rest waits in the store."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await asyncio.gather(*self._going, return_exceptions=True)

    async def _repeat(self, what: str, step: Callable[[], Awaitable[bool]], bell: asyncio.Event) -> None:
        """``step`` answers whether there may be more to do at once; else it is done again when the bell rings."""
        watch = Watch(what)
        while True:
            try:
                busy = await step()
                watch.went_well()
            except Exception as problem:  # noqa: BLE001 the next round may get through
                watch.failed(problem)
                busy = False
            if not busy:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await bell.wait()
                bell.clear()
            await asyncio.sleep(LOOK_APART)

    async def _clean(self) -> None:
        watch = Watch("deleting old webhooks")
        while True:
            try:
                await self.queue.clean()
                watch.went_well()
            except Exception as problem:  # noqa: BLE001 the next look may get through
                watch.failed(problem)
            await asyncio.sleep(CLEAN_EVERY)

    async def _fan_out(self) -> bool:
        fresh, _ = await self.queue.waiting()
        if not fresh or not await self.queue.fan_out(self._write):
            return False
        self._due.set()
        return True

    async def _hand_out(self) -> bool:
        _, due = await self.queue.waiting()
        if not due:
            return False
        claimed, now = await self._claim(slow=False), asyncio.get_running_loop().time()
        if self._slow and now >= self._slow_at:
            taken = await self._claim(slow=True)
            self._slow_at = now if taken else now + SLOW_LOOK_APART
            claimed += taken
        return bool(claimed)

    async def _claim(self, *, slow: bool) -> int:
        most, each = (SLOW_AT_ONCE, SLOW_AT_ONCE_EACH) if slow else (AT_ONCE, AT_ONCE_EACH)
        under_way = self._under_way(slow=slow)
        room = most - under_way.total()
        if room <= 0:
            return 0
        full = [of for of, count in under_way.items() if count > each - CLAIM_EACH]
        claimed = await self.queue.claim(limit=room, each=CLAIM_EACH, slow=self._slow, slow_ones=slow, full=full)
        for delivery in claimed:
            post = Post(delivery, slow)
            task = asyncio.get_running_loop().create_task(self._deliver(post))
            self._going[task] = post
            task.add_done_callback(self._gone)
        return len(claimed)

    def _under_way(self, *, slow: bool) -> Counter[UUID]:
        return Counter(post.delivery.workspace_id for post in self._going.values() if post.slow is slow)

    def _gone(self, task: asyncio.Task[None]) -> None:
        del self._going[task]
        self._make_way()
        self._due.set()  # the lane's next one may go
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("a delivery could not be noted and will be sent again: %s", problem)

    def _is_late(self, post: Post) -> None:
        """Its receiver is slow, and gets no more than the places for such."""
        post.late = True
        self._slow[post.delivery.receiver] = None
        self._slow.move_to_end(post.delivery.receiver)
        if len(self._slow) > SLOW_KNOWN:
            self._slow.popitem(last=False)
        self._make_way()
        self._due.set()

    def _make_way(self) -> None:
        """Late posts leave the places of prompt ones, as long as there is room for them."""
        slow = self._under_way(slow=True)
        for post in self._going.values():
            of = post.delivery.workspace_id
            if post.late and not post.slow and slow[of] < SLOW_AT_ONCE_EACH and slow.total() < SLOW_AT_ONCE:
                post.slow = True
                slow[of] += 1

    async def run_once(self) -> int:
        """Fan out, then send what is due now and wait for it; how many were sent. For tests and the command line."""
        while await self.queue.fan_out(self._write):
            pass
        done = 0
        while claimed := await self.queue.claim(limit=AT_ONCE):
            await asyncio.gather(*(self._deliver(Post(delivery)) for delivery in claimed))
            done += len(claimed)
        return done

    async def replay(self, logged: Logged, subscription: Subscription) -> Attempt:
        """Send a logged delivery again now: same body and event id, signed anew. Returns the new attempt, logged."""
        attempt, _ = await self._post(logged.delivery, subscription)
        attempt.is_replay = True
        return await self.queue.record(attempt)

    async def test(self, subscription: Subscription, event_id: str, event_type: str, body: str) -> Attempt:
        """Post something to a subscription now, outside any queue and log."""
        delivery = Delivery(
            id=0,
            workspace_id=subscription.workspace_id,
            subscription_id=subscription.id,
            face=subscription.face,
            lane="",
            event_id=event_id,
            event_type=event_type,
            body=body,
        )
        attempt, _ = await self._post(delivery, subscription)
        return attempt

    async def _write(self, receiver: Addressed) -> tuple[str, str, str] | None:
        event, subscription = receiver.event, receiver.subscription
        face = subscription.face if subscription is not None else self.own(receiver)
        event_type = self.styles[face].types.get(event.kind)
        if event_type is None or (subscription is not None and event_type not in subscription.events):
            return None
        of, body = self._bodies.get(face, (None, None))
        if of is not event:  # a hundred receivers get the same body, and it may be a whole conversation
            body = await self.styles[face].write(event, receiver.call)
            self._bodies[face] = (event, body)
        return (face, event_type, body) if body is not None else None

    async def _deliver(self, post: Post) -> None:
        delivery = post.delivery
        WORKSPACE.set(delivery.workspace_id)
        subscription = await self._subscription(delivery)
        if delivery.subscription_id is not None and subscription is None:
            attempt = _attempt(delivery, "the subscription is gone")
            await self.queue.finish(delivery, attempt, retry_at=None)
            return
        attempt, hopeless = await self._post(delivery, subscription, post)
        retry_at = None
        if attempt.success:
            self.sent += 1
        elif hopeless or (retry_at := self._retry_at(delivery, attempt)) is None:
            self.failed += 1
        await self.queue.finish(delivery, attempt, retry_at=retry_at)

    async def _subscription(self, delivery: Delivery) -> Subscription | None:
        return await self.webhooks.get(delivery.workspace_id, delivery.subscription_id)

    async def _post(
        self, delivery: Delivery, subscription: Subscription | None, post: Post | None = None
    ) -> tuple[Attempt, bool]:
        """One POST; the attempt holds its result, failures too. The second value: trying again cannot help."""
        status, answer, why, hopeless = None, None, None, False
        started = time.monotonic()
        patience = None
        try:
            body = delivery.body.encode()
            headers = await self._headers(delivery, subscription, body)
            if post is not None:  # from here on it is the receiver who is waited for
                patience = asyncio.get_running_loop().call_later(SLOW_AFTER, self._is_late, post)
            url = subscription.url if subscription is not None else delivery.url
            # The client's timeouts are between bytes; this one is for all of it, against receivers that drip.
            async with (
                asyncio.timeout(self.timeout),
                self.http.stream("POST", url, content=body, headers=headers) as response,
            ):
                status = response.status_code
                if not response.is_success:
                    why = f"answered {status}"
                answer = await _beginning(response)
        except TimeoutError:
            if status is None:  # else it has answered, only its body drips
                why = f"no answer within {self.timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, AnycarrierError, OSError) as problem:
            why = str(problem) if isinstance(problem, AnycarrierError) else type(problem).__name__
            hopeless = isinstance(problem, UrlRefused) and not isinstance(problem, HostUnknown)
        finally:
            if patience is not None:
                patience.cancel()
        if post is not None and not post.late:
            self._slow.pop(delivery.receiver, None)
        attempt = _attempt(delivery, why)
        attempt.response_status, attempt.response_body = status, answer
        attempt.duration_ms = round((time.monotonic() - started) * 1000)
        return attempt, hopeless

    async def _headers(self, delivery: Delivery, subscription: Subscription | None, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "anycarrier", "Accept-Encoding": "identity"}
        secret = self.webhooks.secret(subscription) if subscription is not None else None
        now = int(time.time())
        if delivery.face == "inkbox":
            key = secret or await self._agent_key(delivery, subscription)
            if key is not None:
                headers |= inkbox_headers(key, str(uuid4()), now, body)
        else:
            if secret is None:
                secret, _ = await self.webhooks.ensure_signing_key(delivery.workspace_id)
            headers |= oneinbox_headers(secret, delivery.event_id, now, body)
        if subscription is not None and (token := self.webhooks.auth_token(subscription)) is not None:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    async def _agent_key(self, delivery: Delivery, subscription: Subscription | None) -> str | None:
        owner: UUID | None = subscription.agent_id if subscription is not None else None
        agent_id = owner or delivery.agent_id
        return await self.webhooks.signing_key(delivery.workspace_id, agent_id) if agent_id is not None else None

    def _retry_at(self, delivery: Delivery, attempt: Attempt) -> datetime | None:
        """When to try again, None when it is over.

        An event that had to wait behind others for longer than all pauses together gets one attempt only, so a dead
        receiver's queue empties instead of growing for ever.
        """
        style = self.styles[delivery.face]
        status = attempt.response_status
        final = status is not None and 400 <= status < 500 and status not in (408, 429)
        if final and not style.stubborn:
            return None
        if delivery.attempts > len(style.pauses) or delivery.event_type in style.fleeting:
            return None
        waited = (utc_now() - delivery.created_at).total_seconds()
        if waited > 1.5 * sum(style.pauses) + 60 and delivery.attempts == 1:
            return None
        pause = style.pauses[delivery.attempts - 1]
        # Up to a quarter more, so that receivers that fell over together are not met all at once.
        return utc_now() + timedelta(seconds=pause * (1 + self.jitter() / 4))


def _attempt(delivery: Delivery, why: str | None) -> Attempt:
    return Attempt(
        id=uuid4(),
        workspace_id=delivery.workspace_id,
        delivery_id=delivery.id,
        error_detail=why,
        success=why is None,
        is_replay=False,
        created_at=utc_now(),
    )


async def _beginning(response: httpx.Response) -> str:
    """The first ``BODY_KEPT`` bytes of an answer as text; the rest is not waited for."""
    if response.is_stream_consumed:
        kept = response.content
    else:
        kept = b""
        # Raw: what claims to be compressed is not unpacked, it could grow a thousandfold.
        async for chunk in response.aiter_raw():
            kept += chunk
            if len(kept) >= BODY_KEPT:
                break
    # PostgreSQL's text cannot hold NUL.
    return kept[:BODY_KEPT].decode("utf-8", "replace").replace("\0", "")
