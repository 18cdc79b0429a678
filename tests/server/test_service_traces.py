"""Traces go where ``otlp_endpoint`` says: a collector that is not our code receives a span per request."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from running import running
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anycarrier.testing.live_server import serve


async def test_a_request_leaves_a_span_named_by_its_route(tmp_path: Path) -> None:
    received: list[ExportTraceServiceRequest] = []

    async def take(request: Request) -> Response:
        export = ExportTraceServiceRequest()
        export.ParseFromString(await request.body())
        received.append(export)
        return Response(media_type="application/x-protobuf")

    trace = "0af7651916cd43dd8448eb211c80319c"
    async with serve(Starlette(routes=[Route("/v1/traces", take, methods=["POST"])])) as collector:
        async with running(tmp_path, otlp_endpoint=f"{collector}/v1/traces") as at:
            parent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            assert (await at.http.get("/v1/calls/nothing", headers=parent)).status_code == 404
    spans = [
        span
        for export in received
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    ours = [span for span in spans if span.trace_id.hex() == trace]
    assert [span.name for span in ours] == ["GET /v1/calls/{call_id}"]
    assert {a.key: a.value.int_value for a in ours[0].attributes}["http.response.status_code"] == 404
