"""What the service counts, for Prometheus: counters and gauges of its own registry, touched per call and per request,
never per frame."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from anycarrier.calls import Call
from anycarrier.events import CallEvent
from anycarrier.listener import Figure
from anycarrier_server.store.columns import word
from anycarrier_server.store.database import Database
from anycarrier_server.store.limits import Snapshot
from anycarrier_server.store.models import CallRow
from anycarrier_server.store.statements import Statement, table_of

LOOK_WITHIN = 1.0
"""Seconds the database has to answer for a page of figures."""

CALL = table_of(CallRow)
IN_PROGRESS = Statement(
    select(CALL.c.direction, CALL.c.status, func.count().label("count"))
    .where(CALL.c.status != word("ended"))
    .group_by(CALL.c.direction, CALL.c.status)
)


class _CarrierFigures(Collector):
    """Figures of carriers' listeners, as Prometheus has them. Their names and labels are the plugins'."""

    def __init__(self, read: Callable[[], Sequence[Figure]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing before it is asked: no listener may be open."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One family for each name."""
        families: dict[str, Metric] = {}
        for figure in self._read():
            labels = {name: str(value) for name, value in figure.labels.items()}
            name = f"anycarrier_{figure.name}"
            family = families.setdefault(name, Metric(name, figure.help, figure.kind))
            if figure.kind == "histogram":
                for bound, count in sorted(figure.buckets.items()):
                    up_to = "+Inf" if bound == inf else f"{bound:g}"
                    family.add_sample(f"{name}_bucket", {**labels, "le": up_to}, count)
                family.add_sample(f"{name}_count", labels, max(figure.buckets.values(), default=0))
                family.add_sample(f"{name}_sum", labels, figure.value)
            else:
                family.add_sample(f"{name}_total" if figure.kind == "counter" else name, labels, figure.value)
        return families.values()


class Metrics:
    """One process's figures. No label takes its values from a client, so their number is bounded: nothing is told by
    workspace, agent or number."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "anycarrier_http_requests_total", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "anycarrier_http_request_seconds",
            "Time to answer",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.events = Counter(
            "anycarrier_carrier_events_total", "Verified events from carriers", ["provider", "kind"],
            registry=self.registry,
        )  # fmt: skip
        self.ended = Counter(
            "anycarrier_calls_ended_total", "Calls ended", ["provider", "direction", "reason"], registry=self.registry
        )
        self.answers = Histogram(
            "anycarrier_answer_seconds",
            "What a caller waits for (docs/speech.md), counted when the call has ended",
            ["wait"],
            buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "anycarrier_calls_in_progress", "Calls that are not over, of all processes", ["direction", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.use = Histogram(
            "anycarrier_limit_use_ratio",
            "How much of its day's limit a workspace has used or reserved, at each call let in",
            ["limit"],
            buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1),
            registry=self.registry,
        )
        self.refusals = Counter(
            "anycarrier_limit_refusals_total", "Calls refused by a limit", ["limit"], registry=self.registry
        )
        self.talk = Counter("anycarrier_talk_seconds_total", "Seconds talked", ["provider"], registry=self.registry)

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A figure that is read when the page is asked for."""
        Gauge(name, what, registry=self.registry).set_function(read)

    def carriers(self, read: Callable[[], Sequence[Figure]]) -> None:
        """What carriers with sockets of their own count, read when the page is asked for."""
        self.registry.register(_CarrierFigures(read))

    def carrier_event(self, event: CallEvent, call: Call | None) -> None:
        """An event of a carrier's; ``call`` None: of no call we keep."""
        self.events.labels(call.provider if call is not None else "", type(event).__name__).inc()

    def call_ended(self, call: Call) -> None:
        """A call is over."""
        self.ended.labels(call.provider, call.direction.value, call.reason.value if call.reason else "").inc()
        self.talk.labels(call.provider).inc(call.duration)

    def answered(self, latency_ms: Mapping[str, Sequence[float]]) -> None:
        """The waits of a call that is over, by kind."""
        for wait, values in latency_ms.items():
            for value in values:
                self.answers.labels(wait).observe(value / 1000)

    def let_in(self, limits: Snapshot) -> None:
        """A call was counted; how its workspace stands now."""
        self.use.labels("calls").observe(limits.calls_used / max(1, limits.calls_limit))
        if limits.minutes_limit:
            self.use.labels("minutes").observe(1 - limits.minutes_free / limits.minutes_limit)

    def refused(self, limit: str) -> None:
        """A call was not let in: by ``calls`` or ``minutes``, ``concurrency``, ``pace``, or a number's ``day``."""
        self.refusals.labels(limit).inc()

    async def page(self) -> bytes:
        """All of it in the text format. What only the database knows is left out while that does not answer."""
        self.in_progress.clear()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LOOK_WITHIN):
                for row in await self._db.rows(IN_PROGRESS):
                    self.in_progress.labels(row.direction, row.status).set(row.count)
        return generate_latest(self.registry)
