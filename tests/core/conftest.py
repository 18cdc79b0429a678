"""An exchange over carriers that exist only in these tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
from fake_carriers import CommandProvider, FakeCredential, InlineProvider, Plugin, TrunkProvider

from linecard import Exchange, MemoryNumberRegistry, Policy, plugins


@pytest.fixture
def fake_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LINECARD_PLUGINS", "")
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    for provider in (InlineProvider, CommandProvider, TrunkProvider):
        provider.log.clear()
        provider.dial_error = provider.dial_gate = provider.unconfigure_error = None
    yield
    plugins.reset()


@pytest.fixture
async def exchange(fake_plugins: None) -> AsyncIterator[Exchange]:
    made = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={
            "main": FakeCredential(),
            "other": FakeCredential(provider="command"),
            "trunk": FakeCredential(provider="trunk"),
        },
        public_url="https://voice.example.com",
        secret="x" * 32,
        policy=Policy(allow=["US"]),
        settle=0.2,
    )
    yield made
    await made.stop()
