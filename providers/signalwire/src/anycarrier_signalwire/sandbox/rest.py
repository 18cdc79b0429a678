"""REST requests and replies: login, parameters checked by name and type, paging, and errors in their two shapes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import Response

from anycarrier.testing.sandbox import RestRequest
from anycarrier.testing.sandbox_numbers import RETRY_AFTER, Login, login_of
from anycarrier_signalwire.sandbox.models import ROOT, Callback, Project

if TYPE_CHECKING:
    from anycarrier_signalwire.sandbox.app import SignalWireSandbox

BASE = ROOT + "/{AccountSid}"
PAGING = {"PageSize": "int", "Page": "int", "PageToken": "text"}
CALL_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TYPES = {
    "text": re.compile(r".*", re.S),
    "list": re.compile(r".*", re.S),
    "int": re.compile(r"\d{1,9}"),
    "bool": re.compile(r"true|false", re.I),
    "url": re.compile(r"(https?://\S+)?"),
    "wss": re.compile(r"wss?://\S+"),
    "method": re.compile(r"GET|POST"),
}
MORE_INFO = "https://developer.signalwire.com/compatibility-api/rest/error-codes"


class RestError(Exception):
    """A refusal. Its body is flat, or, from operations that ``lists_errors``, a list with the code as text."""

    def __init__(self, status: int, code: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})

    def body(self, *, listed: bool) -> dict[str, Any]:
        told = {"message": str(self), "more_info": f"{MORE_INFO}#{self.code}"}
        if listed and self.status == 400:
            return {"errors": [{"code": str(self.code), **told}]}
        return {"code": self.code, **told, "status": self.status}


class WrongProject(RestError):
    """The path names another project than the login: 404, and not a word about why."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Any = None
    media_type: str = "application/json"


@dataclass(slots=True)
class Rest:
    """A request that logged in and passed the checks. ``path`` has the URL's variables and ``extension``."""

    sandbox: SignalWireSandbox
    project: Project
    login: Login
    url: str
    path: Mapping[str, str]
    params: Mapping[str, list[str]]

    def get(self, name: str, default: str = "") -> str:
        return self.params[name][-1].strip() if name in self.params else default

    def words(self, name: str) -> list[str]:
        return [word for value in self.params.get(name, []) for word in value.split()]

    def number(self, name: str, default: int) -> int:
        return int(self.get(name)) if self.get(name) else default

    def flag(self, name: str) -> bool:
        return self.get(name).lower() == "true"

    def callback(self, name: str, known: frozenset[str]) -> Callback | None:
        """The callback of that name, and the events that it is told."""
        events = frozenset(self.words(f"{name}Event")) or frozenset({"completed"})
        if unknown := sorted(events - known):
            raise RestError(400, 10000, f"{name}Event has no {', '.join(unknown)[:80]}")
        url = self.get(name)
        return Callback(url, self.get(f"{name}Method", "POST"), events) if url else None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API: what it takes by name and type; anything else is refused. None takes anything."""

    method: str
    path: str
    handle: Callable[[Rest], Awaitable[Reply]]
    takes: Mapping[str, str] | None = field(default_factory=dict)
    extensions: tuple[str, ...] = ("", ".json")
    lists_errors: bool = False
    public: bool = False
    """No login is asked for: whoever knows the id may have it."""

    def match(self, path: str) -> dict[str, str] | None:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", self.path) + r"(?P<extension>\.\w+)?"
        found = re.fullmatch(pattern, path)
        if found is None or (found["extension"] or "") not in self.extensions:
            return None
        return {name: value or "" for name, value in found.groupdict().items()}


def not_found(rest: Rest) -> NoReturn:
    """The carrier's 404."""
    raise RestError(404, 20404, f"The requested resource {rest.url} was not found")


def throttled() -> RestError:
    """429. Whether it comes with Retry-After is in no document: a sandbox that sends it shows what a caller does."""
    return RestError(429, 20429, "Too many requests", headers={"retry-after": f"{RETRY_AFTER:g}"})


