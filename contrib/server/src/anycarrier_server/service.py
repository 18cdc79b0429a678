"""The running service: store, exchange, agents, webhook sender, scheduler and reconciler of one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from anycarrier.agent import Engines, agent_function
from anycarrier.calls import Call, EndReason
from anycarrier.errors import AnycarrierError
from anycarrier.events import CallEvent, RoutingFailed
from anycarrier.exchange import Exchange
from anycarrier.switchboard import log_failure
from anycarrier_server.domain import access, carrier_listeners, manage_numbers
from anycarrier_server.domain.agent_runtime import BUILT_IN, WorkspaceEngines
from anycarrier_server.domain.call_router import StoreRouter
from anycarrier_server.domain.manage_agents import refuse_blocked
from anycarrier_server.domain.resources import Resources
from anycarrier_server.domain.speech_engines import Readiness
from anycarrier_server.fair_scheduling import WORKSPACE, RequestSlots, YieldingCredentials
from anycarrier_server.http.endpoints import Face, Serving
from anycarrier_server.metrics import Metrics
from anycarrier_server.outage import DatabaseUnavailable
from anycarrier_server.refusals import Unauthorized
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.credentials import Carriers
from anycarrier_server.url_guard import UrlGuard
from anycarrier_server.work import finished_calls, first_start
from anycarrier_server.work.finished_calls import WatchedCallBook
from anycarrier_server.work.key_rotation import refuse_lacking
from anycarrier_server.work.reconciler import Reconciler, others_live
from anycarrier_server.work.scheduler import Scheduler
from anycarrier_server.work.store_agents import StoreAgents
from anycarrier_server.work.webhook_delivery import Sender

if TYPE_CHECKING:
    from anycarrier_server.work.sandbox_carriers import Sandboxes

log = logging.getLogger("anycarrier")

POSTGRESQL_AT_ONCE = 4
"""Requests, and carriers' events, of one workspace dealt with at a time: while one waits for the database's answer,
another may go on."""

GATHER = 0.05
"""Seconds between something to tell and the look at it: a call's happenings come in bunches."""


