"""OpenTelemetry, when ``otlp_endpoint`` is set: a span per request, named by its route."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anycarrier.errors import ConfigurationError
from anycarrier_server.front_door import route_of


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
                f"otlp_endpoint is set, and OpenTelemetry is not installed ({missing}): it comes with the extra `otel`"
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
