"""A Telnyx that answers from a script, and holds every request of the adapter against the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from anycarrier_telnyx import TelnyxCredential, TelnyxProvider
from openapi import Spec


class Carrier:
    """Scripted answers by ``METHOD /path``; what is not scripted answers a command with "ok"."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[httpx.Request] = []
        self.problems: list[str] = []
        self.spec = Spec.load("telnyx_v2.trimmed.json")

    def on(self, request: str, answer: Any = None, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer ``request`` with JSON, text, an exception to raise, or a function of the request."""
        self.answers[request] = (answer, status, headers)

    def refuse(self, request: str, status: int, code: str, title: str = "No", **more: Any) -> None:
        self.on(request, {"errors": [{"code": code, "title": title, **more}]}, status=status)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host == "api.telnyx.com":
            # Collected, not raised: the SDK would turn what a transport raises into "no connection".
            self.problems += self.spec.request_problems(request)
            if request.headers.get("authorization") != "Bearer KEY0123":
                self.problems.append(f"{request.method} {request.url.path} with another login")
        path = request.url.path.removeprefix("/v2")
        answer, status, headers = self.answers.get(
            f"{request.method} {path}", ({"data": {"result": "ok"}}, 200, None)
        )
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, bytes):
            return httpx.Response(status, content=answer, headers=headers)
        return httpx.Response(status, json=answer, headers=headers)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests if request.content]

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.path.removeprefix('/v2')}" for request in self.requests]


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    carrier = Carrier()
    yield carrier
    assert carrier.problems == [], "the OpenAPI document does not allow what was sent"


@pytest.fixture
async def open_telnyx(carrier: Carrier) -> AsyncIterator[Callable[..., TelnyxProvider]]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:

        def make(**fields: Any) -> TelnyxProvider:
            fields = {"api_key": "KEY0123", "connection_id": "1000000000000000001", **fields}
            return TelnyxProvider(TelnyxCredential(**fields), http)

        yield make


@pytest.fixture
def telnyx(open_telnyx: Callable[..., TelnyxProvider]) -> TelnyxProvider:
    return open_telnyx()
