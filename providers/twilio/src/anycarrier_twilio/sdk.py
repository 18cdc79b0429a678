"""The official SDK over anycarrier's shared HTTP client: one pool, one timeout, one error mapping, never a retry.

Importing this module imports the SDK, which takes a while: the provider does so on first use, off the event loop.
The SDK is asked, and what the carrier *answered* is returned, since its objects do not keep the original.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import twilio.rest.api  # type: ignore[import-untyped]  # noqa: F401  # what the SDK would put off to the first dial
from twilio.base.exceptions import TwilioException  # type: ignore[import-untyped]
from twilio.http import AsyncHttpClient  # type: ignore[import-untyped]
from twilio.http.response import Response  # type: ignore[import-untyped]
from twilio.rest import Client

from anycarrier.errors import UnreadableResponse
from anycarrier.provider import Provider
from anycarrier_twilio.credential import TwilioCredential

API = "https://api.twilio.com"
Work = Callable[[Any], Awaitable[Any]]

# What the SDK stumbles with over an answer that is not the one it expects.
_STUMBLES = (TwilioException, ValueError, LookupError, TypeError, AttributeError)


class SharedHttp(AsyncHttpClient):  # type: ignore[misc]
    """The SDK's transport for one operation; keeps what came back in ``answers``."""

    def __init__(
        self, http: httpx.AsyncClient, *, timeout: float, base_url: str | None, extra: Mapping[str, Any]
    ) -> None:
        super().__init__(logging.getLogger(__name__), True, timeout)
        self.http = http
        self.base_url = base_url
        self.extra = extra
        self.answers: list[httpx.Response] = []

    async def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        if not self.answers:  # the next page's address has them in it already
            if method == "POST":
                data = {**(data or {}), **self.extra}
            else:
                params = {**(params or {}), **self.extra}
        if self.base_url:
            parts = urlsplit(uri)
            uri = self.base_url.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")
        answer = await self.http.request(
            method,
            uri,
            params=params or None,
            data=data or None,
            headers=headers,
            auth=auth,
            timeout=timeout or self.timeout,
            follow_redirects=allow_redirects,
        )
        self.answers.append(answer)
        is_text = not answer.headers.get("content-type", "").startswith("audio/")
        return Response(answer.status_code, answer.text if is_text else "", answer.headers)


async def ask(
    provider: Provider, operation: str, work: Work, extra: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Do ``work`` with an SDK client; the JSON bodies of all answers, or the one typed error."""
    transport, client = _client(provider, extra or {})
    understood = True
    try:
        await work(client)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as failure:
        provider.unanswered(operation, failure)
    except _STUMBLES:
        # Ours is raised further down, out of its context: the SDK's repeats the carrier's text, whole numbers and all.
        understood = False
    bodies = [provider.read(answer, operation) for answer in transport.answers]
    for body in bodies:
        understood = understood and (body is None or isinstance(body, dict))
    if not understood:
        raise UnreadableResponse(provider.name, operation, "the answer is not the one Twilio's SDK expects")
    return [body or {} for body in bodies]


async def download(provider: Provider, operation: str, path: str) -> bytes:
    """The bytes of a media file of the account's."""
    transport, client = _client(provider, {})
    try:
        await client.request_async("GET", API + path, headers={"Accept": "*/*"}, allow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as failure:
        provider.unanswered(operation, failure)
    answer = transport.answers[-1]
    if answer.status_code != 200:
        provider.read(answer, operation)
        raise UnreadableResponse(provider.name, operation, "no file came", status=answer.status_code)
    return answer.content


def _client(provider: Provider, extra: Mapping[str, Any]) -> tuple[SharedHttp, Any]:
    """A client per operation: making one costs less than a tenth of a millisecond, and ``answers`` stay apart."""
    credential = provider.credential
    assert isinstance(credential, TwilioCredential)
    transport = SharedHttp(provider.http, timeout=provider.timeout, base_url=credential.base_url, extra=extra)
    user, password = credential.login
    client = Client(
        user,
        password,
        credential.account_sid,
        region=credential.region,
        edge=credential.edge,
        http_client=transport,
        # Only the credential counts. An empty mapping would make the SDK read the environment after all.
        environment={"": ""},
    )
    return transport, client


