"""The whole service as one ASGI app: carriers' webhooks and media, both faces, the sandboxes, health and metrics.

``create_service(settings)`` is what ``anycarrier serve`` runs; any ASGI server may. ``python -m anycarrier_server.app``
prints docs/openapi.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from anycarrier.asgi import routes as exchange_routes
from anycarrier.errors import AnycarrierError
from anycarrier_server.domain import recordings_and_transcripts
from anycarrier_server.http import openapi
from anycarrier_server.http.endpoints import Face, request_id
from anycarrier_server.http.middleware import RequestMiddleware
from anycarrier_server.outage import kind
from anycarrier_server.refusals import StoreOverloaded, Unknown
from anycarrier_server.service import Service
from anycarrier_server.settings import Settings

if TYPE_CHECKING:
    from anycarrier_server.http.middleware import Tracing

READY_WITHIN = 2.0
"""Seconds the database has to answer a readiness probe, which has a short timeout of its own."""

Answer = Callable[[Request], Awaitable[Response]]


def faces(sandbox: bool = False) -> list[Face]:
    """The HTTP contracts served, in the order in which the document shows them."""
    from anycarrier_server.inkbox import FACE as INKBOX
    from anycarrier_server.oneinbox import FACE as ONEINBOX
    from anycarrier_server.operations import FACE as OPERATIONS

    served = [ONEINBOX, INKBOX, OPERATIONS]
    if sandbox:
        from anycarrier_server.sandbox_api import FACE as SANDBOX

        served.append(SANDBOX)
    return served


def create_service(settings: Settings, *, opened: Service | None = None) -> Starlette:
    """The app. ``app.state.service`` is the :class:`Service` once it has started.

    The store is opened then, unless the service is given, ``opened`` already: so a caller hears what is wrong with
    the settings before anything is served.
    """
    contracts = opened.faces if opened is not None else faces(settings.sandbox)
    door = RequestMiddleware(contracts, settings)
    tracing = _tracing(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service = opened or await Service.open(settings, contracts)
        try:
            app.state.service = service
            door.open(service.metrics, service.reconciler.missed_something)
            app.router.routes[:] = service_routes(service)
            await service.start()
            if service.sandboxes is not None:
                app.router.routes[:0] = service.sandboxes.mounts()
            yield
        finally:
            await service.close()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    app = Starlette(lifespan=lifespan)
    app.router.redirect_slashes = False
    app.add_middleware(door.middleware)
    if tracing is not None:
        app.add_middleware(tracing.middleware)
    return app


def _tracing(settings: Settings) -> Tracing | None:
    if not settings.otlp_endpoint:
        return None
    from anycarrier_server.http.middleware import Tracing

    return Tracing(settings.otlp_endpoint)


def service_routes(service: Service) -> list[BaseRoute]:
    """Every route, the narrow ones first: a carrier's webhook address is any two words."""
    webhooks = exchange_routes(service.exchange)
    found: list[BaseRoute] = [
        WebhooksFirst(webhooks[-1]),
        Route("/", _front_page),
        Route("/healthz", _healthz),
        Route("/readyz", _readyz(service)),
        Route("/docs", openapi.show),
        Route("/openapi.json", _document(service)),
        Route("/recordings/{name}", _recording(service)),
    ]
    if service.settings.metrics:
        found.append(Route("/metrics", _metrics(service)))
    for face in service.faces:
        mine = face.routes(service.serving)
        found += mine
        nowhere = Route(face.prefix + "{rest:path}", _nowhere(face, mine))
        nowhere.methods = None  # any: Starlette's own default is GET
        found.append(nowhere)
    return [*found, *webhooks]


class WebhooksFirst(BaseRoute):
    """Carriers' webhooks, told by the credential in their address without a look at two hundred other routes."""

    def __init__(self, route: BaseRoute) -> None:
        self._route = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Only what looks like ours: any other two words are looked at last."""
        if scope["type"] != "http" or not scope["path"][1:].partition("/")[2].startswith("crd_"):
            return Match.NONE, {}
        return self._route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the route does, by whose name it is counted too."""
        scope["route"] = self._route
        await self._route.handle(scope, receive, send)


async def _front_page(request: Request) -> Response:
    """To the API's documentation, for people who open the address in a browser."""
    return RedirectResponse("docs")


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _readyz(service: Service) -> Answer:
    async def ready(request: Request) -> Response:
        """200 when calls may be sent here: the database answers, words are being written, nobody asked us to stop.

        ``degraded`` is what does not work for some: still 200, since one tenant's agent is not to take a fleet out.
        """
        problems = {}
        try:
            async with asyncio.timeout(READY_WITHIN), service.store.db.read() as session:
                await session.execute(text("SELECT 1"))
        except Exception as problem:  # noqa: BLE001 whatever the driver raises, the answer is the same
            problems["database"] = kind(problem)
        if service.store.writer.problem is not None:
            problems["writer"] = kind(service.store.writer.problem)
        if service.draining:
            problems["draining"] = "shutting down"
        degraded: dict[str, str] = {}
        if not problems:
            with contextlib.suppress(Exception):  # the database became unavailable just now: the next look tells
                async with asyncio.timeout(READY_WITHIN):
                    degraded = await service.readiness.degraded()
        word = "not ready" if problems else "degraded" if degraded else "ready"
        status = {"status": word, "problems": problems, "degraded": degraded}
        return JSONResponse(status, status_code=503 if problems else 200)

    return ready


def _metrics(service: Service) -> Answer:
    async def metrics(request: Request) -> Response:
        return Response(await service.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return metrics


def _document(service: Service) -> Answer:
    # Written when first asked for: it takes a quarter of a second, and most processes are never asked.
    written = functools.cache(lambda: openapi.document(service.faces, service.exchange.switchboard.public_url))

    async def document(request: Request) -> Response:
        return JSONResponse(written())

    return document


def _recording(service: Service) -> Answer:
    async def recording(request: Request) -> Response:
        query = request.query_params
        name = request.path_params["name"]
        try:
            path, kind = await recordings_and_transcripts.by_signature(
                service.resources, name, query.get("expires", ""), query.get("signature", "")
            )
        except Unknown:
            return JSONResponse({"detail": "no such recording, or the address has expired"}, status_code=404)
        except AnycarrierError as problem:
            return JSONResponse({"detail": str(problem)}, 503 if isinstance(problem, StoreOverloaded) else 501)
        return FileResponse(path, media_type=kind)

    return recording


def _nowhere(face: Face, routes: Sequence[Route]) -> Answer:
    async def nowhere(request: Request) -> Response:
        """404 in the face's own words; 405 where the path is right and the method is not."""
        there = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
        # An address written out, like /calls/cursor, is not also some /calls/{call_id}.
        there = [route for route in there if not route.param_convertors] or there
        allowed = ", ".join(sorted({method for route in there for method in route.methods or ()}))
        if not allowed:
            return face.refuse(Unknown("address"), request_id(request))
        wrong = HTTPException(405, f"this address knows {allowed}, not {request.method[:20]}", {"Allow": allowed})
        answer = face.refuse(wrong, request_id(request))
        answer.status_code = 405
        answer.headers["Allow"] = allowed
        return answer

    return nowhere


if __name__ == "__main__":
    sys.stdout.write(openapi.text(faces(sandbox=True)))
