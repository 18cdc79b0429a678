"""Two carriers at the wire, in virtual time, whose messages and commands a plan may lose: REST, webhooks and media.

Less than the sandboxes, which play on real sockets in real time: one call at a time, and what its life needs.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, urlencode
from uuid import uuid4

import httpx
from nacl.signing import SigningKey

from anycarrier import Credential, Exchange, WebhookRequest
from anycarrier.errors import TicketRefused
from anycarrier_telnyx import TelnyxCredential
from anycarrier_twilio import TwilioCredential

OURS, THEIRS = "+14155550100", "+14155550111"
ORIGIN = "https://voice.example.com"
FORMAT = {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}


@dataclass(frozen=True)
class Plan:
    """A call's life, and what goes wrong in it. Times in seconds; None: never."""

    outbound: bool = True
    ring_time: float = 30.0
    queued_for: float = 0.0
    answers_after: float | None = 5.0
    talks_for: float = 60.0
    """Until the far end hangs up."""
    stream_comes: bool = True
    stream_lost_after: float | None = None
    stopped_after: float | None = None
    """When the API hangs up."""
    dies_after: float | None = None
    """When the process dies; another adopts its calls 25 seconds later."""
    lost_callbacks: frozenset[str] = frozenset()
    down: tuple[float, float] | None = None
    """From when, and for how long, REST answers with 503."""
    mishaps: tuple[str, ...] = ()
    """What becomes of the first commands: "ok", "refused" (503), "throttled" (429), "lost" (accepted, nothing done) or
    "unanswered" (done, and the answer is lost)."""
    forgets: bool = False
    """The carrier knows nothing of a call once it is over."""


@dataclass
class Leg:
    """The call at the carrier."""

    id: str
    outbound: bool
    state: str = "queued"
    """queued, ringing, answered, ended"""
    began: float = 0.0
    reference: str = ""
    client_state: str = ""
    ticket: str = ""
    stream: Socket | None = None


class Socket:
    """The carrier's end of a media socket."""

    def __init__(self, start: list[dict[str, Any]], on_close: Callable[[], None]) -> None:
        self._frames: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._on_close = on_close
        self.open = True
        for frame in start:
            self._frames.put_nowait(frame)

    async def send(self, frame: bytes | str) -> None:
        if not self.open:
            raise ConnectionError("closed")

    async def close(self, code: int = 1000) -> None:
        """Closed by us."""
        if self.open:
            self.drop()
            self._on_close()

    def drop(self) -> None:
        """Closed by the carrier, or lost."""
        self.open = False
        self._frames.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (frame := await self._frames.get()) is not None:
            yield json.dumps(frame)


class Wire(Protocol):
    """What is particular to a carrier."""

    name: str
    credential: Credential
    stream_is_the_call: bool
    """The carrier ends the call itself when its stream ends."""

    def leg_made(self, request: httpx.Request) -> Leg: ...
    def dialled(self, leg: Leg) -> httpx.Response: ...
    def described(self, leg: Leg | None) -> httpx.Response: ...
    def accepted(self, leg: Leg) -> httpx.Response: ...
    def over(self) -> httpx.Response: ...
    def refused(self, status: int) -> httpx.Response: ...
    def command(self, request: httpx.Request) -> str: ...
    def take(self, leg: Leg, request: httpx.Request) -> None: ...
    def webhook(self, leg: Leg, kind: str) -> WebhookRequest: ...
    def frames(self, leg: Leg) -> list[dict[str, Any]]: ...


