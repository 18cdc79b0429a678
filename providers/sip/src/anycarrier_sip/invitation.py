"""How a call begins: an INVITE of ours until somebody answers it, and one of theirs until we do."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anycarrier.calls import Call, CallStatus, DialRequest, EndReason, StreamTarget
from anycarrier.errors import AnycarrierError
from anycarrier_sip import sdp
from anycarrier_sip.call_status import RAISED, REFUSALS, cause_of, reason_before_answer, words_of
from anycarrier_sip.dialog import (
    ALLOW,
    MIN_SE,
    SESSION_EXPIRES,
    SUPPORTED,
    Dialog,
    Provisionals,
    SessionTimer,
    ask_for_timer,
    options_of,
    seconds_of,
)
from anycarrier_sip.endpoint import LARGE
from anycarrier_sip.message import Message, NameAddr, Request, Response, Uri, reply
from anycarrier_sip.sip_call import SipCall, check_content_type
from anycarrier_sip.transaction import PATIENCE, T1, ClientTransaction, Flow, ServerTransaction

if TYPE_CHECKING:
    from anycarrier_sip.listener import Destination, Reach, SipListener

SILENCE = 4.0
"""Seconds without any answer after which another target of the same host is tried, where there is one."""
CANCEL_PATIENCE = 5.0
"""Seconds that the answer to a CANCEL is waited for before the call counts as over."""
RING_AGAIN = 60.0
"""Seconds between repeats of 180, for proxies that give a silent INVITE up after three minutes (RFC 3261, 13.3.1.1)."""
RING_LIMIT = 600.0
"""Seconds that a call may ring without being answered, declined or taken back."""
VIA = 120
"""Bytes that a Via adds to a request, about."""
MOST_TRIES = 8
"""INVITEs for one call and one target: challenges and longer session intervals."""


@dataclass
class _Early:
    """One phone that our INVITE was forked to."""

    dialog: Dialog
    provisionals: Provisionals = field(default_factory=Provisionals)
    description: bytes = b""


class Outbound(SipCall):
    """A call we make. ``first`` is done once anybody has answered anything, or the call is over."""

    def __init__(self, trunk: SipListener, call: Call, request: DialRequest, destination: Destination) -> None:
        super().__init__(trunk, call, None)
        self.request = request
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refusal: AnycarrierError | None = None
        """What ``dial`` raises if it still waits."""
        self.destination = destination
        self._ticket = request.stream.ticket
        self._rang = False
        self._ending: EndReason | None = None
        """Why the INVITE was taken back."""
        self._invite: ClientTransaction | None = None
        self._forks: dict[str, _Early] = {}
        local = destination.local
        local.parameters["tag"] = call.id
        to = NameAddr("", Uri.parse(destination.uri))
        call_id = secrets.token_hex(16)
        self.dialog = Dialog(call_id, local, to, destination.uri, True, local_cseq=random.randint(1, 10_000))  # noqa: S311

    def dialog_of(self, message: Message) -> Dialog | None:
        if self.answered:
            return super().dialog_of(message)
        early = self._forks.get(message.from_.tag or "")
        return early.dialog if early is not None else None

    # --- the INVITE -------------------------------------------------------------------------------------------------

    async def place(self) -> None:
        """Try the destination's targets until one answers."""
        self.alarm("ring", self.request.timeout, self._rung_out)
        outcome: Response | str = "unreachable"
        try:
            targets = await self.destination.targets()
            for index, reach in enumerate(targets):
                try:
                    outcome = await self._try(reach, SILENCE if index + 1 < len(targets) else PATIENCE + 1)
                except OSError:
                    continue
                if self.answered or self._given_up() or not self._next_after(outcome):
                    break
        except AnycarrierError as problem:
            self.refusal = problem
        except OSError as problem:  # DNS knows no address, or none that may be called
            self.refusal = self.trunk.provider.unsent(str(problem))
        except Exception:
            self._failed("error")
            raise
        if not self.answered:
            self._failed(outcome)

    def _given_up(self) -> bool:
        """Whether the call was taken back, however far that has come."""
        return self.call.ended or self._ending is not None

    def _next_after(self, outcome: Response | str) -> bool:
        """Whether another target may be tried: never once a phone may be ringing (RFC 3263, 4.3)."""
        if self._rang or (self._invite is not None and self._forks):
            return False
        if isinstance(outcome, Response):
            return outcome.status in self.trunk.preset.next_target_on
        return self._invite is None or not self._invite.heard

    async def _try(self, reach: Reach, patience: float) -> Response | str:
        flow = await reach(0)
        if self.media is None and not self._given_up():
            self.media = await self.trunk.open_media(self, flow)
            self.media.custom = self.request.stream.custom
        if self._given_up():
            return "canceled"
        request = self._written(flow)
        minimum = MIN_SE
        for _ in range(MOST_TRIES):
            if flow.transport == "udp" and (size := len(request.encode()) + VIA) > LARGE:
                flow = await reach(size)
                request.headers.set("Contact", self.contact(flow))
            if self._given_up():
                return "canceled"
            self.attach(flow)
            outcome = await self._send(request, flow, patience)
            if not isinstance(outcome, Response):
                return outcome
            if outcome.status == 422 and (wanted := seconds_of(outcome, "Min-SE") or 0) > minimum:
                minimum = wanted
                ask_for_timer(request, max(wanted, SESSION_EXPIRES), wanted)
            elif outcome.status not in (401, 407) or not self.trunk.authorize(request, outcome):
                return outcome
            self.dialog.local_cseq += 1
            request.headers.set("CSeq", f"{self.dialog.local_cseq} INVITE")
        return outcome

    def _written(self, flow: Flow) -> Request:
        assert self.media is not None
        request = self.dialog.request("INVITE")
        headers = request.headers
        headers.set("Contact", self.contact(flow))
        headers.add("Allow", ALLOW)
        headers.add("Supported", ", ".join(SUPPORTED))
        ask_for_timer(request, SESSION_EXPIRES, MIN_SE)
        for name, value in (*self.destination.headers, *self.request.headers.items()):
            headers.add(name, value)
        headers.add("Content-Type", "application/sdp")
        request.body = sdp.offer(self.media.local)
        return request

    async def _send(self, request: Request, flow: Flow, patience: float) -> Response | str:
        done: asyncio.Future[Response | str] = asyncio.get_running_loop().create_future()

        def settle(outcome: Response | str) -> None:
            if not done.done():
                done.set_result(outcome)

        def responded(response: Response) -> None:
            if response.status < 200:
                self._provisional(response, transaction)
            elif response.status < 300:
                self._accepted(response, transaction)
                settle(response)
            else:
                settle(response)

        transaction = self._invite = self.endpoint.request(request, flow, on_response=responded, on_failure=settle)
        silence = self.endpoint.call_later(patience, lambda: None if transaction.heard else settle("silence"))
        try:
            outcome = await done
        finally:
            silence.cancel()
        if outcome == "silence":
            self.endpoint.rest(flow)
            transaction.cancel()  # should it still be heard
        return outcome

    def _provisional(self, response: Response, transaction: ClientTransaction) -> None:
        if transaction is not self._invite or self.call.ended:
            return
        if not self.first.done():
            self.first.set_result(None)
            self.trunk.progress(self.call)
        tag = response.to.tag
        if response.status == 100 or not tag:
            return
        early = self._forks.get(tag)
        if early is None:
            if len(self._forks) >= 16:
                return
            early = self._forks[tag] = _Early(self.dialog.answered(response))
        early.dialog.refresh(response)
        self.allowed |= options_of(response, "Allow")
        if rack := early.provisionals.rack(response):
            self.spawn(self._prack(rack, early.dialog))
            early.description = response.body or early.description
        if response.status in (180, 183) and not self._rang:
            self._rang = True
            self.move(CallStatus.RINGING, carrier_status=words_of(response.phrase, ()))

    async def _prack(self, rack: str, dialog: Dialog) -> None:
        await self.ask("PRACK", {"RAck": rack}, dialog=dialog)

    def _accepted(self, response: Response, transaction: ClientTransaction) -> None:
        """A 2xx: the first is the call, a repeat is acknowledged again, any other phone's is hung up."""
        tag = response.to.tag or ""
        early = self._forks.get(tag)
        if early is None:
            early = self._forks[tag] = _Early(self.dialog.answered(response))
        early.dialog.refresh(response)
        self.acknowledge(response, early.dialog)
        if self.answered and early.dialog is self.dialog:
            return
        if self.answered or self._given_up() or transaction is not self._invite:
            self.spawn(self._drop(early))
            return
        self.answered, self.dialog = True, early.dialog
        self.stop("ring", "cancel")
        self.allowed |= options_of(response, "Allow")
        self.move(CallStatus.ANSWERED, sip_code=None, carrier_status=words_of(response.phrase, ()), answered_at=_now())
        if not self.first.done():
            self.first.set_result(None)
        assert self.media is not None
        try:
            body = response.body or early.description
            terms = self.terms if self.terms is not None and not body else sdp.accept(body, self.media.local)
            self.agree(terms)
        except sdp.NotAcceptable:
            return self.hang_up(EndReason.MEDIA_ERROR)
        self.refresher.keep(SessionTimer.granted(response))
        if self.request.time_limit:
            self.alarm("limit", self.request.time_limit, lambda: self.hang_up(EndReason.MAX_DURATION))
        if self.request.digits:
            self.spawn(self.trunk.send_digits(self, self.request.digits))

    async def _drop(self, early: _Early) -> None:
        """Hang up a phone that answered too late, or beside another."""
        if self._forks.get(early.dialog.remote_tag) is early:
            early.dialog.local_cseq = max(early.dialog.local_cseq, self.dialog.local_cseq)
            await self.ask("BYE", dialog=early.dialog)

    # --- the end of one that was not answered -----------------------------------------------------------------------

    def _failed(self, outcome: Response | str) -> None:
        """Nobody answered: say why."""
        status, words, cause, retry = None, None, None, None
        if isinstance(outcome, Response):
            status, reasons = outcome.status, outcome.headers.values("Reason")
            cause, words = cause_of(reasons), words_of(outcome.phrase, reasons)
            retry = seconds_of(outcome, "Retry-After")
        reason = reason_before_answer(status, cause=cause, rang=self._rang, retry_after=retry is not None)
        if self._ending is not None:
            reason = self._ending
        elif isinstance(outcome, Response) and reason in RAISED:
            self.refusal = self.trunk.refused("dial", outcome, RAISED[reason])
        elif outcome == "unreachable" and self.refusal is None:
            self.refusal = self.trunk.provider.unsent(f"no connection to {self.trunk.host or 'the address'}")
        self.end(reason, status=status, words=words, cause=cause)
        self.close()

    def _rung_out(self) -> None:
        heard = EndReason.UNREACHABLE if self.first.done() else EndReason.PROVIDER_UNAVAILABLE
        self._take_back(EndReason.NO_ANSWER if self._rang else heard)

    def hang_up(self, reason: EndReason) -> None:
        if self.answered:
            super().hang_up(reason)
        elif not self.call.ended:
            self._take_back(EndReason.CANCELED)

    def _take_back(self, reason: EndReason) -> None:
        if self._ending is not None or self.answered:
            return
        self._ending = reason
        self.stop("ring")
        self.alarm("cancel", CANCEL_PATIENCE, lambda: self._failed("canceled"))
        if self._invite is not None:
            self._invite.cancel()
        else:
            self._failed("canceled")

    def end(
        self, reason: EndReason, *, status: int | None = None, words: str | None = None, cause: int | None = None
    ) -> None:
        super().end(reason, status=status, words=words, cause=cause)
        if not self.first.done():
            self.first.set_result(None)


