"""Twilio: Programmable Voice with instructions in the webhook's reply (TwiML) and two-way Media Streams.

Sending keys is not declared: no REST command presses one without ending the stream. Keys known beforehand go in
``DialRequest.digits``; later ones are tones in the audio we send, which is the session's business.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from anycarrier import errors
from anycarrier.calls import Call, DialRequest, EndReason, StreamTarget
from anycarrier.events import CallEvent, DigitReported, IncomingCall, TransferProgress
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber, SyncResult, e164
from anycarrier.provider import Provider
from anycarrier.sip import destination
from anycarrier.webhooks import WebhookReply, WebhookRequest
from anycarrier_twilio import call_status, commands, numbers, signature, wire
from anycarrier_twilio.credential import TwilioCredential
from anycarrier_twilio.errors import BY_WORDS, MEANINGS, OVER, REQUIREMENTS
from anycarrier_twilio.frames import TwilioSerializer


class TwilioProvider(Provider):
    """One Twilio account."""

    name = "twilio"
    credential_type = TwilioCredential
    credential: TwilioCredential
    base_url = "https://api.twilio.com"
    sandbox = "anycarrier_twilio.sandbox:TwilioSandbox"
    reports_transfers: ClassVar[bool] = True
    error_types = MEANINGS
    error_words = BY_WORDS
    requirement_codes = REQUIREMENTS
    id_pattern = r"[A-Za-z0-9_-]+"

    def verify(self, request: WebhookRequest) -> None:
        signature.check(request, *self.credential.signing_tokens)

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        return wire.parse(request)

    def serializer(self) -> TwilioSerializer:
        return TwilioSerializer()

    # --- numbers ------------------------------------------------------------------------------------------------

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        operation, fields = "search_numbers", numbers.search_fields(query, self.unsupported)
        try:
            body = await self._ask(
                operation,
                lambda client: getattr(client.available_phone_numbers(query.country), query.type).list_async(**fields),
                query.extra,
            )
        except errors.NotFound:
            # The kinds a country has are its sub-resources; a wrong account is told by 401.
            raise self.unsupported(operation, f"there are no {query.type} numbers in {query.country}") from None
        offers = body.get("available_phone_numbers", [])[query.limit * (query.page - 1) : query.limit * query.page]
        return [self.translate(operation, numbers.available, offer, query.type) for offer in offers]

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber:
        """Bought at once: Twilio has no orders to wait for. Addresses and bundles go in ``extra``."""
        field = {"phone_number": e164(number)}
        body = await self._ask("buy_number", lambda client: client.incoming_phone_numbers.create_async(**field), extra)
        return self.translate("buy_number", numbers.owned, body)

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        held = await self._numbers("list_numbers", number)
        return [self.translate("list_numbers", numbers.owned, item) for item in held]

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        return await self._set("configure_number", number, webhook_url, numbers.settings_to_write, dry_run)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        return await self._set("unconfigure_number", number, webhook_url, numbers.settings_to_clear)

    async def release_number(self, number: str) -> None:
        held = await self._numbers("release_number", number)
        if not held:
            raise self.not_held("release_number", number)
        sid = self.path_id("release_number", held[0].get("sid", ""))
        await self._ask("release_number", lambda client: client.incoming_phone_numbers(sid).delete_async())

    async def check_credential(self) -> str:
        """The Account SID, once the login was accepted and the account is active."""
        sid = self.credential.account_sid
        body = await self._ask("check_credential", lambda client: client.api.v2010.accounts(sid).fetch_async())
        if (status := body.get("status")) in ("suspended", "closed"):
            step = "See why in the Twilio console."
            raise errors.PermissionDenied(self.name, "check_credential", f"the account is {status}", next_step=step)
        if body.get("sid") != sid:
            raise errors.AuthenticationFailed(self.name, "check_credential", "these secrets belong to another account")
        return sid

    # --- calls --------------------------------------------------------------------------------------------------

    async def dial(self, request: DialRequest) -> Call:
        fields = commands.dial_fields(request, self.unsupported)
        body = await self._ask("dial", lambda client: client.calls.create_async(**fields), request.extra)
        call = self.translate("dial", call_status.call_from_rest, body)
        # Our own words for who rings whom: Twilio's From is the caller id that was shown.
        ours = {"from_": request.from_, "to": request.to, "time_limit": request.time_limit}
        return call.model_copy(update={"reference": request.reference, **ours})

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        commands.check_stream(stream, self.unsupported)
        return commands.reply(commands.connect_stream(stream))

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        return commands.reply(commands.reject("busy" if reason is EndReason.BUSY else "rejected"))

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        caller_id = call.call.line_number if call.call.from_ in commands.WITHHELD else call.call.caller_id
        return commands.reply(commands.dial(destination(to), caller_id=caller_id, status_url=status_url))

    async def hang_up(self, call_id: str) -> None:
        sid = self.path_id("hang_up", call_id)
        with self.tolerating(*OVER):
            await self._ask("hang_up", lambda client: client.calls(sid).update_async(status="completed"))

    async def fetch_call(self, call_id: str) -> Call:
        sid = self.path_id("fetch_call", call_id)
        body = await self._ask("fetch_call", lambda client: client.calls(sid).fetch_async())
        return self.translate("fetch_call", call_status.call_from_rest, body)

    async def transfer(
        self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if problem := commands.header_problem(to, headers):
            raise self.unsupported(*problem)
        sid = self.path_id("transfer", call_id)
        twiml = commands.dial(destination(to), caller_id=caller_id, status_url=status_url, headers=headers)
        await self._ask("transfer", lambda client: client.calls(sid).update_async(twiml=twiml))

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        sid = self.path_id("start_recording", call_id)
        fields = commands.recording_fields(status_url)
        body = await self._ask("start_recording", lambda client: client.calls(sid).recordings.create_async(**fields))
        return str(body.get("sid") or "")

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        sid = self.path_id("stop_recording", call_id)
        # Twilio's own word for "the one that is running".
        recording = self.path_id("stop_recording", recording_id) if recording_id else "Twilio.CURRENT"
        stop = {"status": "stopped"}
        await self._ask("stop_recording", lambda client: client.calls(sid).recordings(recording).update_async(**stop))

    async def fetch_recording(self, recording_id: str) -> bytes:
        sid = self.path_id("fetch_recording", recording_id)
        url = f"{self.base_url}/2010-04-01/Accounts/{self.credential.account_sid}/Recordings/{sid}.wav"
        how: dict[str, Any] = {"headers": {"Accept": "*/*"}, "allow_redirects": True}
        return bytes(await self._ask("fetch_recording", lambda client: client.request_async("GET", url, **how)))

    # --- how Twilio wants to be answered ------------------------------------------------------------------------

    def acknowledge(self, event: CallEvent) -> WebhookReply:
        """204, but instructions (none) where Twilio asks for some: after a ``<Dial>``, for keys, for a ringing call."""
        dialled = isinstance(event, TransferProgress) and "DialCallStatus" in event.raw
        asks = dialled or isinstance(event, IncomingCall | DigitReported)
        return commands.reply(commands.NOTHING) if asks else WebhookReply(status=204)

    def leave_ringing(self, call: IncomingCall) -> WebhookReply:
        return commands.reply(commands.ring_on())

    def refuse(self, error: errors.AnycarrierError) -> WebhookReply:
        """Busy for a call that we failed to take: a 500 would make Twilio play its own apology, and bill for it."""
        if isinstance(error, errors.SignatureInvalid | errors.MalformedMessage):
            return super().refuse(error)
        return commands.reply(commands.reject("busy"))

    _sdk: Any = None

    async def _ask(self, operation: str, work: Callable[[Any], Any], extra: Mapping[str, Any] | None = None) -> Any:
        """What Twilio answered to what ``work`` asked the SDK for."""
        if TwilioProvider._sdk is None:
            # A tenth of a second of importing, or more: not on the loop that carries everyone's audio.
            TwilioProvider._sdk = await asyncio.to_thread(importlib.import_module, "anycarrier_twilio.sdk")
        return await TwilioProvider._sdk.ask(self, operation, work, extra)

    async def _numbers(self, operation: str, number: str | None) -> list[dict[str, Any]]:
        fields = {"phone_number": e164(number)} if number else {"page_size": numbers.MAX_RESULTS}
        body = await self._ask(operation, lambda client: client.incoming_phone_numbers.list_async(**fields))
        # Twilio's filter matches parts of numbers too.
        return [one for one in body.get("incoming_phone_numbers", []) if number in (None, one.get("phone_number"))]

    async def _set(
        self, operation: str, number: str, webhook_url: str, settings_of: numbers.SettingsOf, dry_run: bool = False
    ) -> SyncResult:
        """Write those of the number's settings that ``settings_of`` names."""
        held = await self._numbers(operation, number)
        if not held:
            return SyncResult.failed(self.not_held(operation, number).message, webhook_url)
        settings = settings_of(held[0], webhook_url)
        if settings and not dry_run:
            sid = self.path_id(operation, held[0].get("sid", ""))
            await self._ask(operation, lambda client: client.incoming_phone_numbers(sid).update_async(**settings))
        # ``voice_url`` -> ``VoiceUrl``, as Twilio's console and API write it.
        changed = ["".join(map(str.title, name.split("_"))) for name in settings]
        return SyncResult.of(changed, webhook_url, dry_run=dry_run)
