"""A Vonage that answers from a script, and holds what is sent against the OpenAPI documents and their logins."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from anycarrier.testing.live_server import serve_sandbox
from anycarrier_vonage import VonageCredential, VonageProvider
from anycarrier_vonage.sandbox import VonageSandbox
from anycarrier_vonage.sandbox.accounts import Accounts, pem_of, private_key
from openapi import Spec
from shared_documents import shared_path

APPLICATION = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
FIELDS = {
    "api_key": "a1b2c3d4",
    "api_secret": "kept-secret",
    "application_id": APPLICATION,
    "signature_secret": "a signature secret of at least 32 bytes".replace(" ", "-"),
}
NEWER = {"body property advanced_machine_detection is unknown"}
"""What Vonage's SDK sends and its documents of 2021 do not have yet."""


def credential(**fields: Any) -> VonageCredential:
    return VonageCredential.model_validate({**FIELDS, "private_key": pem_of(private_key()), **fields})


@functools.cache
def _voice() -> dict[str, Any]:
    """The document of calls, with what it says of an endpoint's type in prose: else a phone is a SIP endpoint too."""
    document: dict[str, Any] = json.loads(shared_path("specs", "vonage_voice_v1.trimmed.json").read_text())
    for name, schema in document["components"]["schemas"].items():
        if name.startswith("Endpoint"):
            kind = schema["properties"]["type"]
            kind["enum"] = [kind["example"]]
    return document


class Documents:
    """Which document a request belongs to. Their paths of calls end with a slash, which the API does not want."""

    def __init__(self) -> None:
        self.voice = Spec(_voice())
        self.numbers = Spec.load("vonage_numbers.trimmed.json")
        self.applications = Spec.load("vonage_applications_v2.trimmed.json")

    def of(self, path: str) -> tuple[Spec, str]:
        path = path.removeprefix("/us-3")
        if path.startswith("/v1/calls"):
            return self.voice, "/v1/calls/" if path == "/v1/calls" else path
        return (self.applications if path.startswith("/v2") else self.numbers), path

    def problems_of(self, request: httpx.Request) -> list[str]:
        spec, path = self.of(request.url.path)
        asked = httpx.Request(
            request.method, request.url.copy_with(path=path), headers=request.headers, content=request.content
        )
        return [problem for problem in spec.request_problems(asked) if problem not in NEWER]

    def problems_in(self, method: str, path: str, status: int, body: Any) -> list[str]:
        spec, path = self.of(path)
        return spec.response_problems(method, path, status, body)


class Carrier:
    """Scripted answers by ``METHOD /path``; what is not scripted is a 404."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[Any, int]] = {}
        self.requests: list[httpx.Request] = []
        self.problems: list[str] = []
        self.documents = Documents()
        self.accounts = Accounts()

    def on(self, request: str, answer: Any = None, *, status: int = 200) -> None:
        self.answers[request] = answer, status

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path
        if not path.startswith("/v1/files"):
            self.problems += self.documents.problems_of(request)
        self.check_login(request)
        answer, status = self.answers.get(f"{request.method} {path}", ({"title": "Not Found"}, 404))
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, bytes | str):
            return httpx.Response(status, content=answer)
        return httpx.Response(status, json=answer) if answer is not None else httpx.Response(status)

    def check_login(self, request: httpx.Request) -> None:
        """Calls by token, all else by key and secret, and each at its host."""
        authorization, host = request.headers["authorization"], request.url.host
        if request.url.path.startswith("/v1/"):
            assert self.accounts.application(authorization).id == APPLICATION
            hosts = {"api.nexmo.com", "api-us-3.vonage.com", "api-eu-1.vonage.com"}
        else:
            assert authorization == "Basic " + base64.b64encode(b"a1b2c3d4:kept-secret").decode()
            hosts = {"api.nexmo.com" if request.url.path.startswith("/v2/") else "rest.nexmo.com"}
        if host not in hosts:
            self.problems.append(f"{request.url.path} was asked of {host}")

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests if request.content]

    @property
    def forms(self) -> list[dict[str, str]]:
        return [dict(httpx.QueryParams(r.content.decode())) for r in self.requests if r.method == "POST"]

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    carrier = Carrier()
    yield carrier
    assert carrier.problems == [], "Vonage's OpenAPI documents do not allow what was sent"


@pytest.fixture
async def open_vonage(carrier: Carrier) -> AsyncIterator[Callable[..., VonageProvider]]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
        yield lambda **fields: VonageProvider(credential(**fields), http)


@pytest.fixture
def vonage(open_vonage: Callable[..., VonageProvider]) -> VonageProvider:
    return open_vonage()


@pytest.fixture
async def sandbox() -> AsyncIterator[VonageSandbox]:
    async with serve_sandbox(VonageSandbox) as served:
        yield served
