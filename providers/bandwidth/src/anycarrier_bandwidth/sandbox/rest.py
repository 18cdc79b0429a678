"""REST requests and replies: the token, paths, JSON bodies checked by name and type, XML bodies, error bodies.

Errors have the shape of their API: voice ``{"type", "description", "id"}``, numbers one of three kinds of XML.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET

from starlette.requests import Request
from starlette.responses import Response

from anycarrier.testing.sandbox import RestRequest
from anycarrier.testing.sandbox_numbers import Login, login_of
from anycarrier_bandwidth.sandbox.account import Account
from anycarrier_bandwidth.sandbox.bxml import BxmlError, read

if TYPE_CHECKING:
    from anycarrier_bandwidth.sandbox.app import BandwidthSandbox

TOKEN_PATH = "/api/v1/oauth2/token"
VOICE = "/api/v2/accounts/{account}/calls"
NUMBERS = "/api/v2/accounts/{account}"
UNIVERSAL = "/v2/accounts/{account}"
XML = "application/xml"
LARGEST_BODY = 1 << 20

TYPES: Mapping[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "url": lambda value: isinstance(value, str) and re.fullmatch(r"https?://\S{1,2040}", value) is not None,
    "method": lambda value: value in ("GET", "POST"),
    "flag": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}


class Refusal(Exception):
    """An answer of 400 and more. ``kind`` is the voice API's only word; ``code`` makes it one of the numbers API."""

    def __init__(
        self, status: int, description: str, *, kind: str = "validation", code: str = "", shape: str = ""
    ) -> None:
        super().__init__(f"{status} {code or kind}: {description}")
        self.status, self.description, self.kind, self.code, self.shape = status, description, kind, code, shape

    def reply(self) -> Reply:
        if not self.code:
            return Reply(self.status, {"type": self.kind, "description": self.description, "id": None})
        if self.shape == "ResponseStatus":
            inner = node("ResponseStatus", {"ErrorCode": self.code, "Description": self.description})
            return Reply(self.status, node("Response", {}, inner))
        error = node("Error", {"Code": self.code, "Description": self.description})
        return Reply(self.status, node(self.shape or "Response", {}, node("ErrorList", {}, error)))


@dataclass(frozen=True, slots=True)
class Reply:
    """``body`` is XML as an element, JSON as anything else, and a file as bytes."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = ""


@dataclass(slots=True)
class Rest:
    """A request that logged in. ``path`` has the URL's variables; ``body`` is a JSON object, or the root of XML."""

    sandbox: BandwidthSandbox
    account: Account
    login: Login
    path: dict[str, str]
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any = None
    raw: bytes = b""

    def get(self, name: str, default: str = "") -> str:
        return self.query.get(name, default)

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number of the query, from 1 to ``most``."""
        text = self.get(name) or str(default)
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
            raise Refusal(400, f"{name} is not a number from 1 to {most}", code="1006", shape="ResponseStatus")
        return int(text)


Handler = Callable[[Rest], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its body is none, ``xml`` (whose root has that name), or JSON with these fields by type."""

    method: str
    path: str
    handle: Handler
    xml: str = ""
    takes: Mapping[str, str] | None = None

    def match(self, path: str) -> dict[str, str] | None:
        found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path), path)
        return found.groupdict() if found else None


def node(name: str, fields: Mapping[str, Any] | None = None, *children: ET.Element) -> ET.Element:
    """An element with these fields as children, those that are None left out, and further children."""
    made = ET.Element(name)
    for key, value in (fields or {}).items():
        if value is not None:
            ET.SubElement(made, key).text = str(value).lower() if isinstance(value, bool) else str(value)
    made.extend(children)
    return made


def text_of(element: ET.Element, path: str) -> str:
    """The text at ``path``, "" when there is none."""
    return (element.findtext(path) or "").strip()


