"""A model behind any OpenAI-compatible chat endpoint: words and tool calls as they stream in."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import SecretStr

from anycarrier.errors import ModelFailed

if TYPE_CHECKING:
    import httpx

Message = Mapping[str, Any]
"""One message of the endpoint's own format: ``role``, ``content`` and what belongs to tools."""

MOST_TOOLS = 32
"""Tools asked for in one answer."""

LONGEST_CALL = 64 * 1024
"""Characters of what one is asked with."""

TIMEOUT = 20.0
"""Seconds without a byte from the endpoint: a caller does not wait longer either."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool used. ``arguments`` is empty when what it wrote is no JSON object."""

    id: str
    name: str
    arguments: Mapping[str, Any]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolDelta] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class ChatModel:
    """``base_url`` ends before ``/chat/completions``, e.g. ``http://127.0.0.1:8000/v1``; ``options`` are merged into
    each request (``temperature`` ...). Without ``http`` it opens a client of its own, to be closed with it."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str | SecretStr | None = None,
        http: httpx.AsyncClient | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._options = dict(options or {})
        self._http = http
        self._own_http = http is None

    async def stream(
        self, messages: Iterable[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> AsyncGenerator[str | ToolCall, None]:
        """Words as they come, then the tools the model wants used. Closing it ends the request. ``ModelFailed``."""
        calls: dict[int, list[str]] = {}
        async with self._request(messages, tools, stream=True) as response:
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                for delta in self._deltas(data):
                    for part in delta.tool_calls or ():
                        call = calls.setdefault(part.index, ["", "", ""])
                        call[0] = part.id or call[0]
                        if part.function is not None:
                            call[1] += part.function.name or ""
                            call[2] += part.function.arguments or ""
                        if len(calls) > MOST_TOOLS or len(call[1]) + len(call[2]) > LONGEST_CALL:
                            raise ModelFailed(self.model, "it asks for more tools, or at more length, than make sense")
                    if delta.content:
                        yield delta.content
        for identity, name, arguments in calls.values():
            yield ToolCall(identity, name, _object(arguments))

    async def complete(self, messages: Iterable[Message], **options: Any) -> str:
        """All words of one answer."""
        async with self._request(messages, (), stream=False, **options) as response:
            deltas = self._deltas(await response.aread())
        return "".join(delta.content or "" for delta in deltas)

    async def aclose(self) -> None:
        """Close the client, when it is our own."""
        if self._http is not None and self._own_http:
            await self._http.aclose()
            self._http = None

    def _deltas(self, data: str | bytes) -> list[_Delta]:
        try:
            chunk = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as failure:
            raise ModelFailed(self.model, "its answer is no chat completion") from failure
        if chunk.error is not None:
            raise ModelFailed(self.model, str(chunk.error))
        return [delta for choice in chunk.choices if (delta := choice.delta or choice.message) is not None]

    @asynccontextmanager
    async def _request(
        self, messages: Iterable[Message], tools: Sequence[Mapping[str, Any]], *, stream: bool, **options: Any
    ) -> AsyncGenerator[httpx.Response, None]:
        import httpx

        if self._http is None:
            self._http = httpx.AsyncClient(timeout=TIMEOUT)
        body = {"model": self.model, "messages": list(messages), "stream": stream, **self._options, **options}
        if tools:
            body["tools"] = list(tools)
        try:
            async with self._http.stream("POST", self._url, json=body, headers=self._headers) as response:
                if response.status_code != 200:
                    text = (await response.aread()).decode(errors="replace")[:300]
                    raise ModelFailed(self.model, f"{response.status_code} {text}", status=response.status_code)
                yield response
        except httpx.HTTPError as failure:
            raise ModelFailed(self.model, str(failure) or type(failure).__name__) from failure


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