class TwilioWire:
    """Instructions in the reply; a stream's end is the end of the call."""

    name = "twilio"
    account = "AC" + "0" * 32
    credential = TwilioCredential(account_sid=account, auth_token="tok")  # type: ignore[arg-type]
    stream_is_the_call = True
    words = {"queued": "queued", "ringing": "ringing", "answered": "in-progress", "ended": "completed"}

    def leg_made(self, request: httpx.Request) -> Leg:
        form = parse_qs(request.content.decode())
        ticket = re.search(r'/media/([^"]+)', form["Twiml"][0])
        assert ticket is not None
        reference = form["StatusCallback"][0].partition("ref=")[2]
        return Leg(f"CA{uuid4().hex}", outbound=True, reference=reference, ticket=ticket[1])

    def _body(self, leg: Leg) -> dict[str, Any]:
        ends = (OURS, THEIRS) if leg.outbound else (THEIRS, OURS)
        direction = "outbound-api" if leg.outbound else "inbound"
        return {"sid": leg.id, "status": self.words[leg.state], "direction": direction, "from": ends[0], "to": ends[1]}

    def dialled(self, leg: Leg) -> httpx.Response:
        return httpx.Response(201, json=self._body(leg))

    def described(self, leg: Leg | None) -> httpx.Response:
        if leg is None:
            return httpx.Response(404, json={"code": 20404, "message": "not found", "status": 404})
        return httpx.Response(200, json=self._body(leg))

    accepted = described

    def over(self) -> httpx.Response:
        return httpx.Response(400, json={"code": 21220, "message": "Call is not in-progress", "status": 400})

    def refused(self, status: int) -> httpx.Response:
        return httpx.Response(status, json={"code": 20429 if status == 429 else 20500, "message": "no"})

    def command(self, request: httpx.Request) -> str:
        if request.method == "GET":
            return "fetch"
        return "dial" if request.url.path.endswith("/Calls.json") else "hangup"

    def take(self, leg: Leg, request: httpx.Request) -> None:
        raise AssertionError("answered in the reply")

    def webhook(self, leg: Leg, kind: str) -> WebhookRequest:
        ends = (OURS, THEIRS) if leg.outbound else (THEIRS, OURS)
        word = {"initiated": "initiated", "ringing": "ringing", "answered": "in-progress", "ended": "completed"}[kind]
        fields = {
            "AccountSid": self.account, "CallSid": leg.id, "CallStatus": word, "From": ends[0], "To": ends[1],
            "Direction": "outbound-api" if leg.outbound else "inbound",
        }  # fmt: skip
        if leg.outbound or kind == "ended":
            fields |= {"CallbackSource": "call-progress-events", "SequenceNumber": str(len(kind))}
        query = f"?ref={leg.reference}" if leg.reference else ""
        url = f"{ORIGIN}/twilio/{{credential}}{query}"
        return WebhookRequest("POST", url, {"fields": urlencode(fields)}, b"")

    def signed(self, request: WebhookRequest, credential_id: str) -> WebhookRequest:
        url = request.url.format(credential=credential_id)
        fields = sorted((name, values[0]) for name, values in parse_qs(request.headers["fields"]).items())
        text = url + "".join(name + value for name, value in fields)
        mac = base64.b64encode(hmac.digest(b"tok", text.encode(), hashlib.sha1)).decode()
        headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": mac}
        return WebhookRequest("POST", url, headers, request.headers["fields"].encode())

    def frames(self, leg: Leg) -> list[dict[str, Any]]:
        start = {
            "accountSid": self.account, "streamSid": "MZ" + "1" * 32, "callSid": leg.id, "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}, "customParameters": {},
        }  # fmt: skip
        return [{"event": "start", "sequenceNumber": "1", "start": start, "streamSid": start["streamSid"]}]


