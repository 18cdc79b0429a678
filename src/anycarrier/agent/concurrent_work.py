"""Work at once of which the first to end ends the rest: a model, the caller's audio, the end of the call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from anycarrier.session import MediaSession


async def first_done(*work: Awaitable[Any], during: MediaSession | None = None) -> None:
    """Do all of ``work`` until one of it has ended or failed; then cancel the rest, and wait until that has ended too.

        await first_done(read_model(), listen(), session.wait_stopped())

    Raises what the first to end failed with; not once the stream of the call ``during`` which it works is over, when
    failures are nobody's fault. Cancelled, it cancels all of it.
    """
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(each) for each in work]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in ended and not (during is not None and during.ended):
            task.result()
