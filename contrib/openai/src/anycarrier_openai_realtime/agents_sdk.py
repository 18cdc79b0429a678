"""A call under a realtime session of the OpenAI Agents SDK.

The session's own queue would keep an interruption waiting behind audio, so a listener at the model gets each event
before the SDK acts on it (``_handle_ws_event`` in agents/realtime/openai_realtime.py). By the time the SDK asks the
playback tracker what to truncate, all is cleared and truncated: item by item, where the SDK would truncate one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from agents import function_tool
from agents.realtime import RealtimeModelConfig, RealtimePlaybackTracker, RealtimeRunner, RealtimeSession
from agents.realtime.audio_formats import to_realtime_audio_format
from agents.realtime.model import RealtimeModelListener, RealtimePlaybackState
from agents.realtime.model_events import RealtimeModelEvent
from agents.realtime.model_inputs import RealtimeModelSendRawMessage
from websockets.exceptions import InvalidHandshake, InvalidStatus

from anycarrier import PCMA_8K, PCMU_8K, AudioFormat, MediaSession
from anycarrier.agent import RawAgent, raw_agent
from anycarrier.errors import AgentUnreachable
from anycarrier_openai_realtime.realtime_call import BATCH, RealtimeCall, done, first_of, until_over
from anycarrier_openai_realtime.spoken_items import SpokenItems

CONNECT_TIMEOUT = 10.0
"""Seconds to connect to the model, an API key fetched for it included."""

CLOSE_TIMEOUT = 2.0
"""Seconds the SDK is given to close its connection; its task for that ends within 10 s by itself."""

FORMATS = {"audio/pcmu": PCMU_8K, "audio/pcma": PCMA_8K, "audio/pcm": AudioFormat("PCM16", 24000)}
"""What the Realtime API takes and gives."""

OnStart = Callable[[RealtimeSession], object]
OnDigit = Callable[[RealtimeSession, str], object]

_call: ContextVar[RealtimeCall] = ContextVar("realtime_call")


class HeardTracker(RealtimePlaybackTracker):
    """Tells the SDK how much was heard, exact at the moment it asks, without marks of its own.

    :func:`run_call` has one. In a loop of your own, give it to the model as ``playback_tracker``, and call :meth:`sent`
    with ``session.queued`` before each ``session.send_audio``, and :meth:`finished` at ``audio_end``.
    """

    def __init__(self, session: MediaSession, items: SpokenItems | None = None) -> None:
        super().__init__()
        self._session, self._items = session, items or SpokenItems()
        self.sent, self.finished = self._items.sent, self._items.finished

    def get_state(self) -> RealtimePlaybackState:
        """The item being heard, and how many ms of it were; no item when all was heard."""
        item_id, index, heard = self._items.audible(self._session.heard) or (None, None, None)
        return {"current_item_id": item_id, "current_item_content_index": index, "elapsed_ms": heard}

    def on_interrupted(self) -> None:
        """The SDK has truncated: what was not heard by now never will be."""
        self._items.cut(self._session.heard)


class _Listener(RealtimeModelListener):
    def __init__(self, call: RealtimeCall) -> None:
        self._call = call

    async def on_event(self, event: RealtimeModelEvent) -> None:
        if event.type == "raw_server_event":
            await self._call.act_on(event.data)
        elif event.type == "audio_interrupted" and self._call.speaking:  # by RealtimeSession.interrupt or a guardrail
            cut = self._call.interrupt()
            theirs = cut and cut[0][:2] == (event.item_id, event.content_index)  # the SDK truncates the audible one
            await self._call.truncate(cut[1:] if theirs else cut)


async def run_call(
    session: MediaSession, runner: RealtimeRunner, model_config: RealtimeModelConfig | None = None, *,
    on_start: OnStart | None = None, on_digit: OnDigit | None = None, batch: float = BATCH,
) -> None:  # fmt: skip
    """Carry one call with ``runner``, until either side ends it; return from your handler then.

    The session's G.711 goes to the model untouched; a format that ``model_config`` names becomes the session's.
    ``on_start`` is called with the ``RealtimeSession`` once it is connected, ``on_digit`` with it and each key pressed;
    what they return is awaited where it can be. ``batch`` is seconds of the caller's audio in one message to the model.
    Tools get ``session`` as their context. Give each call a runner of its own: a runner has one connection. Raises
    ``AgentUnreachable`` when the model cannot be reached in 10 s, ``ModelFailed`` when it reports an error.
    """

    async def send(event: dict[str, Any]) -> None:
        message: Any = {"type": event.pop("type"), "other_data": event}
        await realtime.model.send_event(RealtimeModelSendRawMessage(message=message))

    call = RealtimeCall(session, send)
    config = _with_audio(session, model_config)
    config["playback_tracker"] = HeardTracker(session, call.items)
    realtime = await runner.run(context=session, model_config=config)
    listener = _Listener(call)
    realtime.model.add_listener(listener)
    mine = _call.set(call)  # for the tools: the SDK's tasks are made in this context
    try:
        await until_over(call, _talk(call, realtime, config, on_start, on_digit, batch))
    finally:
        _call.reset(mine)
        realtime.model.remove_listener(listener)


async def _talk(
    call: RealtimeCall, realtime: RealtimeSession, config: RealtimeModelConfig,
    on_start: OnStart | None, on_digit: OnDigit | None, batch: float,
) -> None:  # fmt: skip
    async def append(pieces: list[str]) -> None:
        await realtime.send_audio(b"".join(map(b64decode, pieces)))

    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await realtime.enter()
    except (OSError, InvalidHandshake) as failure:  # TimeoutError is an OSError
        host = urlsplit(config.get("url", "//api.openai.com")).hostname or "an address without a host"
        status = failure.response.status_code if isinstance(failure, InvalidStatus) else None
        why = str(failure) or f"no connection in {CONNECT_TIMEOUT:g} s"
        raise AgentUnreachable(call.session.agent_id, host, why, status=status) from failure
    try:
        if on_start is not None:
            await done(on_start(realtime))
        keys = None if on_digit is None else functools.partial(on_digit, realtime)
        await first_of(call.listen(append, batch, keys), _speak(call, realtime))
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(realtime.close(), CLOSE_TIMEOUT)


async def _speak(call: RealtimeCall, realtime: RealtimeSession) -> None:
    """Until the model's connection closes. The session's events of errors are not looked at: the API's own came by the
    listener, and the others are of events newer than the SDK, and of tools, of which it tells the model."""
    async for _ in realtime:
        await call.send_waiting()


def _with_audio(session: MediaSession, given: RealtimeModelConfig | None) -> RealtimeModelConfig:
    config: Any = {**(given or {})}
    settings = config.get("initial_model_settings", {})
    nested = (settings.get("audio") or {}).get("output") or {}
    named = to_realtime_audio_format(nested.get("format") or settings.get("output_audio_format"))
    own = next((name for name, format in FORMATS.items() if format == session.format), "audio/pcm")
    name = own if named is None else str(named.type)
    if FORMATS[name] != session.format:
        session.set_format(FORMATS[name])
    config["initial_model_settings"] = {"input_audio_format": name, "output_audio_format": name, **settings}
    return config  # type: ignore[no-any-return]


@function_tool
async def end_call() -> str:
    """End the phone call. Say goodbye first."""
    return await _call.get().end_call()


@function_tool
async def transfer_call(to: str) -> str:
    """Transfer the caller to another phone number. Tell the caller first.

    Args:
        to: The number in international form, such as +14155550100.
    """
    return await _call.get().transfer_call(to)


def openai_agent(
    factory: Callable[[MediaSession], RealtimeRunner | Awaitable[RealtimeRunner]],
    model_config: RealtimeModelConfig | None = None, **options: Any,
) -> RawAgent:  # fmt: skip
    """An agent of ``factory``, which makes the runner of each call: for ``Exchange(agents=...)``, ``Agents.add`` and
    the service's setting ``handlers``. ``options`` are those of :func:`run_call`."""

    @raw_agent
    async def agent(session: MediaSession) -> None:
        made: Any = factory(session)
        await run_call(session, await made if isinstance(made, Awaitable) else made, model_config, **options)

    return agent
