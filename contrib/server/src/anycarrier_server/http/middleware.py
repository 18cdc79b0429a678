"""Around every request: an id, a log line, a count, a span where ``otlp_endpoint`` is set; and never a traceback to a
client.

Written as plain ASGI: it sits in front of media sockets too and costs them nothing. Paths are logged with what is
secret in them cut out: a ticket in a media address, the signature of a recording's.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anycarrier.errors import ConfigurationError
from anycarrier_server.http.endpoints import Face
from anycarrier_server.metrics import Metrics
from anycarrier_server.outage import DatabaseUnavailable, refusal
from anycarrier_server.refusals import StoreUnreachable
from anycarrier_server.settings import Settings

log = logging.getLogger("anycarrier.access")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
"""What we take over from a proxy in front of us."""

QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


RECORDINGS = "/recordings/"
NOT_KEPT = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""On the faces' answers and on recordings: they hold what was said, who rang, and keys that are shown once. No cache
keeps them, and no browser takes them for something else."""


class RequestMiddleware:
    """Shared by all requests; :meth:`open` tells it where to count, once that is there."""

    def __init__(self, faces: Sequence[Face], settings: Settings) -> None:
        self.faces = tuple(faces)
        self._guarded = (*(face.prefix for face in faces), RECORDINGS)
        self.settings = settings
        self._metrics: Metrics | None = None
        self._missed: Callable[[], None] = _nothing

    def open(self, metrics: Metrics, missed: Callable[[], None]) -> None:
        """Count from now on, and call ``missed`` when a carrier's event could not be written down."""
        self._metrics, self._missed = metrics, missed

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The ASGI wrapper."""

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            await self._request(app, scope, receive, send)

        return wrapped

    async def _request(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid4().hex
        scope["anycarrier.request_id"] = request_id
        began = time.perf_counter()
        status = 0
        guarded = scope["path"].startswith(self._guarded)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message["headers"] = [*headers, *NOT_KEPT] if guarded else headers
            await send(message)

        try:
            await app(scope, receive, sending)
        except DatabaseUnavailable as unavailable:
            log.error("%s %s: the database is unavailable (%s)", scope["method"], safe_path(scope["path"]), unavailable)
            self._missed()
            if status:
                raise
            # Mostly a carrier's webhook, which is sent again.
            await self._apologise(refusal(unavailable), scope, receive, sending)
        except Exception as bug:
            log.exception("%s %s failed", scope["method"], safe_path(scope["path"]))
            if status:
                raise  # half an answer is out: the connection is broken off, which the client notices
            await self._apologise(bug, scope, receive, sending)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    async def _apologise(self, bug: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        face = next((face for face in self.faces if scope["path"].startswith(face.prefix)), None)
        answer: Response = JSONResponse({"detail": "internal error"}, status_code=500)
        if isinstance(bug, StoreUnreachable):
            answer = JSONResponse({"detail": "not now"}, status_code=503, headers={"Retry-After": "1"})
        if face is not None:
            answer = face.refuse(bug, str(scope["anycarrier.request_id"]))
        await answer(scope, receive, send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path: str = scope["path"]
        if self._metrics is not None:
            route = route_of(scope)
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
        if path in QUIET or path.startswith("/sandbox/") or not log.isEnabledFor(logging.INFO):
            return
        facts: dict[str, Any] = {
            "method": scope["method"],
            "path": safe_path(path),
            "status": status,
            "ms": round(seconds * 1000, 1),
            "request_id": scope["anycarrier.request_id"],
        }
        log.info("%(method)s %(path)s: %(status)s in %(ms)s ms", facts, extra={"facts": facts})


def _nothing() -> None: ...


def route_of(scope: Scope) -> str:
    """The route's own spelling, so that ids do not become label values."""
    route = scope.get("route")
    return str(getattr(route, "path", "")) or "other"


def safe_path(path: str) -> str:
    """A path fit for a log."""
    return "/media/…" if path.startswith("/media/") else path[:200]


class Tracing:
    """The exporter, and the ASGI wrapper that feeds it. Media sockets are left alone."""

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as missing:
            raise ConfigurationError(
                f"otlp_endpoint is set, and OpenTelemetry is not installed ({missing}): install anycarrier-server[otel]"
            ) from None
        provider: Any = TracerProvider(resource=Resource.create({"service.name": "anycarrier"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._provider = provider
        self._tracer: Any = provider.get_tracer("anycarrier")

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The ASGI wrapper."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, Status, StatusCode

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            span = self._tracer.start_span(scope["method"], context=extract(headers), kind=SpanKind.SERVER)

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            try:
                await app(scope, receive, sending)
            finally:
                route = route_of(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("http.request.method", scope["method"])
                span.end()

        return traced

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()
