"""An exchange with a carrier's sandbox, the front before it, and a bot that knows nothing but Twilio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from anycarrier import Call, Exchange, MemoryNumberRegistry, Policy
from anycarrier.asgi import lifespan, routes
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import Sandbox, sandbox_type
from anycarrier_twilio_front import TwilioFront
from sandbox_platform import Platform, Webhook, platform

ACCOUNT, TOKEN = f"AC{'0f' * 16}", "a-token-made-up-for-the-bot"
OURS, OTHERS, CALLER, CALLEE, DESK = "+14155550101", "+14155550102", "+12125550110", "+12125550120", "+13105550130"


def genuine(webhook: Webhook) -> bool:
    """Whether Twilio's own validator takes the signature."""
    params = webhook.params if webhook.method == "POST" else {}
    return bool(RequestValidator(TOKEN).validate(webhook.url, params, webhook.headers.get("x-twilio-signature", "")))


@dataclass
class Fronted:
    """What a test acts with: the carrier, the front, and the bot as the front's requests find it."""

    exchange: Exchange
    sandbox: Sandbox
    front: TwilioFront
    bot: Platform
    url: str
    sdks: list[Client] = field(default_factory=list)

    def client(self, account: str = ACCOUNT, token: str = TOKEN) -> Client:
        """Twilio's own SDK, sent here by the one setting that does it."""
        client = Client(account, token)
        client.api.base_url = self.url
        self.sdks.append(client)
        return client

    async def far_end(self, sid: str) -> FarEnd:
        """The telephone that a call of the bot's rings."""
        call = await self.exchange.switchboard.wait_until(sid.removeprefix("CA"), lambda c: bool(c.id), 30)
        return await self.sandbox.far_end(call.id)

    async def ring(self) -> FarEnd:
        """Somebody calls the bot's number."""
        return await self.sandbox.ring(OURS, CALLER)

    async def dial(self, to: str = CALLEE, **options: Any) -> FarEnd:
        """The platform calls somebody for the bot."""
        return await self.sandbox.far_end((await self.exchange.dial(from_=OURS, to=to, **options)).id)

    async def over(self, far_end: FarEnd) -> Call:
        """The call's record, once it has ended."""
        async with asyncio.timeout(30):
            while await self.exchange.switchboard.calls.get(far_end.call_id) is None:
                await asyncio.sleep(0.005)
        return await self.exchange.wait_for(far_end.call_id, timeout=30)

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not met():
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def open_fronted(carrier: str, *, policy: Policy | None = None, **options: Any) -> AsyncIterator[Fronted]:
    """All of it, on loopback. ``options`` are :class:`TwilioFront`'s; ``{bot}`` in them is the bot's URL."""
    async with serve_sandbox(sandbox_type(carrier)) as sandbox, platform(genuine) as bot:
        for number in (OURS, OTHERS):
            sandbox.add_number(number)
        sock = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential()},
            public_url=url_of(sock),
            secret="a secret of the whole suite, long enough",
            policy=policy or Policy(allow=["US"]),
        )
        sandbox.point_webhooks(exchange.switchboard.webhook_url(carrier, "main"))
        options = {name: text.format(bot=bot.url) if isinstance(text, str) else text for name, text in options.items()}
        hosts = [bot.socket_url.removeprefix("ws://"), *options.pop("hosts", ())]
        options = {"voice_url": f"{bot.url}/voice", "hosts": hosts, **options}
        front = TwilioFront(exchange, account_sid=ACCOUNT, auth_token=TOKEN, **options)
        exchange.switchboard.agents = {front.agent_id: front, "others": front}
        app = Starlette(routes=[*front.routes(), *routes(exchange)], lifespan=lifespan(exchange))
        async with serve(app, sock):
            await exchange.assign(OURS, agent_id=front.agent_id, credential_id="main")
            await exchange.assign(OTHERS, agent_id="others", credential_id="main")
            fronted = Fronted(exchange, sandbox, front, bot, url_of(sock))
            yield fronted
            for client in fronted.sdks:
                client.http_client.session.close()  # type: ignore[attr-defined]
            await front.aclose()


def twiml(*verbs: str) -> str:
    """A document of these verbs."""
    return f"<Response>{''.join(verbs)}</Response>"


def stream(url: str, inside: str = "", **attributes: str) -> str:
    """``<Connect><Stream>``."""
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<Connect><Stream url="{url}"{more}>{inside}</Stream></Connect>'
