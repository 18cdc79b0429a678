"""A call under a realtime session of the OpenAI Agents SDK.

The session's own queue would keep an interruption waiting behind audio, so a listener at the model gets each event
before the SDK acts on it (``_handle_ws_event`` in agents/realtime/openai_realtime.py). By the time the SDK asks the
playback tracker what to truncate, all is cleared and truncated: item by item, where the SDK would truncate one.
"""

import asyncio
import functools
from base64 import b64encode
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import agents.realtime as sdk
from agents import FunctionTool
from agents.realtime.audio_formats import to_realtime_audio_format
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

from anycarrier import PCMA_8K, PCMU_8K, AudioFormat, MediaSession
from anycarrier.agent import START_TIMEOUT, RawAgent, SpokenItems, factory_agent, result_of, with_options
from anycarrier.errors import AgentUnreachable, ConfigurationError
from anycarrier_openai_realtime.realtime_call import BATCH, CALL_TOOLS, Event, RealtimeCall

CLOSE_TIMEOUT = 2.0
"""Seconds the SDK is given to close its connection; its task for that ends within 10 s by itself."""

FORMATS = {"audio/pcmu": PCMU_8K, "audio/pcma": PCMA_8K, "audio/pcm": AudioFormat("PCM16", 24000)}
"""What the Realtime API takes and gives."""

_call: ContextVar[RealtimeCall] = ContextVar("realtime_call")


class HeardTracker(sdk.RealtimePlaybackTracker):
    """Tells the SDK how much was heard, exact at the moment it asks, without marks of its own.

    :func:`run_call` has one. In a loop of your own, give it to the model as ``playback_tracker``, and call :meth:`sent`
    with ``session.queued`` before each ``session.send_audio``, and :meth:`finished` at ``audio_end``.
    """

    def __init__(self, session: MediaSession) -> None:
        super().__init__()
        self._session, self.items = session, SpokenItems()
        self.sent, self.finished = self.items.sent, self.items.finished

    def get_state(self) -> sdk.RealtimePlaybackState:
        """The item being heard, and how many ms of it were; no item when all was heard."""
        item_id, index, heard = self.items.audible(self._session.heard) or (None, None, None)
        return {"current_item_id": item_id, "current_item_content_index": index, "elapsed_ms": heard}

    def on_interrupted(self) -> None:
        """The SDK has truncated: what was not heard by now never will be."""
        self.items.cut(self._session.heard)


class _Listener(sdk.RealtimeModelListener):
    def __init__(self, call: RealtimeCall) -> None:
        self._call, self._has_raw = call, False

    async def on_event(self, event: sdk.RealtimeModelEvent) -> None:
        if event.type == "raw_server_event":
            self._has_raw = True
            await self._call.act_on(event.data)
        elif event.type == "audio_interrupted" and self._call.items.audible(self._call.session.heard):
            # By RealtimeSession.interrupt or a guardrail.
            await self._call.interrupt(theirs=(event.item_id, event.content_index))  # which the SDK truncates
        elif not self._has_raw and event.type in ("audio", "audio_done"):  # of a model that is not OpenAI's
            delta = {"delta": b64encode(event.data).decode()} if event.type == "audio" else {}
            await self._call.act_on({**vars(event), **delta, "type": "response.audio.delta"})
        elif not self._has_raw and event.type == "error":
            await self._call.act_on({"type": "error", "error": {"message": event.error}})


