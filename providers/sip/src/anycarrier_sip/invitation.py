"""How a call begins: an INVITE of ours until somebody answers it, and one of theirs until we do."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from anycarrier.calls import Call, CallStatus, DialRequest, EndReason, StreamTarget
from anycarrier.errors import AnycarrierError
from anycarrier_sip import sdp, session_timer
from anycarrier_sip.call_status import RAISED, REFUSALS, cause_of, reason_before_answer, words_of
from anycarrier_sip.dialog import ALLOW, MIN_SE, SUPPORTED, Dialog, check_described, options_of, seconds_of
from anycarrier_sip.endpoint import RETRY_AFTER
from anycarrier_sip.message import Message, NameAddr, Request, Response, Uri, reply
from anycarrier_sip.pacer import PortsExhausted
from anycarrier_sip.resolver import Target
from anycarrier_sip.session_timer import SESSION_EXPIRES, SessionTimer
from anycarrier_sip.sip_call import SipCall
from anycarrier_sip.transaction import PATIENCE, Flow, ServerTransaction, hop_by_hop

if TYPE_CHECKING:
    from anycarrier_sip.listener import SipListener

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
MOST_FORKS, MOST_PRACKS = 16, 32
"""Phones that one INVITE is forked to, and numbered answers of each, as far as we follow: what we say to them goes
where they name."""


@dataclass
class Destination:
    """Where a call of ours goes: Request-URI, From, headers that tell the caller-id, and the next hop or the phone."""

    uri: str
    local: NameAddr
    headers: list[tuple[str, str]]
    hop: Uri
    transport: str | None
    phone: Flow | None = None


@dataclass
class Fork:
    """One phone that our INVITE was forked to."""

    dialog: Dialog
    description: bytes = b""
    rseq: int | None = None
    """Of its last provisional answer that we acknowledged."""
    pracks: int = 0
    dropped: bool = False

    def rack(self, response: Response) -> str | None:
        """``RAck`` for the PRACK of a provisional answer (RFC 3262); None for one that wants none, is a repeat or came
        out of order."""
        number = seconds_of(response, "RSeq")
        if "100rel" not in options_of(response, "Require") or not 100 < response.status < 200 or number is None:
            return None
        if (self.rseq is not None and number != self.rseq + 1) or self.pracks >= MOST_PRACKS:
            return None
        self.rseq, self.pracks = number, self.pracks + 1
        return f"{number} {response.cseq}"


class Outbound(SipCall):
    """A call we make."""

    def __init__(self, trunk: SipListener, call: Call, request: DialRequest, destination: Destination) -> None:
        uri, local, first = destination.uri, destination.local, random.randint(1, 10_000)  # noqa: S311
        local.parameters["tag"] = call.id
        dialog = Dialog(secrets.token_hex(16), local, NameAddr("", Uri.parse(uri)), uri, True, local_cseq=first)
        super().__init__(trunk, call, dialog, None)
        self.first = asyncio.Event()
        """Anybody has answered anything, or the call is over."""
        self.refusal: AnycarrierError | None = None
        """What ``dial`` raises if it still waits."""
        self.ticket = request.stream.ticket
        self._request = request
        self._destination = destination
        self._forks: dict[str, Fork] = {}
        self._rang = False
        self._ending: EndReason | None = None
        """Why the INVITE was taken back."""

    def dialog_of(self, message: Message) -> Dialog | None:
        if self.answered:
            return super().dialog_of(message)
        fork = self._forks.get(message.from_.tag or "")
        return fork.dialog if fork is not None else None

    # --- the INVITE -------------------------------------------------------------------------------------------------

    async def place(self) -> None:
        """Try the destination's targets until one answers."""
        self.alarm("ring", self._request.timeout, self._rung_out)
        to = self._destination
        outcome: Response | str = "unreachable"
        try:
            targets = self.endpoint.targets
            ways: Sequence[Target | Flow] = [to.phone] if to.phone else await targets(to.hop, to.transport)
            for index, way in enumerate(ways):
                try:
                    outcome = await self._try(way, SILENCE if index + 1 < len(ways) else 2 * PATIENCE)
                except OSError:
                    continue
                if self.answered or self._given_up() or not self._next_after(outcome):
                    break
        except AnycarrierError as problem:
            self.refusal = problem
        except OSError as problem:  # DNS knows no address, or none that may be called
            self.refusal = self.trunk.provider.unsent(str(problem))
        except Exception:
            outcome = "error"
            raise
        finally:
            if not self.answered:
                self._failed(outcome)

    def _given_up(self) -> bool:
        """Whether the call was taken back, however far that has come."""
        return self.call.ended or self._ending is not None

    def _next_after(self, outcome: Response | str) -> bool:
        """Whether another target may be tried: never once a phone may be ringing (RFC 3263, 4.3)."""
        if self._rang or self._forks:
            return False
        if isinstance(outcome, Response):
            return outcome.status in self.trunk.preset.next_target_on
        return self.invite is None or not self.invite.heard

    async def _flow_to(self, way: Target | Flow, size: int = 0) -> Flow:
        return way if isinstance(way, Flow) else await self.endpoint.flow(way, size)

    async def _try(self, way: Target | Flow, patience: float) -> Response | str:
        flow = await self._flow_to(way)
        if self.media is None and not self._given_up():
            self.media = await self.trunk.open_media(self, flow)
            self.media.custom = self._request.stream.custom
        if self._given_up():
            return "canceled"
        request, minimum = self._written(), MIN_SE
        for _ in range(MOST_TRIES):
            request.headers.set("Session-Expires", str(max(SESSION_EXPIRES, minimum)))
            request.headers.set("Min-SE", str(minimum))
            request.headers.set("Contact", self.contact(flow))
            flow = await self._flow_to(way, len(request.encode()) + VIA)
            if self._given_up():
                return "canceled"
            request.headers.set("Contact", self.contact(flow))
            self.attach(flow)
            outcome = await self.send(request, flow, self._heard, patience, silence_only=True)
            if outcome == "transport" and self.invite is not None and self.invite.heard:
                await self._take_back_anew(self.invite.request, way)
            if not isinstance(outcome, Response):
                return outcome
            if outcome.status == 422 and (wanted := seconds_of(outcome, "Min-SE") or 0) > minimum:
                minimum = wanted
            elif outcome.status not in (401, 407) or not self.trunk.authorize(request, outcome):
                return outcome
            self.dialog.local_cseq += 1
            request.headers.set("CSeq", f"{self.dialog.local_cseq} INVITE")
        return outcome

    async def _take_back_anew(self, invite: Request, way: Target | Flow) -> None:
        """The connection was lost while somebody rings: CANCEL over another. A 2xx that crosses it is :meth:`stray`."""
        cancel = hop_by_hop(invite, "CANCEL", invite.headers.get("To") or "")
        with suppress(OSError):
            self.endpoint.transport.send(cancel.encode(), await self._flow_to(way))

    def stray(self, response: Response, flow: Flow) -> None:
        if not self.answered and 200 <= response.status < 300:
            return self._accepted(response, False)
        super().stray(response, flow)

    def _written(self) -> Request:
        assert self.media is not None
        request = self.dialog.request("INVITE")
        told = (("Allow", ALLOW), ("Supported", ", ".join(SUPPORTED)), ("Content-Type", "application/sdp"))
        for name, value in (*told, *self._destination.headers, *self._request.headers.items()):
            request.headers.add(name, value)
        request.body = sdp.offer(self.media.local)
        return request

    def _heard(self, response: Response) -> None:
        current = self.invite is not None and response.cseq.number == self.invite.request.cseq.number
        if response.status < 200 and current and not self.call.ended:
            self._provisional(response)
        elif 200 <= response.status < 300:
            self._accepted(response, current)

    def _fork(self, response: Response) -> Fork:
        tag = response.to.tag or ""
        if (fork := self._forks.get(tag)) is None:
            fork = self._forks[tag] = Fork(self.dialog.answered(response))
        fork.dialog.refresh(response)
        self.allowed |= options_of(response, "Allow")
        return fork

    def _provisional(self, response: Response) -> None:
        if not self.first.is_set():
            self.first.set()
            self.tell()
        tag = response.to.tag
        if response.status == 100 or not tag or (tag not in self._forks and len(self._forks) >= MOST_FORKS):
            return
        fork = self._fork(response)
        if rack := fork.rack(response):
            self.spawn(self._prack(rack, fork.dialog))
            fork.description = response.body or fork.description
        if response.status in (180, 183) and not self._rang:
            self._rang = True
            self.move(CallStatus.RINGING, carrier_status=words_of(response.phrase, ()))

    async def _prack(self, rack: str, dialog: Dialog) -> None:
        await self.ask("PRACK", {"RAck": rack}, dialog=dialog)

    def _accepted(self, response: Response, current: bool) -> None:
        """A 2xx: the first is the call, a repeat is acknowledged again, any other phone's is hung up."""
        late = self.answered or self._given_up() or not current
        if late and response.to.tag not in self._forks and len(self._forks) >= MOST_FORKS:
            return
        fork = self._fork(response)
        self.acknowledge(response, fork.dialog)
        if self.answered and fork.dialog is self.dialog:
            return
        if late:
            if not fork.dropped:
                fork.dropped = True
                self.spawn(self._drop(fork))
            return
        self.answered, self.dialog = True, fork.dialog
        self.stop("ring", "cancel")
        self.move(CallStatus.ANSWERED, sip_code=None, carrier_status=words_of(response.phrase, ()), answered_at=_now())
        self.first.set()
        body = response.body or fork.description
        if body or self.terms is None:
            self.conclude(body)
        else:
            self.agree(self.terms)
        session_timer.keep(self, SessionTimer.granted(response))
        if self.call.ended:
            return
        if self._request.time_limit:
            self.alarm("limit", self._request.time_limit, lambda: self.hang_up(EndReason.MAX_DURATION))
        if self._request.digits:
            self.spawn(self.send_digits(self._request.digits))

    async def _drop(self, fork: Fork) -> None:
        """Hang up a phone that answered too late, or beside another."""
        fork.dialog.local_cseq = max(fork.dialog.local_cseq, self.dialog.local_cseq)
        await self.ask("BYE", dialog=fork.dialog)

    # --- the end of one that was not answered -----------------------------------------------------------------------

    def _failed(self, outcome: Response | str) -> None:
        """Nobody answered: say why."""
        status = words = cause = None
        rate_limited = False
        if isinstance(outcome, Response) and outcome.status >= 300:  # a 2xx that crossed our CANCEL says nothing
            status, reasons = outcome.status, outcome.headers.values("Reason")
            cause, words = cause_of(reasons), words_of(outcome.phrase, reasons)
            rate_limited = seconds_of(outcome, "Retry-After") is not None
        reason = reason_before_answer(status, cause=cause, rang=self._rang, retry_after=rate_limited)
        if self._ending is not None:
            reason = self._ending
        elif isinstance(outcome, Response) and reason in RAISED:
            self.refusal = self.trunk.provider.refused("dial", outcome, RAISED[reason])
        elif outcome == "unreachable" and self.refusal is None:
            self.refusal = self.trunk.provider.unsent(f"no connection to {self.trunk.host or 'the address'}")
        self.end(reason, status=status, words=words, cause=cause)
        if outcome == "transport" and self.invite is not None and self.invite.heard:
            self.first.set()  # who rings on may answer yet, over another connection
            self.alarm("late", self._request.timeout, self.close)
        else:
            self.close()

    def close(self) -> None:
        super().close()
        self.first.set()

    def _rung_out(self) -> None:
        heard = EndReason.UNREACHABLE if self.first.is_set() else EndReason.PROVIDER_UNAVAILABLE
        self._take_back(EndReason.NO_ANSWER if self._rang else heard)

    def hang_up(self, reason: EndReason) -> None:
        if self.answered:
            super().hang_up(reason)
        elif not self._given_up():
            self._take_back(EndReason.CANCELED)

    def _take_back(self, reason: EndReason) -> None:
        self._ending = reason
        self.stop("ring")
        self.alarm("cancel", CANCEL_PATIENCE, lambda: self._failed("canceled"))
        if self.invite is not None:
            self.invite.cancel()
        else:
            self._failed("canceled")


