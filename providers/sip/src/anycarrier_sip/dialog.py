"""A SIP dialog: what both sides of a call have agreed on so far (RFC 3261 section 12). Pure: no socket, no clock.

Also what hangs on one: the session timer (RFC 4028), and provisional answers that must arrive (RFC 3262).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from anycarrier_sip.header_values import parameters_of
from anycarrier_sip.message import CSeq, Headers, Message, NameAddr, Request, Response, SipError, Uri

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, NOTIFY"
"""REFER is not among them: it would have us dial at our cost."""

SUPPORTED = ("100rel", "timer", "replaces")

SESSION_EXPIRES = 1800
"""Seconds that a session lasts unless it is refreshed; RFC 4028 recommends them."""

MIN_SE = 90
"""The shortest that we take, and RFC 4028 allows."""


@dataclass(slots=True)
class Dialog:
    """One dialog, ours (``caller``) or theirs. ``remote`` without a tag: nobody has answered our INVITE yet."""

    call_id: str
    local: NameAddr
    remote: NameAddr
    target: str
    caller: bool
    routes: list[str] = field(default_factory=list)
    local_cseq: int = 0
    remote_cseq: int | None = None

    @classmethod
    def incoming(cls, request: Request, tag: str) -> Self:
        """The dialog that our answer to an INVITE makes. ``SipError`` 400 without a usable Contact."""
        local = NameAddr(request.to.display, request.to.uri, {**request.to.parameters, "tag": tag})
        routes = request.headers.values("Record-Route")
        target = contact_of(request)
        if target is None:
            raise SipError(400, "Missing Contact")
        return cls(request.call_id, local, request.from_, target, False, routes, 0, request.cseq.number)

    def answered(self, response: Response) -> Dialog:
        """The dialog that a provisional or final answer to our INVITE, with a To tag, makes or confirms."""
        routes = response.headers.values("Record-Route")[::-1]
        target = contact_of(response) or self.target
        return Dialog(self.call_id, self.local, response.to, target, True, routes, self.local_cseq)

    @property
    def local_tag(self) -> str:
        """Ours."""
        return self.local.tag or ""

    @property
    def remote_tag(self) -> str:
        """The far end's tag, "" before it is known and for RFC 2543 peers."""
        return self.remote.tag or ""

    def request(self, method: str, *, cseq: int | None = None) -> Request:
        """A request inside the dialog, without Via, Contact and body. ``cseq`` is given for ACK: the INVITE's."""
        if cseq is None:
            self.local_cseq += 1
            cseq = self.local_cseq
        headers = Headers()
        uri, routes = self.target, self.routes
        if routes and "lr" not in NameAddr.parse(routes[0]).uri.parameters:  # a strict router, section 12.2.1.1
            uri, routes = str(NameAddr.parse(routes[0]).uri), [*routes[1:], f"<{self.target}>"]
        headers.add("Max-Forwards", "70")
        for route in routes:
            headers.add("Route", route)
        headers.add("From", str(self.local))
        headers.add("To", str(self.remote))
        headers.add("Call-ID", self.call_id)
        headers.add("CSeq", f"{cseq} {method}")
        return Request(method, uri, headers)

    @property
    def next_hop(self) -> Uri:
        """Where requests inside the dialog are sent."""
        return NameAddr.parse(self.routes[0]).uri if self.routes else Uri.parse(self.target)

    def in_order(self, request: Request) -> bool:
        """False for a request that is older than one we have seen: 500. Counts it otherwise."""
        if request.method in ("ACK", "CANCEL"):
            return True
        if self.remote_cseq is not None and request.cseq.number <= self.remote_cseq:
            return False
        self.remote_cseq = request.cseq.number
        return True

    def refresh(self, message: Message) -> None:
        """Take the new Contact of a re-INVITE, an UPDATE or a 2xx to one."""
        self.target = contact_of(message) or self.target

    def replaces(self) -> str:
        """The ``Replaces`` that names this dialog to its far end (RFC 3891): the tags as seen from there."""
        return f"{self.call_id};to-tag={self.remote_tag};from-tag={self.local_tag}"


