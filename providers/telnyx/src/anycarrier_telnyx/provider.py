"""Telnyx behind anycarrier's contract. Webhooks only tell; everything is done by REST commands."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit, urlunsplit
from uuid import NAMESPACE_URL, uuid4, uuid5

from anycarrier.calls import Call, DialRequest, EndReason, StreamTarget
from anycarrier.credentials import Credential
from anycarrier.errors import (
    ConfigurationError,
    NotFound,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UnreadableResponse,
)
from anycarrier.events import CallEvent, IncomingCall
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber, PendingOrder, SyncResult
from anycarrier.provider import Provider
from anycarrier.serializer import MediaSerializer
from anycarrier.webhooks import WebhookReply, WebhookRequest
from anycarrier_telnyx import applications, commands, numbers
from anycarrier_telnyx.call_status import dialled_call, fetched_call
from anycarrier_telnyx.credential import TelnyxCredential
from anycarrier_telnyx.errors import (
    CALL_ENDED,
    ERROR_TYPES,
    NOT_ANSWERED_YET,
    already_answered,
    call_is_gone,
    meaning,
    read_errors,
)
from anycarrier_telnyx.frames import TelnyxSerializer
from anycarrier_telnyx.numbers import Inventory
from anycarrier_telnyx.sdk import Sdk
from anycarrier_telnyx.signature import verify_signature
from anycarrier_telnyx.wire import parse_event

if TYPE_CHECKING:
    import httpx


STREAM_PATIENCE = 5.0
"""Seconds in which a call that we answered must take its stream."""
STREAM_RETRY = 0.2
"""Seconds between two attempts to start it."""


class TelnyxProvider(Provider):
    """Telnyx, API v2 with Call Control."""

    name: ClassVar[str] = "telnyx"
    credential_type: ClassVar[type[Credential]] = TelnyxCredential
    base_url: ClassVar[str] = "https://api.telnyx.com/v2"
    sandbox: ClassVar[str] = "anycarrier_telnyx.sandbox:TelnyxSandbox"
    answers_in_reply: ClassVar[bool] = False
    reports_ringing: ClassVar[bool] = False  # there is no call.ringing webhook
    reports_transfers: ClassVar[bool] = True
    error_types: ClassVar[Mapping[str, type[ProviderError]]] = ERROR_TYPES

    credential: TelnyxCredential

    def __init__(
        self,
        credential: TelnyxCredential,
        http: httpx.AsyncClient | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` gives Unix seconds, for the age of webhooks."""
        super().__init__(credential, http)
        self.clock = clock
        self._sdk = Sdk(self, credential.api_key.get_secret_value(), credential.base_url or self.base_url)
        self._inventory = Inventory(self._sdk, credential.connection_id)
        self._connections: dict[str, str] = {}

    # --- no I/O -----------------------------------------------------------------------------------------------------

    def verify(self, request: WebhookRequest) -> None:
        verify_signature(request, self.credential.public_key, self.clock())

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        return parse_event(request)

    def serializer(self) -> MediaSerializer:
        return TelnyxSerializer()

    # --- numbers ----------------------------------------------------------------------------------------------------

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        if query.contains and numbers.pattern(query.contains) is None:
            raise self.unsupported("search_numbers", "a pattern with * inside or a +; use country and area_code")
        body = await self.request(
            "GET",
            "/available_phone_numbers",
            operation="search_numbers",
            params=numbers.search_filter(query),
            extra=query.extra,
        )
        rows = self._sdk.members(body, "search_numbers")
        offers = [offer for row in rows if (offer := numbers.offered(row, query))]
        return offers[(query.page - 1) * query.limit :][: query.limit]

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber | PendingOrder:
        return await self._inventory.buy(number, timeout, extra)

    async def fetch_order(self, order_id: str) -> OwnedNumber | PendingOrder:
        return await self._inventory.fetch_order(order_id)

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        return await self._inventory.list(number, "list_numbers")

    async def release_number(self, number: str) -> None:
        await self._inventory.release(number)

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        at = datetime.fromtimestamp(self.clock(), UTC)
        return await self._inventory.configure(number, webhook_url, dry_run=dry_run, at=at)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        at = datetime.fromtimestamp(self.clock(), UTC)
        return await self._inventory.unconfigure(number, webhook_url, at=at)

    async def check_credential(self) -> str:
        """The application's name when the credential has a connection, else "Telnyx": the API tells no account name."""
        connection = self.credential.connection_id
        if connection is None:
            await self._sdk.ask("check_credential", lambda telnyx: telnyx.balance.with_raw_response.retrieve())
            return self.title
        found = await self._sdk.record(
            "check_credential",
            lambda telnyx: telnyx.call_control_applications.with_raw_response.retrieve(connection),
        )
        return str(found.get("application_name") or self.title)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def dial(self, request: DialRequest) -> Call:
        if problem := commands.stream_problem(request.stream):
            raise self.unsupported("dial", problem)
        try:
            connection = self.credential.connection_id or await self._connection(request.status_url)
        except ProviderUnavailable as unanswered:
            # Only the application was asked for: nothing has been dialled.
            raise type(unanswered)(
                self.name, "dial", unanswered.message, status=unanswered.status, code=unanswered.code, sent=False
            ) from unanswered
        command = commands.dial(request, connection, request.reference or uuid4().hex)
        made = await self._sdk.record(
            "dial", lambda telnyx: telnyx.calls.with_raw_response.dial(**command, extra_body=dict(request.extra))
        )
        if not isinstance(made.get("call_control_id"), str):
            raise UnreadableResponse(self.name, "dial", "no call_control_id in the answer", status=200)
        return dialled_call(made, request)

    async def _connection(self, status_url: str) -> str:
        """The application that ``configure_number`` made for this webhook URL."""
        parts = urlsplit(status_url)
        webhook_url = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        if webhook_url not in self._connections:
            found = await applications.find(self._sdk, webhook_url, "dial")
            if found is None or not found.get("id"):
                raise ConfigurationError(
                    "telnyx cannot dial without a connection: give the credential a connection_id, "
                    "or put a number of it into service, which makes one"
                )
            self._connections[webhook_url] = str(found["id"])
        return self._connections[webhook_url]

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        if problem := commands.stream_problem(stream):
            raise self.unsupported("answer", problem)
        reference = call.reference or call.call.reference
        command = commands.answer(stream, reference, self._once(call.call_id, "answer"))
        try:
            await self._sdk.ask(
                "answer", lambda telnyx: telnyx.calls.actions.with_raw_response.answer(call.call_id, **command)
            )
        except ProviderError as refusal:
            # Over already: the caller gave up, and call.hangup says so. Answered already: a webhook came twice.
            if refusal.code == CALL_ENDED:
                return WebhookReply()
            if not already_answered(refusal.code, refusal.message):
                raise
        if commands.needs_rate(stream):
            await self._start_stream(call.call_id, stream, reference)
        return WebhookReply()

    async def _start_stream(self, call_id: str, stream: StreamTarget, reference: str) -> None:
        """Start the stream of a call that is being answered: not before Telnyx has seen to that.

        A call without its stream would be silence to the caller: it is hung up when this fails.
        """
        command = commands.start_stream(stream, reference, self._once(call_id, "stream"))
        clock = asyncio.get_running_loop().time
        until = clock() + STREAM_PATIENCE
        while True:
            try:
                await self._sdk.ask(
                    "answer", lambda telnyx: telnyx.calls.actions.with_raw_response.start_streaming(call_id, **command)
                )
                return
            except ProviderError as refusal:
                if call_is_gone(refusal):
                    return
                passing = refusal.code == NOT_ANSWERED_YET or isinstance(refusal, ProviderUnavailable | RateLimited)
                if not passing or clock() > until:
                    with contextlib.suppress(ProviderError):
                        await self.hang_up(call_id)
                    raise
            await asyncio.sleep(STREAM_RETRY)

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        command = {
            "cause": "USER_BUSY" if reason is EndReason.BUSY else "CALL_REJECTED",
            "command_id": self._once(call.call_id, "reject"),
        }
        await self._unless_over(
            "reject", lambda telnyx: telnyx.calls.actions.with_raw_response.reject(call.call_id, **command)
        )
        return WebhookReply()

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        reference = call.reference or call.call.reference
        command = commands.transfer(
            to, self._once(call.call_id, f"forward {to}"), transfer_of=call.call_id, reference=reference
        )
        if caller_id := call.call.caller_id:
            command["from_"] = caller_id
        await self._sdk.ask(
            "forward", lambda telnyx: telnyx.calls.actions.with_raw_response.transfer(call.call_id, **command)
        )
        return WebhookReply()

    async def hang_up(self, call_id: str) -> None:
        command = {"command_id": self._once(call_id, "hangup")}
        await self._unless_over(
            "hang_up", lambda telnyx: telnyx.calls.actions.with_raw_response.hangup(call_id, **command)
        )

    async def fetch_call(self, call_id: str) -> Call:
        """Telnyx knows a call until 10 minutes after its end, and tells neither its numbers nor if it was answered."""
        try:
            found = await self._sdk.record(
                "fetch_call", lambda telnyx: telnyx.calls.with_raw_response.retrieve_status(call_id)
            )
        except RequestRejected as refusal:
            if refusal.status != 422 or isinstance(refusal, NotFound):
                raise
            # An unknown call is 422 here, not 404.
            raise NotFound(self.name, "fetch_call", refusal.message, status=422, code=refusal.code) from None
        return fetched_call(found, call_id)

    async def transfer(
        self,
        call_id: str,
        to: str,
        *,
        caller_id: str | None = None,
        status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        command = commands.transfer(to, uuid4().hex, transfer_of=call_id, status_url=status_url)
        if headers:
            command["custom_headers"] = commands.custom_headers(headers)
        if caller_id:
            command["from_"] = caller_id
        await self._sdk.ask(
            "transfer", lambda telnyx: telnyx.calls.actions.with_raw_response.transfer(call_id, **command)
        )

    async def send_digits(self, call_id: str, digits: str) -> None:
        command = commands.digits(digits, uuid4().hex)
        await self._sdk.ask(
            "send_digits", lambda telnyx: telnyx.calls.actions.with_raw_response.send_dtmf(call_id, **command)
        )

    # --- recordings -------------------------------------------------------------------------------------------------

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        """``status_url`` is not sent: Telnyx tells about recordings where it tells about the call."""
        answer = await self._sdk.record(
            "start_recording",
            lambda telnyx: telnyx.calls.actions.with_raw_response.start_recording(
                call_id, format="wav", channels="dual", command_id=uuid4().hex
            ),
        )
        return str(answer.get("recording_id") or "")

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        which = {"recording_id": recording_id} if recording_id else {}
        await self._unless_over(
            "stop_recording",
            lambda telnyx: telnyx.calls.actions.with_raw_response.stop_recording(
                call_id, command_id=uuid4().hex, **which
            ),
        )

    async def fetch_recording(self, recording_id: str) -> bytes:
        """The recording as WAV; ``NotFound`` when it was made as MP3 only. Its links are valid for ten minutes."""
        record = await self._sdk.record(
            "fetch_recording", lambda telnyx: telnyx.recordings.with_raw_response.retrieve(recording_id)
        )
        urls = record.get("download_urls")
        url = urls.get("wav") if isinstance(urls, Mapping) else None
        if not isinstance(url, str):
            raise NotFound(self.name, "fetch_recording", "the recording has no WAV file", next_step="Record as wav.")
        return await self._sdk.download("fetch_recording", url)

    # --- how Telnyx is asked, and how it refuses ----------------------------------------------------------------------

    async def _unless_over(self, operation: str, command: Callable[..., Any]) -> None:
        """A command that a call which is over already has no need of."""
        try:
            await self._sdk.ask(operation, command)
        except ProviderError as refusal:
            if not call_is_gone(refusal):
                raise

    @staticmethod
    def _once(call_id: str, what: str) -> str:
        """The same id for the same act on the same call: Telnyx ignores the second command."""
        name = f"anycarrier:{call_id}:{what}".encode(errors="backslashreplace").decode()
        return uuid5(NAMESPACE_URL, name).hex

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.credential.api_key.get_secret_value()}"}

    def error_detail(self, body: Any) -> tuple[str | None, str]:
        return read_errors(body)

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
        kind, advice = meaning(code, message, status)
        if status == 408:
            kind, advice = ProviderUnavailable, None
        return super().error(
            operation, status, code=code, message=message, headers=headers, kind=kind, next_step=advice
        )

    def retry_after(self, headers: Mapping[str, str]) -> float | None:
        try:
            return max(0.0, float(headers.get("x-ratelimit-reset", "")))
        except ValueError:
            return super().retry_after(headers)
