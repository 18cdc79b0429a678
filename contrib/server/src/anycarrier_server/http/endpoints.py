"""How a face says what it serves: a list of :class:`Endpoint`, from which the routes and the OpenAPI document are made.
Authentication, reading, refusing and writing happen here, the same for every endpoint.

A request is read bounded and checked, with every complaint in the FastAPI list shape (422). Nothing that PostgreSQL or
JSON cannot hold gets past here: NUL characters, numbers without end, endless nesting.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from anycarrier.errors import AnycarrierError
from anycarrier_server.domain.access import Caller
from anycarrier_server.domain.request_data import parse_json, read_as
from anycarrier_server.domain.resources import IncomingAsk, Resources
from anycarrier_server.fair_scheduling import WORKSPACE, RequestSlots
from anycarrier_server.outage import DatabaseUnavailable, refusal
from anycarrier_server.refusals import Forbidden, Invalid, TooLarge
from anycarrier_server.store import Store
from anycarrier_server.work.webhook_delivery import Style

log = logging.getLogger("anycarrier")

Body = TypeVar("Body")
Query = TypeVar("Query")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Body, Query]):
    """One request, authenticated and read. ``path`` are the path's parameters; ``raw`` the body's bytes. ``headers``
    are those of the answer, for the handler to fill."""

    resources: Resources
    caller: Caller
    request: Request
    path: Mapping[str, str]
    body: Body
    query: Query
    raw: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        """All that many operations need."""
        return self.resources.store


@dataclass(frozen=True, slots=True)
class Serving:
    """What every endpoint runs on. ``authenticate`` gets the request's headers, names in lower case."""

    resources: Resources
    authenticate: Callable[[Mapping[str, str]], Awaitable[Caller]]
    slots: RequestSlots


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
    request's id, and answers 500 for what is not a AnycarrierError. ``style`` writes its webhooks. ``error`` is the
    model of its error body, for the document. ``incoming`` writes the body of the webhook that asks what to do with an
    incoming call; one face at most has it.
    """

    name: str
    prefix: str
    title: str
    endpoints: Sequence[Endpoint]
    refuse: Callable[[Exception, str], Response]
    error: type[BaseModel]
    style: Callable[[Resources], Style] | None = None
    incoming: Callable[[IncomingAsk], Awaitable[dict[str, Any]]] | None = None

    def routes(self, serving: Serving) -> list[Route]:
        """Starlette's routes, each with and without the last slash: clients do not follow redirects."""
        found: list[Route] = []
        for one in self.endpoints:
            run = _runner(self, one, serving)
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


def _runner(face: Face, endpoint: Endpoint, serving: Serving) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        try:
            return await answer(endpoint, serving, request)
        except AnycarrierError as refused:
            return face.refuse(refused, request_id(request))
        except DatabaseUnavailable as unavailable:
            log.error("%s %s: the database is unavailable (%s)", endpoint.method, endpoint.path, unavailable)
            return face.refuse(refusal(unavailable), request_id(request))
        except Exception as bug:
            log.exception("%s %s failed", endpoint.method, endpoint.path)
            return face.refuse(bug, request_id(request))

    return run


async def answer(endpoint: Endpoint, serving: Serving, request: Request) -> Response:
    """Authenticate, read, handle, write. Without a valid key nothing else in the request is checked."""
    caller = await serving.authenticate(request.headers)
    WORKSPACE.set(caller.workspace_id)
    if endpoint.admin and not caller.admin:
        raise Forbidden("this needs an admin key: the key given is an agent's own")
    if any("\0" in value for value in request.path_params.values()):
        raise Invalid([{"loc": ["path"], "msg": "NUL", "type": "string_unicode"}])
    query = read_query(request, endpoint.query) if endpoint.query is not None else None
    raw, body = b"", None
    if endpoint.body is not None:
        raw = await read_bytes(request, serving.resources.settings.max_body_bytes)
        body = read_body(raw, request.headers.get("content-type", ""), endpoint.body)
    asked = Asked(serving.resources, caller, request, request.path_params, body, query, raw)
    async with serving.slots.of(caller.workspace_id):
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


Model = TypeVar("Model", bound=BaseModel)


async def read_bytes(request: Request, limit: int) -> bytes:
    """The body, or :class:`TooLarge` before more than ``limit`` bytes are held."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise TooLarge(limit)
            chunks.append(chunk)
    except ClientDisconnect:
        raise Invalid([{"loc": ["body"], "msg": "the body was cut off", "type": "json_invalid"}]) from None
    return b"".join(chunks)


def read_body(data: bytes, content_type: str, model: type[Model]) -> Model:
    """A JSON body as ``model``; an empty one counts as ``{}`` when the model has no required field."""
    if not data:
        if any(field.is_required() for field in model.model_fields.values()):
            raise Invalid([{"loc": ["body"], "msg": "a JSON body is required", "type": "missing"}])
        return model.model_validate({})
    kind = content_type.partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        wrong = f"send Content-Type: application/json, not {kind[:60]}"
        raise Invalid([{"loc": ["header", "content-type"], "msg": wrong, "type": "content_type"}])
    return read_as(model, parse_json(data, "body"), "body")


def read_query(request: Request, model: type[Model]) -> Model:
    """The query as ``model``. A parameter given twice is its last value; unknown ones are ignored by default."""
    return read_as(model, dict(request.query_params), "query")
