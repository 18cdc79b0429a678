"""A LiveKit agent that answers a telephone number of any carrier: ``uvicorn --factory agent:from_environment``.

No LiveKit server takes part. Whatever LiveKit has plugins for can listen, think and speak; here its inference service.
"""

import os

from livekit.agents import Agent, AgentSession, RunContext, function_tool
from starlette.applications import Starlette

from anycarrier import Credential, Exchange, MediaSession, MemoryNumberRegistry, Policy
from anycarrier.asgi import create_app
from anycarrier.plugins import get_provider
from anycarrier_livekit import end_call, livekit_agent, press_keys, transfer_call


class FrontDesk(Agent):
    def __init__(self, caller: str) -> None:
        super().__init__(
            instructions=f"You answer the telephone of a bicycle shop. The caller's number is {caller}. "
            "For repairs, transfer the caller to +14155550142.",
            tools=[end_call, transfer_call, press_keys],
        )

    async def on_enter(self) -> None:
        self.session.say("Hello, this is the bicycle shop. How can I help?")

    @function_tool
    async def opening_hours(self, context: RunContext) -> str:
        """When the shop is open."""
        return "Monday to Saturday, nine to six."


def models() -> dict:
    """What listens, thinks and speaks."""
    return {"stt": "deepgram/nova-3", "llm": "openai/gpt-4.1-mini", "tts": "cartesia/sonic-3"}


def front_desk(call: MediaSession) -> tuple[Agent, AgentSession]:
    """Made anew for each call."""
    return FrontDesk(call.call.from_), AgentSession(**models(), aec_warmup_duration=None)


handler = livekit_agent(front_desk)


def make_exchange(credential: Credential, public_url: str) -> Exchange:
    """``public_url`` is where the carrier reaches the app."""
    return Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"main": credential},
        public_url=public_url,
        secret=os.environ.get("SECRET", "at least 32 random bytes in real life"),
        agents=handler,
        policy=Policy(allow=["US"]),  # where calls may be transferred to
    )


def make_app(exchange: Exchange, number: str) -> Starlette:
    """``number`` is one that the credential's account has."""

    async def setup() -> None:
        await exchange.assign(number, agent_id="front-desk", credential_id="main")

    return create_app(exchange, on_startup=setup)


def from_environment() -> Starlette:
    """``CARRIER`` is its name; what its credential asks for is in variables of the same names in capitals."""
    kind = get_provider(os.environ["CARRIER"]).credential_type
    secrets = {name: os.environ[name.upper()] for name in kind.model_fields if name.upper() in os.environ}
    return make_app(make_exchange(kind.model_validate(secrets), os.environ["PUBLIC_URL"]), os.environ["NUMBER"])
