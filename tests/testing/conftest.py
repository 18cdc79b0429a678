"""What sounds at a far end by when must not depend on the machine: all in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from virtual_time import LoopbackLoop, follow_loop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": LoopbackLoop}


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    follow_loop(monkeypatch)
