"""Play ``rest/`` cassettes: as an httpx transport for the conformance kit, and by vcrpy for everything else.

The transport keeps every request, so a test can see what was sent and how often, and it knows which answers of a
cassette were never asked for.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

import httpx

from anycarrier.credentials import Credential
from anycarrier.provider import Provider
from anycarrier.testing.cassettes import PHONE, Scrubber

if TYPE_CHECKING:
    import vcr
    from vcr.request import Request

Answer = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class NotOnCassette(AssertionError):
    """The provider sent a request that the cassettes do not hold."""


class FakeTransport(httpx.AsyncBaseTransport):
    """An httpx transport without a network: ``requests`` is what was sent, ``answer`` decides what comes back."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []
        self.lacking: NotOnCassette | None = None
        """Set once a request was on no cassette: an SDK may turn that into an error of its own."""

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
        """All of what was sent, URLs and bodies, as one text to search."""
        return "\n".join(f"{r.method} {r.url}\n{r.content.decode('utf-8', 'replace')}" for r in self.requests)


class CassetteTransport(FakeTransport):
    """Answers from ``rest/*.yaml`` files: each interaction once, the first one that fits.

    A file that does not exist answers nothing, and is named when a request is made."""

    def __init__(self, paths: Iterable[Path]) -> None:
        from vcr.cassette import Cassette

        super().__init__(self._play)
        self._names: list[str] = []
        self._missing: list[str] = []
        self._waiting: list[tuple[str, Request, dict[str, Any]]] = []
        self._played: list[tuple[str, Request]] = []
        for path in paths:
            if not path.exists():
                self._missing.append(path.name)
                continue
            self._names.append(path.name)
            kept = Cassette.load(path=path, serializer=YamlWithProvenance(), record_mode="none", match_on=MATCHERS)
            self._waiting += [(path.name, request, response) for request, response in kept.data]

    def unplayed(self) -> list[str]:
        """The requests on the cassettes that were never sent: ``dial.yaml: POST /v1/calls``."""
        return [f"{name}: {kept.method} {urlsplit(kept.uri).path}" for name, kept, _ in self._waiting]

    def _play(self, request: httpx.Request) -> httpx.Response:
        from vcr.request import Request

        live = Request(request.method, str(request.url), request.content, dict(request.headers))
        for at, (name, kept, answer) in enumerate(self._waiting):
            if not differences(live, kept):
                del self._waiting[at]
                self._played.append((name, kept))
                headers = [(key, value) for key, values in answer["headers"].items() for value in values]
                return httpx.Response(answer["status"]["code"], headers=headers, content=answer["body"]["string"])
        raise NotOnCassette(f"{request.method} {request.url.path} is not on {self._nearest(live)}")

    def _nearest(self, live: Request) -> str:
        if not self._names:
            return f"a cassette: there is none for this operation. Add rest/{' or '.join(self._missing)}"
        if again := [name for name, kept in self._played if not differences(live, kept)]:
            return f"{again[0]} once more: it was sent {len(again) + 1} times, and the cassette answers {len(again)}"
        candidates = [(differences(live, kept), name, kept) for name, kept, _ in self._waiting]
        if not candidates:
            return f"{', '.join(self._names)}, whose requests were all sent"
        differing, name, kept = min(candidates, key=lambda candidate: len(candidate[0]))
        return f"{name}. The nearest there, {kept.method} {urlsplit(kept.uri).path}, differs: {'; '.join(differing)}"


def answering(
    status: int, *, json: object = None, text: str | None = None, headers: dict[str, str] | None = None
) -> FakeTransport:
    """A transport that gives the same answer to every request."""
    if text is not None:
        return FakeTransport(lambda _: httpx.Response(status, text=text, headers=headers))
    return FakeTransport(lambda _: httpx.Response(status, json=json, headers=headers))


def broken(failure: type[httpx.TransportError]) -> FakeTransport:
    """A transport that fails: ``httpx.ConnectError``, ``httpx.ReadTimeout``."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise failure("the kit says so", request=request)

    return FakeTransport(answer)


@asynccontextmanager
async def provider_over(
    transport: FakeTransport, provider: type[Provider], credential: Credential
) -> AsyncIterator[Provider]:
    """A provider of that class whose REST requests go over ``transport``, and which has logged in before."""
    async with httpx.AsyncClient(transport=transport) as http:
        made = provider(credential, http)
        made.log_in = logged_in  # type: ignore[method-assign]
        try:
            yield made
        finally:
            await made.aclose()


async def logged_in(operation: str) -> None:
    """In place of :meth:`Provider.log_in`: no token is fetched, and none is sent."""


# --- which request is which ------------------------------------------------------------------------------------------


def differences(live: Request, kept: Request) -> list[str]:
    """How a request differs from one on a cassette, a sentence for each part that does; none when they are the same.

    Method, path and query must agree, and a body must have the same keys. Ids and phone numbers count as equal. The
    host is left out, so that a cassette plays for a sandbox's address as well as for the carrier's.
    """
    found = []
    for matcher in MATCHERS:
        try:
            matcher(live, kept)
        except AssertionError as difference:
            found.append(str(difference))
    return found


def same_method(live: Request, kept: Request) -> None:
    """vcrpy matcher for the method."""
    _must(live.method == kept.method, f"the method is {live.method}, not {kept.method}")


def same_path(live: Request, kept: Request) -> None:
    """vcrpy matcher for the path: its last segments agree, as many as the cassette has."""
    sent, expected = urlsplit(live.uri).path, urlsplit(kept.uri).path
    here, there = sent.strip("/").split("/"), expected.strip("/").split("/")
    fits = len(here) >= len(there) and all(map(_same, here[-len(there) :], there))
    _must(fits, f"the path is {sent}, not {expected}")


def same_query(live: Request, kept: Request) -> None:
    """vcrpy matcher for the query."""
    sent, expected = _query(urlsplit(live.uri)), _query(urlsplit(kept.uri))
    names, expected_names = [key for key, _ in sent], [key for key, _ in expected]
    _must(names == expected_names, _keys_differ("query", names, expected_names))
    differing = [
        f"{key}={value}, not {other}"
        for (key, value), (_, other) in zip(sent, expected, strict=True)
        if not _same(value, other)
    ]
    _must(not differing, f"the query has {', '.join(differing)}")


def same_body(live: Request, kept: Request) -> None:
    """vcrpy matcher for the body's keys; values are not compared."""
    sent, expected = _body_keys(live), _body_keys(kept)
    _must(sent == expected, _keys_differ("body", sent, expected))


