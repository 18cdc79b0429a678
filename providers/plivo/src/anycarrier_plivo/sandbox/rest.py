"""Plivo's REST API over one sandbox: the login, what every answer has, and no parameter that is not simulated."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from anycarrier.testing.sandbox import RestRequest
from anycarrier.testing.sandbox_numbers import Login, login_of

if TYPE_CHECKING:
    from anycarrier_plivo.sandbox.app import Account, PlivoSandbox

LARGEST_PAGE = 20


class Refused(Exception):
    """An answer of 400 or more, in Plivo's shape: a text, and no code."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


Handler = Callable[["Account", Any, dict[str, str]], Awaitable[tuple[int, Any]]]


def not_found() -> Refused:
    return Refused(404, "not found")


def endpoint(sandbox: PlivoSandbox, handler: Handler, names: str) -> Callable[[Request], Awaitable[Response]]:
    known = set(names.split())

    async def answer(request: Request) -> Response:
        log = RestRequest(request.method, request.url.path, dict(request.query_params))
        sandbox.requests.append(log)
        api_id = str(uuid.uuid4())
        try:
            account = log_in(sandbox, request)
            raw = await request.body()
            given = log.body = json.loads(raw) if raw else {}
            if not isinstance(given, dict):
                raise Refused(400, "the body is not a JSON object")
            asked = {**request.query_params, **given}
            # Plivo's own SDK repeats the ids of the path in the body.
            repeated = {name for name, value in asked.items() if value in request.path_params.values()}
            if unknown := set(asked) - known - repeated:
                raise Refused(400, f"{', '.join(sorted(unknown))}: unknown, or not simulated by this sandbox")
            status, body = await handler(account, asked, request.path_params)
        except Refused as refused:
            status, body = refused.status, {"error": refused.text}
        except (KeyError, ValueError, TypeError) as wrong:
            status, body = 400, {"error": f"mandatory parameter missing or malformed: {wrong}"}
        log.status = status
        if body is None:
            return Response(status_code=status)
        return JSONResponse({"api_id": api_id, **body}, status)

    return answer


def log_in(sandbox: PlivoSandbox, request: Request) -> Account:
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        user, _, token = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        user = token = ""
    if kind.lower() != "basic" or user != request.path_params["auth_id"] or login_of(token) is Login.WRONG:
        raise Refused(401, "authentication failed: the auth id or the auth token is wrong")
    match login_of(token):
        case Login.SUSPENDED:
            raise Refused(403, "this account is suspended")
        case Login.BROKE:
            raise Refused(402, "the account has no credit left")
        case Login.THROTTLED:
            raise Refused(429, "too many requests")
    return sandbox.account(user, token)


def page(asked: Any, found: list[Any], path: str) -> tuple[int, Any]:
    """At most twenty at a time."""
    limit, offset = int(asked.get("limit", LARGEST_PAGE)), int(asked.get("offset", 0))
    if not 1 <= limit <= LARGEST_PAGE or offset < 0:
        raise Refused(400, "limit is 1 to 20, offset 0 or more")
    later, earlier = offset + limit, max(0, offset - limit)
    meta = {
        "limit": limit,
        "offset": offset,
        "next": f"{path}?limit={limit}&offset={later}" if later < len(found) else None,
        "previous": f"{path}?limit={limit}&offset={earlier}" if offset else None,
        "total_count": len(found),
    }
    return 200, {"meta": meta, "objects": found[offset:later]}


async def unsimulated(account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
    raise Refused(404, "not simulated by this sandbox")


def routes(sandbox: PlivoSandbox, table: Sequence[tuple[str, str, Handler, str]]) -> list[Route | Mount]:
    """``table``: method, path below the account, handler, names of its parameters. With and without ``/v1``."""
    made = [
        Route(f"/Account/{{auth_id}}/{path}", endpoint(sandbox, handler, names), methods=[method])
        for method, path, handler, names in table
    ]
    every = ["GET", "POST", "PUT", "DELETE"]
    made.append(Route("/Account/{auth_id}/{rest:path}", endpoint(sandbox, unsimulated, ""), methods=every))
    return [Mount("/v1", routes=made), *made]


async def never(sandbox: PlivoSandbox) -> None:
    """A request that is never answered."""
    await sandbox.closing.wait()
    await asyncio.sleep(0)
