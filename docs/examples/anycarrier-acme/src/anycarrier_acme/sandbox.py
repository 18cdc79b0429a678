"""Acme without an account: its REST API, signed webhooks and media socket, played for tests and demos.

A carrier author writes one when whole calls are to be tested without a phone; the provider does not need it.
"""

import asyncio
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, RestRequest, Sandbox, may_stream_to
from anycarrier.testing.sandbox_numbers import RETRY_AFTER, Login, Outcome, login_of, outcome_of
from anycarrier_acme import AcmeCredential
from anycarrier_acme.sandbox_leg import Leg

API_KEY = "acme-sandbox-key"
DIAL = {"from", "to", "stream", "status_url", "reference", "timeout", "time_limit", "caller_id", "digits"}
SEARCH = {"country", "area_code", "contains", "type", "features", "limit", "page"}
ENDED_AT_ONCE = {Outcome.BUSY: "busy", Outcome.REJECTED: "declined", Outcome.NOT_FOUND: "lost"}

Handler = Callable[[Request, dict[str, Any]], Awaitable[Any]]


class Refused(Exception):
    """An answer other than 200, in Acme's shape."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message


class AcmeSandbox(Sandbox):
    """One account. ``webhook_url`` is what a customer types into Acme's console."""

    provider: ClassVar[str] = "acme"

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(base_url=base_url, http=http)
        self.key = API_KEY
        self.webhook_url = ""
        self.numbers: set[str] = set()
        self.legs: dict[str, Leg] = {}
        self.app = Starlette(
            routes=[
                Route("/numbers", self.answering(self.search, query=SEARCH), methods=["GET"]),
                Route("/calls", self.answering(self.dial, body=DIAL), methods=["POST"]),
                Route("/calls", self.answering(self.fetch, query={"id"}), methods=["GET"]),
                Route("/calls", self.answering(self.hang_up, query={"id"}), methods=["DELETE"]),
                Route(
                    "/transfers",
                    self.answering(self.transfer, body={"id", "to", "caller_id", "status_url"}),
                    methods=["POST"],
                ),
            ]
        )

    # --- the account ----------------------------------------------------------------------------------------------

    def credential(self, **overrides: Any) -> Credential:
        return AcmeCredential.model_validate({"api_key": API_KEY, "base_url": self.base_url, **overrides})

    def open_account(self, credential: Credential) -> None:
        self.key = credential.secrets()[0]

    def add_number(self, number: str) -> None:
        self.numbers.add(number)

    def point_webhooks(self, url: str) -> None:
        self.webhook_url = url

    def sign(self, delivery: Delivery) -> Delivery:
        signature = hmac.digest(self.key.encode(), delivery.body, "sha256").hex()
        return delivery.again(headers={"content-type": "application/json", "x-acme-signature": signature})

    def delivery(self, kind: str, leg: Leg, url: str) -> Delivery:
        """A webhook about a call, signed and not yet sent."""
        now = datetime.now(UTC).isoformat()
        message = {"id": f"evt_{uuid.uuid4().hex}", "type": kind, "at": now, "call": leg.told()}
        body = json.dumps(message).encode()
        return self.sign(Delivery(f"{kind}.{leg.status}", leg.id, "POST", url, body=body, params=message))

    def progress(self, leg: Leg) -> None:
        """Tell the platform how far a call is."""
        if url := leg.asked.get("status_url") or self.webhook_url:
            self.webhooks.notify(self.delivery("progress", leg, url))

    # --- incoming calls -------------------------------------------------------------------------------------------

    async def ring(self, to: str, from_: str, *, said: bytes = b"") -> FarEnd:
        if to not in self.numbers or not self.webhook_url:
            raise LookupError("nobody's number, or point_webhooks() was not told where its calls go")
        leg = self.enter(Leg(self, "inbound", from_, to, {}))
        self.start(self.announce(leg))
        if said:
            self.start(leg.far_end.say(said))
        return leg.far_end

    async def announce(self, leg: Leg) -> None:
        """Send the webhook and do what its reply says."""
        sent = await self.webhooks.post(self.delivery("incoming", leg, self.webhook_url))
        if "duplicate" in self.quirks:
            await self.webhooks.post(sent.again())
        if not sent.accepted:
            leg.end("unanswered")
        elif sent.reply and leg.status == "ringing":
            leg.answer(json.loads(sent.reply)["answer"])

    def enter(self, leg: Leg) -> Leg:
        self.legs[leg.id] = leg
        self.connect(leg.far_end)
        return leg

    # --- REST -----------------------------------------------------------------------------------------------------

    def answering(
        self, handler: Handler, *, query: set[str] | None = None, body: set[str] | None = None
    ) -> Callable[[Request], Awaitable[JSONResponse]]:
        """Around every operation: the log, the login, and no parameter that Acme does not know."""

        async def answer(request: Request) -> JSONResponse:
            asked = await request.json() if body else {**request.query_params}
            features = request.query_params.getlist("features")
            log = RestRequest(request.method, request.url.path, dict(request.query_params), asked if body else None)
            self.requests.append(log)
            try:
                self.log_in(request)
                if unknown := set(asked) - (body or query or set()):
                    raise Refused(400, "unknown_parameter", f"unknown: {', '.join(sorted(unknown))}")
                reply, status = await handler(request, {**asked, "features": features} if features else asked), 200
            except Refused as refused:
                reply, status = {"code": refused.code, "message": refused.message}, refused.status
            except (KeyError, ValueError, TypeError) as wrong:
                reply, status = {"code": "bad_request", "message": f"missing or malformed: {wrong}"}, 400
            log.status = status
            return JSONResponse(reply, status, headers={"retry-after": f"{RETRY_AFTER:g}"} if status == 429 else None)

        return answer

    def log_in(self, request: Request) -> None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        match login_of(key):
            case Login.WRONG:
                raise Refused(401, "bad_key", "this key is not known")
            case Login.SUSPENDED:
                raise Refused(403, "suspended", "this account is suspended")
            case Login.BROKE:
                raise Refused(402, "no_funds", "this account has no money left")
            case Login.THROTTLED:
                raise Refused(429, "slow_down", "too many requests")
        self.key = key

    async def search(self, request: Request, asked: dict[str, Any]) -> Any:
        limit, page = int(asked.get("limit", 20)), int(asked.get("page", 1))
        wanted = {name: asked[name] for name in ("country", "area_code", "contains", "type") if name in asked}
        offers = self.inventory.search(**wanted, features=asked.get("features", ()))
        return {
            "numbers": [
                {
                    "number": offer.number,
                    "country": offer.country,
                    "type": offer.type,
                    "features": sorted(offer.features),
                    "monthly_cost": offer.monthly_cost,
                    "currency": "USD",
                }
                for offer in offers[(page - 1) * limit : page * limit]
            ]
        }

    async def dial(self, request: Request, asked: dict[str, Any]) -> Any:
        to, outcome = asked["to"], outcome_of(asked["to"])
        if asked["from"] not in self.numbers:
            raise Refused(403, "not_yours", "from is not a number of this account")
        if not may_stream_to(asked["stream"]["url"]):
            raise Refused(400, "bad_stream", "stream.url must be wss://")
        match outcome:
            case Outcome.INVALID_NUMBER:
                raise Refused(400, "invalid_number", f"{to} is not a telephone number")
            case Outcome.FORBIDDEN:
                raise Refused(403, "forbidden", f"this account may not ring {to}")
            case Outcome.NO_FUNDS:
                raise Refused(402, "no_funds", "this account has no money left")
            case Outcome.THROTTLED:
                raise Refused(429, "slow_down", "too many calls")
            case Outcome.SERVER_ERROR:
                raise Refused(500, "internal", "something broke")
            case Outcome.TIMEOUT:
                await asyncio.Event().wait()
        leg = self.enter(Leg(self, "outbound", asked["from"], to, asked))
        told = leg.told()
        self.start(self.place(leg, outcome))
        return told

    async def place(self, leg: Leg, outcome: Outcome) -> None:
        """Ring the callee, and do what the number stands for."""
        leg.progress("initiated")
        if outcome is Outcome.BUSY:
            leg.end("busy")
            return
        leg.progress("ringing")
        if outcome in ENDED_AT_ONCE:
            leg.end(ENDED_AT_ONCE[outcome])
        elif outcome is Outcome.NO_ANSWER:
            await leg.missed_after(float(leg.asked.get("timeout", 30)))
        else:
            await leg.pick_up(outcome)

    def leg(self, asked: dict[str, Any]) -> Leg:
        if asked["id"] not in self.legs:
            raise Refused(404, "no_such_call", "no such call")
        return self.legs[asked["id"]]

    async def fetch(self, request: Request, asked: dict[str, Any]) -> Any:
        return self.leg(asked).told()

    async def hang_up(self, request: Request, asked: dict[str, Any]) -> Any:
        leg = self.leg(asked)
        leg.end("declined" if leg.direction == "inbound" and leg.status == "ringing" else "hung_up")
        return leg.told()

    async def transfer(self, request: Request, asked: dict[str, Any]) -> Any:
        leg = self.leg(asked)
        if leg.status != "answered":
            raise Refused(409, "not_answered", "only an answered call can be transferred")
        leg.transfer(asked["to"])
        return leg.told()
