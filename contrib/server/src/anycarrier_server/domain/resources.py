"""What a request, or work beside the requests, may use of the running service: its store, its exchange and the parts
around them.

The functions of this package take a :class:`~anycarrier_server.store.Store` where that is all they need, and these
resources where they need more. Nothing here knows the service that puts them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import httpx

from anycarrier.agent import AgentFunction, RawAgent
from anycarrier.calls import Call
from anycarrier.exchange import Exchange
from anycarrier.routing import Route
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Sandbox
from anycarrier_server.domain.agent_runtime import WorkspaceEngines
from anycarrier_server.metrics import Metrics
from anycarrier_server.settings import Settings
from anycarrier_server.store import RoutedCall, Snapshot, Store
from anycarrier_server.store.credentials import Carriers
from anycarrier_server.store.models import Agent, Attempt, CallRow, CredentialRow, LineRow, Subscription
from anycarrier_server.store.webhooks import Logged
from anycarrier_server.url_guard import UrlGuard


@dataclass(frozen=True, slots=True)
class IncomingAsk:
    """What is known when a client's server is asked about an incoming call; the face writes the body from it."""

    call: CallRow
    line: LineRow
    agent: Agent
    limits: Snapshot


class WebhookSender(Protocol):
    """Posts events to subscribers."""

    def wake(self) -> None:
        """Something is in the outbox."""

    async def test(self, subscription: Subscription, event_id: str, event_type: str, body: str) -> Attempt:
        """Post something to a subscription now, outside any queue and log."""

    async def replay(self, logged: Logged, subscription: Subscription) -> Attempt:
        """Post a logged delivery again now."""


class CallAgents(Protocol):
    """The agents of this process's calls."""

    talking: set[str]
    """References of calls with a conversation here."""

    async def keep_routed(self, routed: RoutedCall) -> object:
        """Keep this call's agent and setup until the call is over."""

    async def take_ringing(self, call: Call, routed: RoutedCall) -> Route:
        """Have the call's agent, or its fallback, accept a ringing call."""


class SandboxCarriers(Protocol):
    """The carriers that the service plays itself."""

    played: dict[str, Sandbox]

    async def give(self, row: CredentialRow, number: str) -> None:
        """Let the credential's account own ``number``."""

    def far_end(self, provider: str, carrier_id: str | None) -> FarEnd | None:
        """The telephone at the other end of a call."""


class Spawn(Protocol):
    """Run work beside the request; its failure is logged under ``what``."""

    def __call__(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]: ...


@dataclass(slots=True)
class Resources:
    """See the module. ``exchange``, ``agents``, ``sender`` and ``expect_call`` are set once their own parts exist."""

    settings: Settings
    store: Store
    carriers: Carriers
    url_guard: UrlGuard
    guarded_http: httpx.AsyncClient
    """An HTTP client behind ``url_guard``, for addresses that clients name."""
    engines: WorkspaceEngines
    handlers: Mapping[str, AgentFunction | RawAgent]
    """Python handlers agents may name."""
    metrics: Metrics
    spawn: Spawn
    write_incoming: Callable[[IncomingAsk], Awaitable[dict[str, Any]]] | None = None
    """Writes the webhook body that asks about an incoming call; None when no face has one."""
    exchange: Exchange = field(init=False)
    agents: CallAgents = field(init=False)
    sender: WebhookSender = field(init=False)
    expect_call: Callable[[datetime], None] = field(init=False)
    """Tells the scheduler when a call is due."""
    sandboxes: SandboxCarriers | None = None
    draining: bool = False
    """True from the stop signal on: no new calls begin here."""