class Inbound(SipCall):
    """A call that comes to us, from its INVITE on. Raises ``SipError`` for one that cannot be taken."""

    def __init__(self, trunk: SipListener, call: Call, tx: ServerTransaction) -> None:
        super().__init__(trunk, call, tx.flow)
        self.invite = tx
        self.dialog = Dialog.incoming(tx.request, call.id)
        self._wants_reliable = "100rel" in options_of(tx.request, "Require")
        if tx.request.body:
            check_content_type(tx.request)
        self._timer = SessionTimer.asked(tx.request)
        tx.on_cancel = self._canceled
        self.attach(tx.flow)
        self.alarm("ringing", RING_LIMIT, lambda: self.refuse(480, EndReason.NO_ANSWER))

    def ring(self) -> None:
        """Say that it rings, and go on saying so; reliably where the caller demands it."""
        if self.answered or self.call.ended:
            return
        response = reply(self.invite.request, 180, to_tag=self.dialog.local_tag)
        response.headers.add("Contact", self.contact(self.invite.flow))
        if self._wants_reliable:
            rseq = (self._reliable[1] if self._reliable else random.randint(1, 2**30)) + 1  # noqa: S311
            self._reliable = self.invite, rseq
            response.headers.add("Require", "100rel")
            response.headers.add("RSeq", str(rseq))
            self._provide(response, T1)
            self._wants_reliable = False  # once is enough to keep proxies patient for RING_AGAIN
            self.alarm("unacknowledged", PATIENCE, self._never_pracked)
        else:
            self.invite.respond(response)
        self.alarm("ring", RING_AGAIN, self.ring)

    def _provide(self, response: Response, pause: float) -> None:
        self.invite.respond(response)
        self.alarm("provisional", pause, lambda: self._provide(response, 2 * pause))

    def _never_pracked(self) -> None:
        if self._reliable is not None:
            self.refuse(500, EndReason.PROVIDER_UNAVAILABLE)

    async def take(self, stream: StreamTarget) -> None:
        """Answer it, unless it was answered or taken back already. ``RequestRejected`` for a body that does not fit."""
        if self.answered or self.call.ended:
            return
        self._ticket = stream.ticket
        media = await self.trunk.open_media(self, self.invite.flow)
        if self.endpoint.dialogs.get((self.dialog.call_id, self.dialog.local_tag)) is not self:  # taken back meanwhile
            return await media.close()
        self.media, media.custom = media, stream.custom
        self.stop("ring", "ringing", "provisional", "unacknowledged")
        try:
            self.answered = True
            body = self._described(self.invite.request)
        except sdp.NotAcceptable as unfit:
            self.answered = False
            self.refuse(488, EndReason.PROVIDER_UNAVAILABLE)
            raise self.trunk.provider.error("answer", 488, message=str(unfit)) from None
        self.accept(self.invite, self.ok(self.invite, body, self._timer))
        answered = {"status": CallStatus.ANSWERED, "answered_at": _now(), "raw": self.raw()}
        self.call = self.call.model_copy(update=answered)  # the exchange tells it, with the first sound

    def refuse(self, status: int, reason: EndReason, phrase: str | None = None, **headers: str) -> None:
        """Decline a call that is not answered."""
        if not self.answered and not self.call.ended:
            self.answer(self.invite, status, phrase, **headers)
            self.end(reason, status=status)
            self.close()

    def hang_up(self, reason: EndReason) -> None:
        if self.answered:
            super().hang_up(reason)
        else:
            status, phrase = REFUSALS[EndReason.REJECTED]
            self.refuse(status, reason, phrase)

    def _canceled(self) -> None:
        if not self.answered and not self.call.ended:
            self.answer(self.invite, 487)
            reasons = self.invite.request.headers.values("Reason")
            self.end(EndReason.CANCELED, status=487, cause=cause_of(reasons))
            self.close()

    def _bye_came(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if self.answered:
            return super()._bye_came(tx, dialog)
        self._canceled()
        self.answer(tx, 200)


def _now() -> datetime:
    return datetime.now(UTC)