async def answer(sandbox: BandwidthSandbox, operations: list[Operation], request: Request) -> Response:
    """One REST request, from login to reply."""
    path = request.scope["path"][len(request.scope.get("root_path", "")) :] or "/"
    query = parse_qs(request.scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
    record = RestRequest(request.method, path, query)
    sandbox.requests.append(record)
    try:
        reply = await _handle(sandbox, operations, request, record)
    except Refusal as refusal:
        reply = refusal.reply()
    record.status = reply.status
    content, kind = _written(reply.body)
    kind = reply.media_type or kind
    return Response(content, reply.status, dict(reply.headers), kind if content else None)


def _written(body: Any) -> tuple[bytes, str]:
    if isinstance(body, ET.Element):
        return b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>' + ET.tostring(body, "utf-8"), XML
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    return (b"" if body is None else json.dumps(body).encode()), "application/json"


async def _handle(
    sandbox: BandwidthSandbox, operations: list[Operation], request: Request, record: RestRequest
) -> Reply:
    content = await request.body()
    if len(content) > LARGEST_BODY:
        raise Refusal(400, "the body is too large")
    if record.path == TOKEN_PATH and request.method == "POST":
        return _token(sandbox, request, content)
    login, client = _log_in(sandbox, request)
    found = [(operation, match) for operation in operations if (match := operation.match(record.path)) is not None]
    if not found:
        raise Refusal(404, "Resource not found", kind="validation")
    chosen = next(((operation, match) for operation, match in found if operation.method == request.method), None)
    if chosen is None:
        raise Refusal(405, "Method not allowed", kind="validation")
    operation, match = chosen
    account_id = match.get("account") or str((record.query.get("accountId") or [""])[0])
    account = sandbox.account_of(client, account_id)
    if account is None:
        raise Refusal(403, "User is not authorized to use the specified account", kind="authorization-error")
    if login is Login.BROKE:
        raise Refusal(402, "The account is out of credits", kind="error")
    query = {name: values[-1] for name, values in record.query.items()}
    rest = Rest(sandbox, account, login, match, query, request.headers)
    rest.raw = content
    rest.body = record.body = _body(operation, request, content)
    if isinstance(rest.body, ET.Element):
        record.body = content.decode("utf-8", "replace")
    return await operation.handle(rest)


def _body(operation: Operation, request: Request, content: bytes) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not operation.xml and operation.takes is None:
        if content and kind not in ("", "application/json"):
            raise Refusal(415, f"{request.method} takes no body")
        return None
    wanted = XML if operation.xml else "application/json"
    if kind != wanted:
        raise Refusal(415, f"the content type is {kind or 'missing'}, not {wanted}")
    if operation.xml:
        try:
            root = read(content)
        except BxmlError as failure:
            raise Refusal(400, str(failure), code="1003", shape="ResponseStatus") from None
        if operation.xml != "*" and root.tag != operation.xml:
            raise Refusal(400, f"the root is {root.tag[:40]}, not {operation.xml}", code="1003", shape="ResponseStatus")
        return root
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise Refusal(400, "Invalid JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "the body is not a JSON object")
    check(body, operation.takes or {})
    return body


def check(body: Mapping[str, Any], takes: Mapping[str, str], where: str = "") -> None:
    """400 for a field that is not known, or of another type; null is the same as leaving it out."""
    for name, value in body.items():
        if name not in takes:
            # The real API may let a misspelt name pass; a sandbox that did would hide the mistake until production.
            raise Refusal(400, f"Unknown property {where}{name[:40]}")
        if value is not None and not TYPES[takes[name]](value):
            raise Refusal(400, f"Invalid {where}{name}: must be a {takes[name]}")


# --- the token ------------------------------------------------------------------------------------------------------


def _token(sandbox: BandwidthSandbox, request: Request, content: bytes) -> Reply:
    user, secret = basic(request.headers.get("authorization", ""))
    form = parse_qs(content.decode("utf-8", "replace"))
    login = login_of(secret)
    if not user or login is Login.WRONG:
        return Reply(401, {"error": "invalid_client", "error_description": "Client authentication failed"})
    if login is Login.SUSPENDED:
        return Reply(403, {"error": "access_denied", "error_description": "The credential is disabled"})
    if login is Login.THROTTLED:
        return Reply(429, {"error": "slow_down", "error_description": "Too many requests"})
    if form.get("grant_type") != ["client_credentials"]:
        return Reply(400, {"error": "unsupported_grant_type"})
    token = sandbox.issue_token(user, login)
    return Reply(200, {"access_token": token, "expires_in": sandbox.token_seconds, "token_type": "Bearer"})


def basic(authorization: str) -> tuple[str, str]:
    """User and password of ``Authorization: Basic``, both "" for anything else."""
    import base64

    scheme, _, text = authorization.partition(" ")
    try:
        user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return (user, password) if scheme.lower() == "basic" else ("", "")


def _log_in(sandbox: BandwidthSandbox, request: Request) -> tuple[Login, str]:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    known = sandbox.tokens.get(token) if scheme.lower() == "bearer" else None
    if known is None or known[2] <= time.monotonic():
        raise Refusal(401, "The credentials provided were invalid", kind="authentication-error")
    return known[1], known[0]
