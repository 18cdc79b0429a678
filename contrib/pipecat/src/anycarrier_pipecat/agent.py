"""A bot as an agent of anycarrier: usable wherever a handler is."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from pipecat.transports.base_transport import TransportParams

from anycarrier import AudioFormat, EndReason, MediaSession
from anycarrier.agent import raw_agent
from anycarrier_pipecat.call_input import log
from anycarrier_pipecat.transport import CallTransport, default_params

START_TIMEOUT = 10.0
"""Seconds from the answered call to the started pipeline: the caller hears nothing meanwhile."""


def pipecat_agent(
    bot: Callable[[CallTransport], Awaitable[None]],
    *,
    params: Callable[[], TransportParams] = default_params,
    audio: AudioFormat | None = None,
    start_timeout: float = START_TIMEOUT,
) -> Callable[[MediaSession], Awaitable[None]]:
    """Make ``async def bot(transport)`` a raw audio agent: for ``Exchange(agents=...)``, ``Agents.add`` and the
    service's ``handlers``. ``transport.session`` is the call.

    ``params`` makes each call's transport parameters, ``audio`` is the call's format (None: the exchange's). When
    ``bot`` returns, the call is hung up. A bot that raises, or whose pipeline has not started after ``start_timeout``
    seconds or when it returns, ends the call with ``agent_error``.
    """

    @raw_agent(audio=audio)
    @functools.wraps(bot)
    async def handler(session: MediaSession) -> None:
        transport = CallTransport(session, params())
        watch = asyncio.create_task(_expect_start(transport, start_timeout))
        try:
            await bot(transport)
        finally:
            watch.cancel()
        if transport.handler is not None and transport.handler.cancelling():
            # pipecat's runner ends its pipelines then, and returns as if nothing were the matter.
            raise asyncio.CancelledError
        await _expect_start(transport, 0.0)

    return handler


async def _expect_start(transport: CallTransport, seconds: float) -> None:
    await asyncio.sleep(seconds)
    session, call = transport.session, transport.session.call
    if not (transport.started or session.ended or call.intent or call.transfer):
        log.error("call %s ends: its pipeline has not started; see pipecat's log", call.reference)
        await session.hang_up(EndReason.AGENT_ERROR)
