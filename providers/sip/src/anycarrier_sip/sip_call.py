"""One call over SIP: what both directions share, from the answer on. How a call begins is in ``invitation.py``.

Every state has a timer, so that a far end that falls silent ends its call in bounded time: an answer waits 32 s for its
ACK, a request 32 s for its response, a session ends when nobody refreshes it, and one without sound is asked whether it
is still there.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.audio import AudioFormat, dtmf_tones
from anycarrier.calls import Call, CallStatus, EndReason
from anycarrier.errors import AnycarrierError
from anycarrier.events import CallProgress, DigitReported
from anycarrier_sip import sdp, session_timer
from anycarrier_sip.call_leg import CallLeg, bare_reply
from anycarrier_sip.call_status import cause_of, reason_after_answer, words_of
from anycarrier_sip.dialog import Dialog, check_described, kind_of, options_of, unsupported
from anycarrier_sip.message import Message, Request, Response, SipError
from anycarrier_sip.referral import Referral
from anycarrier_sip.session_timer import SessionTimer
from anycarrier_sip.transaction import Flow, ServerTransaction

if TYPE_CHECKING:
    from anycarrier_sip.listener import SipListener
    from anycarrier_sip.media import RtpStream

log = logging.getLogger("anycarrier")

FAREWELL = 0.08
"""Seconds that the far end has for the last of our sound before a BYE cuts off what waits in its jitter buffer: most of
them keep 40 to 60 ms, and bring out the last packets only as others follow."""

DIGIT = re.compile(rb"(?i)\s*(?:signal\s*=\s*)?([0-9A-D*#]|1[01])\s*(?:[\r\n]|$)")


class SipCall(CallLeg):
    """A call in this process. :attr:`call` is how it stands; each change is told to the exchange."""

    def __init__(self, trunk: SipListener, call: Call, dialog: Dialog, flow: Flow | None) -> None:
        super().__init__(trunk, call.id, dialog, flow)
        self.call = call
        self.media: RtpStream | None = None
        self.answered = False
        self.ticket = ""
        self.terms: sdp.Negotiated | None = None
        """What was agreed on last."""
        self.allowed: set[str] = set()
        """The methods that the far end takes, lower case."""
        self.referral: Referral | None = None
        """The transfer under way."""
        self._serving = False

    # --- what the endpoint brings ---------------------------------------------------------------------------------

    def requested(self, tx: ServerTransaction) -> None:
        """Answer a request inside the dialog."""
        request, dialog = tx.request, self.dialog_of(tx.request)
        if request.method == "ACK":
            return self._acked(request)
        try:
            if dialog is None or (self.call.ended and request.method != "BYE"):
                raise SipError(481)
            if not dialog.in_order(request):
                raise SipError(500)
            if unsupported(request):
                raise SipError(420)
            if request.method not in METHODS:
                raise SipError(405)
            METHODS[request.method](self, tx, dialog)
        except SipError as refused:
            self.answer(tx, refused.status, refused.phrase)
        except sdp.NotAcceptable:
            self.answer(tx, 488)

    def dialog_of(self, message: Message) -> Dialog | None:
        """The dialog that a request from the far end belongs to."""
        return self.dialog if message.from_.tag == self.dialog.remote.tag else None

    # --- requests of theirs -----------------------------------------------------------------------------------------

    def _bye_came(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if not self.answered:
            raise SipError(481)
        self.answer(tx, 200)
        if self.referral is not None:
            self.referral.hung_up()
        reasons = tx.request.headers.values("Reason")
        cause = cause_of(reasons)
        self.end(reason_after_answer(cause), words=words_of("BYE", reasons), cause=cause)
        self.close()

    def _reinvited(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if self.offering:
            raise SipError(491)
        if not self.answered or self.media is None:
            raise SipError(500)
        self.settle()  # its ACK was lost: who goes on has had our answer
        timer = SessionTimer.asked(tx.request)
        body = self.describe(tx.request)
        dialog.refresh(tx.request)
        self.accept(tx, self.ok(tx, body, timer))

    def _updated(self, tx: ServerTransaction, dialog: Dialog) -> None:
        timer, body = SessionTimer.asked(tx.request), b""
        if tx.request.body:
            if self.offering:
                raise SipError(491)
            if self.media is None or not (self.answered or self.dialog.caller):
                raise SipError(500)
            body = self.describe(tx.request)
        dialog.refresh(tx.request)
        tx.respond(self.ok(tx, body, timer))

    def _pracked(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if self.insisting is None:
            raise SipError(481)
        invite, response = self.insisting
        wanted = [response.headers.get("RSeq"), *str(invite.request.cseq).split()]
        if (tx.request.headers.get("RAck") or "").split() != wanted:
            raise SipError(481)
        self.settle()
        self.answer(tx, 200)

    def _informed(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if kind_of(tx.request) in ("application/dtmf-relay", "application/dtmf"):
            if (found := DIGIT.match(tx.request.body)) is None:
                raise SipError(400)
            digit = {b"10": "*", b"11": "#"}.get(found[1], found[1].decode().upper())
            event_id = f"{self.call.id}:info:{tx.request.cseq.number}"
            self.trunk.desk.tell(DigitReported(call_id=self.call.id, event_id=event_id, digit=digit))
        elif tx.request.body:
            return self.answer(tx, 415, Accept="application/dtmf-relay")
        self.answer(tx, 200)

    def _notified(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if self.referral is None:
            raise SipError(481, "Subscription Does Not Exist")
        self.referral.notified(tx.request)
        self.answer(tx, 200)

    # --- offers and answers -----------------------------------------------------------------------------------------

    def describe(self, request: Request) -> bytes:
        """The description for our 2xx: the answer to the one in ``request``, else an offer, answered in the ACK."""
        assert self.media is not None
        if not request.body:
            self.offering = True
            return sdp.offer(self.media.local)
        check_described(request)
        body, terms = sdp.answer(request.body, self.media.local)
        self.agree(terms)
        return body

    def conclude(self, answer: bytes) -> None:
        """Take the far end's answer to our offer; where that is none, the call is hung up."""
        assert self.media is not None
        try:
            self.agree(sdp.accept(answer, self.media.local))
        except Exception as unfit:
            self.hang_up(EndReason.MEDIA_ERROR)
            if not isinstance(unfit, sdp.NotAcceptable):
                raise

    def agree(self, terms: sdp.Negotiated) -> None:
        """Send and take sound as agreed; the first time, the call's session begins."""
        assert self.media is not None
        self.terms = terms
        if not self.answered:
            return  # early media reaches no agent
        self.media.connect(terms)
        self.media.hold(terms.held)
        if not self._serving:
            self._serving = True
            self.media.on_lost = lambda: self.spawn(self._probe())
            self.spawn(self._serve(self.media))

    async def _serve(self, media: RtpStream) -> None:
        try:
            await self.trunk.desk.media(self.ticket, media)
        except AnycarrierError as refused:
            log.warning("sip call %s gets no session: %s", self.call.id, refused)
        finally:  # whatever came of it, nobody listens to a call without its session
            if self.referral is None and not self._alarms.keys() & {"farewell", "transferred"}:
                self.hang_up(EndReason.MEDIA_ERROR)

    async def _probe(self) -> None:
        """Sound stopped coming: if the far end does not answer either, it is gone."""
        response = await self.ask("OPTIONS")
        if response is None or response.status in (408, 481):
            self.hang_up(EndReason.MEDIA_ERROR)

    async def send_digits(self, digits: str) -> None:
        """As RFC 4733 where that was agreed on, else by INFO where the preset says so, else as tones."""
        terms, media = self.terms, self.media
        if terms is None or media is None:
            return
        if terms.telephone_event is not None:
            media.send_digits(digits)
        elif not self.trunk.preset.info_digits:
            media.write(dtmf_tones(digits, AudioFormat(terms.codec, 8000)))
        else:
            for digit in digits.upper():
                if digit == "W":
                    await asyncio.sleep(0.5)
                    continue
                body = f"Signal={digit}\r\nDuration=160\r\n".encode()
                response = await self.ask("INFO", {}, body, "application/dtmf-relay")
                if response is not None and response.status >= 300:
                    raise self.trunk.provider.refused("send_digits", response)

    def ok(self, tx: ServerTransaction, body: bytes, timer: SessionTimer | None) -> Response:
        """A 200 to an INVITE or UPDATE."""
        headers = {"Contact": self.contact(tx.flow)} | ({"Content-Type": "application/sdp"} if body else {})
        response = bare_reply(tx.request, 200, None, self.dialog.local_tag, headers)
        response.body = body
        if timer is not None:
            timer.grant(response)
        self.allowed |= options_of(tx.request, "Allow")
        session_timer.keep(self, timer)
        return response

    def accept(self, tx: ServerTransaction, response: Response) -> None:
        """Send a 2xx to an INVITE, again and again until its ACK comes."""
        self.settled.clear()
        self.insist(tx, response, self._never_acked)

    def _acked(self, request: Request) -> None:
        if self.settled.is_set() or self.insisting is None:
            return
        if request.cseq.number == self.insisting[0].request.cseq.number:
            offering = self.offering
            self.settle()
            if offering and not self.call.ended:
                self.conclude(request.body)

    def _never_acked(self) -> None:
        self.settle()
        self.hang_up(EndReason.MEDIA_ERROR)

    # --- the end ----------------------------------------------------------------------------------------------------

    def hang_up(self, reason: EndReason) -> None:
        """End the call from our side at once, however far it has come."""
        if not self.call.ended:
            self.end(reason)
            self.spawn(self.say_bye())

    def hang_up_heard(self, reason: EndReason) -> None:
        """The same once the far end has heard what we said; silence is sent meanwhile."""
        if self.media is None or not self.media.sounding or self.call.ended:
            self.hang_up(reason)
        elif "farewell" not in self._alarms:
            self.alarm("farewell", FAREWELL, lambda: self.hang_up(reason))

    def replaced(self, tx: ServerTransaction, dialog: Dialog) -> None:
        """Go on with whom this INVITE came from in place of the far end (RFC 3891): the agent's session stays."""
        timer = SessionTimer.asked(tx.request)
        self.settle()
        body = self.describe(tx.request)
        assert self.flow is not None
        before = CallLeg(self.trunk, self.call.id, self.dialog, self.flow)
        before.attach(self.flow)
        before.spawn(before.say_bye())
        self.dialog, self._reached = dialog, ""
        self.attach(tx.flow)
        self.accept(tx, self.ok(tx, body, timer))

    def move(self, status: CallStatus, **change: Any) -> None:
        """Note how far the call has come, and tell."""
        if status.rank > self.call.status.rank:
            self.call = self.call.model_copy(update={"raw": self.raw(), **change, "status": status})
            self.tell()

    def tell(self) -> None:
        """Tell the exchange how far the call has come."""
        call, event_id = self.call, f"{self.call.id}:{self.call.status.value}"
        progress = CallProgress(call=call, call_id=call.id, reference=call.reference, event_id=event_id, raw=call.raw)
        self.trunk.desk.tell(progress)

    def end(
        self, reason: EndReason, *, status: int | None = None, words: str | None = None, cause: int | None = None
    ) -> None:
        """The call is over; what is still said on the wire changes nothing."""
        if self.call.ended:
            return
        self.stop(*(self._alarms.keys() - {"again", "patience"}))
        told = {"reason": reason, "sip_code": status, "carrier_status": words, "raw": self.raw(cause)}
        self.move(CallStatus.ENDED, ended_at=datetime.now(UTC), **told)
        if self.media is not None:
            self.media.stop(reason.value)
        self.trunk.over(self)

    def raw(self, cause: int | None = None) -> dict[str, Any]:
        """What only SIP knows of the call."""
        dialog, flow = self.dialog, self.flow
        return {
            "call_id": dialog.call_id,
            "local_tag": dialog.local.tag,
            "remote_tag": dialog.remote.tag,
            "peer": f"{flow.transport}:{flow.remote[0]}:{flow.remote[1]}" if flow is not None else None,
            **({"cause": cause} if cause is not None else {}),
        }

    def close(self) -> None:
        super().close()
        if self.media is not None:
            self.media.stop()


METHODS: Mapping[str, Callable[[SipCall, ServerTransaction, Dialog], None]] = {
    "BYE": lambda call, tx, dialog: call._bye_came(tx, dialog),
    "INVITE": SipCall._reinvited,
    "UPDATE": SipCall._updated,
    "PRACK": SipCall._pracked,
    "INFO": SipCall._informed,
    "NOTIFY": SipCall._notified,
    "OPTIONS": lambda call, tx, dialog: call.answer(tx, 200),
    # A caller must not have us dial (P3).
    "REFER": lambda call, tx, dialog: call.answer(tx, 603, "Decline"),
}
"""What is done about a request inside a dialog."""
