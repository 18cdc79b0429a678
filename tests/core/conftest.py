"""An exchange over carriers that exist only in these tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from anycarrier import (
    AudioReceived,
    Call,
    CallStatus,
    EndReason,
    Exchange,
    MediaSession,
    MemoryNumberRegistry,
    OwnedNumber,
    PendingOrder,
    Policy,
    WebhookReply,
    WebhookRequest,
    plugins,
)
from fake_carriers import CommandProvider, FakeCredential, InlineProvider, MemoryTransport, Plugin, TrunkProvider
from virtual_time import one_clock as one_clock
from virtual_time import virtual_loops as pytest_asyncio_loop_factories  # noqa: F401 a hook

OURS, CALLER = "+14155550101", "+12125550102"

UNUSED = "anyio cacheprovider faker hypothesispytest schemathesis threadexception timeout unraisableexception xdist"
WITHOUT = [word for name in UNUSED.split() for word in ("-p", f"no:{name}")]
"""For runs of pytest in a test: no plugins that our kits do without. Some import a package anew, or collect garbage."""

R1, R2, R3, R4, R5, R6, R7, R8, R9 = (f"{number:032x}" for number in range(1, 10))
"""References of calls."""


async def echo(session: MediaSession) -> None:
    async for event in session:
        if isinstance(event, AudioReceived):
            await session.send_audio(event.payload)


async def post(
    exchange: Exchange,
    credential: str = "main",
    provider: str = "inline",
    signed: str = "yes",
    ref: str = "",
    **message: Any,
) -> WebhookReply:
    url = f"https://voice.example.com/{provider}/{credential}" + (f"?ref={ref}" if ref else "")
    request = WebhookRequest("POST", url, {"x-signed": signed}, json.dumps(message).encode())
    return await exchange.handle_webhook(provider, credential, request)


def ring(exchange: Exchange, call_id: str = "in-1", **fields: Any) -> Any:
    message = {"event": "ringing", "id": call_id, "from": CALLER, "to": OURS, "event_id": f"{call_id}:ring", **fields}
    return post(exchange, **message)


def ticket_in(reply: WebhookReply) -> str:
    return reply.body.decode().rpartition("/media/")[2]


async def dialled(exchange: Exchange, credential: str = "main", **options: Any) -> Call:
    exchange.switchboard.agents = exchange.switchboard.agents or echo
    await exchange.assign(OURS, agent_id="a", credential_id=credential)
    return await exchange.dial(from_=OURS, to=CALLER, **options)


async def connect(exchange: Exchange, ticket: str, call_id: str) -> tuple[MemoryTransport, asyncio.Future[None]]:
    transport = MemoryTransport()
    serving = asyncio.ensure_future(exchange.serve_media(await exchange.admit(ticket), transport))
    transport.say(event="start", call_id=call_id)
    return transport, serving


async def until_sent(transport: MemoryTransport, count: int = 1) -> None:
    async with asyncio.timeout(2):
        while len(transport.sent) < count:
            await asyncio.sleep(0)


def logged(what: str, provider: type[InlineProvider] = InlineProvider) -> list[tuple[Any, ...]]:
    return [entry for entry in provider.log if entry[0] == what]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """The last arguments of each command that the fake carriers do not have of themselves."""
    seen: dict[str, tuple[Any, ...]] = {}

    def command(name: str, answer: Any) -> None:
        async def run(self: object, *given: Any, **named: Any) -> Any:
            seen[name] = (*given, *named.items())
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(InlineProvider, name, run)

    ended = Call(
        id="out-1", provider="inline", direction="outbound", from_=OURS, to=CALLER, status=CallStatus.ENDED,  # type: ignore[arg-type]
        reason=EndReason.BUSY,
    )  # fmt: skip
    command("buy_number", OwnedNumber(number=OURS, provider="inline", id="n-1"))
    command("list_numbers", [OwnedNumber(number=OURS, provider="inline", id="n-1")])
    command("fetch_order", PendingOrder(id="o-1", number=OURS, provider="inline"))
    command("release_number", None)
    command("start_recording", "rec-1")
    command("stop_recording", None)
    command("fetch_call", ended)
    command("transfer", None)
    return seen


@pytest.fixture
def fake_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    for provider in (InlineProvider, CommandProvider, TrunkProvider):
        provider.log.clear()
        provider.dial_error = provider.dial_gate = provider.transfer_error = provider.unconfigure_error = None
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
