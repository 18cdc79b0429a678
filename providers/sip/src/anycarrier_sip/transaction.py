"""Transactions: the four machines of RFC 3261, section 17, corrected by RFC 6026. No socket and no clock of its own.

A *transaction* is one request and its responses on one hop. It repeats what may be lost, absorbs what comes twice,
acknowledges refusals, and ends in bounded time; which message is for which, ``transaction_layer.py`` knows:

    client INVITE    A repeats, B gives up, D absorbs repeated refusals, M passes on repeated 2xx
    client others    E repeats, F gives up, K absorbs
    server INVITE    G repeats a refusal until its ACK, H gives up, I absorbs ACKs, L absorbs INVITEs after a 2xx
    server others    J absorbs; only the answer is kept, for as long as there is room

A 2xx to an INVITE is repeated, and acknowledged, by whoever uses them: both cross hops. What state a transaction
is in, the last status says: none is "trying" or "calling", 1xx "proceeding", 2xx of an INVITE "accepted", any other
"completed".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anycarrier_sip.message import Headers, Request, Response, reply

if TYPE_CHECKING:
    from anycarrier_sip.transaction_layer import TransactionLayer

T1, T2, T4 = 0.5, 4.0, 5.0
"""Seconds: the first repeat, the longest pause between repeats, how long a message may travel (RFC 3261, table 4)."""
PATIENCE = 64 * T1
"""Timers B, D, F, H, J, L and M."""
TRYING = 0.2
"""Seconds without any answer of ours, after which an INVITE is answered 100 (17.2.1)."""
REFUSALS = 2000
"""Open server transactions beyond which an INVITE is refused once, not until its ACK: floods take no more memory."""

OnResponse = Callable[[Response], Any]
OnFailure = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Flow:
    """Between which two sockets a message went: ``udp``, ``tcp`` or ``tls``; ``connection`` is 0 for UDP."""

    transport: str
    local: tuple[str, int]
    remote: tuple[str, int]
    connection: int = 0

    @property
    def reliable(self) -> bool:
        """Whether nothing needs repeating."""
        return self.transport != "udp"


class Transaction:
    """What both sides share. ``status`` is the last response's, received (client) or sent (server)."""

    def __init__(self, layer: TransactionLayer, known: dict[Any, Any], key: Any, request: Request, flow: Flow) -> None:
        self.request, self.flow, self.status, self.over = request, flow, 0, False
        self._layer, self._known, self._key = layer, known, key
        self._invite = request.method == "INVITE"
        self._pause = T1
        self._timers: dict[str, Any] = {}

    @property
    def final(self) -> bool:
        """Whether a final response was received (client) or sent (server), or none will be."""
        return self.over or self.status >= 200

    @property
    def accepted(self) -> bool:
        """Whether it is an INVITE with a 2xx."""
        return self._invite and 200 <= self.status < 300

    def stop(self) -> None:
        """Do nothing more by itself."""
        while self._timers:
            self._timers.popitem()[1].cancel()

    def _after(self, seconds: float, name: str, act: Callable[[], None]) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self._layer.call_later(seconds, act)

    def _linger(self, seconds: float) -> None:
        """Absorb repeats so long, then all is over."""
        self.stop()
        if seconds:
            self._after(seconds, "end", self.end)
        else:
            self.end()

    def end(self) -> None:
        """Forget it."""
        self.over = True
        self.stop()
        self._known.pop(self._key, None)


class ClientTransaction(Transaction):
    """A request of ours. No callback comes from within its making or ``cancel``."""

    def __init__(
        self, layer: TransactionLayer, branch: str, request: Request, flow: Flow, on_response: OnResponse,
        on_failure: OnFailure, timeout: float = PATIENCE,
    ) -> None:  # fmt: skip
        super().__init__(layer, layer.clients, (branch, request.method), request, flow)
        self._on_response, self._on_failure, self._cancelling = on_response, on_failure, False
        self._wire = request.encode()
        if request.method == "ACK":
            self.over = True
            layer.send(self._wire, flow)
            return
        self._known[self._key] = self
        self._after(timeout, "end", lambda: self.fail("timeout"))
        if not flow.reliable:
            self._after(T1, "repeat", self._repeat)
        self._send()

    @property
    def heard(self) -> bool:
        """Whether any response has come: the request arrived, and must not go to another target."""
        return self.status > 0

    def cancel(self) -> None:
        """Take an INVITE back, once a provisional response has come (RFC 3261, 9.1): expect 487, a 2xx that crosses the
        CANCEL, or the failure ``timeout``."""
        if self._invite and not self._cancelling:
            self._cancelling = True
            if self.heard and not self.final:
                self._send_cancel()

    def fail(self, why: str) -> None:
        """End it; that is told unless there was a final response."""
        told = not self.final
        self.end()
        if told:
            self._on_failure(why)

    def _send(self) -> None:
        if not self._layer.send(self._wire, self.flow):
            self._after(0, "end", lambda: self.fail("transport"))

    def _repeat(self) -> None:
        self._pause *= 2  # timer A: ever longer, until timer B
        if not self._invite:  # timer E
            self._pause = T2 if self.heard else min(self._pause, T2)
        self._after(self._pause, "repeat", self._repeat)
        self._send()

    def _send_cancel(self) -> None:
        self._after(PATIENCE, "end", lambda: self.fail("timeout"))
        cancel = hop_by_hop(self.request, "CANCEL", self.request.headers.get("To") or "")
        ClientTransaction(self._layer, self._key[0], cancel, self.flow, lambda response: None, lambda why: None)

    def receive(self, response: Response) -> None:
        """Take a response."""
        status = response.status
        if self.final:
            if self._invite and self.status >= 300 and status >= 300:
                self._layer.send(self._wire, self.flow)  # the ACK again
            elif self.accepted and 200 <= status < 300:
                self._on_response(response)  # a repeat, or another phone the call was forked to (RFC 6026)
            return
        first, self.status = not self.heard, status
        if status < 200:
            if self._invite and first:
                self.stop()
                if self._cancelling:
                    self._send_cancel()
        elif self.accepted:
            self._linger(PATIENCE)  # timer M
        else:
            if self._invite:
                self._wire = hop_by_hop(self.request, "ACK", response.headers.get("To") or "").encode()
                self._layer.send(self._wire, self.flow)
            longest = PATIENCE if self._invite else T4
            self._linger(0 if self.flow.reliable else longest)  # timers D and K
        self._on_response(response)


