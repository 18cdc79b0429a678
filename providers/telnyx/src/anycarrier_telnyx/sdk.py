"""The official SDK, asked over our one HTTP client: no retries of its own, imported when first needed.

The SDK knows paths and parameter names; answers and refusals are read by ``Provider.read`` like any other carrier's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from anycarrier.errors import UnreadableResponse
from anycarrier.provider import Provider

if TYPE_CHECKING:
    from telnyx import AsyncTelnyx

Command = Callable[["AsyncTelnyx"], Awaitable[Any]]
"""Given the client, one request through a resource's ``with_raw_response``."""


class Sdk:
    """One credential's SDK client. Making one imports nothing."""

    def __init__(self, provider: Provider, api_key: str, base_url: str) -> None:
        self.provider = provider
        self.api_key = api_key
        self.base_url = base_url
        self._client: AsyncTelnyx | None = None

    async def client(self) -> AsyncTelnyx:
        """The client. The first import takes a second or two, so it happens beside the event loop, not on it."""
        if self._client is None:
            await asyncio.to_thread(_import)
            from telnyx import AsyncTelnyx

            client = AsyncTelnyx(
                api_key=self.api_key,
                base_url=self.base_url,
                http_client=self.provider.http,
                max_retries=0,  # its default of 2 would ring a person three times
                timeout=self.provider.timeout,
            )
            # Left alone it takes an OAuth login of some other account out of the environment, and prefers it.
            client.client_id = client.client_secret = None
            self._client = client
        return self._client

    async def ask(self, operation: str, command: Command) -> Any:
        """The decoded JSON of exactly one request, or the typed error it came to."""
        client = await self.client()
        import httpx
        from telnyx import APIConnectionError, APIStatusError

        failure: Exception | None = None
        try:
            response: httpx.Response = (await command(client)).http_response
        except APIStatusError as refused:
            # Its text holds whole numbers, so it does not become the cause of ours; the answer itself says it all.
            response = refused.response
        except APIConnectionError as unanswered:
            failure = unanswered.__cause__ if isinstance(unanswered.__cause__, Exception) else unanswered
        except (ValueError, httpx.InvalidURL) as unwritable:  # also the SDK's refusal of an id that is "" or ".."
            failure = unwritable
        if failure is not None:
            self.provider.unanswered(operation, failure)
        if 300 <= response.status_code < 400:
            raise UnreadableResponse(
                self.provider.name, operation, "a redirect, which the API never sends", status=response.status_code
            )
        return self.provider.read(response, operation)

    async def record(self, operation: str, command: Command) -> dict[str, Any]:
        """The object under ``data``."""
        return self.member(await self.ask(operation, command), operation)

    async def rows(self, operation: str, command: Command) -> list[dict[str, Any]]:
        """The list under ``data``."""
        return self.members(await self.ask(operation, command), operation)

    async def download(self, operation: str, url: str) -> bytes:
        """The file behind a signed link. It is in an object store, so the request carries no API key."""
        import httpx

        provider = self.provider
        try:
            response = await provider.http.get(url, timeout=provider.timeout, follow_redirects=True)
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            raise provider.error(operation, None, message=type(failure).__name__) from failure
        if response.status_code != 200:
            raise provider.error(operation, response.status_code, headers=response.headers)
        return response.content

    def member(self, body: Any, operation: str) -> dict[str, Any]:
        """``data`` of an answer that holds one object."""
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, dict):
            raise UnreadableResponse(self.provider.name, operation, "no data object in the answer", status=200)
        return data

    def members(self, body: Any, operation: str) -> list[dict[str, Any]]:
        """``data`` of an answer that holds a list."""
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
            raise UnreadableResponse(self.provider.name, operation, "no data list in the answer", status=200)
        return data


def _import() -> None:
    import telnyx
    import telnyx.resources  # noqa: F401  the client would import it on its first use, on the event loop
