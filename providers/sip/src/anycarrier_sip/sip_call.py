"""One call over SIP: what both directions share, from the answer on. How a call begins is in ``invitation.py``.

Every state has a timer, so that a far end that falls silent ends its call in bounded time: an answer waits 32 s for its
ACK, a request 32 s for its response, a session ends when nobody refreshes it, and one without sound is asked whether it
is still there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.calls import Call, CallStatus, EndReason
from anycarrier.errors import AnycarrierError
from anycarrier.events import DigitReported
from anycarrier_sip import sdp
from anycarrier_sip.call_status import cause_of, reason_after_answer, words_of
from anycarrier_sip.dialog import (
    ALLOW,
    MIN_SE,
    SUPPORTED,
    Dialog,
    SessionTimer,
    acknowledges,
    options_of,
)
from anycarrier_sip.header_values import parameters_of
from anycarrier_sip.message import Message, Request, Response, SipError, reply
from anycarrier_sip.referral import Referral
from anycarrier_sip.session_refresh import Refresher
from anycarrier_sip.transaction import PATIENCE, T1, T2, Flow, ServerTransaction

if TYPE_CHECKING:
    from anycarrier_sip.listener import SipListener
    from anycarrier_sip.media import RtpStream

log = logging.getLogger("anycarrier")

FAREWELL = 0.08
"""Seconds that the far end has for the last of our sound before a BYE cuts off what waits in its jitter buffer: most of
them keep 40 to 60 ms, and bring out the last packets only as others follow."""

DIGIT = re.compile(rb"(?i)\s*(?:signal\s*=\s*)?([0-9A-D*#]|1[01])\s*(?:[\r\n]|$)")


class SipCall:
    """A call in this process. :attr:`call` is how it stands; each change is told to the exchange."""

    def __init__(self, trunk: SipListener, call: Call, flow: Flow | None) -> None:
        self.trunk = trunk
        self.endpoint = trunk.endpoint
        self.call = call
        self.dialog: Dialog
        self.media: RtpStream | None = None
        self.answered = False
        self._flow = flow
        self._reached = ""
        """The next hop that :attr:`_flow` leads to, where that is not whom the first message came from."""
        self._ticket = ""
        self._serving = False
        self.offering = False
        """An offer of ours waits for its answer."""
        self.terms: sdp.Negotiated | None = None
        """What was agreed on last."""
        self._unacked: tuple[ServerTransaction, Response] | None = None
        self.settled = asyncio.Event()
        """No 2xx of ours waits for its ACK: only then may we hang up (RFC 3261, 15)."""
        self.settled.set()
        self._reliable: tuple[ServerTransaction, int] | None = None
        self.allowed: set[str] = set()
        self.referral: Referral | None = None
        """The transfer under way."""
        self._addresses = {flow.remote[0]} if flow is not None else set[str]()
        self._alarms: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def refresher(self) -> Refresher:
        """Keeps the session alive. Made when it is asked for: a call refers to nothing that refers to the call, so that
        it is gone as it is over, and not with the next garbage collection."""
        return Refresher(self)

    # --- what the endpoint brings ---------------------------------------------------------------------------------

    def peer_allowed(self, flow: Flow) -> bool:
        """Whether requests inside the call's dialogs may come from there: only from its peer, or its carrier (P5)."""
        return flow.remote[0] in self._addresses or self.trunk.is_peer(flow)

    def requested(self, tx: ServerTransaction) -> None:
        """Answer a request inside the dialog."""
        request, dialog = tx.request, self.dialog_of(tx.request)
        if request.method == "ACK":
            return self._acked(request)
        if dialog is None or (self.call.ended and request.method != "BYE"):
            return self.answer(tx, 481)
        if not dialog.in_order(request):
            return self.answer(tx, 500)
        if options_of(request, "Require") - set(SUPPORTED):
            return self.answer(tx, 420)
        act = METHODS.get(request.method)
        if act is None:
            return self.answer(tx, 405)
        try:
            act(self, tx, dialog)
        except SipError as refused:
            self.answer(tx, refused.status, refused.phrase)
        except sdp.NotAcceptable:
            self.answer(tx, 488)

    def stray(self, response: Response, flow: Flow) -> None:
        """A 2xx to an INVITE of ours whose transaction is over: its ACK was lost."""
        if 200 <= response.status < 300 and response.to.tag == self.dialog.remote_tag:
            self.acknowledge(response, self.dialog)

    def dialog_of(self, message: Message) -> Dialog | None:
        """The dialog that a request from the far end belongs to."""
        return self.dialog if message.from_.tag == (self.dialog.remote.tag) else None

    def answer(self, tx: ServerTransaction, status: int, phrase: str | None = None, **headers: str) -> None:
        """Respond without a body."""
        tx.respond(bare_reply(tx.request, status, phrase, self.dialog.local_tag, headers))

    # --- requests of theirs -----------------------------------------------------------------------------------------

    def _bye_came(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if not self.answered:
            raise SipError(481)
        self.answer(tx, 200)
        reasons = tx.request.headers.values("Reason")
        if self.referral is not None:
            self.referral.hung_up()
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
        body = self._described(tx.request)
        dialog.refresh(tx.request)
        self.accept(tx, self.ok(tx, body, timer))

    def _updated(self, tx: ServerTransaction, dialog: Dialog) -> None:
        timer = SessionTimer.asked(tx.request)
        body = b""
        if tx.request.body:
            if self.offering:
                raise SipError(491)
            if self.media is None or not (self.answered or self.dialog.caller):
                raise SipError(500)
            body = self._described(tx.request)
        dialog.refresh(tx.request)
        tx.respond(self.ok(tx, body, timer))

    def _pracked(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if self._reliable is None:
            raise SipError(481)
        invite, rseq = self._reliable
        if not acknowledges(tx.request, rseq, invite.request.cseq):
            raise SipError(481)
        self._reliable = None
        self.stop("provisional")
        self.answer(tx, 200)

    def _informed(self, tx: ServerTransaction, dialog: Dialog) -> None:
        kind = (tx.request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if kind in ("application/dtmf-relay", "application/dtmf"):
            if (found := DIGIT.match(tx.request.body)) is None:
                raise SipError(400)
            digit = {b"10": "*", b"11": "#"}.get(found[1], found[1].decode().upper())
            event_id = f"{self.call.id}:info:{tx.request.cseq.number}"
            self.trunk.tell(DigitReported(call_id=self.call.id, event_id=event_id, digit=digit))
        elif tx.request.body:
            return self.answer(tx, 415, Accept="application/dtmf-relay")
        self.answer(tx, 200)

    def _notified(self, tx: ServerTransaction, dialog: Dialog) -> None:
        event = parameters_of(tx.request.headers.get("Event") or "")[""].lower()
        if event != "refer" or self.referral is None:
            raise SipError(481, "Subscription Does Not Exist")
        self.answer(tx, 200)
        self.referral.notified(tx.request)

    # --- offers and answers -----------------------------------------------------------------------------------------

    def _described(self, request: Request) -> bytes:
        """The description for our 2xx: the answer to the one in ``request``, else an offer, answered in the ACK."""
        assert self.media is not None
        if not request.body:
            self.offering = True
            return sdp.offer(self.media.local)
        check_content_type(request)
        body, terms = sdp.answer(request.body, self.media.local)
        self.agree(terms)
        return body

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
            self.spawn(self._serve())

    async def _serve(self) -> None:
        assert self.media is not None
        self.media.on_lost = self._lost
        try:
            await self.trunk.desk.media(self._ticket, self.media)
        except AnycarrierError as refused:
            log.warning("sip call %s gets no session: %s", self.call.id, refused)
            self.hang_up(EndReason.MEDIA_ERROR)

    def _lost(self) -> None:
        self.spawn(self._probe())

    async def _probe(self) -> None:
        """Sound stopped coming: if the far end does not answer either, it is gone."""
        response = await self.ask("OPTIONS")
        if response is None or response.status in (408, 481):
            self.hang_up(EndReason.MEDIA_ERROR)

    def ok(self, tx: ServerTransaction, body: bytes, timer: SessionTimer | None) -> Response:
        """A 200 to an INVITE or UPDATE."""
        kind = "application/sdp" if body else ""
        response = reply(tx.request, 200, to_tag=self.dialog.local_tag, body=body, content_type=kind)
        response.headers.add("Contact", self.contact(tx.flow))
        response.headers.add("Allow", ALLOW)
        response.headers.add("Supported", ", ".join(SUPPORTED))
        if timer is not None:
            timer.grant(response, tx.request)
        self.allowed |= options_of(tx.request, "Allow")
        self.refresher.keep(timer)
        return response

    def accept(self, tx: ServerTransaction, response: Response) -> None:
        """Send a 2xx to an INVITE, again and again until its ACK comes."""
        self._unacked = tx, response
        self.settled.clear()
        self._send_ok(T1)
        self.alarm("ack", PATIENCE, self._never_acked)

    def _send_ok(self, pause: float) -> None:
        if self._unacked is None:
            return
        tx, response = self._unacked
        tx.respond(response)
        self.alarm("ok", pause, lambda: self._send_ok(min(2 * pause, T2)))

    def _acked(self, request: Request) -> None:
        if self._unacked is None or request.cseq.number != self._unacked[0].request.cseq.number:
            return
        offering = self.offering
        self.settle()
        if offering and self.media is not None and not self.call.ended:
            try:
                self.agree(sdp.accept(request.body, self.media.local))
            except sdp.NotAcceptable:
                self.hang_up(EndReason.MEDIA_ERROR)

    def _never_acked(self) -> None:
        self.settle()
        self.hang_up(EndReason.MEDIA_ERROR)

    def settle(self) -> None:
        """No 2xx of ours waits for its ACK any more."""
        self.stop("ok", "ack")
        self._unacked, self.offering = None, False
        self.settled.set()

    # --- requests of ours -------------------------------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        content_type: str = "",
        *,
        dialog: Dialog | None = None,
    ) -> Response | None:
        """Send a request inside the dialog; its final response, or None when there is none. A challenge is answered."""
        dialog = dialog or self.dialog
        request = dialog.request(method)
        for name, value in headers.items():
            request.headers.add(name, value)
        if body:
            request.headers.add("Content-Type", content_type)
            request.body = body
        anew = False
        while True:
            response = await self._transact(request, dialog, anew)
            if response == "transport" and not anew:
                anew = True  # the connection was lost: over a new one, once
            elif isinstance(response, Response):
                if response.status not in (401, 407) or not self.trunk.authorize(request, response):
                    return response
                dialog.local_cseq += 1
                request.headers.set("CSeq", f"{dialog.local_cseq} {method}")
            else:
                return None

    async def _transact(self, request: Request, dialog: Dialog, anew: bool) -> Response | str:
        done: asyncio.Future[Response | str] = asyncio.get_running_loop().create_future()

        def responded(response: Response) -> None:
            if response.status < 200:
                return
            if request.method == "INVITE" and response.status < 300:
                self.acknowledge(response, dialog)
            if not done.done():
                done.set_result(response)

        def failed(why: str) -> None:
            if not done.done():
                done.set_result(why)

        flow = await self._reach(dialog, anew)
        request.headers.set("Contact", self.contact(flow))
        asked = self.endpoint.request(request, flow, on_response=responded, on_failure=failed)
        try:
            async with asyncio.timeout(2 * PATIENCE):  # an INVITE may be kept ringing for ever
                return await done
        except TimeoutError:
            asked.cancel()
            return "timeout"

    def acknowledge(self, response: Response, dialog: Dialog) -> None:
        """ACK a 2xx to an INVITE of ours, as often as it comes."""
        ack = dialog.request("ACK", cseq=response.cseq.number)
        self.spawn(self._send_ack(ack, dialog))

    async def _send_ack(self, ack: Request, dialog: Dialog) -> None:
        self.endpoint.request(ack, await self._reach(dialog), on_response=_ignore, on_failure=_ignore)

    async def _reach(self, dialog: Dialog, anew: bool = False) -> Flow:
        """The way to the far end: the next hop, else whom its messages came from (NAT; a place we may not go to)."""
        assert self._flow is not None
        hop, flow = dialog.next_hop, self._flow
        transport = "tls" if hop.scheme == "sips" else hop.parameters.get("transport")
        same = (transport or flow.transport).lower() == flow.transport
        # Who is connected to us is reached by that connection, whatever port his Contact names (RFC 5923).
        there = hop.host == flow.remote[0] and (flow.reliable or (hop.port or 5060) == flow.remote[1])
        here = (same and there) or str(hop) == self._reached
        here = here or self.trunk.from_anywhere  # a softphone's Contact may be behind its NAT
        if anew or not here or not self.endpoint.alive(flow):
            try:
                for target in await self.endpoint.targets(hop, transport):
                    flow = await self.endpoint.flow(target)
                    self._reached = str(hop)
                    self.attach(flow)
                    break
            except (OSError, AnycarrierError, ValueError) as problem:
                log.debug("sip call %s: the next hop is not reached: %s", self.call.id, type(problem).__name__)
        return self._flow

    def attach(self, flow: Flow) -> None:
        """Have requests inside the dialog, and expect them from the other end of ``flow``."""
        self._flow = flow
        self._addresses.add(flow.remote[0])
        self.endpoint.attach(self.dialog.call_id, self.dialog.local_tag, self, flow)

    def contact(self, flow: Flow) -> str:
        """Our Contact."""
        return self.endpoint.contact(flow, self.trunk.contact_user)

    # --- the end ----------------------------------------------------------------------------------------------------

    def hang_up(self, reason: EndReason) -> None:
        """End the call from our side at once, however far it has come."""
        if not self.call.ended:
            self.end(reason)
            self.spawn(self._say_bye(self.dialog))

    def hang_up_heard(self, reason: EndReason) -> None:
        """The same once the far end has heard what we said; silence is sent meanwhile."""
        if self.media is None or not self.media.sounding or self.call.ended:
            self.hang_up(reason)
        elif "farewell" not in self._alarms:
            self.alarm("farewell", FAREWELL, lambda: self.hang_up(reason))

    async def _say_bye(self, dialog: Dialog) -> None:
        await self.settled.wait()
        await self.ask("BYE", dialog=dialog)
        if dialog is self.dialog:
            self.close()

    def replaced(self, tx: ServerTransaction, dialog: Dialog) -> None:
        """Go on with whom this INVITE came from in place of the far end (RFC 3891): the agent's session stays."""
        timer = SessionTimer.asked(tx.request)
        self.settle()
        body = self._described(tx.request)
        assert self._flow is not None
        over = self.call.model_copy(update={"status": CallStatus.ENDED})
        farewell = SipCall(self.trunk, over, self._flow)
        farewell.dialog, self.dialog, self._reached = self.dialog, dialog, ""
        farewell.attach(self._flow)
        farewell.spawn(farewell._say_bye(farewell.dialog))
        self.attach(tx.flow)
        self.accept(tx, self.ok(tx, body, timer))

    def move(self, status: CallStatus, **change: Any) -> None:
        """Note how far the call has come, and tell."""
        if status.rank > self.call.status.rank:
            self.call = self.call.model_copy(update={"raw": self.raw(), **change, "status": status})
            self.trunk.progress(self.call)

    def end(
        self, reason: EndReason, *, status: int | None = None, words: str | None = None, cause: int | None = None
    ) -> None:
        """The call is over; what is still said on the wire changes nothing."""
        if self.call.ended:
            return
        self.stop(*(name for name in list(self._alarms) if name not in ("ok", "ack")))
        told = {"reason": reason, "sip_code": status, "carrier_status": words, "raw": self.raw(cause)}
        self.move(CallStatus.ENDED, ended_at=datetime.now(UTC), **told)
        if self.media is not None:
            self.media.stop(reason.value)
        self.trunk.over(self)

    def raw(self, cause: int | None = None) -> dict[str, Any]:
        """What only SIP knows of the call."""
        dialog = getattr(self, "dialog", None)
        if dialog is None:
            return {}
        flow = self._flow
        return {
            "call_id": dialog.call_id,
            "local_tag": dialog.local.tag,
            "remote_tag": dialog.remote.tag,
            "peer": f"{flow.transport}:{flow.remote[0]}:{flow.remote[1]}" if flow is not None else None,
            **({"cause": cause} if cause is not None else {}),
        }

    def close(self) -> None:
        """Forget the dialog: nothing more will come on it."""
        self.settle()
        self.stop(*list(self._alarms))
        if self.media is not None:
            self.media.stop()
        self.endpoint.detach(self.dialog.call_id, self.dialog.local_tag)

    # --- clock and tasks --------------------------------------------------------------------------------------------

    def alarm(self, name: str, seconds: float, act: Callable[[], object]) -> None:
        """Call ``act`` in ``seconds``, unless the alarm of that name is set anew or stopped."""
        self.stop(name)
        self._alarms[name] = self.endpoint.call_later(seconds, act)

    def stop(self, *names: str) -> None:
        """Stop these alarms."""
        for name in names:
            if (handle := self._alarms.pop(name, None)) is not None:
                handle.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do ``work`` beside; what it raises is reported."""
        return self.trunk.spawn(work, f"sip call {self.call.id}")


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


def bare_reply(
    request: Request, status: int, phrase: str | None, tag: str, headers: Mapping[str, str] = {}
) -> Response:
    """A response without a body, with the headers that go with its status. Nothing that came is told again but what a
    response must repeat (P9)."""
    response = reply(request, status, phrase, to_tag=tag)
    told = dict(headers)
    if status in (200, 405):
        told["Allow"] = ALLOW
    if status == 200:
        told |= {"Supported": ", ".join(SUPPORTED), "Accept": "application/sdp"}
    if status == 415 and "Accept" not in told:
        told["Accept"] = "application/sdp"
    if status == 420:
        told["Unsupported"] = ", ".join(sorted(options_of(request, "Require") & KNOWN_OPTIONS)) or "unknown"
    if status == 422:
        told["Min-SE"] = str(MIN_SE)
    if status == 500:
        told["Retry-After"] = str(random.randint(0, 10))  # noqa: S311  RFC 3261, 14.2
    for name, value in told.items():
        response.headers.add(name, value)
    return response


KNOWN_OPTIONS = frozenset(
    "answermode eventlist from-change gin gruu histinfo ice join multiple-refer norefersub nosub outbound path"
    " policy precondition pref privacy recipient-list-invite record-aware resource-priority sdp-anat sec-agree"
    " siprec target-dialog tdialog trickle-ice uui".split()
)
"""Option tags (IANA) that a 420 names; what else was asked for is not repeated (P9)."""


def check_content_type(request: Request) -> None:
    """``SipError`` 415 for a body that is no session description."""
    kind = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "application/sdp":
        raise SipError(415, "Unsupported Media Type")


def _ignore(_: object) -> None:
    pass
