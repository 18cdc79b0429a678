"""Requests in, answers out: login, JSON, validation against the fields' tables, paging, and the log of requests."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router

from anycarrier.testing.sandbox import RestRequest
from anycarrier.testing.sandbox_numbers import Login, login_of
from anycarrier_telnyx.sandbox.account import Account
from anycarrier_telnyx.sandbox.parameters import Rules
from anycarrier_telnyx.sandbox.validation import Refusal, malformed, problem, problems, refuse, throttled

if TYPE_CHECKING:
    from anycarrier_telnyx.sandbox.app import TelnyxSandbox


@dataclass(frozen=True, slots=True)
class Ask:
    """One valid request: who asks, the ids in the path, the query and the body."""

    sandbox: TelnyxSandbox
    account: Account
    ids: Mapping[str, str]
    query: Mapping[str, Any]
    body: dict[str, Any]


Handler = Callable[[Ask], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API. ``body`` None: it takes none; ``handler`` None: the sandbox does not simulate it."""

    method: str
    path: str
    handler: Handler | None
    body: Rules | None = None
    query: Rules | None = None


def data(value: Any, status: int = 200) -> Response:
    """A success body."""
    return JSONResponse({"data": value}, status_code=status)


def listed(items: Iterable[Mapping[str, Any]], query: Mapping[str, Any]) -> Response:
    """One page of a list, with the carrier's ``meta``."""
    rows = list(items)
    number, size = query.get("page[number]", 1), query.get("page[size]", 20)
    pages = -(-len(rows) // size)
    meta = {"page_number": number, "page_size": size, "total_pages": pages, "total_results": len(rows)}
    return JSONResponse({"data": rows[(number - 1) * size : number * size], "meta": meta})


def build_app(sandbox: TelnyxSandbox, operations: Iterable[Operation], files: Iterable[Route]) -> Starlette:
    """The REST API, at the root and below ``/v2``; ``files`` are downloads that need no login."""
    routes: list[Any] = [Route(op.path, _endpoint(sandbox, op), methods=[op.method]) for op in operations]
    routes += files

    async def lost(request: Request, failure: Exception) -> Response:
        code = "10030" if isinstance(failure, HTTPException) and failure.status_code == 405 else "10005"
        return refuse(code, "The requested resource or URL could not be found.").response()

    # An empty id is no resource, and no list of them either: Starlette would lead to that.
    versioned = Router(routes, redirect_slashes=False)
    app = Starlette(routes=[*routes, Mount("/v2", app=versioned)], exception_handlers={404: lost, 405: lost})
    app.router.redirect_slashes = False
    return app


def _endpoint(sandbox: TelnyxSandbox, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        noted = RestRequest(request.method, path, dict(request.query_params.multi_items()))
        sandbox.requests.append(noted)
        raw = await request.body()
        try:
            account = _login(sandbox, request)
            if operation.handler is None:
                raise refuse("10038", f"{request.method} {operation.path} is not simulated by this sandbox.")
            try:
                given = json.loads(raw) if raw else {}
            except ValueError:
                given = None
            if not isinstance(given, dict):
                response = malformed()
            else:
                noted.body = given or None
                ask = Ask(sandbox, account, request.path_params, _query(request, operation), _body(given, operation))
                response = await operation.handler(ask)
        except Refusal as refusal:
            response = refusal.response()
        noted.status = response.status_code
        return response

    return endpoint


def _login(sandbox: TelnyxSandbox, request: Request) -> Account:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    login = login_of(secret.strip()) if scheme.lower() == "bearer" else Login.WRONG
    if login is Login.WRONG:
        raise refuse("10009", "Could not understand the provided credentials.")
    if login is Login.SUSPENDED:
        raise refuse("20013", "The account has been blocked.")
    if login is Login.BROKE:
        raise refuse("20012", "The account is inactive, maybe for want of funds.")
    if login is Login.THROTTLED:
        raise throttled()
    return sandbox.account(secret.strip())


def _body(given: dict[str, Any], operation: Operation) -> dict[str, Any]:
    found = list(problems(operation.body or {}, given))
    if found:
        raise Refusal(*found)
    return given


def _query(request: Request, operation: Operation) -> dict[str, Any]:
    """The query as a flat mapping, ``filter[a][b]`` the keys; lists may repeat ``[]`` or be joined by commas."""
    rules = operation.query or {}
    query: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    for key, text in request.query_params.multi_items():
        name = key.removesuffix("[]")
        rule = rules.get(name)
        if rule is None:
            found.append(problem("10015", f"The '{key}' parameter is not known here.", parameter=key))
        elif isinstance(rule, list):
            query.setdefault(name, []).extend(text.split(","))
        else:
            query[name] = _typed(rule, text)
    for name, value in query.items():
        for entry in problems(rules[name], value, name):
            found.append({**entry, "source": {"parameter": name}})
    if found:
        raise Refusal(*found)
    return query


def _typed(rule: str, text: str) -> Any:
    if rule.startswith("int") and text.lstrip("-").isdecimal():
        return int(text)
    if rule == "bool" and text in ("true", "false"):
        return text == "true"
    return text


def kept(row: Mapping[str, Any], query: Mapping[str, Any], fields: Mapping[str, str]) -> bool:
    """Whether a row of a list passes the query's filters; ``fields`` names the row's field for each filter.

    Text is compared as a whole, ignoring the case of booleans; times and numbers by the filter's ending (``[gte]``).
    """
    for name, field in fields.items():
        asked = query.get(f"filter[{name}]")
        if asked is not None and not _passes(row.get(field), asked, name.rpartition("[")[2].rstrip("]")):
            return False
    return True


_COMPARED: Mapping[str, Callable[[str, str], bool]] = {
    "gt": str.__gt__,
    "gte": str.__ge__,
    "lt": str.__lt__,
    "lte": str.__le__,
    "contains": lambda held, asked: asked.casefold() in held.casefold(),
    "starts_with": lambda held, asked: held.casefold().startswith(asked.casefold()),
    "ends_with": lambda held, asked: held.casefold().endswith(asked.casefold()),
}


def _passes(held: Any, asked: Any, ending: str) -> bool:
    text = str(held).lower() if isinstance(held, bool) else str(held if held is not None else "")
    if isinstance(asked, list):
        return text in asked
    asked = str(asked).lower() if isinstance(asked, bool) else str(asked)
    # Times are compared as text: both sides are ISO 8601 in UTC, the asked one perhaps shorter.
    return _COMPARED.get(ending, str.__eq__)(text, asked.removesuffix("Z") if ending in ("gt", "gte") else asked)
