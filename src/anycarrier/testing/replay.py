"""The wire as the conformance kit has it: an httpx transport that answers from cassettes, or as it is told to.

Every request is kept, so a test can see what reached the wire and how often.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from anycarrier.credentials import Credential
from anycarrier.provider import Provider
from anycarrier.testing.cassettes import YamlWithProvenance, same_request

Answer = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class NotOnCassette(AssertionError):
    """The provider asked for something the cassettes do not hold."""


class Wire(httpx.AsyncBaseTransport):
    """``requests`` is what came; ``answer`` says what goes back."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []
        self.lacking: NotOnCassette | None = None
        """Set once something was asked that no cassette holds: an SDK may turn that into an error of its own."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        try:
            answer = self.answer(request)
        except NotOnCassette as lacking:
            self.lacking = lacking
            raise
        return answer if isinstance(answer, httpx.Response) else await answer

    @property
    def sent(self) -> str:
        """All of what was sent, URLs and bodies, as one text to look into."""
        return "\n".join(f"{r.method} {r.url}\n{r.content.decode('utf-8', 'replace')}" for r in self.requests)


def from_cassettes(paths: Iterable[Path]) -> Wire:
    """A wire answering from vcrpy files, each interaction once and in order."""
    from vcr.cassette import Cassette
    from vcr.errors import UnhandledHTTPRequestError
    from vcr.request import Request

    cassettes = [
        Cassette.load(path=path, serializer=YamlWithProvenance(), record_mode="none", match_on=(same_request,))
        for path in paths
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        asked = Request(request.method, str(request.url), request.content, dict(request.headers))
        near = []
        for cassette in cassettes:
            try:
                kept = cassette.play_response(asked)
            except UnhandledHTTPRequestError:
                near += [f"{name}: {why}" for _, _, failed in cassette.find_requests_with_most_matches(asked)
                         for name, why in failed]  # fmt: skip
                continue
            headers = [(name, value) for name, values in kept["headers"].items() for value in values]
            return httpx.Response(kept["status"]["code"], headers=headers, content=kept["body"]["string"])
        names = ", ".join(Path(c.path).name for c in cassettes) or "no cassette"
        raise NotOnCassette(f"{request.method} {request.url.copy_with(host='carrier')} is not on {names} {near or ''}")

    return Wire(answer)


def always(status: int, *, json: object = None, text: str | None = None, headers: dict[str, str] | None = None) -> Wire:
    """A wire that gives the same answer whatever it is asked."""
    if text is not None:
        return Wire(lambda _: httpx.Response(status, text=text, headers=headers))
    return Wire(lambda _: httpx.Response(status, json=json, headers=headers))


def broken(failure: type[httpx.TransportError]) -> Wire:
    """A wire that fails: ``httpx.ConnectError``, ``httpx.ReadTimeout``."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise failure("the kit says so", request=request)

    return Wire(answer)


@asynccontextmanager
async def on(wire: Wire, provider: type[Provider], credential: Credential) -> AsyncIterator[Provider]:
    """A provider of that class whose REST requests go over ``wire``."""
    async with httpx.AsyncClient(transport=wire) as http:
        made = provider(credential, http)
        try:
            yield made
        finally:
            await made.aclose()


