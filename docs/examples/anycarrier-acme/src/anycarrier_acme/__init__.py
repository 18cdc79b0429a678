"""Acme Telecom for anycarrier: an imaginary carrier, and all that a real one needs.

REST and webhooks are JSON, media is JSON frames of base64 mu-law; a webhook's reply says what to do with the call.
docs/write-a-provider.md builds this file up step by step.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from pydantic import SecretStr

from anycarrier import errors, events
from anycarrier.audio import PCMU_8K
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, StreamTarget
from anycarrier.credentials import Credential
from anycarrier.hookspecs import hookimpl
from anycarrier.numbers import AvailableNumber, NumberQuery
from anycarrier.parsing import READ_FAILURES, reading, unreadable
from anycarrier.provider import Provider
from anycarrier.rest import given
from anycarrier.serializer import MediaSerializer
from anycarrier.sip import destination
from anycarrier.webhooks import WebhookReply, WebhookRequest


class AcmeCredential(Credential):
    provider: str = "acme"
    api_key: SecretStr  # logs in, and is what Acme signs webhooks with
    base_url: str | None = None


class Frame(msgspec.Struct):
    """Any media frame from Acme; the kinds differ in which of these fields they fill."""

    type: str
    call: str = ""
    custom: dict[str, str] = {}
    data: bytes = b""  # base64 in JSON
    ms: int | None = None
    name: str = ""


class AcmeSerializer(MediaSerializer):
    open = False

    def decode(self, frame: bytes | str) -> list[events.MediaEvent]:
        try:
            got = msgspec.json.decode(frame, type=Frame)
            match got.type:
                case "start":
                    self.open = True
                    return [events.StreamStarted(got.call, custom=got.custom, raw=frame)]
                case "audio":
                    return [events.AudioReceived(got.data, timestamp=got.ms, raw=frame)]
                case "digit":
                    return [events.DigitPressed(got.name, frame)]
                case "mark":
                    return [events.MarkReached(got.name, frame)]
                case "error":
                    return [events.StreamError(got.name, raw=frame)]
                case "stop":
                    self.open = False
                    return [events.StreamStopped(got.name, frame)]
            return [events.UnknownEvent(kind=got.type, raw=msgspec.json.decode(frame))]
        except READ_FAILURES as failure:
            raise unreadable("acme media frame", frame, failure) from None

    def encode_audio(self, payload: bytes) -> list[str]:
        return self.send({"type": "audio", "data": payload})

    def encode_mark(self, name: str) -> list[str]:
        return self.send({"type": "mark", "name": name})

    def encode_clear(self) -> list[str]:
        return self.send({"type": "clear"})

    def send(self, frame: dict[str, Any]) -> list[str]:
        if not self.open:
            raise errors.StreamNotOpen("the acme stream has not started, or is over")
        return [msgspec.json.encode(frame).decode()]


class AcmeProvider(Provider):
    name = "acme"
    credential_type = AcmeCredential
    credential: AcmeCredential
    base_url = "https://api.acme.example/v1"
    error_types = {"no_funds": errors.InsufficientFunds, "invalid_number": errors.NumberRejected}
    detects_machines = False  # so anycarrier listens for answering machines itself
    sandbox = "anycarrier_acme.sandbox:AcmeSandbox"

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.credential.api_key.get_secret_value()}"}

    def verify(self, request: WebhookRequest) -> None:
        key = self.credential.api_key.get_secret_value().encode()
        expected = hmac.digest(key, request.body, "sha256").hex()
        given = request.header("x-acme-signature") or ""
        if not hmac.compare_digest(expected.encode(), given.encode()):
            raise errors.SignatureInvalid("acme webhook: x-acme-signature is missing or wrong")

    def parse_webhook(self, request: WebhookRequest) -> events.CallEvent:
        raw = request.json()
        with reading("acme webhook", request.body):
            kind: str = raw["type"]
            event_id: str = raw["id"]
            occurred_at = datetime.fromisoformat(raw["at"])
            if kind not in ("incoming", "progress"):
                return events.UnknownEvent(kind=kind, event_id=event_id, occurred_at=occurred_at, raw=raw)
            call = read_call(raw["call"])
            event_type = events.IncomingCall if kind == "incoming" else events.CallProgress
            return event_type(
                call=call,
                call_id=call.id,
                reference=call.reference,
                event_id=event_id,
                occurred_at=occurred_at,
                raw=raw,
            )

    def serializer(self) -> AcmeSerializer:
        return AcmeSerializer()

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        no_places = "acme knows area codes, not places"
        self.refuse_fields("search_numbers", query, locality=no_places, region=no_places)
        params = {
            "country": query.country,
            "type": query.type,
            "features": list(query.features),
            "area_code": query.area_code,
            "contains": query.contains,
            "limit": query.limit,
            "page": query.page,
        }
        return await self.ask(
            read_offers, "GET", "/numbers", operation="search_numbers", params=given(params), extra=query.extra
        )

    async def dial(self, request: DialRequest) -> Call:
        self.refuse_fields("dial", request, record="acme does not record", headers="acme sends no headers")
        self.require_format("dial", request.stream, PCMU_8K)
        body = {
            "from": request.from_,
            "to": request.to,
            "stream": request.stream.model_dump(mode="json"),
            "status_url": request.status_url,
            "reference": request.reference,
            "timeout": request.timeout,
            "time_limit": request.time_limit,
            "caller_id": request.caller_id,
            "digits": request.digits,
        }
        return await self.ask(read_call, "POST", "/calls", operation="dial", json=body, extra=request.extra)

    async def answer(self, call: events.IncomingCall, stream: StreamTarget) -> WebhookReply:
        body = msgspec.json.encode({"answer": stream.model_dump(mode="json")})
        return WebhookReply(body=body, content_type="application/json")

    async def hang_up(self, call_id: str) -> None:
        await self.request("DELETE", "/calls", operation="hang_up", params={"id": call_id})

    async def fetch_call(self, call_id: str) -> Call:
        return await self.ask(read_call, "GET", "/calls", operation="fetch_call", params={"id": call_id})

    async def transfer(
        self,
        call_id: str,
        to: str,
        *,
        caller_id: str | None = None,
        status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if headers:
            raise self.unsupported("transfer", "acme sends no headers")
        body = {"id": call_id, "to": destination(to), "caller_id": caller_id, "status_url": status_url}
        await self.request("POST", "/transfers", operation="transfer", json=body)


END_REASONS = {
    "busy": EndReason.BUSY,
    "missed": EndReason.NO_ANSWER,
    "declined": EndReason.REJECTED,
    "lost": EndReason.INVALID_NUMBER,
}


def read_call(leg: Any) -> Call:
    """Acme's JSON for a call, as a ``Call``. For ``direction`` and ``status`` Acme has the same words."""
    cause = leg["cause"]
    return Call(
        id=leg["id"],
        provider="acme",
        direction=Direction(leg["direction"]),
        from_=leg["from"],
        to=leg["to"],
        status=CallStatus(leg["status"]),
        reason=END_REASONS.get(cause, EndReason.USER_HANGUP) if cause else None,
        reference=leg["reference"],
        carrier_status=cause,
        raw=leg,
    )


def read_offers(body: Any) -> list[AvailableNumber]:
    """Acme's JSON for a search: its fields are named as ours."""
    return [AvailableNumber(**number, provider="acme", raw=number) for number in body["numbers"]]


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    return [AcmeProvider]
