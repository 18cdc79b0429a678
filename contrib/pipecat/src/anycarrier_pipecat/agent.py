"""A bot as an agent of anycarrier: usable wherever a handler is."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from pipecat.transports.base_transport import TransportParams

from anycarrier import AudioFormat, EndReason, MediaSession
from anycarrier.agent import START_TIMEOUT, RawAgent, factory_agent, require_callable
from anycarrier.session import run_handler
from anycarrier_pipecat.call_input import log
from anycarrier_pipecat.transport import CallTransport, default_params

MAKE_BOT = "Give a coroutine function that runs your pipeline: async def bot(transport)."
MAKE_PARAMS = "Give a function that makes the TransportParams of a call: params=lambda: default_params()."


def pipecat_agent(
    bot: Callable[[CallTransport], Awaitable[None]], *, params: Callable[[], TransportParams] = default_params,
    audio: AudioFormat | None = None, start_timeout: float = START_TIMEOUT,
) -> RawAgent:  # fmt: skip
    """Make ``async def bot(transport)`` a raw audio agent: for ``Exchange(agents=...)``, ``Agents.add`` and the
    service's ``handlers``. ``transport.session`` is the call.

    ``params`` makes each call's transport parameters, ``audio`` is the call's format (None: the exchange's). When
    ``bot`` returns, the call is hung up. A bot that raises, or whose pipeline has not started after ``start_timeout``
    seconds or when it returns, ends the call with ``agent_error``. ``ConfigurationError`` for a ``bot`` or ``params``
    that cannot be called, and in the call for what they should not have returned.
    """
    require_callable(bot, MAKE_BOT)
    require_callable(params, MAKE_PARAMS)
    factory = functools.wraps(params)(lambda session: params())

    async def run(session: MediaSession, made: TransportParams) -> None:
        transport = CallTransport(session, made)
        watch = asyncio.create_task(_expect_start(transport, start_timeout))
        try:
            await run_handler(bot, transport, MAKE_BOT)
        finally:
            watch.cancel()
        if transport.handler is not None and transport.handler.cancelling():
            # pipecat's runner ends its pipelines then, and returns as if nothing were the matter.
            raise asyncio.CancelledError
        await _expect_start(transport, 0.0)

    return factory_agent(factory, run, makes=TransportParams, instead=MAKE_PARAMS, audio=audio)


async def _expect_start(transport: CallTransport, seconds: float) -> None:
    await asyncio.sleep(seconds)
    session, call = transport.session, transport.session.call
    if not (transport.started.is_set() or session.ended or call.intent or call.transfer):
        causes = "the bot ran no worker, transport.input() is not in the pipeline, or a processor hangs at its start"
        log.error("call %s ends: its pipeline has not started. Usual causes: %s", call.reference, causes)
        await session.hang_up(EndReason.AGENT_ERROR)