MATCHERS = (same_method, same_path, same_query, same_body)


def _must(same: bool, difference: str) -> None:
    if not same:
        raise AssertionError(difference)  # no assert: pytest would add the values it compared


def _keys_differ(part: str, sent: list[str], expected: list[str]) -> str:
    """``the body has digits, and lacks to``: by name only, never by value."""
    more = [key for key in dict.fromkeys(sent) if key not in expected]
    less = [key for key in dict.fromkeys(expected) if key not in sent]
    told = [f"has {', '.join(more)}, which the cassette does not have"] if more else []
    told += [f"lacks {', '.join(less)}, which the cassette has"] if less else []
    return f"the {part} " + (" and ".join(told) or f"repeats its keys differently: {', '.join(sent)}")


def _query(url: SplitResult) -> list[tuple[str, str]]:
    return sorted(parse_qsl(url.query, keep_blank_values=True))


def _same(one: str, other: str) -> bool:
    return one == other or (_opaque(one) and _opaque(other))


def _opaque(value: str) -> bool:
    """An id, a token, an address or a phone number: something that differs from one run to the next."""
    if PHONE.fullmatch(value) or value.startswith(("http://", "https://")):
        return True
    return len(value) >= 16 and any(c.isdigit() for c in value)


def _body_keys(request: Request) -> list[str]:
    """The paths of all keys in a body, sorted: ``["from", "stream.url", "to"]``."""
    text = _text(request.body or b"")
    if not text:
        return []
    try:
        body = json.loads(text)
    except ValueError:
        return sorted({key for key, _ in parse_qsl(text, keep_blank_values=True)})
    return sorted({path for path, _ in leaves(body)})


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value by its path, with what is there: ``("stream.url", "wss://...")``."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{at}{key}", inner
            yield from leaves(inner, f"{at}{key}.")
    elif isinstance(value, list) and value:
        yield from leaves(value[0], f"{at}[].")


def _text(body: bytes | str) -> str:
    return body if isinstance(body, str) else body.decode("utf-8")


# --- vcrpy ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class YamlWithProvenance:
    """vcrpy's serializer, with the two lines of ours on top of the file."""

    provenance: str = ""
    source: str = ""

    def serialize(self, cassette: dict[str, Any]) -> str:
        import yaml

        head = {"provenance": self.provenance, "source": self.source}
        return str(yaml.safe_dump({**head, **cassette}, sort_keys=False, width=120, allow_unicode=True))

    def deserialize(self, text: str) -> Any:
        import yaml

        return yaml.safe_load(text)


def recorder(
    record_mode: str = "none",
    *,
    provenance: str = "",
    source: str = "",
    scrubber: Scrubber | None = None,
    only: tuple[str, ...] = (),
) -> vcr.VCR:
    """vcrpy, set up for anycarrier: requests are told apart by :data:`MATCHERS`, and scrubbed on write.

    ``only`` records requests to URLs that start with one of these, and lets all others through unseen. vcrpy asks
    about a request more than once, also after it was scrubbed, so the stand-in of an address belongs here too.
    """
    import vcr

    scrub = scrubber or Scrubber()

    def request_kept(request: Request) -> Request | None:
        if only and not request.uri.startswith(only):
            return None
        clean = type(request)(request.method, scrub.text(request.uri), request.body, scrub.headers(request.headers))
        if clean.body:
            clean.body = scrub.text(_text(clean.body)).encode()
        return clean

    def response_kept(response: dict[str, Any]) -> dict[str, Any]:
        body = response["body"].get("string") or b""
        try:
            body = scrub.text(_text(body)).encode()
        except UnicodeDecodeError:
            pass  # a recording: sound has no numbers in it
        status = response["status"]
        return {"status": status, "headers": scrub.headers(response["headers"]), "body": {"string": body}}

    made = vcr.VCR(
        record_mode=record_mode,
        serializer="anycarrier",
        match_on=[f"anycarrier {matcher.__name__}" for matcher in MATCHERS],
        before_record_request=request_kept,
        before_record_response=response_kept,
        decode_compressed_response=True,
    )
    made.register_serializer("anycarrier", YamlWithProvenance(provenance, source))
    for matcher in MATCHERS:
        made.register_matcher(f"anycarrier {matcher.__name__}", matcher)
    return made