class Service:
    """See the module. ``open`` makes one, ``start`` lets it work, ``drain`` lets live calls end, ``close`` ends it."""

    def __init__(self, settings: Settings, store: Store, carriers: Carriers, faces: Sequence[Face]) -> None:
        self.settings = settings
        self.store = store
        self.faces = tuple(faces)
        self.sandboxes: Sandboxes | None = None
        self.started_at = datetime.now(UTC)
        self.new_admin_key: str | None = None
        """The first admin key, when this start made it: to be shown once."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waking: asyncio.TimerHandle | None = None
        self.resources = self._resources(settings, store, carriers)
        self.metrics = self.resources.metrics
        self.agents = self.resources.agents = StoreAgents(self.resources, self.report)
        self.book = WatchedCallBook(store.callbook, self._call_ended)
        at_once = 1 if store.db.sqlite else POSTGRESQL_AT_ONCE
        self.request_slots, self._event_slots = RequestSlots(at_once), RequestSlots(at_once)
        self.exchange = self.resources.exchange = self._exchange()
        self.sender = self.resources.sender = self._sender()
        store.db.on_announcement = self._announced
        self.scheduler = Scheduler(self.resources)
        self.resources.expect_call = self.scheduler.expect
        self.reconciler = Reconciler(self.resources)
        self.readiness = Readiness(self.resources)
        self._watch()

    def _resources(self, settings: Settings, store: Store, carriers: Carriers) -> Resources:
        guard = UrlGuard(local=settings.is_local, allow=settings.outward_allow)
        longest = settings.max_duration_seconds
        return Resources(
            settings=settings,
            store=store,
            carriers=carriers,
            url_guard=guard,
            guarded_http=guard.client(timeout=settings.webhook_timeout),
            engines=WorkspaceEngines(store, Engines(settings.engines), longest_call=longest, spawn=self.spawn),
            handlers={**BUILT_IN, **{name: agent_function(path) for name, path in settings.handlers.items()}},
            metrics=Metrics(store.db),
            spawn=self.spawn,
            write_incoming=next((face.incoming for face in self.faces if face.incoming is not None), None),
        )

    def _exchange(self) -> Exchange:
        return Exchange(
            registry=self.store.lines,
            credentials=YieldingCredentials(self.store.credentials),
            public_url=self.settings.origin,
            secret=self.store.derive("media tickets"),
            agents=self.agents,
            policy=first_start.destinations(self.settings),
            router=StoreRouter(self.resources),
            transfer_guard=self._may_be_handed_to,
            calls=self.book,
            once=self.store.once,
            time_limit=self.settings.max_duration_seconds,
            handler_grace=self.settings.handler_grace,
            owner=self.store.owner,
            report=self.report,
            turns=self._turn_of_workspace,
            carrier_settings=first_start.carrier_settings(self.settings),
        )

    def _sender(self) -> Sender:
        return Sender(
            queue=self.store.outbox,
            webhooks=self.store.webhooks,
            http=self.resources.guarded_http,
            styles={face.name: face.style(self.resources) for face in self.faces if face.style is not None},
            own=lambda to: str(to.call.options.get("face", "oneinbox")) if to.call is not None else "oneinbox",
            timeout=self.settings.webhook_timeout,
        )

    def _watch(self) -> None:
        """What is counted, and what carriers' events do besides."""
        sessions, writer, gauge = self.exchange.switchboard.sessions, self.store.writer, self.metrics.gauge
        gauge("anycarrier_live_calls", "Calls whose sound is in this process", lambda: len(sessions))
        gauge("anycarrier_rows_waiting", "Transcript and event rows unwritten", lambda: writer.waiting)
        gauge("anycarrier_webhooks_sent", "Webhooks delivered by this process", lambda: self.sender.sent)
        gauge("anycarrier_webhooks_failed", "Webhooks given up by this process", lambda: self.sender.failed)
        gauge("anycarrier_draining", "1 while this process takes no new calls", lambda: int(self.draining))
        self.metrics.carriers(self.exchange.listeners.figures)
        self.exchange.switchboard.observers += [
            self.metrics.carrier_event, partial(manage_numbers.heed_order, self.resources), self._note_routing_failure
        ]  # fmt: skip

    @classmethod
    async def open(cls, settings: Settings, faces: Sequence[Face]) -> Service:
        """Open the store and put the parts together; nothing runs yet."""
        first_start.make_folders(settings)
        carriers = Carriers()
        store = await Store.open(settings, build=carriers.build)
        try:
            await refuse_lacking(store)
            return cls(settings, store, carriers, faces)
        except BaseException:
            await store.close()
            raise

    @property
    def draining(self) -> bool:
        """True from the stop signal on: no new calls begin here."""
        return self.resources.draining

    @property
    def serving(self) -> Serving:
        """What the faces' endpoints run on."""
        return Serving(self.resources, self.authenticate, self.request_slots)

    async def start(self) -> None:
        """Take up work. The first start of a store makes its workspace and its admin key."""
        self.new_admin_key = await first_start.prepare(self.settings, self.store)
        if self.settings.sandbox:
            from anycarrier_server.work.sandbox_carriers import Sandboxes

            self.sandboxes = self.resources.sandboxes = await Sandboxes.open(self.resources)
        await self.reconciler.sign_of_life()
        await self.exchange.start()
        await carrier_listeners.look(self.resources)
        self.sender.start()
        self.scheduler.start()
        self.reconciler.start()
        self.spawn(finished_calls.sweep_recordings_hourly(self.resources), "look for recordings that no call knows")

    async def drain(self, seconds: float) -> None:
        """Take no new calls, let live ones end for ``seconds``, then end them."""
        self.resources.draining = True
        self.exchange.listeners.drain()
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while (held := await self._held()) and clock() < deadline:  # noqa: ASYNC110 the database tells nobody
            await asyncio.sleep(min(0.2, seconds))  # an end may come to the database by another process
        for reference in held:
            try:
                await self.exchange.hang_up(reference, EndReason.API_STOP)
            except AnycarrierError as problem:
                log.error("a call could not be ended at shutdown: %s", problem)
        await self.agents.wait_idle(10.0)

    async def _held(self) -> set[str]:
        """Calls that end with this process: those whose audio is here, and, if no other process is live, those whose
        audio may still come. Not calls that are ending, were transferred, or are taken by nobody: they need no wait."""
        held = set(self.agents.talking)
        if not await others_live(self.store):
            held |= self.exchange.call_watch.expected()
        return held

    async def close(self) -> None:
        """Stop everything, in the order in which things need each other."""
        self.resources.draining = True
        await self.scheduler.stop()
        await self.reconciler.stop()
        await self.agents.wait_idle(5.0)
        await self.exchange.stop()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.sender.stop()
        if self.sandboxes is not None:
            await self.sandboxes.close()
        await self.resources.guarded_http.aclose()
        await self.store.close()

    # --- what the parts call ----------------------------------------------------------------------------------------

    async def authenticate(self, headers: Mapping[str, str]) -> access.Caller:
        """Who is asking, or :class:`Unauthorized`."""
        caller = await access.authenticate(self.store, headers)
        if caller is None:
            raise Unauthorized
        return caller

    def report(self, what: str, failure: BaseException) -> None:
        """Log a failure that no caller waits for. What an outage of the database loses is looked up afterwards."""
        if not isinstance(failure, DatabaseUnavailable):
            log_failure(what, failure)
            return
        log.error("%s: the database is unavailable (%s)", what, failure)
        self.reconciler.missed_something()

    def _turn_of_workspace(self, credential_id: str) -> AbstractAsyncContextManager[None]:
        """An event waits for its workspace's turn. The workspace is set since the credential checked the signature."""
        return self._event_slots.of(WORKSPACE.get())

    def _note_routing_failure(self, event: CallEvent, call: Call | None) -> None:
        """For the call's log, where ``calls tail`` and the API show it."""
        id_ = parse_id("call", call.reference) if call is not None else None
        if isinstance(event, RoutingFailed) and id_ is not None:
            facts = {"failure": event.failure.value, "agent_id": event.agent_id, "detail": event.detail}
            self.store.writer.event(id_, "call.routing_failed", facts)

    async def _may_be_handed_to(self, call: Call, to: str) -> None:
        """The agent's contact rules hold for transfers too, whether a client asks or the agent itself."""
        agent = await self.store.agents.find(parse_id("agent", call.agent_id))
        if agent is not None and to.startswith("+"):
            refuse_blocked(to, await self.store.rules.decide(agent, "outbound", to))

    def spawn(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        """Run beside the request; its failure is logged under ``what``."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.report(f"could not {task.get_name()}", failure)

    def _announced(self) -> None:
        """Something is in the outbox. What comes in the same moment is fanned out together."""
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(GATHER, self._wake_sender)

    def _wake_sender(self) -> None:
        self._waking = None
        self.sender.wake()

    def _call_ended(self, call: Call) -> None:
        self.metrics.call_ended(call)
        # Who was never connected has left no words and no sound.
        if call.answered_at is not None and call.reference not in self.agents.talking:
            self.spawn(self._settle_if_nobody_does(call), "settle an ended call")

    async def _settle_if_nobody_does(self, call: Call) -> None:
        """A call whose sound is in another process is settled there, and when that one dies by the reconciler."""
        row = await self.store.calls.find(call.reference)
        if row is not None and (row.owner in (None, self.store.owner) or call.reason is EndReason.TRANSFERRED):
            await finished_calls.finish(self.resources, row)