def contact_of(message: Message) -> str | None:
    """The URI of the message's Contact, None when it has none that can be read."""
    value = message.headers.get("Contact")
    if value is None or value.strip() == "*":
        return None
    try:
        return str(NameAddr.parse(message.headers.values("Contact")[0]).uri)
    except (SipError, ValueError, IndexError):
        return None


def options_of(message: Message, header: str) -> set[str]:
    """The option tags of Require, Supported or Allow, lower case."""
    return {tag.strip().lower() for tag in message.headers.values(header)}


# --- RFC 4028: sessions that end by themselves when a side is gone -------------------------------------------------


def seconds_of(message: Message, header: str) -> int | None:
    """The seconds of Session-Expires, Min-SE, Expires or Retry-After, None without a number."""
    found = re.match(r"\s*(\d{1,9})\s*(?:[;(]|$)", message.headers.get(header) or "")
    return int(found[1]) if found else None


@dataclass(slots=True)
class SessionTimer:
    """How long the session lasts without a refresh, and whose turn that is."""

    interval: int
    ours: bool
    """True when we refresh."""

    @property
    def refresh_after(self) -> float:
        """Seconds after which the one whose turn it is refreshes."""
        return self.interval / 2

    @property
    def over_after(self) -> float:
        """Seconds after which a session that was not refreshed is hung up."""
        return self.interval - min(32.0, self.interval / 3)

    @classmethod
    def granted(cls, response: Response) -> SessionTimer | None:
        """What a 2xx to our INVITE or UPDATE says; None: the session does not expire."""
        interval = seconds_of(response, "Session-Expires")
        if interval is None:
            return None
        refresher = parameters_of(response.headers.get("Session-Expires") or "").get("refresher", "uac")
        return cls(max(interval, 2), refresher.lower() != "uas")

    @classmethod
    def asked(cls, request: Request) -> SessionTimer | None:
        """What we grant the sender of an INVITE or UPDATE; ``SipError`` 422 for less than :data:`MIN_SE`."""
        wanted, able = seconds_of(request, "Session-Expires"), "timer" in options_of(request, "Supported")
        if wanted is None:
            if not able:
                return None
            return cls(max(SESSION_EXPIRES, seconds_of(request, "Min-SE") or 0), ours=False)
        if wanted < MIN_SE and able:
            raise SipError(422, "Session Interval Too Small")
        refresher = parameters_of(request.headers.get("Session-Expires") or "").get("refresher", "")
        return cls(max(wanted, MIN_SE), ours=not able or refresher.lower() == "uas")

    def grant(self, response: Response, request: Request) -> None:
        """Write it into our 2xx."""
        response.headers.set("Session-Expires", f"{self.interval};refresher={'uas' if self.ours else 'uac'}")
        if not self.ours:
            response.headers.add("Require", "timer")


def ask_for_timer(request: Request, interval: int, minimum: int, refresher: str = "") -> None:
    """Write into our INVITE or UPDATE that the session is to expire."""
    request.headers.set("Session-Expires", f"{interval}" + (f";refresher={refresher}" if refresher else ""))
    request.headers.set("Min-SE", str(minimum))


# --- RFC 3262: provisional answers that must arrive ----------------------------------------------------------------


@dataclass(slots=True)
class Provisionals:
    """Which of the far end's numbered provisional answers to acknowledge: each once, in order."""

    last: int | None = None

    def rack(self, response: Response) -> str | None:
        """``RAck`` for the PRACK of ``response``; None for one that wants none, is a repeat or came out of order."""
        if "100rel" not in options_of(response, "Require") or not 100 < response.status < 200:
            return None
        number = seconds_of(response, "RSeq")
        if number is None or (self.last is not None and number != self.last + 1):
            return None
        self.last = number
        return f"{number} {response.cseq.number} {response.cseq.method}"


def acknowledges(prack: Request, rseq: int, invite: CSeq) -> bool:
    """Whether ``prack`` is for our provisional answer ``rseq`` to ``invite``."""
    return (prack.headers.get("RAck") or "").split() == [str(rseq), str(invite.number), invite.method]


