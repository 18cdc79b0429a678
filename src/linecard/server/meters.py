"""What the service counts, for Prometheus: counters and gauges of its own registry, touched per call and per request,
never per frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from linecard.calls import Call
from linecard.events import CallEvent

if TYPE_CHECKING:
    from linecard.server.service import Service


class Meters:
    """One process's figures."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "linecard_http_requests_total", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "linecard_http_request_seconds",
            "Time to answer",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.events = Counter(
            "linecard_carrier_events_total", "Verified events from carriers", ["provider", "kind"],
            registry=self.registry,
        )  # fmt: skip
        self.ended = Counter(
            "linecard_calls_ended_total", "Calls ended", ["provider", "direction", "reason"], registry=self.registry
        )
        self.talk = Counter("linecard_talk_seconds_total", "Seconds talked", ["provider"], registry=self.registry)
        gauges = {
            "linecard_live_calls": ("Calls whose sound is in this process", lambda: len(service.exchange.sessions)),
            "linecard_rows_waiting": ("Transcript and event rows unwritten", lambda: service.store.writer.waiting),
            "linecard_webhooks_sent": ("Webhooks delivered by this process", lambda: service.sender.sent),
            "linecard_webhooks_failed": ("Webhooks given up by this process", lambda: service.sender.failed),
            "linecard_draining": ("1 while this process takes no new calls", lambda: int(service.draining)),
        }
        for name, (what, read) in gauges.items():
            Gauge(name, what, registry=self.registry).set_function(read)

    def carrier_event(self, event: CallEvent, call: Call | None) -> None:
        """An event of a carrier's; ``call`` None: of no call we keep."""
        self.events.labels(call.provider if call is not None else "", type(event).__name__).inc()

    def call_ended(self, call: Call) -> None:
        """A call is over."""
        self.ended.labels(call.provider, call.direction.value, call.reason.value if call.reason else "").inc()
        self.talk.labels(call.provider).inc(call.duration)

    def page(self) -> bytes:
        """All of it in the text format."""
        return generate_latest(self.registry)
