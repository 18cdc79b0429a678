"""Several things at once, until the first of them is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


async def until_first(*works: Awaitable[Any], timeout: float | None = None) -> list[asyncio.Future[Any]]:
    """Run ``works`` until one is over, or for ``timeout`` seconds. The others are cancelled: all are over when this
    returns, also if it is cancelled itself."""
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tasks
