"""SIP for anycarrier: the provider's contract over the calls of ``listener.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from functools import partial

from pydantic import BaseModel

from anycarrier import errors
from anycarrier.calls import Call, DialRequest, EndReason, StreamTarget
from anycarrier.events import IncomingCall, TransferProgress
from anycarrier.listener import Desk
from anycarrier.own_trunks import OwnTrunks
from anycarrier.provider import TrialPhone
from anycarrier.webhooks import WebhookReply
from anycarrier_sip.call_status import REFUSALS
from anycarrier_sip.credential import SipCredential, trial_phone
from anycarrier_sip.dialog import seconds_of
from anycarrier_sip.endpoint import Endpoint
from anycarrier_sip.frames import SipSerializer
from anycarrier_sip.invitation import Inbound
from anycarrier_sip.listener import SipListener
from anycarrier_sip.message import NameAddr, Response
from anycarrier_sip.referral import Referral, replacing
from anycarrier_sip.registration import check_login
from anycarrier_sip.settings import SipSettings

DIAL_PATIENCE = 2.0
"""Seconds that ``dial`` waits for a first word; the call goes on after them."""


class SipProvider(OwnTrunks):
    """Calls over SIP and RTP in the process itself, with one trunk, PBX or set of softphones."""

    name = "sip"
    title = "SIP"
    credential_type = SipCredential
    credential: SipCredential
    settings_type = SipSettings
    sandbox = "anycarrier_sip.sandbox:SipSandbox"
    answers_in_reply = False
    reports_transfers = True
    dials_sip = True
    attended_transfers = True
    detects_machines = False

    _listener: SipListener | None = None

    def listen(self, desk: Desk) -> SipListener:
        self._listener = SipListener(self, desk)
        return self._listener

    @property
    def listener(self) -> SipListener:
        """The listener, whether it runs or has stopped."""
        if self._listener is None:
            raise _not_started()
        return self._listener

    @classmethod
    def trial_phone(cls, settings: BaseModel | None, *, port: int, password: str) -> TrialPhone | None:
        assert settings is None or isinstance(settings, SipSettings)
        return trial_phone(settings, port, password)

    def serializer(self) -> SipSerializer:
        return SipSerializer()

    async def check_credential(self) -> str:
        """One REGISTER or OPTIONS, over the exchange's sockets, else over one for this question."""
        settings = self.desk.settings(SipSettings) if self.desk is not None else SipSettings()
        self.credential.check(settings)
        make = partial(Endpoint.open, settings)
        sockets = self.desk.shared(("sip", settings), make) if self.desk is not None else aclosing(await make())
        async with sockets as endpoint:
            return await check_login(endpoint, self.credential)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def dial(self, request: DialRequest) -> Call:
        if request.record:
            raise self.unsupported("dial", "record the session instead: SIP has nobody else to do it")
        if request.extra:
            raise self.unsupported("dial", "extra has no meaning in SIP: send headers")
        if not self.listener.running:
            raise _not_started()
        call = self.listener.place(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(DIAL_PATIENCE):
                await call.first.wait()
        if call.call.ended and call.refusal is not None:
            raise call.refusal
        return call.call

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        if not self.listener.has_ended(call.call_id):
            await self._inbound(call, "answer").take(stream)
        return WebhookReply()

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        """486, 404 or 603."""
        if not self.listener.has_ended(call.call_id):
            status, phrase = REFUSALS.get(reason, REFUSALS[EndReason.REJECTED])
            self._inbound(call, "reject").refuse(status, reason, phrase)
        return WebhookReply()

    def leave_ringing(self, call: IncomingCall) -> WebhookReply:
        self._inbound(call, "leave_ringing").ring()
        return WebhookReply()

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        """302: the caller's side rings the target itself, and we hear no more of it."""
        inbound = self._inbound(call, "forward")
        contact = NameAddr("", self.listener.uri_of(to, inbound.flow))
        event_id = f"{call.call_id}:forward"
        self.listener.desk.tell(TransferProgress(call_id=call.call_id, event_id=event_id, status="answered"))
        inbound.refuse(302, EndReason.TRANSFERRED, Contact=str(contact))
        return WebhookReply()

    async def hang_up(self, call_id: str) -> None:
        listener = self._where("hang_up", call_id)
        if not listener.has_ended(call_id):
            listener.call(call_id, "hang_up").hang_up_heard(EndReason.API_STOP)

    async def fetch_call(self, call_id: str) -> Call:
        return self._where("fetch_call", call_id).known(call_id)

    async def transfer(
        self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "",
        headers: Mapping[str, str] | None = None, replaces: str | None = None,
    ) -> None:  # fmt: skip
        """REFER. ``replaces``: the call whose far end takes this one over (attended)."""
        listener = self._where("transfer", call_id)
        call = listener.call(call_id, "transfer")
        if not call.answered:
            raise self.error("transfer", 481, message="the call is not up")
        other = listener.call(replaces, "transfer").dialog if replaces is not None else None
        target = (listener.uri_of(to, call.flow) if other is None else replacing(other)).with_headers(headers or {})
        by, _ = listener.identity(caller_id or call.call.line_number, call.flow)
        told = {"Referred-By": str(by)} | ({"Diversion": str(by)} if listener.preset.transfer_diversion else {})
        await Referral(call).ask(str(NameAddr("", target)), told)

    async def send_digits(self, call_id: str, digits: str) -> None:
        """Where the stream cannot take them: by INFO where the preset says so, else as tones."""
        await self._where("send_digits", call_id).call(call_id, "send_digits").send_digits(digits)

    def _where(self, operation: str, call_id: str) -> SipListener:
        """The listener that would have the call. A process whose sockets are not open yet has none."""
        if self._listener is None:
            raise errors.CallElsewhere(self.name, operation, call_id)
        return self._listener

    def _inbound(self, event: IncomingCall, operation: str) -> Inbound:
        call = self.listener.call(event.call_id, operation)
        assert isinstance(call, Inbound), "an incoming call is one that came in"
        return call

    # --- errors -----------------------------------------------------------------------------------------------------

    def refused(
        self, operation: str, response: Response, kind: type[errors.ProviderError] | None = None
    ) -> errors.ProviderError:
        """The error for a final response to a request of ours."""
        message, next_step = f"{response.status} {response.phrase}", None
        if response.status in (401, 407):
            kind, user = errors.AuthenticationFailed, self.credential.auth_username or self.credential.username
            message = f"the registrar refused the password of user {user}" if user else "the carrier wants a password"
            next_step = "Check username and password of the credential, and whether the carrier knows our address."
        elif response.status == 402:
            kind = errors.InsufficientFunds
        retry = seconds_of(response, "Retry-After")
        headers = {"retry-after": str(retry)} if retry is not None else None
        return self.error(
            operation, response.status, message=message, headers=headers, kind=kind, next_step=next_step
        )  # fmt: skip

    def unsent(self, why: str) -> errors.ProviderUnavailable:
        """The error where nobody could be reached."""
        return errors.ProviderUnavailable(self.name, "dial", why, sent=False)


def _not_started() -> errors.ConfigurationError:
    return errors.ConfigurationError(
        "sip works on sockets of its own, and they are not open: start the exchange (exchange.start(), or create_app "
        "does it), or see in its log why the credential's listener did not open"
    )
