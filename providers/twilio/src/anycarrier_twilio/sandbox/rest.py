"""REST requests and replies: login, parameters checked by name and type, paging, errors in JSON or XML."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response

from anycarrier.testing.sandbox import RestRequest
from anycarrier.testing.sandbox_numbers import RETRY_AFTER, Login, login_of
from anycarrier_twilio.carrier_side import calls_api
from anycarrier_twilio.carrier_side.calls_api import Parameters, RestError, read_login
from anycarrier_twilio.sandbox.models import Account, new_sid

if TYPE_CHECKING:
    from anycarrier_twilio.sandbox.app import TwilioSandbox

BASE = "/2010-04-01/Accounts/{AccountSid}"
PAGING = dict(zip(calls_api.PAGING, ("int", "int", "text"), strict=True))

_TYPES = {
    "text": re.compile(r".*", re.S),
    "list": re.compile(r".*", re.S),
    "int": re.compile(r"-?\d+"),
    "bool": re.compile(r"true|false", re.I),
    "url": re.compile(r"(https?://\S+)?"),
    "method": re.compile(r"GET|POST"),
}


class Rest(Parameters):
    """A request that logged in and passed the checks. ``path`` has the URL's variables and ``extension``."""

    def __init__(
        self, sandbox: TwilioSandbox, account: Account, login: Login, url: str, path: dict[str, str],
        params: dict[str, list[str]],
    ) -> None:  # fmt: skip
        super().__init__(params)
        self.sandbox = sandbox
        self.account = account
        self.login = login
        self.url = url
        self.path = path

    def flag(self, name: str) -> bool | None:
        return self.get(name).lower() == "true" if name in self.params else None


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Any = None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API: what it takes by name and type; anything else is refused. None takes anything."""

    method: str
    path: str
    handle: Callable[[Rest], Awaitable[Reply]]
    takes: Mapping[str, str] | None = field(default_factory=dict)
    extensions: tuple[str, ...] = (".json", "")

    def match(self, path: str) -> dict[str, str] | None:
        # A word such as Local is no number's SID.
        pattern = self.path.replace("{NumberSid}", r"(?P<NumberSid>PN\w+)")
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", pattern) + r"(?P<extension>\.\w+)?"
        found = re.fullmatch(pattern, path)
        if found is None or (found["extension"] or "") not in self.extensions:
            return None
        return {name: value or "" for name, value in found.groupdict().items()}


def not_found(rest: Rest) -> NoReturn:
    """The carrier's 404."""
    raise RestError(404, 20404, f"The requested resource {rest.url} was not found")


def page(rest: Rest, name: str, items: list[dict[str, Any]]) -> Reply:
    """One page of a list."""
    return Reply(200, calls_api.page(rest, rest.url, name, items))


async def answer(sandbox: TwilioSandbox, operations: list[Operation], request: Request) -> Response:
    """One REST request, from login to reply."""
    path = request.scope["path"][len(request.scope.get("root_path", "")) :] or "/"
    query = request.scope["query_string"].decode("utf-8", "replace")
    record = RestRequest(request.method, path, parse_qs(query, keep_blank_values=True))
    sandbox.requests.append(record)
    body = await request.body()
    if body:
        record.body = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    as_json = path.endswith(".json")
    headers = {"twilio-request-id": new_sid("RQ"), "twilio-concurrent-requests": "1"}
    try:
        reply = await _handle(sandbox, operations, request, record)
    except RestError as error:
        headers |= error.headers
        reply = Reply(error.status, error.body)
        if not as_json:
            reply = Reply(error.status, _xml_error(error.body).encode(), "application/xml")
    record.status = reply.status
    content = reply.body if isinstance(reply.body, bytes) else b"" if reply.body is None else _json(reply.body)
    return Response(content, reply.status, headers, reply.media_type if content else None)


