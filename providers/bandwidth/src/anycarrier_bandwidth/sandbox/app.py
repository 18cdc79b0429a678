"""Bandwidth without an account: its voice and number APIs, BXML, webhooks, and media streams, for tests and demos.

Written from the carrier's documents, not from the adapter, so that each checks the other. Requests for what it does not
simulate (conferences, other kinds of orders, transcription) are refused, never ignored.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, Sandbox, WebhookSender
from anycarrier.testing.sandbox_numbers import Login
from anycarrier_bandwidth.sandbox import applications, calls, interpreter, numbers, recordings, rest
from anycarrier_bandwidth.sandbox.account import SITE, Account, Application, Number
from anycarrier_bandwidth.sandbox.leg import Document, End, Leg, Options
from anycarrier_bandwidth.sandbox.webhooks import Callback, initiated

if TYPE_CHECKING:
    from anycarrier_bandwidth import BandwidthCredential

ACCOUNT = "9900000"
APPLICATION = "04e88489-df02-4e34-a0ee-27a91849555f"
ASKS = frozenset({"initiate", "answer", "redirect", "transferAnswer", "transferComplete"})
"""Events whose reply is BXML."""
PACKAGE = "5f0a9a4c-6f0e-4b8e-9d54-0a1c6f3a7b21"


class BandwidthSandbox(Sandbox):
    """See the module. ``invalid`` holds why a BXML document was refused, ``ignored`` media frames of no use."""

    provider = "bandwidth"

    ring_seconds = 0.05
    """How long each step of ringing takes, where the callee takes no longer."""
    detect_seconds = 0.3
    """How long answering-machine detection listens before it judges."""
    digit_seconds = 0.05
    """How long a key sounds."""
    order_seconds = 0.05
    """How long an order takes."""
    token_seconds = 3600
    """How long a token is good for."""

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(base_url=base_url, http=http)
        self.pending_for = 3.0
        """Seconds an order of :data:`PENDING_NUMBER` takes."""
        self.invalid: list[str] = []
        self.ignored: list[str] = []
        self.tokens: dict[str, tuple[str, Login, float]] = {}
        """By token: the client it was issued to, what that logs in to, and until when (monotonic)."""
        self.clients: dict[str, set[str]] = {}
        """Which accounts a client may use; one that is not here may use all."""
        self.accounts: dict[str, Account] = {}
        self.webhooks = _Sender(self._http, self.start, self.quirks)
        self.account = self.open(ACCOUNT, APPLICATION, PACKAGE)
        # No routes: every path is read in `rest`, also those that Starlette's patterns refuse.
        self.app = Starlette(exception_handlers={404: self._rest})

    async def _rest(self, request: Request, _: Exception) -> Response:
        return await rest.answer(self, OPERATIONS, request)

    # --- who logs in ----------------------------------------------------------------------------------------------

    def credential(self, **overrides: Any) -> Credential:
        from anycarrier_bandwidth import BandwidthCredential

        fields = {
            "account_id": ACCOUNT, "client_id": "SANDBOX-CLIENT", "client_secret": "sandbox-client-secret",
            "application_id": APPLICATION, "callback_password": "sandbox-callback-password", "site_id": SITE,
            "vcp_id": PACKAGE, "base_url": self.base_url,
        }  # fmt: skip
        credential = BandwidthCredential.model_validate({**fields, **overrides})
        self.open_account(credential)
        return credential

    def open(self, account_id: str, application: str, package: str | None = None) -> Account:
        """The account with such an application, and a package whose numbers' calls go to it, made where new."""
        account = self.accounts.setdefault(account_id, Account(account_id))
        account.applications.setdefault(
            application, Application(application, {"ServiceType": "Voice-V2", "AppName": "Sandbox"})
        )
        if package:
            account.packages[package] = application
        return account

    def open_account(self, credential: Credential) -> None:
        """Know the credential's account, application, package and location."""
        known: BandwidthCredential = credential  # type: ignore[assignment]
        account = self.open(known.account_id, known.application_id, known.vcp_id)
        if known.site_id and known.peer_id:
            account.peers.setdefault((known.site_id, known.peer_id), None)
        elif known.site_id:
            account.peers.setdefault((known.site_id, "9001"), None)

    def issue_token(self, client: str, login: Login) -> str:
        """A new bearer token."""
        token = secrets.token_urlsafe(12)
        self.tokens[token] = client, login, time.monotonic() + self.token_seconds
        return token

    def account_of(self, client: str, account_id: str) -> Account | None:
        """The account of that id, where the client may use it; the sandbox's own where a path names none."""
        account_id = account_id or ACCOUNT
        allowed = self.clients.get(client)
        return self.accounts.get(account_id) if allowed is None or account_id in allowed else None

    # --- numbers --------------------------------------------------------------------------------------------------

    def add_number(self, number: str, account_id: str = ACCOUNT) -> None:
        account = self.accounts[account_id]
        if number not in account.numbers:
            account.numbers[number] = Number(number)
            self.inventory.sold.add(number)

    def give_number(self, number: str, credential: Credential) -> None:
        """Give a credential's account a number, and take it from any other: a number is owned once."""
        self.open_account(credential)
        known: BandwidthCredential = credential  # type: ignore[assignment]
        for account in self.accounts.values():
            if account.id != known.account_id:
                account.numbers.pop(number, None)
        self.add_number(number, known.account_id)

    # --- calls ----------------------------------------------------------------------------------------------------

    async def ring(
        self, to: str, from_: str, *, said: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> FarEnd:
        """``headers`` are ``X-`` headers, which the carrier passes on for calls that come by SIP."""
        account = next((account for account in self.accounts.values() if to in account.numbers), None)
        if account is None:
            raise LookupError(f"no account at this sandbox owns {to}")
        application = account.application_of(account.numbers[to])
        if application is None or not application.fields.get("CallInitiatedCallbackUrl"):
            raise LookupError(f"{to} takes no calls: it is not activated, or leads to no application with a URL")
        fields = application.fields
        first = Callback(
            fields["CallInitiatedCallbackUrl"], fields.get("CallInitiatedMethod", "POST"), application.login
        )
        told = fields.get("CallStatusCallbackUrl")
        fallback = fields.get("CallInitiatedFallbackUrl")
        options = Options(
            answer=first,
            disconnect=Callback(told, fields.get("CallStatusMethod", "POST"), application.login) if told else None,
            callback_timeout=float(fields.get("CallbackTimeout", "15")),
        )
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        leg = Leg(
            self, account, direction="inbound", from_=from_, to=to, application=application.id, options=options,
            sip_headers=lower,
        )  # fmt: skip
        spare = Callback(fallback, fields.get("CallInitiatedFallbackMethod", "POST"), application.fallback_login)  # type: ignore[arg-type]
        self.start(leg.live(Document(first, spare if fallback else None, initiated(leg))))
        if said:
            self.start(leg.far_end.say(said))
        await asyncio.sleep(0)
        return leg.far_end

    def place(self, account: Account, **call: Any) -> Leg:
        """Start an outbound call on its life."""
        leg = Leg(self, account, **call)
        self.start(leg.live())
        return leg

    async def run_bxml(self, leg: Leg, document: Document) -> Document | End | None:
        """Run BXML on a leg; what comes next, None when nothing does."""
        return await interpreter.run(leg, document)

    # --- webhooks -------------------------------------------------------------------------------------------------

    async def ask(self, delivery: Delivery) -> Delivery:
        """A webhook whose reply matters."""
        await self.webhooks.post(delivery)
        if "duplicate" in self.quirks:
            await self.webhooks.post(delivery.again())
        return delivery

    def notify(self, leg: Leg, delivery: Delivery) -> None:
        """A webhook that only tells."""
        self.webhooks.notify(delivery)

    def sign(self, delivery: Delivery) -> Delivery:
        """The carrier signs nothing: the login stands for itself, whatever the body says."""
        return delivery.again()


class _Sender(WebhookSender):
    """What only tells is sent once more when no connection comes about."""

    async def post(self, delivery: Delivery) -> Delivery:
        made = await super().post(delivery)
        if delivery.kind not in ASKS and (made.failure or "").startswith("Connect"):
            made = await super().post(delivery.again())
        return made


OPERATIONS = [
    *calls.OPERATIONS,
    *recordings.OPERATIONS,
    *numbers.OPERATIONS,
    *applications.OPERATIONS,
]
