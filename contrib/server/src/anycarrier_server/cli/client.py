"""Speaking to the service: over HTTP to a running server, or (``--direct``) to its faces in this very process.

Either way the same requests get the same answers, so commands do not know which it is.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, BinaryIO

import httpx

from anycarrier.errors import AnycarrierError, ConfigurationError
from anycarrier_server.cli.connection import Address, on_this_machine

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""Seconds; buying a number may take a carrier most of a minute."""

PAGE = 100


class Refused(AnycarrierError):
    """The server said no. ``status``, ``code`` and ``body`` are its own; the message is its ``detail``."""

    def __init__(self, status: int, code: str, detail: str, body: Any = None) -> None:
        self.status = status
        self.code = code
        self.body = body
        super().__init__(detail)

    @property
    def exit_code(self) -> int:
        """2 when the request was wrong, 1 when it was right and the answer is no."""
        return 2 if self.status in (400, 422) else 1


class NoServer(AnycarrierError):
    """Nobody answered."""

    exit_code = 1


class Client:
    """Requests with the key, answers as JSON; what is not a success is :class:`Refused`."""

    def __init__(self, http: httpx.AsyncClient, where: str, *, direct: bool = False) -> None:
        self.http = http
        self.where = where
        self.direct = direct

    async def get(self, path: str, **query: Any) -> Any:
        return await self.request("GET", path, query=query)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        return await self.request("POST", path, body=body, query=query)

    async def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self.request("PUT", path, body=body)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self.request("PATCH", path, body=body)

    async def delete(self, path: str, **query: Any) -> Any:
        return await self.request("DELETE", path, query=query)

    async def every(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a listing that pages by offset."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.get(path, limit=PAGE, offset=len(found), **query)
            found += page["items"]
            if not page["items"] or len(found) >= page["total"]:
                return found

    async def request(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """One request, never repeated: a second one might ring a second time."""
        with self._troubles(method):
            return read(await self.http.request(method, path, params=_params(query or {}), json=body))

    async def download(self, path: str, out: BinaryIO, **query: Any) -> int:
        """Write what is there to ``out``, piece by piece; how many bytes."""
        size = 0
        with self._troubles("GET"):
            async with self.http.stream("GET", path, params=_params(query)) as response:
                if not response.is_success:
                    await response.aread()
                    read(response)
                async for piece in response.aiter_bytes():
                    size += out.write(piece)
        return size

    @contextmanager
    def _troubles(self, method: str) -> Iterator[None]:
        """No answer, or half of one, as :class:`NoServer`."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as failure:
            raise NoServer(_why_not_connected(self.where, failure)) from failure
        except httpx.HTTPError as failure:
            # What was asked for may have been done all the same; only a look tells.
            once_more = "" if method == "GET" else ". It may have been done: look before you ask again"
            raise NoServer(f"{self.where} broke off ({type(failure).__name__}){once_more}") from failure


def _why_not_connected(where: str, failure: BaseException) -> str:
    """What kept us from being connected, and the next step: TLS, or nobody is there."""
    cause: BaseException | None = failure
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {where} is not trusted ({cause.verify_message}). When a private authority signed it, "
            "name the authority's certificate file in SSL_CERT_FILE"
        )
    if cause is not None:
        return f"{where} does not speak TLS ({cause.reason or 'no handshake'}): is it http:// and not https://?"
    return (
        f"nobody answers at {where}. Start it with `anycarrier serve`, name it with --url or ANYCARRIER_URL, "
        "or work on the database with --direct"
    )


def _certificates(url: str) -> ssl.SSLContext | bool:
    """Whom to trust: the public authorities, or those of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, on this machine too."""
    if not url.startswith("https:"):
        return True
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as problem:
        where = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise ConfigurationError(f"SSL_CERT_FILE: no certificates can be read from {where}: {problem}") from None


def _params(query: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value is not None
    }


def read(response: httpx.Response) -> Any:
    """The JSON of a success (None for an empty body), or :class:`Refused`."""
    try:
        body = response.json() if response.content else None
    except ValueError:
        body = None
    if response.is_success:
        if body is None and response.content:
            raise Refused(response.status_code, "", "what answers there speaks no JSON: is it an anycarrier server?")
        return body
    fields = body if isinstance(body, Mapping) else {}
    detail = _sentence(fields.get("detail") or fields.get("message"))
    if not detail:
        detail = f"the server answered {response.status_code}, and not as an anycarrier does: is the URL right?"
    if response.status_code == 401:
        detail += ". Here the key goes into ANYCARRIER_KEY or --key"
    if (after := response.headers.get("retry-after")) is not None:
        detail += f". Try again in {after} s"
    if response.status_code >= 500 and fields.get("request_id"):
        detail += f" (request {fields['request_id']})"
    raise Refused(response.status_code, str(fields.get("code", "")), detail, body)


def _sentence(detail: Any) -> str:
    """A detail in any of its shapes: a text, a list of complaints, an object with an ``error``."""
    if isinstance(detail, list):
        return "; ".join(
            f"{'.'.join(str(part) for part in one.get('loc', [])[1:])}: {one.get('msg', '')}".removeprefix(": ")
            if isinstance(one, Mapping)
            else str(one)
            for one in detail
        )
    if isinstance(detail, Mapping):
        reason = detail.get("reason") or detail.get("message") or ""
        return ": ".join(str(part) for part in (detail.get("error"), reason) if part) or str(dict(detail))
    return str(detail) if detail else ""


@asynccontextmanager
async def remote_client(address: Address) -> AsyncIterator[Client]:
    """Over HTTP. Redirects are not followed: the key is for this server only."""
    headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
    proxied = not on_this_machine(address.url)
    async with httpx.AsyncClient(
        base_url=address.url, headers=headers, timeout=TIMEOUT, trust_env=proxied, verify=_certificates(address.url)
    ) as http:
        yield Client(http, address.url)
