"""Acme without an account: its REST API, signed webhooks, and media streams, simulated for tests and demos.

Write a sandbox to test whole calls without a phone; the provider does not need one.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import beep, greeting
from anycarrier.testing.sandbox import Delivery, RestRequest, Sandbox, may_stream_to
from anycarrier.testing.sandbox_numbers import (
    DROPS_AFTER,
    HANGS_UP_AFTER,
    RETRY_AFTER,
    RINGS_FOR,
    Login,
    Outcome,
    login_of,
    outcome_of,
)
from anycarrier_acme import AcmeCredential

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
            log = RestRequest(request.method, request.url.path, dict(request.query_params))
            self.requests.append(log)
            features = request.query_params.getlist("features")
            try:
                self.log_in(request)
                asked = {**request.query_params}
                if body:
                    asked = log.body = dict(await request.json())
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


class Leg:
    """Where a call stands, and how it got there."""

    def __init__(self, sandbox: AcmeSandbox, direction: str, from_: str, to: str, asked: dict[str, Any]) -> None:
        self.sandbox = sandbox
        self.id = f"call_{uuid.uuid4().hex}"
        self.direction = direction
        self.status = "ringing" if direction == "inbound" else "queued"
        self.cause: str | None = None
        self.asked = asked
        self.out: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.over = asyncio.Event()
        self.far_end = FarEnd(
            self.id, from_, to, press=self.press, hang_up=self.hung_up, silent="quiet" in sandbox.quirks
        )

    def told(self) -> dict[str, Any]:
        """The call in Acme's JSON."""
        return {
            "id": self.id,
            "direction": self.direction,
            "from": self.far_end.from_,
            "to": self.far_end.to,
            "status": self.status,
            "cause": self.cause,
            "reference": self.asked.get("reference", ""),
        }

    def progress(self, status: str) -> None:
        """Move on, and tell."""
        if self.status != "ended":
            self.status = status
            self.sandbox.progress(self)

    def end(self, cause: str) -> None:
        """The call is over; a second time nothing happens."""
        if self.status != "ended":
            self.cause = cause
            self.progress("ended")
            self.far_end.ended(cause)
            self.say_goodbye("call ended")
            self.over.set()

    async def missed_after(self, seconds: float) -> None:
        """Ring until the caller's patience is at its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()
        self.end("missed")

    async def pick_up(self, outcome: Outcome) -> None:
        """The callee answers, in the way their number stands for."""
        if outcome is Outcome.RINGS:
            await asyncio.sleep(RINGS_FOR)
        if self.status != "ended":
            self.far_end.digits += (self.asked.get("digits") or "").strip("wW")
            self.answer(self.asked["stream"], drops=outcome is Outcome.MEDIA_DROP)
        if outcome is Outcome.MACHINE:
            await self.far_end.say(greeting() + beep())
        if outcome is Outcome.HANGS_UP:
            await asyncio.sleep(HANGS_UP_AFTER)
            await self.far_end.hang_up()

    def answer(self, stream: dict[str, Any], *, drops: bool = False) -> None:
        """The receiver is up: connect the media socket, and watch the time."""
        self.far_end.answered()
        self.progress("answered")
        self.sandbox.start(self.stream(stream, drops))
        if limit := self.asked.get("time_limit"):
            self.sandbox.start(self.limit(float(limit)))

    async def limit(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.end("time_limit")

    def transfer(self, to: str) -> None:
        """Somebody else takes the call; our stream is over, the call is not."""
        self.far_end.transferred_to = to
        self.say_goodbye("transferred")

    async def hung_up(self) -> None:
        self.end("hung_up")

    async def press(self, digit: str) -> None:
        self.out.put_nowait({"type": "digit", "name": digit})

    # --- the media socket -----------------------------------------------------------------------------------------

    def say_goodbye(self, why: str) -> None:
        self.out.put_nowait({"type": "stop", "name": why})
        self.out.put_nowait(None)

    async def stream(self, target: dict[str, Any], drops: bool) -> None:
        """Dial the platform's socket and carry audio until either side closes."""
        try:
            socket = await connect(target["url"], proxy=None, compression=None, close_timeout=1)
        except (OSError, WebSocketException):
            self.end("no_stream")
            return
        self.far_end.stream_opened(socket.send, target["url"])
        await socket.send(json.dumps({"type": "start", "call": self.id, "custom": target.get("custom", {})}))
        speaking = self.far_end.microphone.speak(self.speak)
        helpers = [self.sandbox.start(self.write(socket)), self.sandbox.start(speaking)]
        if drops:
            helpers.append(self.sandbox.start(self.drop(socket)))
        try:
            with suppress(WebSocketException):
                async for message in socket:
                    self.take(json.loads(message))
        finally:
            for helper in helpers:
                helper.cancel()
            self.far_end.stream_closed()

    async def write(self, socket: ClientConnection) -> None:
        with suppress(WebSocketException):
            while (frame := await self.out.get()) is not None:
                await socket.send(json.dumps(frame))
            await socket.close()

    async def drop(self, socket: ClientConnection) -> None:
        await asyncio.sleep(DROPS_AFTER)
        socket.transport.abort()

    def speak(self, mulaw: bytes) -> None:
        self.out.put_nowait({"type": "audio", "data": base64.b64encode(mulaw).decode()})

    def take(self, frame: dict[str, Any]) -> None:
        """A frame of the platform's: play it, answer it, or complain."""
        match frame:
            case {"type": "audio", "data": str(data)}:
                if not self.far_end.playback.play(base64.b64decode(data)):
                    self.out.put_nowait({"type": "error", "name": "too_much_audio"})
            case {"type": "mark", "name": str(name)}:
                self.far_end.playback.mark(lambda: self.out.put_nowait({"type": "mark", "name": name}))
            case {"type": "clear"}:
                self.far_end.playback.clear()
            case _:
                self.out.put_nowait({"type": "error", "name": "unknown_frame"})
