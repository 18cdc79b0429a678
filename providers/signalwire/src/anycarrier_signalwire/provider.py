"""SignalWire: the Compatibility API and cXML by plain HTTP. The vendor's SDK pins an old one of Twilio's.

Keys are pressed on the media socket (:class:`SignalWireSerializer`); REST has no command for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import httpx

from anycarrier import errors, events
from anycarrier.calls import Call, CallStatus, DialRequest, EndReason, StreamTarget
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber, SyncResult, e164
from anycarrier.provider import Provider
from anycarrier.sip import destination
from anycarrier.webhooks import WebhookReply, WebhookRequest
from anycarrier_signalwire import commands, numbers, signature, wire
from anycarrier_signalwire.credential import SignalWireCredential
from anycarrier_signalwire.errors import ERROR_TYPES, ERROR_WORDS, OVER
from anycarrier_signalwire.frames import SignalWireSerializer
from anycarrier_twilio import commands as twiml
from anycarrier_twilio import numbers as twilio
from anycarrier_twilio.call_status import call_from_rest


class SignalWireProvider(Provider):
    """One project of a SignalWire space."""

    name = "signalwire"
    title = "SignalWire"
    credential_type = SignalWireCredential
    base_url = "https://example.signalwire.com"
    sandbox = "anycarrier_signalwire.sandbox:SignalWireSandbox"
    reports_transfers: ClassVar[bool] = True
    limits_calls: ClassVar[bool] = False
    error_types = ERROR_TYPES
    error_words = ERROR_WORDS

    credential: SignalWireCredential

    def __init__(self, credential: SignalWireCredential, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(credential, http)
        self.base_url = f"https://{credential.space}"  # type: ignore[misc]
        self._project = f"/api/laml/2010-04-01/Accounts/{credential.project_id}"
        self._owned = f"{self._project}/IncomingPhoneNumbers"

    def auth(self) -> tuple[str, str]:
        return self.credential.project_id, self.credential.api_token.get_secret_value()

    def verify(self, request: WebhookRequest) -> None:
        keys = (self.credential.signing_key, self.credential.secondary_signing_key)
        signature.check(request, *(key.get_secret_value() for key in keys if key is not None))

    def parse_webhook(self, request: WebhookRequest) -> events.CallEvent:
        return wire.parse(request)

    def serializer(self) -> SignalWireSerializer:
        return SignalWireSerializer()

    # --- numbers ------------------------------------------------------------------------------------------------

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        kind = self.word("search_numbers", numbers.KINDS, query.type)
        params = numbers.search_fields(query, self.unsupported)
        path = f"{self._project}/AvailablePhoneNumbers/{query.country}/{kind}"
        page = slice(query.limit * (query.page - 1), query.limit * query.page)

        def offers(body: Any) -> list[AvailableNumber]:
            return [twilio.available(item, query.type, self.name) for item in body["available_phone_numbers"][page]]

        return await self.ask(offers, "GET", path, operation="search_numbers", params=params, extra=query.extra)

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber:
        """Bought at once: there are no orders to wait for."""
        form = {"PhoneNumber": e164(number)}
        return await self.ask(self._held, "POST", self._owned, operation="buy_number", data=form, extra=extra)

    async def list_numbers(self, number: str | None = None, operation: str = "list_numbers") -> list[OwnedNumber]:
        """All, or the one: the filter is a pattern, and finds longer numbers too."""
        params = {"PhoneNumber": e164(number)} if number else {"PageSize": numbers.MAX_RESULTS}
        rows = await self.listed(
            self._owned, "incoming_phone_numbers", operation=operation, params=params,
            after=lambda body, _: body["next_page_uri"],
        )  # fmt: skip
        held = [self.translate(operation, self._held, row) for row in rows]
        return [each for each in held if number is None or each.number == number]

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        return await self._set("configure_number", number, webhook_url, numbers.settings_to_write, dry_run=dry_run)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        return await self._set("unconfigure_number", number, webhook_url, numbers.settings_to_clear)

    async def release_number(self, number: str) -> None:
        held = await self.list_numbers(number, "release_number")
        if not held:
            raise self.not_held("release_number", number)
        path = f"{self._owned}/{self.path_id('release_number', held[0].id)}"
        await self.request("DELETE", path, operation="release_number")

    async def check_credential(self) -> str:
        """The Project ID, once the login was accepted. No request shows whether the signing key is right."""
        try:
            return await self.ask(lambda body: str(body["sid"]), "GET", self._project, operation="check_credential")
        except errors.NotFound as unknown:
            raise errors.AuthenticationFailed(
                self.name, "check_credential", "this token opens no such project of this space", status=unknown.status,
                next_step="Check space and project_id.",
            ) from None  # fmt: skip

    # --- calls --------------------------------------------------------------------------------------------------

    async def dial(self, request: DialRequest) -> Call:
        form = commands.dial_fields(request, self.unsupported)
        path = f"{self._project}/Calls"
        call = await self.ask(self._read_call, "POST", path, operation="dial", data=form, extra=request.extra)
        # Our own words for who rings whom: what is shown to the callee may be another number.
        ours = {"reference": request.reference, "from_": request.from_, "to": request.to}
        return call.model_copy(update=ours)

    async def answer(self, call: events.IncomingCall, stream: StreamTarget) -> WebhookReply:
        commands.check_stream(stream, self.unsupported)
        return twiml.reply(commands.connect_stream(stream))

    async def reject(self, call: events.IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        return twiml.reply(twiml.reject("busy" if reason is EndReason.BUSY else "rejected"))

    async def forward(self, call: events.IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        return twiml.reply(twiml.dial(destination(to), caller_id=call.call.caller_id, status_url=status_url))

    async def hang_up(self, call_id: str) -> None:
        """One word ends an answered call, another an unanswered one: which it is, the carrier says after a refusal."""
        path, word = self._call("hang_up", call_id), "completed"
        for last in (False, False, True):
            try:
                with self.tolerating(404):
                    await self.request("POST", path, operation="hang_up", data={"Status": word})
                return
            except errors.RequestRejected as refused:
                if refused.code not in OVER:
                    raise
                call = await self.ask(self._read_call, "GET", path, operation="hang_up")
                if call.ended:
                    return
                if last:
                    raise
                word = "completed" if call.status is CallStatus.ANSWERED else "canceled"

    async def fetch_call(self, call_id: str) -> Call:
        return await self.ask(self._read_call, "GET", self._call("fetch_call", call_id), operation="fetch_call")

    async def transfer(
        self,
        call_id: str,
        to: str,
        *,
        caller_id: str | None = None,
        status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """SignalWire is told where to ask for the target, and asks at once."""
        if not status_url:
            raise self.unsupported("transfer", "without a status_url: it is asked there for the target")
        if problem := twiml.header_problem(to, headers):
            raise self.unsupported(*problem)
        target = destination(to)
        if headers:
            target += ("&" if "?" in target else "?") + urlencode(headers, quote_via=quote)
        url = wire.instructions_url(status_url, events.InstructionsFor.TRANSFER, target=target, caller_id=caller_id)
        form = {"Url": url, "Method": "POST"}
        await self.request("POST", self._call("transfer", call_id), operation="transfer", data=form)

    async def instruct(
        self, event: events.InstructionsRequested, call: Call, stream: StreamTarget | None
    ) -> WebhookReply:
        status_url, target = str(event.raw.get(wire.STATUS_URL, "")), event.raw.get(wire.TARGET)
        if stream is not None:
            return twiml.reply(commands.connect_stream(stream, status_url=status_url))
        if event.purpose is not events.InstructionsFor.TRANSFER or not target or call.ended:
            return twiml.reply(twiml.NOTHING)
        shown = event.raw.get(wire.CALLER_ID)
        return twiml.reply(twiml.dial(str(target), caller_id=shown, status_url=status_url))

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        path, form = f"{self._call('start_recording', call_id)}/Recordings", commands.recording_fields(status_url)
        return await self.ask(lambda body: str(body["sid"]), "POST", path, operation="start_recording", data=form)

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        if not recording_id:
            raise self.unsupported("stop_recording", "without the recording's id: start_recording returns it")
        path = f"{self._call('stop_recording', call_id)}/Recordings/{self.path_id('stop_recording', recording_id)}"
        await self.request("POST", path, operation="stop_recording", data={"Status": "stopped"})

    async def fetch_recording(self, recording_id: str) -> bytes:
        path = f"{self._project}/Recordings/{self.path_id('fetch_recording', recording_id)}.wav"
        return await self.download(path, operation="fetch_recording", login=True)

    def acknowledge(self, event: events.CallEvent) -> WebhookReply:
        """204, but instructions (none) where it asks for some: an empty body would be an error, and end the call."""
        asks = isinstance(event, events.IncomingCall | events.DigitReported) or wire.INSTRUCT in event.raw or (
            isinstance(event, events.TransferProgress) and "DialCallStatus" in event.raw
        )
        return twiml.reply(twiml.NOTHING) if asks else WebhookReply(status=204)

    def leave_ringing(self, call: events.IncomingCall) -> WebhookReply:
        return twiml.reply(twiml.ring_on())

    def refuse(self, error: errors.AnycarrierError) -> WebhookReply:
        """Strangers and replays get a bare 4xx. A call of ours that we failed to take sounds busy to its caller."""
        if isinstance(error, errors.SignatureInvalid | errors.MalformedMessage):
            return super().refuse(error)
        return twiml.reply(twiml.reject("busy"))

    # --- the parts ----------------------------------------------------------------------------------------------

    async def _set(
        self, operation: str, number: str, webhook_url: str, settings_of: numbers.SettingsOf, *, dry_run: bool = False
    ) -> SyncResult:
        """Write those of the number's settings that ``settings_of`` names."""
        held = await self.list_numbers(number, operation)
        if not held:
            return SyncResult.failed(str(self.not_held(operation, number)), webhook_url)
        settings = settings_of(held[0].raw, webhook_url)
        if settings and not dry_run:
            path = f"{self._owned}/{self.path_id(operation, held[0].id)}"
            await self.request("POST", path, operation=operation, data=settings)
        return SyncResult.of(settings, webhook_url, dry_run=dry_run)

    def _held(self, item: Any) -> OwnedNumber:
        return twilio.owned(item, self.name)

    def _read_call(self, body: Any) -> Call:
        return call_from_rest(body, self.name)

    def _call(self, operation: str, call_id: str) -> str:
        return f"{self._project}/Calls/{self.path_id(operation, call_id)}"

