"""A Bandwidth account on its sandbox, served on a loopback port, and a provider that is logged in to nothing yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from anycarrier.testing.live_server import serve_sandbox
from anycarrier_bandwidth import BandwidthCredential, BandwidthProvider
from anycarrier_bandwidth.sandbox import BandwidthSandbox
from virtual_time import one_clock as one_clock
from virtual_time import virtual_loops

pytest_asyncio_loop_factories = virtual_loops

OURS, THEIRS = "+14155550100", "+14155550123"
HOOK = "https://voice.example.com/bandwidth/main"


@pytest.fixture
async def sandbox() -> AsyncIterator[BandwidthSandbox]:
    async with serve_sandbox(BandwidthSandbox) as played:
        played.add_number(OURS)
        yield played


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
def provider(sandbox: BandwidthSandbox, http: httpx.AsyncClient) -> BandwidthProvider:
    made = BandwidthProvider(sandbox.credential(), http)  # type: ignore[arg-type]
    made.order_poll = 0.02  # type: ignore[misc]
    return made


def credential(**changes: Any) -> BandwidthCredential:
    """One that logs in nowhere."""
    fields = {
        "account_id": "9900000", "client_id": "client", "client_secret": "client-secret-0123", "site_id": "7001",
        "application_id": "04e88489-df02-4e34-a0ee-27a91849555f", "callback_password": "callback-password-0123",
    }  # fmt: skip
    return BandwidthCredential(**{**fields, **changes})


class Kit:
    """What the tests of this folder share, by way of a fixture: test modules do not import one another."""

    OURS, THEIRS, HOOK = OURS, THEIRS, HOOK
    credential = staticmethod(credential)


@pytest.fixture
def kit() -> type[Kit]:
    return Kit
