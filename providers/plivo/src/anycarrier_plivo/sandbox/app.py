"""PlivoSandbox: Plivo on loopback, for tests and demos. REST and webhooks as documented, audio over a real WebSocket.

Not simulated, and refused: conferences, PHLO, SMS, sub-accounts, endpoints, ``<Speak>``, ``<Play>`` and ``<GetInput>``,
streams begun over REST, several targets of one dial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, Sandbox
from anycarrier_plivo.credential import PlivoCredential
from anycarrier_plivo.sandbox.calls import Calls
from anycarrier_plivo.sandbox.leg import Leg, Options
from anycarrier_plivo.sandbox.numbers import Numbers
from anycarrier_plivo.sandbox.recordings import Recording
from anycarrier_plivo.sandbox.rest import routes
from anycarrier_plivo.sandbox.signing import signed

AUTH_ID, AUTH_TOKEN = "MA0123456789SANDBOX0", "cGxpdm8gc2FuZGJveCB0b2tlbiBvZiBmb3J0eSBj"
ZONE = timezone(timedelta(hours=5, minutes=30))
"""Of the account: webhooks tell their times in it, without saying so."""
TRIES = 3


@dataclass
class Account:
    id: str
    token: str


class PlivoSandbox(Sandbox):
    """Plivo, played. Any auth id logs in, with any token but the magic ones."""

    provider: ClassVar[str] = "plivo"

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(base_url=base_url, http=http)
        self.accounts = {AUTH_ID: Account(AUTH_ID, AUTH_TOKEN)}
        self.owner = self.accounts[AUTH_ID]
        self.legs: dict[str, Leg] = {}
        self.recordings: dict[str, Recording] = {}
        self.complaints: list[str] = []
        """What Plivo's debug log would say of our XML."""
        self.ring_seconds = 0.05
        self.retry_seconds = 0.05
        self.pending_for = 5.0
        self.numbers = Numbers(self)
        self.calls = Calls(self)
        self._timers: set[asyncio.TimerHandle] = set()
        account = ("GET", "", self._account, "")
        table = [account, *self.numbers.table, *self.calls.table]
        media = Route("/recordings/{recording_id}.wav", self._media, methods=["GET"])
        self.app = Starlette(routes=[media, *routes(self, table)])

    # --- for tests --------------------------------------------------------------------------------------------------

    def credential(self, **overrides: Any) -> Credential:
        fields = {"auth_id": AUTH_ID, "auth_token": AUTH_TOKEN, "base_url": self.base_url, **overrides}
        return PlivoCredential.model_validate(fields)

    def open_account(self, credential: Credential) -> None:
        assert isinstance(credential, PlivoCredential)
        self.account(credential.auth_id, credential.auth_token.get_secret_value())

    def account(self, auth_id: str, token: str) -> Account:
        """The account whose token this is now; the last one to log in is whose numbers are called."""
        known = self.accounts.setdefault(auth_id, Account(auth_id, token))
        known.token = token
        self.owner = known
        return known

    def add_number(self, number: str) -> None:
        self.inventory.sold.add(number)
        self.numbers.held.setdefault(number, "")

    def sign(self, delivery: Delivery) -> Delivery:
        return signed(delivery, self.owner.token, self.owner.token)

    async def ring(
        self, to: str, from_: str, *, said: bytes = b"", headers: dict[str, str] | None = None
    ) -> FarEnd:
        application = self.numbers.application_of(to)
        if application is None or not application.settings.get("answer_url"):
            raise LookupError(f"{to} points at no application with a URL")
        told = application.told()
        urls = {"answer": (told["answer_url"], told["answer_method"])}
        if told["hangup_url"]:
            urls["hangup"] = (told["hangup_url"], told["hangup_method"])
        if told["fallback_answer_url"]:
            urls["fallback"] = (told["fallback_answer_url"], told["fallback_method"])
        leg = Leg(self, application.account, "inbound", from_, to, Options(urls, headers=headers or {}))
        self.start(leg.run())
        if said:
            self.start(leg.far_end.say(said))
        return leg.far_end

    # --- for the parts of the sandbox -------------------------------------------------------------------------------

    def clock(self) -> float:
        return asyncio.get_running_loop().time()

    def time(self) -> datetime:
        return datetime.now(UTC)

    def now(self, per_second: int = 1) -> str:
        return str(int(self.time().timestamp() * per_second))

    def zoned(self, when: datetime | None) -> str:
        return f"{when.astimezone(ZONE):%Y-%m-%d %H:%M:%S}" if when else ""

    def zoned_with_offset(self, when: datetime | None) -> str | None:
        return when.astimezone(ZONE).isoformat(" ", "seconds") if when else None

    def after(self, seconds: float, do: Callable[..., None], *arguments: Any) -> None:
        self._timers.add(asyncio.get_running_loop().call_later(seconds, do, *arguments))

    def tell(self, delivery: Delivery, account: Account) -> None:
        """Tell something that needs no instructions; again where nobody was there, or something broke."""
        ready = signed(delivery, account.token, account.token)
        self.webhooks.notify(ready)
        self.start(self._see_through(ready))

    async def _see_through(self, told: Delivery, tries: int = TRIES) -> None:
        while told.status is None and told.failure is None:  # noqa: ASYNC110  the sender has no event for one
            await asyncio.sleep(self.retry_seconds)
        if tries > 1 and (told.status is None or told.status >= 500):
            again = told.again()
            self.webhooks.notify(again)
            await self._see_through(again, tries - 1)

    async def ask(self, delivery: Delivery, account: Account) -> Delivery:
        """Ask for instructions: three times, then they cannot be had."""
        for _ in range(TRIES):
            asked = await self.webhooks.post(signed(delivery, account.token, account.token))
            if asked.accepted:
                if "duplicate" in self.quirks:
                    await self.webhooks.post(asked.again())
                break
            await asyncio.sleep(self.retry_seconds)
        return asked

    async def aclose(self) -> None:
        for timer in self._timers:
            timer.cancel()
        await super().aclose()

    async def _account(self, account: Account, asked: Any, path: dict[str, str]) -> tuple[int, Any]:
        return 200, {
            "auth_id": account.id, "name": "Sandbox", "account_type": "standard", "billing_mode": "prepaid",
            "cash_credits": "100.00000", "auto_recharge": False, "timezone": "Asia/Kolkata", "enabled": True,
            "address": "", "city": "", "state": "", "resource_uri": f"/v1/Account/{account.id}/",
        }  # fmt: skip

    async def _media(self, request: Request) -> Response:
        found = self.recordings.get(request.path_params["recording_id"])
        if found is None:
            return Response(status_code=404)
        return Response(found.recorder.wav(found.channels), media_type="audio/wav")
