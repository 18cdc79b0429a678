"""The bot of ``bot.py`` on any carrier: ``uvicorn --factory front:from_environment``."""

import os

from starlette.applications import Starlette

from anycarrier import Credential, Exchange, MemoryNumberRegistry
from anycarrier.asgi import create_app
from anycarrier.plugins import get_provider
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


def from_environment() -> Starlette:
    """``CARRIER`` is its name; what its credential asks for is in variables of the same names in capitals."""
    kind = get_provider(os.environ["CARRIER"]).credential_type
    secrets = {name: os.environ[name.upper()] for name in kind.model_fields if name.upper() in os.environ}
    number, public_url, bot = os.environ["NUMBER"], os.environ["PUBLIC_URL"], os.environ["BOT_URL"]
    return build(kind.model_validate(secrets), number=number, public_url=public_url, bot=bot)
