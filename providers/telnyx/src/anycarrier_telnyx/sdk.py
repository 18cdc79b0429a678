"""How Telnyx is asked: by the official SDK over our one HTTP client, without retries, imported when first needed.

The SDK knows paths and parameter names; answers and refusals are read by ``Provider.read`` like any other carrier's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from uuid import NAMESPACE_URL, uuid4, uuid5

import msgspec

from anycarrier.errors import ProviderError
from anycarrier.provider import Provider
from anycarrier_telnyx.credential import TelnyxCredential
from anycarrier_telnyx.errors import ERROR_TYPES, ERROR_WORDS, Meant, call_is_gone

if TYPE_CHECKING:
    from telnyx import AsyncTelnyx

Row = dict[str, Any]
T = TypeVar("T")


class Answer(msgspec.Struct, Generic[T]):
    """What the API's answers are: an object, or a list of them, under ``data``."""

    data: T


class TelnyxApi(Provider):
    """The part of the provider that asks."""

    base_url: ClassVar[str] = "https://api.telnyx.com/v2"
    error_types: ClassVar[Mapping[str, Meant]] = ERROR_TYPES
    error_words: ClassVar[Sequence[tuple[str, Meant]]] = ERROR_WORDS
    retry_after_headers: ClassVar[tuple[str, ...]] = ("x-ratelimit-reset", "retry-after")

    credential: TelnyxCredential
    _client: AsyncTelnyx | None = None

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.credential.api_key.get_secret_value()}"}

    async def client(self) -> AsyncTelnyx:
        """The client. The first import takes a second or two, so it happens beside the event loop, not on it."""
        if self._client is None:
            # Left alone the client would import its resources on its first use, on the event loop.
            await asyncio.to_thread(import_module, "telnyx.resources")
            from telnyx import AsyncTelnyx

            client = AsyncTelnyx(
                api_key=self.credential.api_key.get_secret_value(), base_url=self.credential.base_url or self.base_url,
                http_client=self.http, timeout=self.timeout,
                max_retries=0,  # its default of 2 would ring a person three times
            )  # fmt: skip
            # Left alone it takes an OAuth login of some other account out of the environment, and prefers it.
            client.client_id = client.client_secret = None
            self._client = client
        return self._client

    async def do(self, operation: str, method: str, *ids: str, **fields: Any) -> Any:
        """The JSON of exactly one request by the SDK's ``method`` ("calls.actions.hangup"), or its typed error."""
        client = await self.client()
        import httpx
        from telnyx import APIConnectionError, APIStatusError

        resource, _, verb = method.rpartition(".")
        try:
            answer = await getattr(attrgetter(resource)(client).with_raw_response, verb)(*ids, **fields)
            response: httpx.Response = answer.http_response
        except APIStatusError as refused:
            # Its text holds whole numbers, so it does not become the cause of ours; the answer itself says it all.
            response = refused.response
        except APIConnectionError as unanswered:
            self.unanswered(operation, cause if isinstance(cause := unanswered.__cause__, Exception) else unanswered)
        except (ValueError, httpx.InvalidURL) as unwritable:  # also the SDK's refusal of an id that is "" or ".."
            self.unanswered(operation, unwritable)
        return self.read(response, operation)

    async def record(self, operation: str, method: str, *ids: str, **fields: Any) -> Row:
        """:meth:`do` for one object."""
        return self.data(await self.do(operation, method, *ids, **fields), operation, Answer[Row])

    async def records(self, operation: str, method: str, **fields: Any) -> list[Row]:
        """:meth:`do` for a list of objects."""
        return self.data(await self.do(operation, method, **fields), operation, Answer[list[Row]])

    def data(self, body: Any, operation: str, form: type[Answer[T]]) -> T:
        """What is under ``data``, which has to be as ``form`` says."""
        try:
            return msgspec.convert(body, form).data
        except msgspec.ValidationError as problem:
            raise self.unreadable(operation, str(problem), status=200) from None

    async def command(self, operation: str, action: str, call_id: str, *, once: str = "", **fields: Any) -> Any:
        """One of a call's actions. ``once`` names it: Telnyx ignores the same act on the same call a second time."""
        name = f"anycarrier:{call_id}:{once}".encode(errors="backslashreplace").decode()
        identity = (uuid5(NAMESPACE_URL, name) if once else uuid4()).hex
        return await self.do(operation, f"calls.actions.{action}", call_id, command_id=identity, **fields)

    async def unless_over(self, operation: str, action: str, call_id: str, **fields: Any) -> None:
        """:meth:`command` that a call which is over already has no need of."""
        try:
            await self.command(operation, action, call_id, **fields)
        except ProviderError as refusal:
            if not call_is_gone(refusal):
                raise
