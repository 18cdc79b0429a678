"""The bot of ``bot.py`` on any carrier: ``uvicorn front:app``, with the carrier's credential in the environment."""

import os

from starlette.applications import Starlette

from anycarrier import Credential, Exchange, MemoryNumberRegistry
from anycarrier.asgi import create_app
from anycarrier_twilio_front import TwilioFront


def build(credential: Credential, *, number: str, public_url: str, bot: str) -> Starlette:
    """``bot`` is where ``bot.py`` is served; ``number`` is one that the credential's account has."""
    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"main": credential},
        public_url=public_url,
        secret=os.environ.get("SECRET", "at least 32 random bytes in real life"),
    )
    front = TwilioFront(
        exchange,
        account_sid=os.environ["TWILIO_ACCOUNT_SID"],  # the same two that the bot has: make them up
        auth_token=os.environ["TWILIO_AUTH_TOKEN"],
        voice_url=f"{bot}/voice",
    )

    async def setup() -> None:
        await exchange.assign(number, agent_id=front.agent_id, credential_id="main")

    app = create_app(exchange, front, on_startup=setup)
    app.routes.extend(front.routes())  # Twilio's calls API, for the bot alone
    return app
