"""A Plivo that answers from a script and keeps what it was asked, and one that is a sandbox on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from anycarrier import DialRequest, StreamTarget
from anycarrier.testing.live_server import serve_sandbox
from anycarrier_plivo import PlivoCredential, PlivoProvider
from anycarrier_plivo.sandbox import PlivoSandbox

AUTH_ID, TOKEN = "MA0123456789ABCDEFGH", "Y2Q2ZDgxZmY5YWRiOTI5YmQ1Njg0MTAxZWIyOTc4"
STATUS_URL = "https://voice.example.com/plivo/main?ref=0123456789abcdef0123456789abcdef"


class Carrier:
    """Answers by ``METHOD /path`` below the account; what is not scripted is a 404."""

    def __init__(self) -> None:
        self.answers: dict[str, list[httpx.Response]] = {}
        self.requests: list[httpx.Request] = []

    def on(self, request: str, *answers: Any, status: int = 200) -> None:
        """Answer ``request`` so, one answer after the other; the last one again and again."""
        self.answers[request] = [
            answer if isinstance(answer, httpx.Response) else httpx.Response(status, json=answer) for answer in answers
        ]

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path.removeprefix(f"/v1/Account/{AUTH_ID}")
        listed = self.answers.get(f"{request.method} {path}")
        if listed is None:
            return httpx.Response(404, json={"api_id": "x", "error": "not found"})
        answer = listed.pop(0) if len(listed) > 1 else listed[0]
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

    @property
    def asked(self) -> list[str]:
        return [f"{r.method} {r.url.path.removeprefix(f'/v1/Account/{AUTH_ID}')}" for r in self.requests]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests if request.content]


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
async def plivo(carrier: Carrier) -> AsyncIterator[PlivoProvider]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
        yield PlivoProvider(PlivoCredential(auth_id=AUTH_ID, auth_token=TOKEN), http)


@pytest.fixture
async def sandbox() -> AsyncIterator[PlivoSandbox]:
    async with serve_sandbox(PlivoSandbox) as served:
        yield served


def dial(**changes: Any) -> DialRequest:
    fields = {
        "from_": "+14155550100",
        "to": "+14155550123",
        "stream": StreamTarget(url="wss://voice.example.com/media/ticket"),
        "status_url": STATUS_URL,
        "reference": "0123456789abcdef0123456789abcdef",
    }
    return DialRequest(**{**fields, **changes})
