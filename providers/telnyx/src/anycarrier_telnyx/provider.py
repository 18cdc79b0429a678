"""Telnyx behind anycarrier's contract. Webhooks only tell; everything is done by REST commands."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import uuid4

from anycarrier import errors
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, StreamTarget
from anycarrier.credentials import Credential
from anycarrier.events import CallEvent, IncomingCall
from anycarrier.parsing import moment
from anycarrier.rest import given
from anycarrier.serializer import MediaSerializer
from anycarrier.webhooks import WebhookReply, WebhookRequest
from anycarrier_telnyx import commands
from anycarrier_telnyx.credential import TelnyxCredential
from anycarrier_telnyx.errors import CALL_ENDED, NOT_ANSWERED_YET, already_answered, call_is_gone
from anycarrier_telnyx.frames import TelnyxSerializer
from anycarrier_telnyx.numbers import TelnyxNumbers
from anycarrier_telnyx.sdk import Row
from anycarrier_telnyx.wire import parse_event, verify_signature

STREAM_PATIENCE = 5.0
"""Seconds in which a call that we answered must take its stream."""
STREAM_RETRY = 0.2
"""Seconds between two attempts to start it."""


class TelnyxProvider(TelnyxNumbers):
    """Telnyx, API v2 with Call Control."""

    name: ClassVar[str] = "telnyx"
    credential_type: ClassVar[type[Credential]] = TelnyxCredential
    sandbox: ClassVar[str] = "anycarrier_telnyx.sandbox:TelnyxSandbox"
    answers_in_reply: ClassVar[bool] = False
    reports_ringing: ClassVar[bool] = False  # there is no call.ringing webhook
    reports_transfers: ClassVar[bool] = True

    clock: Callable[[], float] = staticmethod(time.time)
    """Unix seconds, for the age of webhooks."""

    @cached_property
    def _connections(self) -> dict[str, str]:
        return {}  # by webhook URL

    def verify(self, request: WebhookRequest) -> None:
        verify_signature(request, self.credential.public_key, self.clock())

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        return parse_event(request)

    def serializer(self) -> MediaSerializer:
        return TelnyxSerializer()

    async def check_credential(self) -> str:
        """The application's name when the credential has a connection, else "Telnyx": the API tells no account name."""
        if connection := self.credential.connection_id:
            found = await self.record("check_credential", "call_control_applications.retrieve", connection)
            return str(found.get("application_name") or self.title)
        await self.do("check_credential", "balance.retrieve")
        return self.title

    # --- calls ------------------------------------------------------------------------------------------------------

    async def dial(self, request: DialRequest) -> Call:
        self.require_format("dial", request.stream, *commands.FORMATS)
        connection = self.credential.connection_id or await self._connection(request.status_url)
        command = commands.dial(request, connection, request.reference or uuid4().hex)
        made = await self.record("dial", "calls.dial", **command, extra_body=dict(request.extra))
        if not isinstance(made.get("call_control_id"), str):
            raise self.unreadable("dial", "no call_control_id in the answer", status=200)
        told: dict[str, Any] = {"from_": request.from_, "to": request.to, "reference": request.reference}
        return self._call(made, made["call_control_id"], time_limit=request.time_limit, **told)

    async def _connection(self, status_url: str) -> str:
        """The application that ``configure_number`` made for this webhook URL."""
        webhook_url = urlunsplit((*urlsplit(status_url)[:3], "", ""))
        if webhook_url not in self._connections:
            found = await self._ours(webhook_url, "find_connection")  # not "dial": nothing has been dialled yet
            if found is None or not found.get("id"):
                raise errors.ConfigurationError(
                    "telnyx cannot dial without a connection: give the credential a connection_id, "
                    "or put a number of it into service, which makes one"
                )
            self._connections[webhook_url] = str(found["id"])
        return self._connections[webhook_url]

    async def fetch_call(self, call_id: str) -> Call:
        """Telnyx knows a call until 10 minutes after its end, and tells neither its numbers nor if it was answered.

        ``INITIATED`` therefore stands for "not over".
        """
        try:
            found = await self.record("fetch_call", "calls.retrieve_status", call_id)
        except errors.RequestRejected as refusal:
            if refusal.status != 422 or isinstance(refusal, errors.NotFound):
                raise
            # An unknown call is 422 here, not 404.
            raise errors.NotFound(self.name, "fetch_call", refusal.message, status=422, code=refusal.code) from None
        state = commands.read_client_state(found.get("client_state"))
        return self._call(
            found, str(found.get("call_control_id") or call_id), direction=state.direction, reference=state.reference
        )

    def _call(self, record: Row, call_id: str, *, direction: Direction | None = None, **told: Any) -> Call:
        ended_at = moment(record.get("end_time"))
        return Call(
            id=call_id, provider=self.name, direction=direction or Direction.OUTBOUND, ended_at=ended_at, raw=record,
            status=CallStatus.ENDED if ended_at else CallStatus.INITIATED, created_at=moment(record.get("start_time")),
            **{"from_": "", "to": "", **told},
        )  # fmt: skip

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        self.require_format("answer", stream, *commands.FORMATS)
        state = commands.client_state(stream, call.reference or call.call.reference, Direction.INBOUND)
        media = commands.stream(stream)
        apart = commands.RATE in media  # the answer command has no field for the rate
        try:
            now = {} if apart else media
            await self.command("answer", "answer", call.call_id, client_state=state, once="answer", **now)
        except errors.ProviderError as refusal:
            # Over already: the caller gave up, and call.hangup says so. Answered already: a webhook came twice.
            if refusal.code == CALL_ENDED:
                return WebhookReply()
            if not already_answered(refusal):
                raise
        if apart:
            await self._start_stream(call.call_id, client_state=state, **media)
        return WebhookReply()

    async def _start_stream(self, call_id: str, **command: Any) -> None:
        """Start the stream of a call that is being answered: not before Telnyx has seen to that.

        A call without its stream would be silence to the caller: it is hung up when this fails.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + STREAM_PATIENCE
        while True:
            try:
                await self.command("answer", "start_streaming", call_id, once="stream", **command)
                return
            except errors.ProviderError as refusal:
                if call_is_gone(refusal):
                    return
                passing = isinstance(refusal, errors.ProviderUnavailable | errors.RateLimited)
                if not (passing or refusal.code == NOT_ANSWERED_YET) or clock() > until:
                    with contextlib.suppress(errors.ProviderError):
                        await self.hang_up(call_id)
                    raise
            await asyncio.sleep(STREAM_RETRY)

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        cause = "USER_BUSY" if reason is EndReason.BUSY else "CALL_REJECTED"
        await self.unless_over("reject", "reject", call.call_id, cause=cause, once="reject")
        return WebhookReply()

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        """``status_url`` is not sent: what becomes of the call is told where the call was told."""
        command = commands.transfer(call.call_id, to, call.reference or call.call.reference, call.call.caller_id)
        await self.command("forward", "transfer", call.call_id, once=f"forward {to}", **command)
        return WebhookReply()

    async def hang_up(self, call_id: str) -> None:
        await self.unless_over("hang_up", "hangup", call_id, once="hangup")

    async def transfer(
        self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        reference = parse_qs(urlsplit(status_url).query).get("ref", [""])[0]
        told = given({"webhook_url": status_url, "custom_headers": commands.custom_headers(headers or {})})
        await self.command(
            "transfer", "transfer", call_id, **commands.transfer(call_id, to, reference, caller_id), **told
        )

    async def send_digits(self, call_id: str, digits: str) -> None:
        await self.command("send_digits", "send_dtmf", call_id, digits=digits.translate(commands.KEYS))

    # --- recordings -------------------------------------------------------------------------------------------------

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        """``status_url`` is not sent: Telnyx tells about recordings where it tells about the call."""
        action, form = "calls.actions.start_recording", {"format": "wav", "channels": "dual"}
        answer = await self.record("start_recording", action, call_id, command_id=uuid4().hex, **form)
        return str(answer.get("recording_id") or "")

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        which = {"recording_id": recording_id} if recording_id else {}
        await self.unless_over("stop_recording", "stop_recording", call_id, **which)

    async def fetch_recording(self, recording_id: str) -> bytes:
        """The recording as WAV; ``NotFound`` when it was made as MP3 only. Its links are valid for ten minutes."""
        record = await self.record("fetch_recording", "recordings.retrieve", recording_id)
        urls = record.get("download_urls")
        url = urls.get("wav") if isinstance(urls, Mapping) else None
        if not isinstance(url, str):
            raise errors.NotFound(self.name, "fetch_recording", "it has no WAV file", next_step="Record as wav.")
        return await self.download(url, operation="fetch_recording")
