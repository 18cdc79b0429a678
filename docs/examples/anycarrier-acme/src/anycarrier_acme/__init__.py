"""Acme Telecom for anycarrier: an imaginary carrier, and all that a real one needs.

REST and webhooks are JSON, media is JSON frames of base64 mu-law; a webhook's reply says what to do with the call.
docs/write-a-provider.md builds this file up step by step.
"""

import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from pydantic import SecretStr

from anycarrier import errors, events
from anycarrier.audio import PCMU_8K
from anycarrier.calls import Call, DialRequest, EndReason, StreamTarget
from anycarrier.credentials import Credential
from anycarrier.hookspecs import hookimpl
from anycarrier.numbers import AvailableNumber, NumberQuery
from anycarrier.provider import Provider
from anycarrier.serializer import MediaSerializer
from anycarrier.webhooks import WebhookReply, WebhookRequest


class AcmeCredential(Credential):
    provider: str = "acme"
    api_key: SecretStr  # logs in, and is what Acme signs webhooks with
    base_url: str | None = None


class Frame(msgspec.Struct):  # any media frame from Acme: kinds differ in which of these they fill
    type: str
    call: str = ""
    custom: dict[str, str] = {}
    data: bytes = b""  # base64 in JSON
    ms: int | None = None
    name: str = ""


FRAMES: dict[str, Callable[[Frame, bytes | str], events.MediaEvent]] = {
    "start": lambda frame, raw: events.StreamStarted(frame.call, custom=frame.custom, raw=raw),
    "audio": lambda frame, raw: events.AudioReceived(frame.data, timestamp=frame.ms, raw=raw),
    "digit": lambda frame, raw: events.DigitPressed(frame.name, raw),
    "mark": lambda frame, raw: events.MarkReached(frame.name, raw),
    "error": lambda frame, raw: events.StreamError(frame.name, raw=raw),
    "stop": lambda frame, raw: events.StreamStopped(frame.name, raw),
}
KINDS: dict[str, Callable[..., events.CallEvent]] = {"incoming": events.IncomingCall, "progress": events.CallProgress}
ENDS = dict(busy=EndReason.BUSY, missed=EndReason.NO_ANSWER, declined=EndReason.REJECTED, lost=EndReason.INVALID_NUMBER)


class AcmeSerializer(MediaSerializer):
    open = False

    def decode(self, frame: bytes | str) -> list[events.MediaEvent]:
        try:
            got = msgspec.json.decode(frame, type=Frame)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise errors.MalformedMessage("acme sent a media frame that cannot be read", frame) from None
        self.open = got.type == "start" or (self.open and got.type != "stop")
        make = FRAMES.get(got.type)
        return [make(got, frame) if make else events.UnknownEvent(kind=got.type, raw=msgspec.json.decode(frame))]

    def encode_audio(self, payload: bytes) -> list[str]:
        return self.send(type="audio", data=payload)

    def encode_mark(self, name: str) -> list[str]:
        return self.send(type="mark", name=name)

    def encode_clear(self) -> list[str]:
        return self.send(type="clear")

    def send(self, **frame: str | bytes) -> list[str]:
        if not self.open:
            raise errors.StreamNotOpen("the acme stream has not started, or is over")
        return [msgspec.json.encode(frame).decode()]


class AcmeProvider(Provider):
    name = "acme"
    credential_type = AcmeCredential
    credential: AcmeCredential
    base_url = "https://api.acme.example/v1"
    error_types = {"no_funds": errors.InsufficientFunds, "invalid_number": errors.NumberRejected}
    sandbox = "anycarrier_acme.sandbox:AcmeSandbox"

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.credential.api_key.get_secret_value()}"}

    def verify(self, request: WebhookRequest) -> None:
        ours = hmac.digest(self.credential.api_key.get_secret_value().encode(), request.body, "sha256").hex()
        if not hmac.compare_digest(ours.encode(), (request.header("x-acme-signature") or "").encode()):
            raise errors.SignatureInvalid("acme webhook: x-acme-signature is missing or wrong")

    def parse_webhook(self, request: WebhookRequest) -> events.CallEvent:
        raw = request.json()
        try:
            told = {"event_id": raw["id"], "occurred_at": datetime.fromisoformat(raw["at"]), "raw": raw}
            if raw["type"] not in KINDS:
                return events.UnknownEvent(kind=raw["type"], **told)
            call = call_of(raw["call"])
            return KINDS[raw["type"]](call=call, call_id=call.id, reference=call.reference, **told)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise errors.MalformedMessage("acme sent a webhook that cannot be read", request.body) from None

    def serializer(self) -> AcmeSerializer:
        return AcmeSerializer()

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        if query.locality or query.region:
            raise self.unsupported("search_numbers", "acme knows area codes, not places")
        asked = query.model_dump(mode="json", exclude={"locality", "region", "extra"}, exclude_none=True)
        return await self.ask(
            lambda body: [AvailableNumber(**number, provider="acme", raw=number) for number in body["numbers"]],
            "GET", "/numbers", operation="search_numbers", params=asked, extra=query.extra,
        )  # fmt: skip

    async def dial(self, request: DialRequest) -> Call:
        if request.record or request.machine_detection != "off" or request.stream.format != PCMU_8K:
            raise self.unsupported("dial", "acme neither records nor detects machines, and speaks mu-law only")
        asked = {"from": request.from_, **request.model_dump(mode="json", exclude={"from_", "extra"})}
        return await self.ask(call_of, "POST", "/calls", operation="dial", json=asked, extra=request.extra)

    async def answer(self, call: events.IncomingCall, stream: StreamTarget) -> WebhookReply:
        told = msgspec.json.encode({"answer": stream.model_dump(mode="json")})
        return WebhookReply(body=told, content_type="application/json")

    async def hang_up(self, call_id: str) -> None:
        await self.request("DELETE", "/calls", operation="hang_up", params={"id": call_id})

    async def fetch_call(self, call_id: str) -> Call:
        return await self.ask(call_of, "GET", "/calls", operation="fetch_call", params={"id": call_id})

    async def transfer(self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "") -> None:
        asked = {"id": call_id, "to": to, "caller_id": caller_id, "status_url": status_url}
        await self.request("POST", "/transfers", operation="transfer", json=asked)


def call_of(leg: Any) -> Call:
    """Acme's JSON for a call, as ours. For ``direction`` and ``status`` Acme has our words."""
    same = {key: leg[key] for key in ("id", "direction", "to", "status", "reference")}
    reason = ENDS.get(leg["cause"], EndReason.USER_HANGUP) if leg["cause"] else None
    return Call(provider="acme", from_=leg["from"], reason=reason, carrier_status=leg["cause"], raw=leg, **same)


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    return [AcmeProvider]
