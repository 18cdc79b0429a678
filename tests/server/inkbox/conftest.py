"""A service per test, on SQLite; every telephone test on each carrier."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from desk import Desk, open_desk

CARRIERS = ("twilio", "telnyx")


@pytest.fixture(params=CARRIERS)
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    """On each carrier."""
    async with open_desk(tmp_path, request.param) as opened:
        yield opened


@pytest.fixture
async def any_desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Where the carrier does not matter."""
    async with open_desk(tmp_path, CARRIERS[0]) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest) -> str:
    """For the setting of that name: the default, or a fresh PostgreSQL database."""
    if request.param == "sqlite":
        return ""
    server, name = request.getfixturevalue("postgres"), f"inkbox_{uuid4().hex}"
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return f"{server}/{name}"
