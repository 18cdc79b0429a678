"""Carriers that exist only here: one for each way a carrier can want to be spoken to, and a socket in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from pydantic import SecretStr

from anycarrier import (
    AudioFormat,
    AudioReceived,
    AvailableNumber,
    Call,
    CallEvent,
    CallProgress,
    CallStatus,
    Credential,
    Desk,
    DialRequest,
    DigitPressed,
    DigitReported,
    Direction,
    EndReason,
    HoldChanged,
    IncomingCall,
    Listener,
    MarkReached,
    MediaEvent,
    MediaSerializer,
    NumberQuery,
    Provider,
    StreamStarted,
    StreamStopped,
    StreamTarget,
    SyncResult,
    TransferProgress,
    UnknownEvent,
    WebhookReply,
    WebhookRequest,
    hookimpl,
)
from anycarrier.errors import MalformedMessage, SignatureInvalid, StreamNotOpen


class FakeCredential(Credential):
    provider: str = "inline"
    api_key: SecretStr = SecretStr("k-secret-k")


class FakeFrames(MediaSerializer):
    """``{"event": ...}`` frames; audio travels as latin-1 text."""

    def __init__(self) -> None:
        self.open = False

    def decode(self, frame: bytes | str) -> list[MediaEvent]:
        try:
            message = json.loads(frame)
            kind = message["event"]
        except (ValueError, KeyError, TypeError):
            raise MalformedMessage("not a frame", frame) from None
        match kind:
            case "start":
                self.open = True
                sent = AudioFormat(*message.get("format", ()))
                early, silent = message.get("early", False), message.get("silent", False)
                custom = message.get("custom", {})
                return [StreamStarted(message["call_id"], "s1", sent, custom=custom, early=early, silent=silent)]
            case "media":
                return [AudioReceived(message["audio"].encode("latin-1"))]
            case "dtmf":
                return [DigitPressed(message["digit"])]
            case "hold":
                return [HoldChanged(message["held"])]
            case "mark":
                return [MarkReached(message["name"])]
            case "stop":
                self.open = False
                return [StreamStopped("asked")]
        return [UnknownEvent(kind=kind, raw=message)]

    def _frame(self, **message: Any) -> list[str]:
        if not self.open:
            raise StreamNotOpen("no stream")
        return [json.dumps(message)]

    def encode_audio(self, payload: bytes) -> list[str]:
        return self._frame(event="media", audio=payload.decode("latin-1"))

    def encode_mark(self, name: str) -> list[str]:
        return self._frame(event="mark", name=name)

    def encode_clear(self) -> list[str]:
        return self._frame(event="clear")


class InlineProvider(Provider):
    """Wants its instructions in the webhook's reply."""

    name = "inline"
    credential_type = FakeCredential
    log: ClassVar[list[tuple[Any, ...]]] = []
    dial_error: ClassVar[Exception | None] = None
    dial_gate: ClassVar[asyncio.Event | None] = None
    transfer_error: ClassVar[Exception | None] = None
    unconfigure_error: ClassVar[Exception | None] = None

    def verify(self, request: WebhookRequest) -> None:
        if request.header("x-signed") != "yes":
            raise SignatureInvalid("not signed")

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        message = request.json()
        base = {
            "call_id": message.get("id", ""),
            "event_id": message.get("event_id", ""),
            "reference": request.query().get("ref", ""),
            "raw": message,
        }
        match message.get("event"):
            case "ringing":
                call = Call(
                    id=message["id"],
                    provider=self.name,
                    direction=Direction.INBOUND,
                    from_=message["from"],
                    to=message["to"],
                    status=CallStatus.RINGING,
                )
                return IncomingCall(call=call, **base)
            case "status":
                reason = message.get("reason")
                seen = Call(
                    id=message["id"],
                    provider=self.name,
                    direction=Direction.OUTBOUND,
                    from_="",
                    to="",
                    status=CallStatus(message["status"]),
                    reason=EndReason(reason) if reason else None,
                )
                return CallProgress(call=seen, **base)
            case "digit":
                return DigitReported(digit=message["digit"], **base)
            case "transfer":
                return TransferProgress(status=message["status"], **base)
        return UnknownEvent(kind=str(message.get("event")), **base)

    def serializer(self) -> MediaSerializer:
        return FakeFrames()

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        return [AvailableNumber(number="+14155550199", provider=self.name, country=query.country)]

    async def dial(self, request: DialRequest) -> Call:
        self.log.append(("dial", request))
        if self.dial_gate is not None:
            await self.dial_gate.wait()
        if self.dial_error is not None:
            raise self.dial_error
        return Call(
            id="out-1",
            provider=self.name,
            direction=Direction.OUTBOUND,
            from_=request.from_,
            to=request.to,
            status=CallStatus.INITIATED,
        )

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        self.log.append(("answer", call.call_id, stream))
        return WebhookReply(body=stream.url.encode())

    async def hang_up(self, call_id: str) -> None:
        self.log.append(("hang_up", call_id))

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        self.log.append(("forward", call.call_id, to, status_url))
        return WebhookReply(body=b"forward")

    async def transfer(
        self,
        call_id: str,
        to: str,
        *,
        caller_id: str | None = None,
        status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.log.append(("transfer", call_id, to))
        if self.transfer_error is not None:
            raise self.transfer_error

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        self.log.append(("configure", number, webhook_url))
        if number.endswith("00"):
            return SyncResult(ok=False, message="the account does not hold this number")
        return SyncResult(ok=True, message="set", changed=("url",), webhook_url=webhook_url)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        self.log.append(("unconfigure", number, webhook_url))
        if self.unconfigure_error is not None:
            raise self.unconfigure_error
        return SyncResult(ok=True, message="cleared", changed=("url",), webhook_url=webhook_url)


class CommandProvider(InlineProvider):
    """Takes commands by REST after an empty acknowledgement, and sends keys by command."""

    name = "command"
    answers_in_reply = False
    log: ClassVar[list[tuple[Any, ...]]] = []

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        self.log.append(("answer", call.call_id, stream))
        return WebhookReply()

    async def send_digits(self, call_id: str, digits: str) -> None:
        self.log.append(("digits", call_id, digits))


class TrunkProvider(InlineProvider):
    """Owns its sockets: no webhooks, no WebSocket, no inventory of numbers, no marks."""

    name = "trunk"
    log: ClassVar[list[tuple[Any, ...]]] = []

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        raise self.unsupported("search_numbers", "a trunk has no inventory")

    def serializer(self) -> MediaSerializer:
        frames = FakeFrames()
        frames.marks = False
        return frames

    def listen(self, desk: Desk) -> Listener:
        return TrunkListener(desk, self)


class TrunkListener:
    """Rings by method call; its audio runs over a :class:`MemoryTransport`."""

    def __init__(self, desk: Desk, provider: TrunkProvider) -> None:
        self.desk = desk
        self.running = False
        provider.log.append(("listener", self))

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False

    async def ring(self, from_: str, to: str) -> tuple[WebhookReply, MemoryTransport, asyncio.Task[None]]:
        call = Call(
            id="leg-1", provider="trunk", direction=Direction.INBOUND, from_=from_, to=to, status=CallStatus.RINGING
        )
        reply = await self.desk.event(IncomingCall(call=call, call_id="leg-1", event_id="leg-1:ring"))
        transport = MemoryTransport()
        ticket = reply.body.decode().rpartition("/")[2]
        return reply, transport, asyncio.ensure_future(self.desk.media(ticket, transport))


class MemoryTransport:
    """A media socket without a network: ``say`` feeds frames in, ``sent`` collects what went out."""

    def __init__(self, *, echo_marks: bool = True) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed: int | None = None
        self.echo_marks = echo_marks
        self._in: asyncio.Queue[bytes | str | None] = asyncio.Queue()

    def say(self, **message: Any) -> None:
        self._in.put_nowait(json.dumps(message))

    def say_raw(self, frame: bytes | str) -> None:
        self._in.put_nowait(frame)

    def lose(self) -> None:
        self._in.put_nowait(None)

    async def send(self, frame: bytes | str) -> None:
        if self.closed is not None:
            raise ConnectionError("closed")
        message = json.loads(frame)
        self.sent.append(message)
        if message["event"] == "mark" and self.echo_marks:
            self.say(**message)

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        while (frame := await self._in.get()) is not None:
            yield frame

    async def close(self, code: int = 1000) -> None:
        if self.closed is None:
            self.closed = code
            self.lose()


class Plugin:
    """All of them, as a plugin would bring them."""

    @hookimpl
    def anycarrier_providers(self) -> list[type[Provider]]:
        return [InlineProvider, CommandProvider, TrunkProvider]