class TelnyxWire:
    """Commands by REST; a stream's end says nothing about the call."""

    name = "telnyx"
    key = SigningKey(b"7" * 32)
    credential = TelnyxCredential(  # type: ignore[call-arg]
        api_key="KEY0123456789ABCDEF_secret",  # type: ignore[arg-type]
        public_key=base64.b64encode(bytes(key.verify_key)).decode(),
        connection_id="1111111111111111111",
    )
    stream_is_the_call = False

    def leg_made(self, request: httpx.Request) -> Leg:
        body = json.loads(request.content)
        ticket = body["stream_url"].rpartition("/")[2]
        leg = Leg(f"v3:{uuid4().hex}", outbound=True, client_state=body["client_state"], ticket=ticket)
        leg.reference = body["webhook_url"].partition("ref=")[2]
        return leg

    def dialled(self, leg: Leg) -> httpx.Response:
        return httpx.Response(200, json={"data": {"call_control_id": leg.id, "is_alive": False}})

    def described(self, leg: Leg | None) -> httpx.Response:
        if leg is None:
            error = {"code": "90015", "title": "Invalid Call Control ID"}
            return httpx.Response(422, json={"errors": [error]})
        ended = {"end_time": "2026-11-28T10:00:00Z"} if leg.state == "ended" else {}
        record = {"call_control_id": leg.id, "is_alive": not ended, "client_state": leg.client_state, **ended}
        return httpx.Response(200, json={"data": record})

    def accepted(self, leg: Leg) -> httpx.Response:
        return httpx.Response(200, json={"data": {"result": "ok"}})

    def over(self) -> httpx.Response:
        return httpx.Response(422, json={"errors": [{"code": "90018", "title": "Call has already ended"}]})

    def refused(self, status: int) -> httpx.Response:
        return httpx.Response(status, json={"errors": [{"code": "10011" if status == 429 else "10007", "title": "no"}]})

    def command(self, request: httpx.Request) -> str:
        if request.method == "GET":
            return "fetch"
        word = request.url.path.rpartition("/")[2]
        return {"calls": "dial", "reject": "hangup"}.get(word, word)

    def take(self, leg: Leg, request: httpx.Request) -> None:
        body = json.loads(request.content)
        leg.ticket, leg.client_state = body["stream_url"].rpartition("/")[2], body["client_state"]

    def webhook(self, leg: Leg, kind: str) -> WebhookRequest:
        ends = (OURS, THEIRS) if leg.outbound else (THEIRS, OURS)
        payload = {
            "call_control_id": leg.id, "from": ends[0], "to": ends[1], "client_state": leg.client_state or None,
            "direction": "outgoing" if leg.outbound else "incoming",
        }  # fmt: skip
        event = {"initiated": "call.initiated", "answered": "call.answered", "ended": "call.hangup"}[kind]
        if kind == "ended":
            payload |= {"hangup_cause": "normal_clearing", "hangup_source": "unknown"}
        data = {"event_type": event, "id": str(uuid4()), "payload": payload, "record_type": "event"}
        return WebhookRequest("POST", f"{ORIGIN}/telnyx/{{credential}}", {}, json.dumps({"data": data}).encode())

    def signed(self, request: WebhookRequest, credential_id: str) -> WebhookRequest:
        stamp = str(int(time.time()))
        mac = base64.b64encode(self.key.sign(stamp.encode() + b"|" + request.body).signature).decode()
        headers = {"telnyx-signature-ed25519": mac, "telnyx-timestamp": stamp, "content-type": "application/json"}
        return WebhookRequest("POST", request.url.format(credential=credential_id), headers, request.body)

    def frames(self, leg: Leg) -> list[dict[str, Any]]:
        start = {"call_control_id": leg.id, "media_format": FORMAT}
        return [{"event": "start", "sequence_number": "1", "stream_id": "s", "start": start}]


