"""The official SDK, whose requests go through the provider: one pool, one timeout, one error mapping, never a retry.

Importing this module imports the SDK, which takes a while: the provider does so on first use, off the event loop.
The SDK is asked, and what the carrier *answered* is returned, since its objects do not keep the original.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import twilio.rest.api  # type: ignore[import-untyped]  # noqa: F401  # what the SDK would put off to the first dial
from twilio.base.exceptions import TwilioException  # type: ignore[import-untyped]
from twilio.http import AsyncHttpClient  # type: ignore[import-untyped]
from twilio.http.response import Response  # type: ignore[import-untyped]
from twilio.rest import Client

from anycarrier.provider import Provider
from anycarrier_twilio.credential import TwilioCredential

# What the SDK stumbles with over an answer that is not the one it expects.
_STUMBLES = (TwilioException, ValueError, LookupError, TypeError, AttributeError)


class ProviderHttp(AsyncHttpClient):  # type: ignore[misc]
    """The SDK's transport for one operation; keeps what came back in ``answers``."""

    def __init__(self, provider: Provider, operation: str, extra: Mapping[str, Any]) -> None:
        super().__init__(logging.getLogger(__name__), True, provider.timeout)
        self.provider = provider
        self.operation = operation
        self.extra = extra
        self.answers: list[Any] = []

    async def request(self, method: str, uri: str, **asked: Any) -> Response:
        url = urlsplit(uri)
        answer = await self.provider.send(
            method,
            f"{url.path}?{url.query}" if url.query else url.path,
            operation=self.operation,
            root=f"{url.scheme}://{url.netloc}",
            params=asked["params"] or None,
            data=asked["data"] or None,
            headers=asked["headers"],
            auth=asked["auth"],
            extra={} if self.answers else self.extra,  # the next page's address has them in it already
            follow_redirects=asked["allow_redirects"],
        )
        is_file = asked["allow_redirects"]
        self.answers.append((self.provider.file if is_file else self.provider.read)(answer, self.operation))
        return Response(answer.status_code, "" if is_file else answer.text, answer.headers)


async def ask(
    provider: Provider, operation: str, work: Callable[[Any], Awaitable[Any]], extra: Mapping[str, Any] | None = None
) -> Any:
    """Do ``work`` with an SDK client; what Twilio answered, the lists of several pages in one, or the one typed error.

    A client per operation: making one costs less than a tenth of a millisecond, and ``answers`` stay apart.
    """
    credential = provider.credential
    assert isinstance(credential, TwilioCredential)
    http = ProviderHttp(provider, operation, extra or {})
    where = {"region": credential.region, "edge": credential.edge}
    # Only the credential counts. An empty mapping would make the SDK read the environment after all.
    client = Client(*credential.login, credential.account_sid, http_client=http, environment={"": ""}, **where)
    understood = True
    try:
        await work(client)
    except _STUMBLES:
        # The error is raised below, out of this context: the SDK's repeats the carrier's text, whole numbers and all.
        understood = False
    if not understood or not all(body is None or isinstance(body, dict | bytes) for body in http.answers):
        raise provider.unreadable(operation, "the answer is not the one Twilio's SDK expects")
    first, *pages = http.answers
    for page in pages:
        first |= {name: first.get(name, []) + rows for name, rows in page.items() if isinstance(rows, list)}
    return {} if first is None else first
