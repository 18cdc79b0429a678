"""One call of a sandbox telephone: its dialog, its sound, and what our side asks of it there."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox_numbers import RETRY_AFTER, Outcome, outcome_of
from anycarrier_sip.sandbox.formats import Message, Session, address, hostport, parameter, token, user
from anycarrier_sip.sandbox.sound import PCMA, Sound

if TYPE_CHECKING:
    from anycarrier_sip.sandbox.trunk import SipSandbox

T1 = 0.5
PATIENCE = 64 * T1
"""Seconds for which an unanswered request is repeated (RFC 3261, timers B and F)."""

REFUSED_AT_ONCE = {
    Outcome.INVALID_NUMBER: 484, Outcome.FORBIDDEN: 403, Outcome.NO_FUNDS: 402, Outcome.THROTTLED: 503,
    Outcome.SERVER_ERROR: 500,
}  # fmt: skip
REFUSED = {Outcome.BUSY: 486, Outcome.REJECTED: 603, Outcome.NOT_FOUND: 404}
ALLOW = ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY")


class Leg:
    """One dialog. ``far_end`` is the telephone; ``log`` has every request and response of it, ours marked with <."""

    def __init__(self, sandbox: SipSandbox, call_id: str, from_: str, to: str) -> None:
        self.sandbox = sandbox
        self.call_id, self.tag, self.peer_tag = call_id, token(), ""
        self.far_end = FarEnd("", from_, to, press=self._press, hang_up=self.hang_up, silent="quiet" in sandbox.quirks)
        self.sound = Sound(self.far_end, sandbox.quirks)
        self.here = Session(*self.sound.datagrams.address, payload_type=PCMA if "pcma" in sandbox.quirks else 0)
        self.log: list[str] = []
        self.over = asyncio.Event()
        self.named = asyncio.Event()
        """Set once the other side has named the call with its tag."""
        self.refreshed = asyncio.Event()
        self._invite: Message
        self._source = self._target_at = ("", 0)
        self._ours = self._theirs = self._target = ""
        self._number = 0
        self._acked, self.pracked, self.canceled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._up = self.final = self.answers_late = False
        self._their: Session | None = None
        """How their sound is described, of a call that we answer."""
        self._transferring = ""
        """The subscription of a transfer whose target rings."""
        self._taken = False
        """Its target has taken the call."""

    # --- what a telephone does ----------------------------------------------------------------------------------------

    async def hang_up(self) -> None:
        """BYE, or whatever it is before the call is answered."""
        if self._transferring:  # nobody waits for the target any more
            self.sandbox.start(self._tell(self._note(self._transferring, 487)))
        if self._up:
            self.end("hung up", "BYE")
        elif self.rings_us:
            self.end("given up", "CANCEL")
        else:
            self.respond(603)
            self.end("603")

    async def _press(self, digit: str) -> None:
        await self.sound.press(digit)

    def end(self, cause: str, method: str = "") -> None:
        """Over, as far as the telephone is concerned; ``method`` is how the other side is told."""
        if self.over.is_set():
            self.far_end.ended(cause)  # it lived on, transferred
            return
        self.over.set()
        if method == "CANCEL":
            self.sandbox.start(self._cancel())
        elif method:
            self.sandbox.start(self._tell(self.request(method)))
        self.sound.close()
        self.far_end.ended(cause)

    def leave(self) -> None:
        """Our side is out of it; the telephone talks to somebody else."""
        self.over.set()
        self.sound.close()
        self.far_end.note("talks to somebody else")

    async def change(self, direction: str = "sendrecv") -> int:
        """A re-INVITE: hold (``sendonly``, ``inactive``), resume, or sound at another port. Its status; 481 when the
        call is over."""
        self.here = self._described(direction)
        while not self.over.is_set():
            request = self.request("INVITE", ALLOW, body=self.here.encode(id(self)))
            answer = await self.sandbox.ask(request, self._target_at)
            status = answer.status if answer is not None else 408
            if answer is not None and status < 300:
                self._ack(answer)
                self.sound.connect(Session.parse(answer.body), self.sandbox.start)
                self.sound.muted = direction in ("recvonly", "inactive")
            if status != 491:
                return status
            await asyncio.sleep(1.0)
        return 481

    # --- ringing our side ---------------------------------------------------------------------------------------------

    rings_us = False

    async def ring(self, contact: str, more: dict[str, str], offer: bool) -> None:
        """INVITE a registered contact; returns when the call is answered or refused."""
        self.rings_us = True
        self._target, self._target_at = contact, hostport(contact)
        here = self.sandbox.at
        to, from_ = self.far_end.to, self.far_end.from_
        shown = from_ if from_.startswith("sip:") else f"sip:{from_}@{here}"
        headers = [*more.items(), ALLOW, ("P-Called-Party-ID", f"<sip:{to}@{here}>")]
        if from_.startswith("+"):
            headers.append(("P-Asserted-Identity", f"<sip:{from_}@{here}>"))
        elif from_ == "anonymous":
            shown = "sip:anonymous@anonymous.invalid"
            headers.append(("Privacy", "id"))
        self._ours, self._theirs = f"<{shown}>", f"<sip:{to}@{here}>"
        self._invite = self.request("INVITE", *headers, body=self.description() if offer else b"")
        answer = await self.sandbox.ask(self._invite, self._target_at, self._provisional)
        if answer is None:
            self.end("408 nobody answered")
            self.named.set()
            return
        self._name(answer)
        if answer.status >= 300:
            self._ack(answer)
            if answer.status == 302 and not self.over.is_set():
                self.far_end.transferred_to = user(answer.get("Contact"))
                self.leave()
            else:
                self.end(answer.start.partition(" ")[2])
        elif self.over.is_set():  # it was answered in the moment we gave up
            self._ack(answer)
            await self._tell(self.request("BYE"))
        else:
            their = Session.parse(answer.body, prefer=self.here.payload_type)
            self.here = self._described("sendrecv", their)
            self._ack(answer, b"" if offer else self.description())
            self._answered(their)

    def _provisional(self, response: Message) -> None:
        if response.status > 100:
            self._name(response)

    def _name(self, response: Message) -> None:
        self._learn(response, "To")
        if self.peer_tag:
            self.far_end.call_id = self.peer_tag
            self.named.set()

    async def _cancel(self) -> None:
        await self._tell(self.request("CANCEL", of=self._invite))

    # --- rung by our side ---------------------------------------------------------------------------------------------

    def rung(self, invite: Message, source: tuple[str, int]) -> None:
        """Our side makes this call; what comes of it is up to ``callee.py``."""
        self._invite, self._source = invite, source
        self._learn(invite, "From")
        self.far_end.call_id = self.peer_tag
        self._ours, self._theirs = invite.get("To"), invite.get("From")
        travel = re.compile("(?i)x-|user-to-user$")
        self.far_end.headers = {name: value for name, value in invite.headers if travel.match(name)}

    async def pick_up(self, *more: tuple[str, str]) -> None:
        """200, again until it is acknowledged."""
        if self.final or self.over.is_set():
            return
        try:
            their = Session.parse(self._invite.body, prefer=self.here.payload_type) if self._invite.body else None
        except LookupError:
            self.refuse(488)
            return
        self.here = self._described("sendrecv", their)
        self._up, self._their = True, their
        self.far_end.answered()
        wait = T1
        while not self._acked.is_set() and not self.over.is_set() and wait < PATIENCE:
            self.respond(200, ALLOW, *more, body=self.description())
            await either(self._acked, wait)
            wait *= 2

    def refuse(self, status: int, *more: tuple[str, str]) -> None:
        """A final response that is no answer, unless there was one."""
        if self.final or self.over.is_set():
            return
        if status == 503:
            more = (*more, ("Retry-After", f"{RETRY_AFTER:g}"))
        self.end(self.respond(status, *more).start.partition(" ")[2])

    def play_early(self) -> None:
        """Exchange sound before the answer, as the INVITE offers it."""
        self.sound.connect(Session.parse(self._invite.body), self.sandbox.start)

    # --- what comes in the dialog -------------------------------------------------------------------------------------

    def received(self, request: Message, source: tuple[str, int]) -> None:
        """One request of this dialog, seen for the first time."""
        if handle := HANDLERS.get(request.method):
            handle(self, request, source)
        else:
            self.sandbox.reply(request, source, 501, tag=self.tag)

    def _on_ack(self, request: Message, source: tuple[str, int]) -> None:
        if request.body:
            self._their = Session.parse(request.body)
        if self._their is not None and not self._acked.is_set():
            self._answered(self._their)
        self._acked.set()

    def _on_bye(self, request: Message, source: tuple[str, int]) -> None:
        self.sandbox.reply(request, source, 200, tag=self.tag)
        if parameter(request.get("To"), "tag") not in ("", self.tag):
            return  # of the second telephone, where two answered
        if self.far_end.transferred_to is not None and self._taken:
            self.leave()
        else:
            self.end("BYE")

    def _on_cancel(self, request: Message, source: tuple[str, int]) -> None:
        self.sandbox.reply(request, source, 200, tag=self.tag)
        self.canceled.set()
        if not self.answers_late:
            self.refuse(487)

    def _on_invite(self, request: Message, source: tuple[str, int]) -> None:
        """A re-INVITE, or an UPDATE: the session changes, or is only refreshed."""
        self._learn(request, "From")
        self.refreshed.set()
        body = b""
        if request.body:
            try:
                self._answered(Session.parse(request.body, prefer=self.here.payload_type))
            except LookupError:
                self.sandbox.reply(request, source, 488, tag=self.tag)
                return
        if request.body or request.method == "INVITE":
            body = self.description()
        more = [("Session-Expires", request.get("Session-Expires"))] if request.get("Session-Expires") else []
        self.sandbox.reply(request, source, 200, self._contact, ALLOW, *more, tag=self.tag, body=body)

    def _on_options(self, request: Message, source: tuple[str, int]) -> None:
        if not self.sound.cut:  # who cut the line does not answer for it
            self.sandbox.reply(request, source, 200, ALLOW, tag=self.tag)

    def _on_info(self, request: Message, source: tuple[str, int]) -> None:
        if pressed := re.search(rb"(?im)^signal\s*=\s*(\S)", request.body):
            self.far_end.digits += pressed[1].decode()
        self.sandbox.reply(request, source, 200 if pressed else 415, tag=self.tag)

    def _on_prack(self, request: Message, source: tuple[str, int]) -> None:
        known = request.get("RAck").split()[:1] == ["7001"]
        self.sandbox.reply(request, source, 200 if known else 481, tag=self.tag)
        if known:
            self.pracked.set()

    def _on_refer(self, request: Message, source: tuple[str, int]) -> None:
        if "no transfers" in self.sandbox.quirks:
            self.sandbox.reply(request, source, 603, tag=self.tag)
            return
        self.sandbox.reply(request, source, 202, self._contact, tag=self.tag)
        self.sandbox.start(self._transfer(request.get("Refer-To"), request.get("CSeq").split()[0]))

    async def _transfer(self, refer_to: str, subscription: str) -> None:
        """Ring the target, and tell how it goes (RFC 3515)."""
        target = address(refer_to).partition("?")[0]
        dialled = user(target)
        to = dialled if dialled.startswith("+") else target
        self.far_end.transferred_to = to
        self.far_end.note(f"transferred to {to}")
        replaces = re.search(r"(?i)[?&]replaces=([^&>]+)", refer_to)
        self._transferring = subscription
        await self._notify(subscription, 100)
        outcome = outcome_of(to)
        if outcome is Outcome.NO_ANSWER:
            await either(self.over, self.sandbox.transfer_seconds)
            status = 480
        else:
            await asyncio.sleep(self.sandbox.ring_seconds)
            status = {**REFUSED, **REFUSED_AT_ONCE}.get(outcome, 200)
        if replaces is not None and status == 200:
            other = self.sandbox.legs.get(unquote(replaces[1]).partition(";")[0])
            status = 481 if other is None or other.over.is_set() else 200
            if other is not None and status == 200:
                other.far_end.note(f"talks to {self.far_end.from_}")
                other.sandbox.start(other._tell(other.request("BYE")))
                other.leave()
        if self._transferring and not self.over.is_set():
            self._taken = status == 200
            await self._notify(subscription, status)

    async def _notify(self, subscription: str, status: int) -> None:
        await self._tell(self._note(subscription, status))

    def _note(self, subscription: str, status: int) -> Message:
        state = "active;expires=60" if status < 200 else "terminated;reason=noresource"
        if status >= 200:
            self._transferring = ""
        headers = [("Event", f"refer;id={subscription}"), ("Subscription-State", state)]
        told = self._told(status).encode()
        return self.request("NOTIFY", *headers, ("Content-Type", "message/sipfrag;version=2.0"), body=told)

    @staticmethod
    def _told(status: int) -> str:
        return Message("BYE x SIP/2.0", [("Via", ""), ("CSeq", "1 BYE")]).reply(status, ("", 0), tag="").start + "\r\n"

    # --- messages -----------------------------------------------------------------------------------------------------

    def respond(self, status: int, *more: tuple[str, str], body: bytes = b"", tag: str = "") -> Message:
        """A response to the INVITE that rang this telephone."""
        if status >= 200:
            self.final = True
        return self.sandbox.reply(
            self._invite, self._source, status, self._contact, *more, tag=tag or self.tag, body=body
        )

    def request(
        self, method: str, *more: tuple[str, str], body: bytes = b"", of: Message | None = None
    ) -> Message:
        """A request of this dialog; ``of`` an INVITE that it cancels."""
        self._number += of is None
        number = self._number if of is None else int(of.get("CSeq").split()[0])
        branch = of.branch if of is not None else f"z9hG4bK{token()}"
        to, ours = self._theirs, self._ours
        if of is None and self.peer_tag and "tag=" not in to:
            to += f";tag={self.peer_tag}"
        if "tag=" not in ours:
            ours += f";tag={self.tag}"
        headers = [("Via", f"SIP/2.0/UDP {self.sandbox.at};rport;branch={branch}"), ("Max-Forwards", "70"),
                   ("From", ours), ("To", to), ("Call-ID", self.call_id), ("CSeq", f"{number} {method}"),
                   *([self._contact] if of is None else []), *more]  # fmt: skip
        if body and not any(name == "Content-Type" for name, _ in more):
            headers.append(("Content-Type", "application/sdp"))
        target = of.uri if of is not None else self._target
        return Message(f"{method} {target} SIP/2.0", headers, body)

    async def _tell(self, request: Message) -> None:
        await self.sandbox.ask(request, self._target_at)

    def _ack(self, response: Message, body: bytes = b"") -> None:
        """Acknowledge a final response to an INVITE of ours; of a refusal in its own transaction."""
        number = response.get("CSeq").split()[0]
        branch = f"z9hG4bK{token()}" if response.status < 300 else response.branch
        headers = [("Via", f"SIP/2.0/UDP {self.sandbox.at};rport;branch={branch}"), ("Max-Forwards", "70"),
                   *((name, response.get(name)) for name in ("From", "To", "Call-ID")), ("CSeq", f"{number} ACK"),
                   *([("Content-Type", "application/sdp")] if body else [])]  # fmt: skip
        self.sandbox.acknowledge(response, Message(f"ACK {self._target} SIP/2.0", headers, body), self._target_at)

    @property
    def _contact(self) -> tuple[str, str]:
        return "Contact", f"<sip:trunk@{self.sandbox.at}>"

    def _learn(self, message: Message, whose: str) -> None:
        """Who and where the other side is."""
        self.peer_tag = parameter(message.get(whose), "tag") or self.peer_tag
        if contact := address(message.get("Contact")):
            if not 300 <= message.status < 400:
                self._target, self._target_at = contact, hostport(contact)

    def _answered(self, their: Session) -> None:
        self._up = True
        self.far_end.answered()
        self.sound.connect(their, self.sandbox.start)

    def description(self) -> bytes:
        return self.here.encode(id(self))

    def _described(self, direction: str, their: Session | None = None) -> Session:
        """How our sound is described next: in their codec, if they have spoken first."""
        codec = their.payload_type if their is not None else self.here.payload_type
        events = their.events if their is not None else self.here.events
        return Session(*self.sound.datagrams.address, codec, events, direction, self.here.version + 1)


async def either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or as long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


Handler = Callable[[Leg, Message, tuple[str, int]], None]
HANDLERS: dict[str, Handler] = {
    "ACK": Leg._on_ack, "BYE": Leg._on_bye, "CANCEL": Leg._on_cancel, "INVITE": Leg._on_invite,
    "UPDATE": Leg._on_invite, "OPTIONS": Leg._on_options, "INFO": Leg._on_info, "PRACK": Leg._on_prack,
    "REFER": Leg._on_refer,
}  # fmt: skip