async def _handle(
    sandbox: TwilioSandbox, operations: list[Operation], request: Request, record: RestRequest
) -> Reply:
    found = [(operation, match) for operation in operations if (match := operation.match(record.path)) is not None]
    account, login = _log_in(sandbox, request, found[0][1].get("AccountSid", "") if found else "")
    chosen = next(((operation, match) for operation, match in found if operation.method == request.method), None)
    if chosen is not None and chosen[0].takes is None:
        await chosen[0].handle(Rest(sandbox, account or sandbox.account, login, record.path, chosen[1], {}))
    if not found or account is None:
        raise RestError(404, 20404, f"The requested resource {record.path} was not found")
    if chosen is None:
        raise RestError(405, 20004, "Method not allowed")
    operation, match = chosen
    if not match["extension"] and ".json" in operation.extensions:
        raise RestError(404, 20404, "this sandbox answers in JSON: ask for the path with .json")
    params = dict(record.query) if request.method == "GET" else dict(record.body or {})
    if request.method == "POST":
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if params and kind != "application/x-www-form-urlencoded":
            raise RestError(415, 20415, f"content type {kind or 'missing'} is not application/x-www-form-urlencoded")
        if record.query:
            raise RestError(400, 20001, f"Unknown parameters: {', '.join(sorted(record.query))}")
    _check(operation, params)
    return await operation.handle(Rest(sandbox, account, login, record.path, match, params))


def _check(operation: Operation, params: Mapping[str, list[str]]) -> None:
    if operation.takes is None:
        return
    for name in params:
        if operation.takes.get(name) == "unsupported":
            raise RestError(400, 20001, f"{name} is not simulated by this sandbox")
    unknown = sorted(set(params) - set(operation.takes))
    if unknown:
        # The real API may let a misspelt name pass; a sandbox that did would hide the mistake until production.
        raise RestError(400, 20001, f"Unknown parameters: {', '.join(unknown)}")
    for name, values in params.items():
        kind = operation.takes[name]
        if kind != "list" and len(values) > 1:
            raise RestError(400, 20001, f"{name} was given {len(values)} times")
        for value in values:
            if not _TYPES[kind].fullmatch(value):
                code = 21205 if kind == "url" else 20001
                raise RestError(400, code, f"{name} is not valid: {value[:80]!r} is no {kind}")


def _log_in(sandbox: TwilioSandbox, request: Request, sid: str) -> tuple[Account | None, Login]:
    user, secret = read_login(request.headers.get("authorization", ""))
    login = login_of(secret)
    detail = "Your AccountSid or AuthToken was incorrect."
    if not user:
        raise RestError(401, 20003, "Authentication Error - No credentials provided", detail=detail)
    # A suspended account is told the same as a wrong token; that is how the carrier was seen to answer.
    if login in (Login.WRONG, Login.SUSPENDED) or not re.fullmatch(r"(AC|SK)[0-9a-fA-F]{32}", user):
        raise RestError(401, 20003, "Authenticate", detail=detail)
    if login is Login.THROTTLED:
        raise throttled()
    if not sid:
        return None, login
    if not re.fullmatch(r"AC[0-9a-fA-F]{32}", sid) or (user.startswith("AC") and user != sid):
        raise RestError(404, 20404, f"The requested resource {request.url.path} was not found")
    return sandbox.logged_in(sid, secret if user == sid else None), login


def throttled() -> RestError:
    """429. No page of the carrier's promises Retry-After; a sandbox that sends it shows what a caller does with it."""
    return RestError(
        429,
        20429,
        "Too Many Requests",
        headers={"retry-after": f"{RETRY_AFTER:g}", "twilio-concurrent-requests": "100"},
    )


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


def _xml_error(body: Mapping[str, Any]) -> str:
    fields = "".join(
        f"<{tag}>{escape(str(body[key]))}</{tag}>"
        for key, tag in (("code", "Code"), ("message", "Message"), ("more_info", "MoreInfo"), ("status", "Status"))
    )
    document = f"<TwilioResponse><RestException>{fields}</RestException></TwilioResponse>"
    return f"<?xml version='1.0' encoding='UTF-8'?>\n{document}"
