"""Code as users write it, type-checked with mypy --strict and never run: the public surface keeps its types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_type

from starlette.applications import Starlette

from anycarrier import (
    PCMU_8K,
    AudioReceived,
    AvailableNumber,
    Call,
    CallEvent,
    Capability,
    Credential,
    DialRequest,
    DigitPressed,
    EndReason,
    Exchange,
    IncomingCall,
    Line,
    MediaSerializer,
    MediaSession,
    MemoryNumberRegistry,
    NumberQuery,
    OwnedNumber,
    PendingOrder,
    Playback,
    Policy,
    Provider,
    StreamTarget,
    WebhookReply,
    WebhookRequest,
    get_provider,
    hookimpl,
    provider_names,
)
from anycarrier.asgi import create_app
from anycarrier.errors import AnycarrierError, RateLimited


class CardboardCredential(Credential):
    provider: str = "cardboard"


class CardboardProvider(Provider):
    """A carrier needs these seven and nothing else."""

    name = "cardboard"
    credential_type = CardboardCredential

    def verify(self, request: WebhookRequest) -> None: ...

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        return CallEvent(raw=request.json())

    def serializer(self) -> MediaSerializer:
        raise self.unsupported("serializer")

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        assert_type(query.limit, int)
        return []

    async def dial(self, request: DialRequest) -> Call:
        assert_type(request.stream, StreamTarget)
        raise self.unsupported("dial")

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        return WebhookReply(body=call.call.from_.encode())

    async def hang_up(self, call_id: str) -> None: ...


class Plugin:
    @hookimpl
    def anycarrier_providers(self) -> list[type[Provider]]:
        return [CardboardProvider]


async def talk(session: MediaSession) -> None:
    assert_type(session.call, Call)
    assert_type(session.agent_id, str)
    assert_type(session.heard, float)
    async for event in session:
        match event:
            case AudioReceived(payload):
                assert_type(payload, bytes)
                await session.send_audio(payload)
            case DigitPressed(digit):
                assert_type(digit, str)
                assert_type(await session.clear(), Playback)
            case _:
                pass
    await session.mark("end")
    await session.drain()
    await session.hang_up()


async def platform(credentials: Mapping[str, Credential]) -> Starlette:
    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials=credentials,
        public_url="https://voice.example.com",
        secret="x" * 32,
        policy=Policy(allow=["US"], calls_per_second=2),
    )
    found = await exchange.search_numbers(NumberQuery(country="US", area_code="212"), credential_id="main")
    assert_type(found, list[AvailableNumber])
    assert_type(await exchange.buy_number(found[0].number, credential_id="main"), OwnedNumber | PendingOrder)
    assert_type(await exchange.assign("+12125550100", agent_id="desk", credential_id="main"), Line)
    try:
        call = await exchange.dial(from_="+12125550100", to="+12125550123")
    except RateLimited as error:
        assert_type(error.retry_after, float | None)
        raise
    except AnycarrierError:
        raise
    assert_type(call, Call)
    assert_type(call.reason, EndReason | None)
    await exchange.transfer(call, "+12125550124")
    await exchange.send_digits(call, "12#")
    assert_type(await exchange.calls_in_progress(), list[Call])
    return create_app(exchange, talk)


def choose() -> list[type[Provider]]:
    assert_type(PCMU_8K.rate, int)
    return [p for p in map(get_provider, provider_names()) if Capability.TRANSFER in p.capabilities]
