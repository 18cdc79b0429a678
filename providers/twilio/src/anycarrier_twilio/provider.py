"""Twilio: Programmable Voice with instructions in the webhook's reply (TwiML) and two-way Media Streams.

Sending keys is not declared: no REST command presses one without ending the stream. Keys known beforehand go in
``DialRequest.digits``; later ones are tones in the audio we send, which is the session's business.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

from anycarrier.calls import Call, DialRequest, EndReason, StreamTarget
from anycarrier.errors import (
    AnycarrierError,
    AuthenticationFailed,
    MalformedMessage,
    NotFound,
    PermissionDenied,
    ProviderError,
    RequestRejected,
    SignatureInvalid,
    UnreadableResponse,
)
from anycarrier.events import CallEvent, DigitReported, IncomingCall, TransferProgress
from anycarrier.numbers import AvailableNumber, NumberQuery, NumberRequirement, OwnedNumber, SyncResult, e164
from anycarrier.provider import Provider
from anycarrier.redaction import mask_number
from anycarrier.sip import destination
from anycarrier.webhooks import WebhookReply, WebhookRequest
from anycarrier_twilio import call_status, commands, numbers, signature, wire
from anycarrier_twilio.credential import TwilioCredential
from anycarrier_twilio.errors import ALREADY_OVER, MEANINGS, meaning
from anycarrier_twilio.frames import TwilioSerializer

T = TypeVar("T")
SID = re.compile(r"[A-Za-z0-9_-]+")

class TwilioProvider(Provider):
    """One Twilio account."""

    name = "twilio"
    title = "Twilio"
    credential_type = TwilioCredential
    base_url = "https://api.twilio.com"
    sandbox = "anycarrier_twilio.sandbox:TwilioSandbox"
    reports_transfers: ClassVar[bool] = True
    error_types: ClassVar[Mapping[str, type[ProviderError]]] = {code: m.error for code, m in MEANINGS.items()}

    requirement_codes: ClassVar[Mapping[str, NumberRequirement]] = {
        "21631": NumberRequirement.ADDRESS,
        "21649": NumberRequirement.DOCUMENTS,
        "21651": NumberRequirement.DOCUMENTS,
    }

    credential: TwilioCredential

    # --- no I/O -------------------------------------------------------------------------------------------------

    def verify(self, request: WebhookRequest) -> None:
        signature.check(request, *self.credential.signing_tokens)

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        return wire.parse(request)

    def serializer(self) -> TwilioSerializer:
        return TwilioSerializer()

    # --- numbers ------------------------------------------------------------------------------------------------

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        fields = numbers.search_fields(query, self.unsupported)
        kind = numbers.KINDS[query.type]
        try:
            pages = await self._ask(
                "search_numbers",
                lambda client: getattr(client.available_phone_numbers(query.country), kind).list_async(**fields),
                query.extra,
            )
        except NotFound:
            # The kinds a country has are its sub-resources; a wrong account is told by 401.
            raise self.unsupported("search_numbers", f"there are no {query.type} numbers in {query.country}") from None
        offers = [item for page in pages for item in page.get("available_phone_numbers", [])]
        page = offers[query.limit * (query.page - 1) : query.limit * query.page]
        return [self._read("search_numbers", numbers.available, item, query.type) for item in page]

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber:
        """Bought at once: Twilio has no orders to wait for. Addresses and bundles go in ``extra``."""
        number = e164(number)
        bodies = await self._ask(
            "buy_number", lambda client: client.incoming_phone_numbers.create_async(phone_number=number), extra
        )
        return self._read("buy_number", numbers.owned, bodies[-1])

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        items = await self._numbers("list_numbers", number)
        return [self._read("list_numbers", numbers.owned, item) for item in items]

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        return await self._set("configure_number", number, webhook_url, numbers.settings_to_write, dry_run=dry_run)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        return await self._set("unconfigure_number", number, webhook_url, numbers.settings_to_clear)

    async def release_number(self, number: str) -> None:
        held = await self._numbers("release_number", number)
        if not held:
            raise NotFound(self.name, "release_number", self._not_held(number))
        sid = self._sid(held[0].get("sid", ""), "release_number")
        await self._ask("release_number", lambda client: client.incoming_phone_numbers(sid).delete_async())

    async def check_credential(self) -> str:
        """The Account SID, once the login was accepted and the account is active."""
        account_sid = self.credential.account_sid
        bodies = await self._ask(
            "check_credential", lambda client: client.api.v2010.accounts(account_sid).fetch_async()
        )
        body = bodies[-1]
        if body.get("status") in ("suspended", "closed"):
            raise PermissionDenied(
                self.name,
                "check_credential",
                f"the account is {body['status']}",
                next_step="See why in the Twilio console.",
            )
        if body.get("sid") != account_sid:
            raise AuthenticationFailed(self.name, "check_credential", "these secrets belong to another account")
        return account_sid

    # --- calls --------------------------------------------------------------------------------------------------

    async def dial(self, request: DialRequest) -> Call:
        self._refuse_to(commands.dial_problem(request))
        fields = commands.dial_fields(request)
        bodies = await self._ask("dial", lambda client: client.calls.create_async(**fields), request.extra)
        call = self._read("dial", call_status.call_from_rest, bodies[-1])
        # Our own words for who rings whom: Twilio's From is the caller id that was shown.
        return call.model_copy(
            update={
                "reference": request.reference,
                "from_": request.from_,
                "to": request.to,
                "time_limit": request.time_limit,
            }
        )

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        self._refuse_to(commands.stream_problem(stream))
        return commands.reply(commands.connect_stream(stream))

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        return commands.reply(commands.reject("busy" if reason is EndReason.BUSY else "rejected"))

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        caller_id = call.call.line_number if call.call.from_ in commands.WITHHELD else call.call.caller_id
        return commands.reply(commands.dial(destination(to), caller_id=caller_id, status_url=status_url))

    async def hang_up(self, call_id: str) -> None:
        sid = self._sid(call_id, "hang_up")
        try:
            await self._ask("hang_up", lambda client: client.calls(sid).update_async(status="completed"))
        except RequestRejected as refused:
            if refused.code not in ALREADY_OVER and not isinstance(refused, NotFound) and refused.status != 410:
                raise

    async def fetch_call(self, call_id: str) -> Call:
        sid = self._sid(call_id, "fetch_call")
        bodies = await self._ask("fetch_call", lambda client: client.calls(sid).fetch_async())
        return self._read("fetch_call", call_status.call_from_rest, bodies[-1])

    async def transfer(
        self,
        call_id: str,
        to: str,
        *,
        caller_id: str | None = None,
        status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._refuse_to(commands.header_problem(to, headers))
        sid = self._sid(call_id, "transfer")
        instructions = commands.dial(
            destination(to), caller_id=caller_id, status_url=status_url, headers=headers
        )
        await self._ask("transfer", lambda client: client.calls(sid).update_async(twiml=instructions))

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        sid = self._sid(call_id, "start_recording")
        fields = commands.recording_fields(status_url)
        bodies = await self._ask(
            "start_recording", lambda client: client.calls(sid).recordings.create_async(**fields)
        )
        return str(bodies[-1].get("sid") or "")

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        sid = self._sid(call_id, "stop_recording")
        # Twilio's own word for "the one that is running".
        recording = self._sid(recording_id, "stop_recording") if recording_id else "Twilio.CURRENT"
        await self._ask(
            "stop_recording",
            lambda client: client.calls(sid).recordings(recording).update_async(status="stopped"),
        )

    async def fetch_recording(self, recording_id: str) -> bytes:
        sid = self._sid(recording_id, "fetch_recording")
        path = f"/2010-04-01/Accounts/{self.credential.account_sid}/Recordings/{sid}.wav"
        sdk = await self._sdk()
        audio: bytes = await sdk.download(self, "fetch_recording", path)
        return audio

    # --- how Twilio wants to be answered ------------------------------------------------------------------------

    def acknowledge(self, event: CallEvent) -> WebhookReply:
        """204, but instructions (none) where Twilio asks for some: after a ``<Dial>``, for keys, for a ringing call."""
        asks = isinstance(event, IncomingCall | DigitReported) or (
            isinstance(event, TransferProgress) and "DialCallStatus" in event.raw
        )
        return commands.reply(commands.NOTHING) if asks else WebhookReply(status=204)

    def leave_ringing(self, call: IncomingCall) -> WebhookReply:
        return commands.reply(commands.ring_on())

    def refuse(self, error: AnycarrierError) -> WebhookReply:
        """Strangers and replays get a bare 4xx. A call of ours that we failed to take sounds busy to its caller.

        A 500 would make Twilio play its own apology, and bill for it.
        """
        if isinstance(error, SignatureInvalid | MalformedMessage):
            return super().refuse(error)
        return commands.reply(commands.reject("busy"))

    # --- errors -------------------------------------------------------------------------------------------------

    def error(
        self,
        operation: str,
        status: int | None,
        *,
        code: str | None = None,
        message: str = "",
        headers: Mapping[str, str] | None = None,
        kind: type[ProviderError] | None = None,
        next_step: str | None = None,
    ) -> ProviderError:
        found = meaning(code, status)
        kind, next_step = found or (None, None)
        return super().error(
            operation, status, code=code, message=message, headers=headers, kind=kind, next_step=next_step
        )

    # --- the parts ----------------------------------------------------------------------------------------------

    _loaded: Any = None

    async def _sdk(self) -> Any:
        if TwilioProvider._loaded is None:
            # A tenth of a second of importing, or more: not on the loop that carries everyone's audio.
            TwilioProvider._loaded = await asyncio.to_thread(importlib.import_module, "anycarrier_twilio.sdk")
        return TwilioProvider._loaded

    async def _ask(
        self, operation: str, work: Callable[[Any], Any], extra: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        sdk = await self._sdk()
        bodies: list[dict[str, Any]] = await sdk.ask(self, operation, work, extra)
        return bodies

    async def _numbers(self, operation: str, number: str | None) -> list[dict[str, Any]]:
        fields = {"phone_number": e164(number)} if number else {"page_size": numbers.MAX_RESULTS}
        pages = await self._ask(operation, lambda client: client.incoming_phone_numbers.list_async(**fields))
        items = [item for page in pages for item in page.get("incoming_phone_numbers", [])]
        # Twilio's filter matches parts of numbers too.
        return [item for item in items if number is None or item.get("phone_number") == number]

    async def _set(
        self, operation: str, number: str, webhook_url: str, settings_of: numbers.SettingsOf, *, dry_run: bool = False
    ) -> SyncResult:
        """Write those of the number's settings that ``settings_of`` names."""
        held = await self._numbers(operation, number)
        settings = settings_of(held[0], webhook_url) if held else {}
        if settings and not dry_run:
            sid = self._sid(held[0].get("sid", ""), operation)
            await self._ask(operation, lambda client: client.incoming_phone_numbers(sid).update_async(**settings))
        changed = tuple(numbers.wire_name(name) for name in settings)
        done = f"{'would write' if dry_run else 'wrote'} {', '.join(changed)}" if changed else "all was right already"
        message = done if held else self._not_held(number)
        at = datetime.now(UTC)
        return SyncResult(ok=bool(held), message=message, changed=changed, webhook_url=webhook_url, at=at)

    def _read(self, operation: str, translate: Callable[..., T], *parts: Any) -> T:
        try:
            return translate(*parts)
        except (MalformedMessage, ValueError, TypeError, AttributeError):
            raise UnreadableResponse(self.name, operation, "the answer lacks what it must have") from None

    def _sid(self, text: str, operation: str) -> str:
        """``text`` if it can be an id; it becomes part of a path, unquoted."""
        if not SID.fullmatch(text):
            raise NotFound(self.name, operation, "that is no Twilio id")
        return text

    def _not_held(self, number: str) -> str:
        return f"account {self.credential.account_sid[:6]}… does not hold {mask_number(number)}"

    def _refuse_to(self, problem: tuple[str, str] | None) -> None:
        if problem:
            raise self.unsupported(*problem)

