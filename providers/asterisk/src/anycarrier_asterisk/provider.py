"""Asterisk: the provider's contract over ARI. Its events come by ``listener.py``, its calls are in ``call.py``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from anycarrier import errors
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, StreamTarget
from anycarrier.events import IncomingCall
from anycarrier.listener import Desk
from anycarrier.numbers import e164
from anycarrier.own_trunks import OwnTrunks
from anycarrier.provider import TicketPlace
from anycarrier.webhooks import WebhookReply
from anycarrier_asterisk.call import AsteriskCall
from anycarrier_asterisk.call_status import DECLINED, STATES
from anycarrier_asterisk.credential import AsteriskCredential
from anycarrier_asterisk.frames import NAMES, AsteriskSerializer
from anycarrier_asterisk.listener import AsteriskListener

DIAL_PATIENCE = 2.0  # seconds that ``dial`` waits for a first word; the call goes on after them


class AsteriskProvider(OwnTrunks):
    """An Asterisk server, and one application of its Stasis."""

    name = "asterisk"
    credential_type = AsteriskCredential
    credential: AsteriskCredential
    sandbox = "anycarrier_asterisk.sandbox:AsteriskSandbox"
    answers_in_reply = detects_machines = False
    reports_transfers = True
    ticket_place = TicketPlace.QUERY
    listener: AsteriskListener | None = None

    def listen(self, desk: Desk) -> AsteriskListener:
        self.listener = AsteriskListener(self, desk)
        return self.listener

    def auth(self) -> tuple[str, str]:
        return self.credential.username, self.credential.password.get_secret_value()

    async def ari(self, operation: str, method: str, *path: str, **request: Any) -> Any:
        below = "/".join(quote(part, safe="") for part in path)
        return await self.request(method, f"/ari/{below}", operation=operation, **request)

    def serializer(self) -> AsteriskSerializer:
        return AsteriskSerializer()

    async def check_credential(self) -> str:
        await self.ari("check_credential", "GET", "asterisk", "info", params={"only": "system"})
        return self.credential.account

    async def dial(self, request: DialRequest) -> Call:
        self.require_format("dial", request.stream, *NAMES)
        if (listener := self.listener) is None or not listener.connected:  # why, Asterisk says, if it is asked
            await self.ari("dial", "GET", "asterisk", "info", params={"only": "system"})
            raise errors.ProviderUnavailable("asterisk", "dial", "the event socket is not open", sent=False)
        call = AsteriskCall(listener, Call(
            id=f"{listener.prefix}call.{secrets.token_hex(12)}", provider=self.name, direction=Direction.OUTBOUND,
            from_=request.from_, to=request.to, status=CallStatus.INITIATED, reference=request.reference,
            created_at=datetime.now(UTC),
        ), request)  # fmt: skip
        told = (request.timeout, f"out,{request.reference}", request.headers, request.extra)
        try:
            await self.originate("dial", call.id, request.to, request.caller_id or request.from_, *told)
        except errors.AnycarrierError as failed:
            if isinstance(failed, errors.ProviderUnavailable) and failed.sent:  # it may ring, or a look tells not
                listener.desk.spawn(listener.compare(set()), "ask asterisk for its calls")
            else:
                listener.calls.pop(call.id, None)
            raise
        finally:
            call.placed = True
        if not call.first.is_set():
            listener.desk.tell(call.news(CallStatus.INITIATED, {}))
        with suppress(TimeoutError):
            async with asyncio.timeout(DIAL_PATIENCE):
                await call.first.wait()
        if call.refusal is not None:
            raise call.refusal
        return call.call

    async def originate(
        self, operation: str, name: str, to: str, shown: str, timeout: float, args: str, headers: Mapping[str, str],
        extra: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """A channel that rings ``to``, and comes to our application once it is answered."""
        endpoint = self.credential.endpoint.replace("{number}", e164(to)).replace("{digits}", to.removeprefix("+"))
        if headers and not endpoint.startswith("PJSIP/"):
            raise self.unsupported(operation, "headers are sent on PJSIP endpoints only")
        added = {f"PJSIP_HEADER(add,{header})": value for header, value in headers.items()}
        body = {
            "channelId": name, "endpoint": endpoint, "app": self.credential.app, "appArgs": args, "callerId": shown,
            "timeout": max(1, round(timeout)), **({"variables": added} if added else {}),
        }  # fmt: skip
        await self.ari(operation, "POST", "channels", json=body, extra=extra)

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        self.require_format("answer", stream, *NAMES)
        await self._here("answer", call.call_id).take(stream, "answer")
        return WebhookReply()

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        await self._here("reject", call.call_id).hang_up("reject", DECLINED.get(reason, "rejected"))
        return WebhookReply()

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        await self._here("forward", call.call_id).send_on("forward", to, call.call.caller_id or call.call.from_, {})
        return WebhookReply()

    async def hang_up(self, call_id: str) -> None:
        await self._here("hang_up", call_id).hang_up()

    async def fetch_call(self, call_id: str) -> Call:  # Asterisk forgets a call with its end; here it is known a while
        here = self._here("fetch_call", call_id)
        try:
            if not here.over.is_set():
                channel = await self.ari("fetch_call", "GET", "channels", call_id)
                status = STATES.get(str(channel.get("state")), CallStatus.INITIATED)
                return here.call.model_copy(update={"status": status, "raw": channel})
        except errors.NotFound:
            here.left()
            await here.over.wait()
        return here.call

    async def transfer(
        self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        here = self._here("transfer", call_id)
        await here.send_on("transfer", to, caller_id or here.call.line_number, headers or {})

    async def send_digits(self, call_id: str, digits: str) -> None:
        await self._here("send_digits", call_id).send_digits(digits, "send_digits")

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        return await self._here("start_recording", call_id).record("start_recording")

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        name = recording_id or self._here("stop_recording", call_id).recording
        with self.tolerating(404):  # it ends with the bridge
            await self.ari("stop_recording", "POST", "recordings", "live", name, "stop")

    async def fetch_recording(self, recording_id: str) -> bytes:
        path = f"/ari/recordings/stored/{quote(recording_id, safe='')}/file"
        return await self.download(path, operation="fetch_recording", login=True)

    def _here(self, operation: str, call_id: str) -> AsteriskCall:  # also for a while after its end
        if self.listener is not None and (call := self.listener.calls.get(call_id) or self.listener.ended.get(call_id)):
            return call
        raise errors.CallElsewhere(self.name, operation, call_id)