@dataclass
class World:
    """One carrier, one call, and the process that has it: what happens there follows the plan."""

    wire: TwilioWire | TelnyxWire
    plan: Plan
    credential_id: str
    serving: Exchange | None = None
    """The process behind our address; None while there is none."""
    legs: list[Leg] = field(default_factory=list)
    api_stopped: bool = False
    violations: list[str] = field(default_factory=list)
    hung_up_by_us: int = 0
    _mishaps: list[str] = field(default_factory=list)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._mishaps = list(self.plan.mishaps)
        self.began = self.now

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def client(self) -> httpx.AsyncClient:
        """The way of a process to this carrier."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self.rest))

    def spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- REST ---------------------------------------------------------------------------------------------------------

    async def rest(self, request: httpx.Request) -> httpx.Response:
        command = self.wire.command(request)
        if self.plan.down is not None:
            start, seconds = self.plan.down
            if start <= self.now - self.began < start + seconds:
                return self.wire.refused(503)
        mishap = self._mishaps.pop(0) if self._mishaps and command != "fetch" else "ok"
        if mishap == "refused":
            return self.wire.refused(503)
        if mishap == "throttled":
            return self.wire.refused(429)
        reply = self._do(command, request, really=mishap != "lost")
        if mishap == "unanswered":
            await asyncio.sleep(15)
            raise httpx.ReadTimeout("no answer", request=request)
        return reply

    def _do(self, command: str, request: httpx.Request, *, really: bool) -> httpx.Response:
        if command == "dial":
            leg = self.wire.leg_made(request)
            self.legs.append(leg)
            self.spawn(self._dialled(leg))
            return self.wire.dialled(leg)
        leg = self.legs[-1]
        known = None if leg.state == "ended" and self.plan.forgets else leg
        if command == "fetch" or known is None:
            return self.wire.described(known)
        if leg.state == "ended":
            return self.wire.over()
        if command == "answer" and leg.state == "ringing":
            self.wire.take(leg, request)
            if really:
                self.spawn(self._answered(leg))
        elif command == "hangup":
            self._judge(leg)
            if really:
                self.hung_up_by_us += 1
                self._end(leg)
        return self.wire.accepted(leg)

    def _judge(self, leg: Leg) -> None:
        """A hang-up of ours: was it right?"""
        if self.api_stopped:
            return
        if leg.stream is not None and leg.stream.open and self.serving is not None:
            self.violations.append(f"a call that talks was hung up {self.now - leg.began:.0f} s after it began")
        if "unanswered" in self.plan.mishaps or self.plan.dies_after is not None:
            return  # a dial of unknown outcome is given up a minute after its ring time, queued or not
        patience = self.plan.ring_time + self.plan.queued_for
        if leg.outbound and leg.state in ("queued", "ringing") and self.now - leg.began < patience:
            self.violations.append(f"a dial was hung up that still {leg.state}")

    # --- the call's life ----------------------------------------------------------------------------------------------

    async def _dialled(self, leg: Leg) -> None:
        leg.began = self.now
        await asyncio.sleep(self.plan.queued_for)
        if leg.state == "ended":
            return
        leg.state = "ringing"
        await self.tell(leg, "initiated")
        await self.tell(leg, "ringing")
        answers = self.plan.answers_after
        rings = self.plan.ring_time if answers is None else min(answers, self.plan.ring_time)
        await asyncio.sleep(rings)
        if leg.state == "ringing":
            if answers is None or answers > self.plan.ring_time:
                self._end(leg)
            else:
                await self._answered(leg)

    async def ring(self) -> None:
        """Somebody rings us, and gives up after the ring time."""
        leg = Leg("CA" + uuid4().hex if self.wire.name == "twilio" else f"v3:{uuid4().hex}", outbound=False)
        leg.state, leg.began = "ringing", self.now
        self.legs.append(leg)
        reply = await self.tell(leg, "initiated" if self.wire.name == "telnyx" else "ringing")
        if reply is not None and (ticket := re.search(rb'/media/([^"]+)', reply.body)):
            leg.ticket = ticket[1].decode()
            self.spawn(self._answered(leg))
        elif reply is not None and reply.body and b"Response" in reply.body:
            self._end(leg)
        await asyncio.sleep(self.plan.ring_time)
        if leg.state == "ringing":
            self._end(leg)

    async def _answered(self, leg: Leg) -> None:
        if leg.state != "ringing":
            return
        leg.state = "answered"
        self.spawn(self._hang_up_later(leg))
        if leg.outbound or self.wire.name == "telnyx":
            self.spawn(self.tell(leg, "answered"))
        if not self.plan.stream_comes:
            return
        await asyncio.sleep(0.1)
        exchange = self.serving
        if exchange is None or leg.state != "answered":
            return
        try:
            ticket = await exchange.admit(leg.ticket)
        except TicketRefused:
            self._stream_is_over(leg)
            return
        leg.stream = Socket(self.wire.frames(leg), lambda: self._stream_is_over(leg))
        exchange.switchboard.spawn(exchange.serve_media(ticket, leg.stream), "carry media")
        if self.plan.stream_lost_after is not None:
            await asyncio.sleep(self.plan.stream_lost_after)
            leg.stream.drop()
            self._stream_is_over(leg)

    def _stream_is_over(self, leg: Leg) -> None:
        if self.wire.stream_is_the_call and leg.state == "answered":
            self._end(leg)

    async def _hang_up_later(self, leg: Leg) -> None:
        await asyncio.sleep(self.plan.talks_for)
        self._end(leg)

    def _end(self, leg: Leg) -> None:
        if leg.state == "ended":
            return
        leg.state = "ended"
        if leg.stream is not None and leg.stream.open:
            leg.stream.drop()
        self.spawn(self.tell(leg, "ended"))

    async def tell(self, leg: Leg, kind: str) -> Any:
        """Send a webhook, unless it gets lost; the reply."""
        if self.wire.name == "telnyx" and kind == "ringing":
            return None
        await asyncio.sleep(0.05)
        incoming = not leg.outbound and leg.state == "ringing"
        if self.serving is None or (kind in self.plan.lost_callbacks and not incoming):
            return None
        request = self.wire.signed(self.wire.webhook(leg, kind), self.credential_id)
        return await self.serving.handle_webhook(self.wire.name, self.credential_id, request)
