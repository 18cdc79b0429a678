"""Plivo: calls, webhooks and recordings. XML is written in ``instructions``; numbers have a module of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anycarrier import errors, events
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, StreamTarget
from anycarrier.events import InstructionsFor, InstructionsRequested
from anycarrier.markup import element
from anycarrier.numbers import NumberRequirement
from anycarrier.parsing import reading
from anycarrier.refusals import Meaning
from anycarrier.rest import given
from anycarrier.sip import destination, is_sip
from anycarrier.webhooks import WebhookReply, WebhookRequest, with_query
from anycarrier_plivo import instructions, webhooks
from anycarrier_plivo.credential import PlivoCredential, check
from anycarrier_plivo.frames import PlivoSerializer
from anycarrier_plivo.numbers import PlivoNumbers

LONGEST_CALL = 86_400  # seconds; also of a recording, which else stops after a minute
BARRED = Meaning(errors.PermissionDenied, "Write the number in E.164, and allow its country under Geo Permissions.")


class PlivoProvider(PlivoNumbers):
    """Plivo. It asks for its instructions by webhook, also for dialled calls and transfers, and takes them in XML."""

    name = "plivo"
    title = "Plivo"
    credential_type = PlivoCredential
    base_url = "https://api.plivo.com/v1"
    sandbox = "anycarrier_plivo.sandbox:PlivoSandbox"
    reports_transfers = True
    detects_machines = False  # Plivo reports machines, but never a person, nor the end of a greeting
    requirement_codes = {"compliance_application_id": NumberRequirement.DOCUMENTS,
                         "verification_info": NumberRequirement.IDENTITY}  # fmt: skip
    error_words = (
        (r"^403 .*region are barred", BARRED),
        (r"^403 .*concurren", errors.RateLimited),
        (r"^4.. - .*insufficient (funds|balance|credit)", errors.InsufficientFunds),
        (r"^404 - .*inventory", errors.NumberUnavailable),
        (r"^400 - .*(\b(to|from)\b.* invalid|not a valid (phone )?number)", errors.NumberRejected),
    )

    def auth(self) -> tuple[str, str]:
        return self.credential.auth_id, self.credential.auth_token.get_secret_value()

    def error_detail(self, body: Any) -> tuple[str | None, str]:
        """A text without a code; where a number is regulated, it names the field that is missing."""
        _, text = super().error_detail(body)
        return next((field for field in self.requirement_codes if field in text), None), text

    def verify(self, request: WebhookRequest) -> None:
        check(request, self.credential.auth_token.get_secret_value())

    def parse_webhook(self, request: WebhookRequest) -> events.CallEvent:
        with reading("plivo webhook", request.body):
            return webhooks.parse(request)

    def serializer(self) -> PlivoSerializer:
        return PlivoSerializer()

    def acknowledge(self, event: events.CallEvent) -> WebhookReply:
        """XML always: Plivo ends a call over anything else, and some of what it tells it also asks."""
        return instructions.respond()

    def leave_ringing(self, call: events.IncomingCall) -> WebhookReply:
        """Plivo wants instructions at once. It waits before the answer: the caller hears silence, not ringing."""
        silence = element("PreAnswer", {}, element("Wait", {"length": 120}))
        return instructions.respond(silence, instructions.hang_up("busy"))

    def refuse(self, error: errors.AnycarrierError) -> WebhookReply:
        """Strangers get a bare 4xx. A call of ours that we failed to take sounds busy to its caller."""
        stranger = isinstance(error, errors.WireError) and not isinstance(error, errors.Replayed)
        return super().refuse(error) if stranger else instructions.respond(instructions.hang_up("busy"))

    async def dial(self, request: DialRequest) -> Call:
        instructions.stream("dial", request.stream, None)  # refused now, or never
        url, headers = request.status_url, instructions.sip_headers("dial", request.headers)
        body = {"from": request.caller_id or request.from_, "to": request.to, "send_digits": request.digits,
                "answer_url": with_query(url, {"record": "1" if request.record else None}),
                "time_limit": request.time_limit and max(1, min(round(request.time_limit), LONGEST_CALL)),
                **dict.fromkeys(("ring_url", "hangup_url"), url), "sip_headers": headers,
                **dict.fromkeys(("answer_method", "ring_method", "hangup_method"), "POST"),
                "ring_timeout": max(1, round(request.timeout))}  # fmt: skip
        fired = {**self.at("dial", "Call"), "json": given(body), "extra": request.extra}
        call_id, raw = await self.ask(lambda raw: (str(raw["request_uuid"]), raw), "POST", **fired)
        return Call(
            id=call_id, provider="plivo", direction=Direction.OUTBOUND, from_=request.from_, to=request.to, raw=raw,
            status=CallStatus.QUEUED, reference=request.reference, carrier_status=raw.get("message"),
        )  # fmt: skip

    async def answer(self, call: events.IncomingCall, stream: StreamTarget) -> WebhookReply:
        return instructions.respond(instructions.stream("answer", stream, call.call.facts.get("webhook")))

    async def instruct(self, event: InstructionsRequested, call: Call, stream: StreamTarget | None) -> WebhookReply:
        url, asked = event.call.facts.get("webhook"), event.raw
        if event.purpose is InstructionsFor.TRANSFER:
            caller, headers = asked.get("show"), asked.get("sip_headers")
            return instructions.respond(instructions.dial(asked["transfer_to"], caller, url, headers))
        if stream is None:
            return instructions.respond(instructions.hang_up())
        whole = {"recordSession": True, "redirect": False, "playBeep": False, "fileFormat": "wav"}
        record = element("Record", {**whole, "maxLength": LONGEST_CALL, "callbackUrl": url})
        return instructions.respond(*[record] * ("record" in asked), instructions.stream("instruct", stream, url))

    async def reject(self, call: events.IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        return instructions.respond(instructions.hang_up("busy" if reason is EndReason.BUSY else "rejected"))

    async def forward(self, call: events.IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        return instructions.respond(instructions.dial(to, call.call.caller_id, status_url or None))

    async def hang_up(self, call_id: str) -> None:
        """A call that is not placed yet is known as a request only."""
        try:
            await self.request("DELETE", **self.at("hang_up", "Call", await self._uuid(call_id)))
        except errors.NotFound:
            with self.tolerating(404):
                await self.request("DELETE", **self.at("hang_up", "Request", call_id))

    async def fetch_call(self, call_id: str) -> Call:
        """A live call and an ended one are two resources; in between, Plivo knows nothing for some seconds."""
        where = self.at("fetch_call", "Call", await self._uuid(call_id))
        try:
            call = await self.ask(webhooks.read_live, "GET", **where, params={"status": "live"})
        except errors.NotFound:
            call = await self.ask(webhooks.read_ended, "GET", **where)
        return call.model_copy(update={"id": call_id})

    async def transfer(
        self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Plivo asks for the new instructions once the stream has ended: it is ended here, after they are known."""
        sent, to = instructions.sip_headers("transfer", headers), destination(to)
        if (sent and not is_sip(to)) or not status_url:
            raise self.unsupported("transfer", "headers go to sip: addresses only; status_url is asked whom to ring")
        url = with_query(status_url, {"transfer_to": to, "show": caller_id, "sip_headers": sent})
        body, uuid = {"legs": "aleg", "aleg_url": url, "aleg_method": "POST"}, await self._uuid(call_id)
        await self.request("POST", **self.at("transfer", "Call", uuid), json=body)
        with self.tolerating(404):
            await self.request("DELETE", **self.at("transfer", "Call", uuid, "Stream"))

    async def _uuid(self, call_id: str) -> str:
        """A dialled call is known here by its ``request_uuid``; its ``CallUUID`` is the same but for old accounts."""
        return (await self.facts(call_id)).get("uuid", call_id)

    async def send_digits(self, call_id: str, digits: str) -> None:
        body = {"digits": digits, "leg": "aleg"}
        await self.request("POST", **self.at("send_digits", "Call", await self._uuid(call_id), "DTMF"), json=body)

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        body = given({"time_limit": LONGEST_CALL, "file_format": "wav", "callback_url": status_url})
        where = self.at("start_recording", "Call", await self._uuid(call_id), "Record")
        return await self.ask(lambda raw: str(raw["recording_id"]), "POST", **where, json=body)

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:  # Plivo stops all of a call's
        await self.request("DELETE", **self.at("stop_recording", "Call", await self._uuid(call_id), "Record"))

    async def fetch_recording(self, recording_id: str) -> bytes:
        where = self.at("fetch_recording", "Recording", recording_id)
        url = await self.ask(lambda raw: str(raw["recording_url"]), "GET", **where)
        return await self.download(url, operation="fetch_recording")

    async def check_credential(self) -> str:
        return await self.ask(lambda raw: str(raw["name"]), "GET", **self.at("check_credential"))
