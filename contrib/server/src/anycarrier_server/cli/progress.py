"""On standard error: what is being waited for (silent when it is quick), and questions."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE = 0.5
"""Seconds before anything is said."""


@asynccontextmanager
async def working(what: str, patience: float = PATIENCE) -> AsyncIterator[None]:
    """``working("asking the carrier")``: on a terminal with the seconds counted, elsewhere one line."""
    task = asyncio.get_running_loop().create_task(_tell(what, patience))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _tell(what: str, patience: float) -> None:
    began = time.monotonic()
    await asyncio.sleep(patience)
    if not sys.stderr.isatty():
        step(f"{what} ...")
        return
    try:
        while True:
            print(f"\r{what} ... {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(1.0)
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def agreed(question: str) -> bool:
    """Ask on the terminal; no without one."""
    if not sys.stdin.isatty():
        step(f"{question} not done: say --yes, or answer on a terminal")
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def step(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)