async def run_call(
    session: MediaSession, runner: sdk.RealtimeRunner, model_config: sdk.RealtimeModelConfig | None = None, *,
    on_start: Callable[[sdk.RealtimeSession], object] | None = None,
    on_digit: Callable[[sdk.RealtimeSession, str], object] | None = None, batch: float = BATCH,
) -> None:  # fmt: skip
    """Carry one call with ``runner``, until either side ends it; return from your handler then.

    The session's G.711 goes to the model untouched; a format that ``model_config`` names becomes the session's.
    ``on_start`` is called with the ``RealtimeSession`` once it is connected: neither hears the other until it has
    returned, for which it has 10 s. ``on_digit`` is called with it and each key pressed. What they return is awaited
    where it can be; what ``on_digit`` raises is logged. ``batch`` is seconds of the caller's audio in one
    message to the model. Tools get ``session`` as their context. Give each call a runner of its own: a runner has one
    connection. Raises what ``on_start`` raises, ``AgentUnreachable`` when the model cannot be reached in 10 s,
    ``ModelFailed`` when it reports an error, ``ConfigurationError`` when ``runner`` is in a call already, or ``batch``
    is not above 0, or above 10.
    """

    async def send(event: Event) -> None:
        message: Any = {"type": event["type"], "other_data": {**event}}
        await realtime.model.send_event(sdk.RealtimeModelSendRawMessage(message=message))

    async def read_model() -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await realtime.enter()
        except (OSError, InvalidHandshake, InvalidURI) as failure:  # TimeoutError is an OSError
            host = urlsplit(url := str(config.get("url", "//api.openai.com"))).hostname or "an address without a host"
            status = failure.response.status_code if isinstance(failure, InvalidStatus) else None
            why = str(failure).replace(url, "its url") or f"no connection in {START_TIMEOUT:g} s"  # keys travel in it
            raise AgentUnreachable(session.agent_id, host, why, status=status) from failure
        except AssertionError as used:
            raise ConfigurationError(f"The runner is in a call already ({used}): make one for each call.") from used
        try:
            await result_of(on_start and on_start(realtime), START_TIMEOUT, "on_start")
            call.ready.set()
            # Errors among these were heard already, are newer than the SDK, or tools'. Audio is `waiting` by then.
            async for _ in realtime:
                while not call.waiting.empty():
                    await call.speak(call.waiting.get_nowait())
        finally:
            await asyncio.wait([asyncio.ensure_future(realtime.close())], timeout=CLOSE_TIMEOUT)

    config, tracker = _with_audio(session, model_config or {}), HeardTracker(session)
    realtime = await runner.run(context=session, model_config={**config, "playback_tracker": tracker})
    call = RealtimeCall(session, send, realtime.send_audio, batch)
    call.items = tracker.items
    _call.set(call)  # for the tools: the SDK's tasks are made in this context
    realtime.model.add_listener(listener := _Listener(call))
    try:
        await call.run(read_model(), on_digit=on_digit and functools.partial(on_digit, realtime))
    finally:
        realtime.model.remove_listener(listener)


def _with_audio(session: MediaSession, given: sdk.RealtimeModelConfig) -> sdk.RealtimeModelConfig:
    settings: Any = given.get("initial_model_settings", {})
    nested = (settings.get("audio") or {}).get("output") or {}
    named = to_realtime_audio_format(nested.get("format") or settings.get("output_audio_format"))
    own = next((name for name, format in FORMATS.items() if format == session.format), "audio/pcm")
    name = str(named.type) if named else own
    session.set_format(FORMATS[name])
    settings = {"input_audio_format": name, "output_audio_format": name, **settings}
    return {**given, "initial_model_settings": settings}


def _tool(schema: dict[str, Any]) -> FunctionTool:
    async def invoke(_: Any, arguments: str) -> str:
        return await _call.get().carry_out(schema["name"], arguments)

    return FunctionTool(schema["name"], schema["description"], schema["parameters"], invoke, strict_json_schema=False)


end_call = _tool(CALL_TOOLS[0])
"""A tool: end the call, once the goodbye was heard."""

transfer_call = _tool(CALL_TOOLS[1])
"""A tool: transfer the caller to another number, once its announcement was heard."""


def openai_agent(
    factory: Callable[[MediaSession], Any], model_config: sdk.RealtimeModelConfig | None = None, *,
    audio: AudioFormat | None = None, **options: Any,
) -> RawAgent:  # fmt: skip
    """An agent of ``factory``, which makes the ``RealtimeRunner`` of each call and may be a coroutine function: for
    ``Exchange(agents=...)``, ``Agents.add`` and the service's setting ``handlers``. ``audio`` is the call's format
    (None: the exchange's), ``options`` are those of :func:`run_call`. Errors are those of :func:`factory_agent`
    and :func:`with_options`."""
    run = with_options(run_call, model_config=model_config, **options)
    instead = "Make one for each call: openai_agent(lambda session: RealtimeRunner(agent))."
    return factory_agent(factory, run, makes=sdk.RealtimeRunner, instead=instead, audio=audio)
