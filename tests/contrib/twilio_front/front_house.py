"""An exchange on a carrier's sandbox, with a front for a bot that is written in Twilio's dialect: ``sandbox_platform``.

The bot checks every request and socket with Twilio's own validator, by the token that only it and the front have.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from twilio.request_validator import RequestValidator

from anycarrier import Call, CallStatus, Exchange, MemoryNumberRegistry, Policy, plugins
from anycarrier.asgi import create_app
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import Sandbox
from anycarrier_twilio_front import TwilioFront
from sandbox_platform import Platform, Webhook, platform

CARRIERS = ["telnyx", "acme", "twilio"]
OURS, CALLER, CALLEE = "+14155550101", "+12125550110", "+12125550120"
SID, TOKEN = "AC" + "b0" * 16, "the bot's token, and no carrier's"
VALIDATOR = RequestValidator(TOKEN)


def genuine(webhook: Webhook) -> bool:
    """Whether Twilio's validator takes it for Twilio's."""
    params = {} if webhook.method == "GET" else webhook.params
    return bool(VALIDATOR.validate(webhook.url, params, webhook.headers["x-twilio-signature"]))


@dataclass
class FrontHouse:
    """What a test acts with."""

    exchange: Exchange
    sandbox: Sandbox
    front: TwilioFront
    bot: Platform

    async def ring(self) -> FarEnd:
        """Somebody calls the bot's number."""
        return await self.sandbox.ring(OURS, CALLER)

    async def dial(self, to: str = CALLEE) -> FarEnd:
        """The platform calls somebody for the bot."""
        call = await self.exchange.dial(from_=OURS, to=to)
        return await self.sandbox.far_end(call.id)

    async def over(self, far_end: FarEnd) -> Call:
        """The call's record, once it has ended."""
        async with asyncio.timeout(30):
            while await self.exchange.switchboard.calls.get(far_end.call_id) is None:
                await asyncio.sleep(0.005)
        return await self.exchange.wait_for(far_end.call_id, CallStatus.ENDED, 30)


@contextlib.asynccontextmanager
async def front_house(carrier: str, **options: Any) -> AsyncIterator[FrontHouse]:
    """``options`` are the front's; the bot answers at ``/voice``, and with streams at its socket URL."""
    module, _, name = plugins.get_provider(carrier).sandbox.partition(":")
    async with platform(genuine) as bot, serve_sandbox(getattr(import_module(module), name)) as sandbox:
        sandbox.add_number(OURS)
        sock = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential()},
            public_url=url_of(sock),
            secret="a secret of the whole suite, long enough",
            policy=Policy(allow=["US"]),
            settle=60.0,
        )
        sandbox.point_webhooks(exchange.switchboard.webhook_url(carrier, "main"))
        defaults = {"voice_url": f"{bot.url}/voice", "hosts": [bot.socket_url.removeprefix("ws://")]}
        front = TwilioFront(exchange, account_sid=SID, auth_token=TOKEN, **{**defaults, **options})
        async with serve(create_app(exchange, front), sock):
            await exchange.assign(OURS, agent_id="twilio-bot", credential_id="main")
            yield FrontHouse(exchange, sandbox, front, bot)


def twiml(*verbs: str) -> str:
    """A document of these verbs."""
    return f"<Response>{''.join(verbs)}</Response>"


def stream(url: str, inside: str = "", **attributes: str) -> str:
    """``<Connect><Stream>``."""
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<Connect><Stream url="{url}"{more}>{inside}</Stream></Connect>'


async def until(met: Callable[[], bool], timeout: float = 30) -> None:
    """Wait for something that only the clock and the other side bring about."""
    async with asyncio.timeout(timeout):
        while not met():
            await asyncio.sleep(0.005)
