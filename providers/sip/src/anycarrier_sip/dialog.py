"""A SIP dialog: what both sides of a call have agreed on so far (RFC 3261 section 12), and responses as a user agent
owes them. Pure: no socket, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from anycarrier_sip.message import Headers, Message, NameAddr, Request, Response, SipError, Uri

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, NOTIFY"
"""REFER is not among them: it would have us dial at our cost."""

SUPPORTED = ("100rel", "timer", "replaces")

MIN_SE = 90
"""Seconds of the shortest session timer that we take, and RFC 4028 allows."""


@dataclass(slots=True)
class Dialog:
    """One dialog; ``caller``: we began it. While nobody has answered our INVITE, ``remote`` has no tag."""

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
        if (target := contact_of(request)) is None:
            raise SipError(400, "Missing Contact")
        routes = request.headers.values("Record-Route")
        return cls(request.call_id, local, request.from_, target, False, routes, 0, request.cseq.number)

    def answered(self, response: Response) -> Dialog:
        """The dialog that a provisional or final answer to our INVITE, with a To tag, makes or confirms."""
        routes = response.headers.values("Record-Route")[::-1]
        target = contact_of(response) or self.target
        return Dialog(self.call_id, self.local, response.to, target, True, routes, self.local_cseq)

    @property
    def local_tag(self) -> str:
        return self.local.tag or ""

    @property
    def remote_tag(self) -> str:
        """ "" before it is known, and for RFC 2543 peers."""
        return self.remote.tag or ""

    @property
    def next_hop(self) -> Uri:
        """Where requests inside the dialog are sent."""
        return NameAddr.parse(self.routes[0]).uri if self.routes else Uri.parse(self.target)

    def request(self, method: str, *, cseq: int | None = None) -> Request:
        """A request inside the dialog, without Via, Contact and body. ``cseq`` is given for ACK: the INVITE's."""
        if cseq is None:
            self.local_cseq += 1
            cseq = self.local_cseq
        uri, routes = self.target, self.routes
        if routes and "lr" not in NameAddr.parse(routes[0]).uri.parameters:  # a strict router, section 12.2.1.1
            uri, routes = str(NameAddr.parse(routes[0]).uri), [*routes[1:], f"<{self.target}>"]
        headers = Headers([("Max-Forwards", "70"), *(("Route", route) for route in routes)])
        headers.add("From", str(self.local))
        headers.add("To", str(self.remote))
        headers.add("Call-ID", self.call_id)
        headers.add("CSeq", f"{cseq} {method}")
        return Request(method, uri, headers)

    def in_order(self, request: Request) -> bool:
        """Count the request; False, for 500, if it is older than one before."""
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


# --- what headers say -------------------------------------------------------------------------------------------------


def contact_of(message: Message) -> str | None:
    """The URI of the message's Contact, None when it has none that can be read."""
    try:
        return str(NameAddr.parse(message.headers.values("Contact")[0]).uri)
    except (SipError, IndexError):
        return None


def options_of(message: Message, header: str) -> set[str]:
    """The option tags of Require, Supported or Allow, lower case."""
    return {tag.strip().lower() for tag in message.headers.values(header)}


def unsupported(request: Request) -> bool:
    """Whether it requires what we cannot do: 420."""
    return not options_of(request, "Require") <= set(SUPPORTED)


def seconds_of(message: Message, header: str) -> int | None:
    """The seconds of Session-Expires, Min-SE, Expires or Retry-After, None without a number."""
    found = re.match(r"\s*(\d{1,9})\s*(?:[;(]|$)", message.headers.get(header) or "")
    return int(found[1]) if found else None


def kind_of(message: Message) -> str:
    """The media type of the body, lower case, without parameters."""
    return (message.headers.get("Content-Type") or "").partition(";")[0].strip().lower()


def check_described(request: Request) -> None:
    """``SipError`` 415 for a body that is no session description."""
    if request.body and kind_of(request) != "application/sdp":
        raise SipError(415)
