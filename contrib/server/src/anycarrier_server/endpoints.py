"""How a face says what it serves: a list of :class:`Endpoint`, from which both the routes and the OpenAPI document
are made. Authentication, reading, refusing and writing happen here, the same for every endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from anycarrier.errors import AnycarrierError
from anycarrier_server import reading
from anycarrier_server.auth import Caller
from anycarrier_server.outage import DatabaseUnavailable, refusal
from anycarrier_server.refusals import Forbidden, Invalid
from anycarrier_server.store.fair_queue import WORKSPACE

if TYPE_CHECKING:
    from anycarrier_server.domain.incoming_webhook import IncomingAsk
    from anycarrier_server.outbox import Style
    from anycarrier_server.service import Service

log = logging.getLogger("anycarrier")

Body = TypeVar("Body")
Query = TypeVar("Query")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Body, Query]):
    """One request, authenticated and read. ``path`` are the path's parameters; ``raw`` the body's bytes. ``headers``
    are those of the answer, for the handler to fill."""

    service: Service
    caller: Caller
    request: Request
    path: Mapping[str, str]
    body: Body
    query: Query
    raw: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Handle = Callable[[Asked[Any, Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Endpoint:
    """One operation. ``handle`` returns what ``answer`` describes (or a ready Response, or None for 204).

    ``path`` is Starlette's spelling, served with and without a last slash. ``refusals`` are the error statuses the
    document lists; 401, 422 and 429 need not be named. ``hidden`` keeps old spellings out of the document.
    """

    method: str
    path: str
    handle: Handle
    summary: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: Any = None
    status: int = 200
    refusals: tuple[int, ...] = ()
    admin: bool = False
    hidden: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers the operation reads, name -> what for; for the document."""

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Writes answers."""
        return TypeAdapter(self.answer)


@dataclass(frozen=True, slots=True)
class Face:
    """One HTTP contract. ``refuse`` turns any exception into the contract's error answer: it gets the error and the
    request's id, and answers 500 for what is not a AnycarrierError. ``style`` writes its webhooks (``outbox.py``).
    ``error`` is the model of its error body, for the document. ``incoming`` writes the body of the webhook that asks
    what to do with an incoming call; one face at most has it.
    """

    name: str
    prefix: str
    title: str
    endpoints: Sequence[Endpoint]
    refuse: Callable[[Exception, str], Response]
    error: type[BaseModel]
    style: Callable[[Service], Style] | None = None
    incoming: Callable[[IncomingAsk], Awaitable[dict[str, Any]]] | None = None

    def routes(self, service: Service) -> list[Route]:
        """Starlette's routes, each with and without the last slash: clients do not follow redirects."""
        found: list[Route] = []
        for one in self.endpoints:
            run = _runner(self, one, service)
            for path in (one.path, one.path + "/"):
                found.append(HeadedRoute(path, run, methods=[one.method], name=f"{one.method} {one.path}"))
        return found


class HeadedRoute(Route):
    """A route that looks at how the address begins before it compares the whole: there are two hundred of them, and a
    carrier's webhook comes after the last."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As ever, for addresses that begin like ours; below a mount, for all of them."""
        if not scope["path"].startswith(self._head) and not scope.get("root_path"):
            return Match.NONE, {}
        return super().matches(scope)

    @cached_property
    def _head(self) -> str:
        return self.path.partition("{")[0]


def _runner(face: Face, endpoint: Endpoint, service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        try:
            return await answer(endpoint, service, request)
        except AnycarrierError as refused:
            return face.refuse(refused, request_id(request))
        except DatabaseUnavailable as away:
            log.error("%s %s: the database is away (%s)", endpoint.method, endpoint.path, away)
            return face.refuse(refusal(away), request_id(request))
        except Exception as bug:
            log.exception("%s %s failed", endpoint.method, endpoint.path)
            return face.refuse(bug, request_id(request))

    return run


async def answer(endpoint: Endpoint, service: Service, request: Request) -> Response:
    """Authenticate, read, do, write. Who has no key learns nothing about the rest of the request."""
    caller = await service.authenticate(request.headers)
    WORKSPACE.set(caller.workspace_id)
    if endpoint.admin and not caller.admin:
        raise Forbidden("this needs an admin key: the key given is an agent's own")
    if any("\0" in value for value in request.path_params.values()):
        raise Invalid([{"loc": ["path"], "msg": "NUL", "type": "string_unicode"}])
    query = reading.read_query(request, endpoint.query) if endpoint.query is not None else None
    raw, body = b"", None
    if endpoint.body is not None:
        raw = await reading.read_bytes(request, service.settings.max_body_bytes)
        body = reading.read_body(raw, request.headers.get("content-type", ""), endpoint.body)
    asked = Asked(service, caller, request, request.path_params, body, query, raw)
    async with service.turns.of(caller.workspace_id):
        value = await endpoint.handle(asked)
        if isinstance(value, Response):
            return value
        if endpoint.status == 204:
            return Response(status_code=204)
        content = endpoint.adapter.dump_json(value, by_alias=True)
    return Response(content, status_code=endpoint.status, headers=asked.headers, media_type="application/json")


def request_id(request: Request) -> str:
    """The id under which this request is in the log and in its answer."""
    return str(request.scope.get("anycarrier.request_id", ""))
