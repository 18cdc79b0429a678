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
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import httpx

from linecard.errors import LinecardError
from linecard.server.outage import Watch
from linecard.server.refusals import HostUnknown, UrlRefused
from linecard.server.signing import inkbox_headers, oneinbox_headers
from linecard.server.store.columns import utc_now
from linecard.server.store.models import Attempt, Delivery, Subscription
from linecard.server.store.outbox import Outbox as Queue
from linecard.server.store.receivers import Addressed
from linecard.server.store.webhooks import Logged, Webhooks

log = logging.getLogger("linecard")

POLL = 1.0
"""Seconds between looks when nobody called :meth:`Sender.wake`: for other processes' events, and retries."""

BODY_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Style:
    """How one face tells things.

    ``write`` gives event type and body for a receiver, or None when that receiver does not get this event.
    ``pauses`` are the seconds before each further attempt. ``stubborn`` retries every refusal; otherwise a 4xx other
    than 408 and 429 is final. Events of the kinds in ``fleeting`` are sent once: late, they would say nothing, and
    hold up what comes after them.
    """

    write: Callable[[Addressed], Awaitable[tuple[str, str] | None]]
    pauses: Sequence[float]
    stubborn: bool = False
    fleeting: Collection[str] = ()


ONEINBOX_PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
INKBOX_PAUSES = (1.0, 5.0)


@dataclass(slots=True)
class Sender:
    """One process's postman. ``styles`` are the faces by name; ``own`` is the face of calls' own URLs."""

    queue: Queue
    webhooks: Webhooks
    http: httpx.AsyncClient
    styles: Mapping[str, Style]
    own: Callable[[Addressed], str] = lambda _: "oneinbox"
    at_once: int = 20
    timeout: float = 10.0
    jitter: Callable[[], float] = random.random
    sent: int = 0
    failed: int = 0
    _bell: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.Task[None] | None = None
    _going: set[asyncio.Task[None]] = field(default_factory=set)

    def wake(self) -> None:
        """There is news: look now. Cheap; may be called after every commit."""
        self._bell.set()

    def start(self) -> None:
        """Begin to send, until :meth:`stop`."""
        self._loop = asyncio.get_running_loop().create_task(self._run(), name="send webhooks")

    async def stop(self) -> None:
        """Finish what is on its way and stop; the rest waits in the store."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        if self._going:
            await asyncio.gather(*self._going, return_exceptions=True)

    async def _run(self) -> None:
        watch = Watch("sending webhooks")
        while True:
            try:
                busy = await self._round()
                watch.went_well()
            except Exception as problem:  # noqa: BLE001 the next round may get through
                watch.failed(problem)
                busy = False
            if not busy:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await self._bell.wait()
                self._bell.clear()

    async def _round(self) -> bool:
        """Fan out and hand out; True when there may be more to do at once."""
        fresh, due = await self.queue.waiting()
        taken = await self.queue.fan_out(self._write) if fresh else 0
        room = self.at_once - len(self._going)
        claimed = await self.queue.claim(limit=room) if room > 0 and (taken or due) else []
        for delivery in claimed:
            task = asyncio.get_running_loop().create_task(self._deliver(delivery))
            self._going.add(task)
            task.add_done_callback(self._gone)
        return bool(taken)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._going.discard(task)
        self.wake()  # the lane's next one may go
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("a delivery could not be noted and will be sent again: %s", problem)

    async def run_once(self) -> int:
        """Fan out, then send what is due now and wait for it; how many were sent. For tests and the command line."""
        while await self.queue.fan_out(self._write):
            pass
        done = 0
        while claimed := await self.queue.claim(limit=self.at_once):
            await asyncio.gather(*(self._deliver(delivery) for delivery in claimed))
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
            url=subscription.url,
            body=body,
            next_at=utc_now(),
        )
        attempt, _ = await self._post(delivery, subscription)
        return attempt

    async def _write(self, receiver: Addressed) -> tuple[str, str, str] | None:
        face = receiver.subscription.face if receiver.subscription is not None else self.own(receiver)
        written = await self.styles[face].write(receiver)
        return (face, *written) if written is not None else None

    async def _deliver(self, delivery: Delivery) -> None:
        subscription = await self._subscription(delivery)
        if delivery.subscription_id is not None and subscription is None:
            attempt = _attempt(delivery, "the subscription is gone")
            await self.queue.finish(delivery, attempt, retry_at=None)
            return
        attempt, hopeless = await self._post(delivery, subscription)
        retry_at = None
        if attempt.success:
            self.sent += 1
        elif hopeless or (retry_at := self._retry_at(delivery, attempt)) is None:
            self.failed += 1
        await self.queue.finish(delivery, attempt, retry_at=retry_at)

    async def _subscription(self, delivery: Delivery) -> Subscription | None:
        return await self.webhooks.get(delivery.workspace_id, delivery.subscription_id)

    async def _post(self, delivery: Delivery, subscription: Subscription | None) -> tuple[Attempt, bool]:
        """One POST; whatever happens is in the attempt. The second value: trying again cannot help."""
        started = time.monotonic()
        status, answer, why, hopeless = None, None, None, False
        try:
            body = delivery.body.encode()
            headers = await self._headers(delivery, subscription, body)
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
        except (httpx.HTTPError, httpx.InvalidURL, LinecardError, OSError) as problem:
            why = str(problem) if isinstance(problem, LinecardError) else type(problem).__name__
            hopeless = isinstance(problem, UrlRefused) and not isinstance(problem, HostUnknown)
        attempt = _attempt(delivery, why)
        attempt.response_status, attempt.response_body = status, answer
        attempt.duration_ms = round((time.monotonic() - started) * 1000)
        return attempt, hopeless

    async def _headers(self, delivery: Delivery, subscription: Subscription | None, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "linecard", "Accept-Encoding": "identity"}
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