class Inbound(SipCall):
    """A call that comes to us, from its INVITE on. Raises ``SipError`` for one that cannot be taken."""

    def __init__(self, trunk: SipListener, call: Call, tx: ServerTransaction) -> None:
        super().__init__(trunk, call, Dialog.incoming(tx.request, call.id), tx.flow)
        self.call = call.model_copy(update={"raw": self.raw()})
        self._tx = tx
        self._wants_reliable = "100rel" in options_of(tx.request, "Require")
        check_described(tx.request)
        self._timer = SessionTimer.asked(tx.request)
        tx.on_cancel = partial(self.refuse, 487, EndReason.CANCELED)
        self.attach(tx.flow)
        self.alarm("ringing", RING_LIMIT, lambda: self.refuse(480, EndReason.NO_ANSWER))

    def ring(self) -> None:
        """Say that it rings, and go on saying so; reliably where the caller demands it."""
        if self.answered or self.call.ended:
            return
        response = reply(self._tx.request, 180, to_tag=self.dialog.local_tag)
        response.headers.add("Contact", self.contact(self._tx.flow))
        self.alarm("ring", RING_AGAIN, self.ring)
        if not self._wants_reliable:
            return self._tx.respond(response)
        self._wants_reliable = False  # once is enough to keep proxies patient for RING_AGAIN
        response.headers.add("Require", "100rel")
        response.headers.add("RSeq", str(random.randint(1, 2**30)))  # noqa: S311
        self.insist(self._tx, response, lambda: self.refuse(500, EndReason.PROVIDER_UNAVAILABLE))

    async def take(self, stream: StreamTarget) -> None:
        """Answer it, unless it was answered or taken back already. ``RequestRejected`` for a body that does not fit."""
        if self.answered or self.call.ended:
            return
        self.ticket = stream.ticket
        try:
            media = await self.trunk.open_media(self, self._tx.flow)
        except PortsExhausted:
            self.refuse(503, EndReason.PROVIDER_UNAVAILABLE, **{"Retry-After": str(RETRY_AFTER)})  # another has some
            raise
        if self.closed:  # taken back meanwhile
            return await media.close()
        self.media, media.custom = media, stream.custom
        self.stop("ring", "ringing")
        self.settle()
        self.answered = True
        try:
            body = self.describe(self._tx.request)
        except BaseException as problem:
            self.answered, unfit = False, isinstance(problem, sdp.NotAcceptable)
            self.refuse(488 if unfit else 500, EndReason.PROVIDER_UNAVAILABLE)
            if unfit:
                raise self.trunk.provider.error("answer", 488, message=str(problem)) from None
            raise
        self.accept(self._tx, self.ok(self._tx, body, self._timer))
        answered = {"status": CallStatus.ANSWERED, "answered_at": _now(), "raw": self.raw()}
        self.call = self.call.model_copy(update=answered)  # the exchange tells it, with the first sound

    def refuse(self, status: int, reason: EndReason, phrase: str | None = None, **headers: str) -> None:
        """Decline a call that is not answered."""
        if not self.answered and not self.call.ended:
            self.answer(self._tx, status, phrase, **headers)
            cause = cause_of(self._tx.request.headers.values("Reason")) if status == 487 else None
            self.end(reason, status=status, cause=cause)
            self.close()

    def hang_up(self, reason: EndReason) -> None:
        if self.answered:
            super().hang_up(reason)
        else:
            status, phrase = REFUSALS[EndReason.REJECTED]
            self.refuse(status, reason, phrase)

    def _bye_came(self, tx: ServerTransaction, dialog: Dialog) -> None:
        if self.answered:
            return super()._bye_came(tx, dialog)
        self.refuse(487, EndReason.CANCELED)
        self.answer(tx, 200)


def _now() -> datetime:
    return datetime.now(UTC)