class ServerTransaction(Transaction):
    """A request of theirs. The ACK of a 2xx is one too, which takes no response."""

    def __init__(self, layer: TransactionLayer, key: Any, request: Request, flow: Flow) -> None:
        super().__init__(layer, layer.servers, key, request, flow)
        self.on_cancel: Callable[[], None] | None = None
        """Called when an INVITE is cancelled before its final response: send 487. Without it, 487 is sent."""
        self.to_tag: str | None = None
        """The tag in our responses; None before the first."""
        self.cancelled, self._last, self._answers_to = False, b"", _answer_flow(request, flow)
        if request.method == "ACK":
            self.over = True
            return
        self._known[key] = self
        if self._invite:
            self._after(TRYING, "repeat", lambda: self.respond(reply(request, 100)))

    @property
    def awaits_ack(self) -> bool:
        """Whether it is an INVITE that was accepted, or cancelled, and no ACK has said that its sender is there. Who
        sees the ACK of a 2xx is its dialog."""
        return not self.over and (self.accepted or (self.cancelled and self.final and bool(self._last)))

    def respond(self, response: Response) -> None:
        """Send ``response``. A 2xx to an INVITE may be sent again until its ACK; anything else after a final response
        is too late, and is dropped."""
        again = self.accepted and 200 <= response.status < 300 and not self.over
        if self.final and not again:
            return
        self.status, self._last = response.status, response.encode()
        self.to_tag = response.to.tag or self.to_tag
        if not self.final:
            self.stop()
        elif not again:
            self._finish()
        self.answer()

    def _finish(self) -> None:
        self.on_cancel = None  # too late for it, and the call may go
        if not self._invite:
            self.end()
            if not self.flow.reliable:
                self._layer.keep(self._key, self._last, self._answers_to)  # timer J
        elif self.accepted:
            self._linger(PATIENCE)  # timer L
        else:
            self.request.body = b""
            self._linger(PATIENCE if len(self._known) <= REFUSALS else 0)  # timer H
            if not self.flow.reliable and not self.over:
                self._after(T1, "repeat", self._repeat)

    def forget(self, response: Response | None = None) -> None:
        """Send ``response`` once, if any, and forget the request: a stranger costs nothing, and his repeat is new."""
        self._last = response.encode() if response is not None else b""
        self.answer()
        self.end()

    def answer(self) -> None:
        """Send the last response, again."""
        if self._last:
            self._layer.send(self._last, self._answers_to)

    def _repeat(self) -> None:  # timer G
        self._pause = min(2 * self._pause, T2)
        self._after(self._pause, "repeat", self._repeat)
        self.answer()

    def acknowledged(self) -> None:
        """The ACK of its refusal has come."""
        if self.final and self._last:
            self._last = b""
            self._linger(0 if self.flow.reliable else T4)  # timer I

    def cancel(self, cancel: ServerTransaction) -> None:
        """RFC 3261, 9.2."""
        tag = self.to_tag or self._layer.token()
        cancel.respond(reply(cancel.request, 200, to_tag=tag))
        if not self.final and not self.cancelled:
            self.cancelled = True
            if self.on_cancel is not None:
                self.on_cancel()
            else:
                self.respond(reply(self.request, 487, to_tag=tag))


def hop_by_hop(request: Request, method: str, to: str) -> Request:
    """The ACK of a refusal or the CANCEL of ``request``: for the same hop, so with its branch (9.1, 17.1.1.3)."""
    given = request.headers
    routes = [("Route", route) for route in given.values("Route")]
    same = [("Via", given.values("Via")[0]), ("Max-Forwards", "70"), *routes, ("From", given.get("From") or "")]
    cseq = f"{request.cseq.number} {method}"
    return Request(method, request.uri, Headers([*same, ("To", to), ("Call-ID", request.call_id), ("CSeq", cseq)]))


def _answer_flow(request: Request, flow: Flow) -> Flow:
    """Note in the top Via where the request came from, and say where its responses go (RFC 3261, 18.2; RFC 3581): to no
    other address."""
    via = request.via
    host, port = flow.remote
    asked = "rport" in via.parameters
    if asked:
        via.parameters["rport"] = str(port)
    if asked or via.host != host:
        via.parameters["received"] = host
        request.headers.set("Via", str(via), *request.headers.lines("Via")[1:])
    return flow if flow.reliable or asked else Flow("udp", flow.local, (host, via.port or 5060))
