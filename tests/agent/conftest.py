"""Calls take seconds, and what an agent has said by then must not depend on the machine: all of them in virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from anycarrier import MediaSession
from anycarrier.agent.budget import WorkspaceBudget
from anycarrier.agent.conversation import Conversation
from anycarrier.agent.recording import Recorder
from anycarrier.agent.turn_taking import TurnTaking
from virtual_time import LoopbackLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": LoopbackLoop}


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the clock in a running loop reads the loop's."""
    real = time.monotonic

    def clock() -> float:
        loop = asyncio._get_running_loop()
        return real() if loop is None else loop.time()

    monkeypatch.setattr(time, "monotonic", clock)
    for owner in (MediaSession, Conversation, Recorder, TurnTaking):
        monkeypatch.setitem(owner.__init__.__kwdefaults__, "clock", clock)
    monkeypatch.setattr(WorkspaceBudget.__init__, "__defaults__", (clock,))