def page(rest: Rest, name: str, items: list[dict[str, Any]]) -> Reply:
    """One page of a list. A page after the first is asked for with the token that its link has."""
    size, number = rest.number("PageSize", 50), rest.number("Page", 0)
    if not 0 < size <= 1000:
        raise RestError(400, 10000, "PageSize must be between 1 and 1000")
    if number and rest.get("PageToken") != _marker(number):
        raise RestError(400, 10000, "PageToken is required for a Page above 0")

    def link(to: int) -> str:
        kept = [(key, value) for key, values in rest.params.items() if key not in PAGING for value in values]
        token = [("PageToken", _marker(to))] if to else []
        return f"{rest.url}?{urlencode([*kept, ('Page', to), ('PageSize', size), *token])}"

    more = size * (number + 1) < len(items)
    return Reply(200, {
        "uri": link(number), "first_page_uri": link(0), "next_page_uri": link(number + 1) if more else None,
        "previous_page_uri": link(number - 1) if number else None, "page": number, "page_size": size,
        name: items[size * number : size * (number + 1)],
    })  # fmt: skip


def _marker(number: int) -> str:
    return f"PA{number:032x}"


async def answer(sandbox: SignalWireSandbox, operations: list[Operation], request: Request) -> Response:
    """One REST request, from login to reply."""
    path = request.scope["path"][len(request.scope.get("root_path", "")) :] or "/"
    query = request.scope["query_string"].decode("utf-8", "replace")
    record = RestRequest(request.method, path, parse_qs(query, keep_blank_values=True))
    sandbox.requests.append(record)
    if body := await request.body():
        record.body = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    found = [(operation, match) for operation in operations if (match := operation.match(path)) is not None]
    chosen = next(((operation, match) for operation, match in found if operation.method == request.method), None)
    headers: dict[str, str] = {}
    try:
        reply = await _handle(sandbox, chosen, bool(found), request, record)
    except WrongProject as error:
        reply = Reply(error.status)
    except RestError as error:
        headers = error.headers
        listed = chosen is not None and chosen[0].lists_errors
        reply = Reply(error.status, error.body(listed=listed))
    record.status = reply.status
    content = reply.body if isinstance(reply.body, bytes) else b"" if reply.body is None else _json(reply.body)
    return Response(content, reply.status, headers, reply.media_type if content else None)


async def _handle(
    sandbox: SignalWireSandbox,
    chosen: tuple[Operation, dict[str, str]] | None,
    known: bool,
    request: Request,
    record: RestRequest,
) -> Reply:
    if chosen is None:
        _log_in(request)
        raise RestError(405 if known else 404, 20404, f"The requested resource {record.path} was not found")
    operation, match = chosen
    params = dict(record.query) if request.method in ("GET", "DELETE") else dict(record.body or {})
    if operation.public:
        owner = sandbox.projects.get(match["AccountSid"])
        if owner is None:
            raise RestError(404, 20404, f"The requested resource {record.path} was not found")
        return await operation.handle(Rest(sandbox, owner, Login.GOOD, record.path, match, params))
    user, login = _log_in(request)
    if match.get("AccountSid", user) != user:
        raise WrongProject(404, 20404, "another project")
    project = sandbox.projects.get(user)
    if project is None:
        project = sandbox.open_project(user)
    rest = Rest(sandbox, project, login, record.path, match, params)
    if operation.takes is not None:
        if params and request.method == "POST":
            kind = request.headers.get("content-type", "").partition(";")[0].strip()
            if kind != "application/x-www-form-urlencoded":
                raise RestError(415, 10000, f"content type {kind or 'missing'} is not a form")
        _check(operation, params)
    return await operation.handle(rest)


def _check(operation: Operation, params: Mapping[str, list[str]]) -> None:
    takes = operation.takes or {}
    if unknown := sorted(set(params) - set(takes)):
        # The real API may let a misspelt name pass; a sandbox that did would hide the mistake until production.
        raise RestError(400, 10000, f"Unknown parameters: {', '.join(unknown)[:200]}")
    for name, values in params.items():
        if takes[name] != "list" and len(values) > 1:
            raise RestError(400, 10000, f"{name} was given {len(values)} times")
        for value in values:
            if not _TYPES[takes[name]].fullmatch(value):
                code = 21205 if takes[name] == "url" else 10000
                raise RestError(400, code, f"{name} is not valid: {value[:80]!r} is no {takes[name]}")


def _log_in(request: Request) -> tuple[str, Login]:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        user, _, token = base64.b64decode(given, validate=True).decode().partition(":")
    except ValueError:
        user = token = ""
    login = login_of(token)
    if scheme.lower() != "basic" or not _UUID.fullmatch(user) or login in (Login.WRONG, Login.SUSPENDED):
        raise RestError(401, 20003, "Authentication failed")
    if login is Login.THROTTLED:
        raise throttled()
    return user, login


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()
