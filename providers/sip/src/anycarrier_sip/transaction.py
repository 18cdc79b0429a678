"""Transactions: the four machines of RFC 3261, section 17, corrected by RFC 6026. No socket and no clock of its own.

A *transaction* is one request and its responses on one hop. The layer repeats what may be lost, absorbs what comes
twice, acknowledges refusals, and ends everything in bounded time:

    client INVITE    A repeats, B gives up, D absorbs repeated refusals, M passes on repeated 2xx
    client others    E repeats, F gives up, K absorbs
    server INVITE    G repeats a refusal until its ACK, H gives up, I absorbs ACKs, L absorbs INVITEs after a 2xx
    server others    J absorbs; only the answer is kept, for as long as there is room

A 2xx to an INVITE is repeated, and acknowledged, by the user of this layer: both cross hops. What state a transaction
is in, the last status says: none is "trying" or "calling", 1xx "proceeding", 2xx of an INVITE "accepted", any other
"completed".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from anycarrier_sip.message import Headers, Message, Request, Response, reply

T1, T2, T4 = 0.5, 4.0, 5.0
"""Seconds: the first repeat, the longest pause between repeats, how long a message may travel (RFC 3261, table 4)."""
PATIENCE = 64 * T1
"""Timers B, D, F, H, J, L and M."""
TRYING = 0.2
"""Seconds without any answer of ours, after which an INVITE is answered 100 (17.2.1)."""
ANSWERS, REFUSALS = 4 << 20, 2000
"""Bytes of answers kept for repeats, until newer ones take their place; and open server transactions beyond which an
INVITE is refused once, not until its ACK. Who floods us takes no more memory."""
COOKIE = "z9hG4bK"
"""How the branch of every sender since RFC 3261 begins; without it, requests are matched as in RFC 2543."""
ANSWER = 1000
"""Bytes that a kept answer takes beside itself, and again for its key."""
BRANCH = re.compile(COOKIE.encode() + rb"\w+")

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
            self._after(seconds, "end", self._end)
        else:
            self._end()

    def _end(self) -> None:
        self.over = True
        self.stop()
        self._known.pop(self._key, None)


class ClientTransaction(Transaction):
    """A request of ours. No callback comes from within its making or ``cancel``."""

    def __init__(
        self, layer: TransactionLayer, branch: str, request: Request, flow: Flow, on_response: OnResponse,
        on_failure: OnFailure, timeout: float = PATIENCE,
    ) -> None:  # fmt: skip
        super().__init__(layer, layer._clients, (branch, request.method), request, flow)
        self._on_response, self._on_failure = on_response, on_failure
        self._cancelling = False
        self._wire = request.encode()
        if request.method == "ACK":
            self.over = True
            layer._send(self._wire, flow)
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
        """Take an INVITE back: by CANCEL, once a provisional response has come (RFC 3261, 9.1); expect a 487. A 2xx
        that crosses it still comes by ``on_response``. Without a final response it fails after 32 s: ``timeout``."""
        if self._invite and not self._cancelling:
            self._cancelling = True
            if self.heard and not self.final:
                self._send_cancel()

    def fail(self, why: str) -> None:
        """End it; that is told unless there was a final response."""
        told = not self.final
        self._end()
        if told:
            self._on_failure(why)

    def _send(self) -> None:
        if not self._layer._send(self._wire, self.flow):
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
        ClientTransaction(self._layer, self._key[0], cancel, self.flow, _ignore, _ignore)

    def _receive(self, response: Response) -> None:
        status = response.status
        if self.final:
            if self._invite and self.status >= 300 and status >= 300:
                self._layer._send(self._wire, self.flow)  # the ACK again
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
                self._layer._send(self._wire, self.flow)
            longest = PATIENCE if self._invite else T4
            self._linger(0 if self.flow.reliable else longest)  # timers D and K
        self._on_response(response)


class ServerTransaction(Transaction):
    """A request of theirs. The ACK of a 2xx is one too, which takes no response."""

    def __init__(self, layer: TransactionLayer, key: Any, request: Request, flow: Flow) -> None:
        super().__init__(layer, layer._servers, key, request, flow)
        self.on_cancel: Callable[[], None] | None = None
        """Called when an INVITE is cancelled before its final response: send 487. Without it, 487 is sent."""
        self.to_tag: str | None = None
        """The tag in our responses; None before the first."""
        self.cancelled = False
        self._answers_to = _answer_flow(request, flow)
        self._last = b""
        if request.method == "ACK":
            self.over = True
            return
        self._known[key] = self
        if self._invite:
            self._after(TRYING, "repeat", lambda: self.respond(reply(request, 100)))

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
        self._answer()

    def _finish(self) -> None:
        self.on_cancel = None  # too late for it, and the call may go
        if not self._invite:
            self._end()
            if not self.flow.reliable:
                self._layer._keep(self._key, self._last, self._answers_to)  # timer J
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
        self._answer()
        self._end()

    def _answer(self) -> None:
        if self._last:
            self._layer._send(self._last, self._answers_to)

    def _repeat(self) -> None:  # timer G
        self._pause = min(2 * self._pause, T2)
        self._after(self._pause, "repeat", self._repeat)
        self._answer()

    def _acknowledged(self) -> None:
        if self.final and self._last:
            self._last = b""
            self._linger(0 if self.flow.reliable else T4)  # timer I

    def _cancel(self, cancel: ServerTransaction) -> None:
        """RFC 3261, 9.2."""
        tag = self.to_tag or self._layer.token()
        cancel.respond(reply(cancel.request, 200, to_tag=tag))
        if not self.final and not self.cancelled:
            self.cancelled = True
            if self.on_cancel is not None:
                self.on_cancel()
            else:
                self.respond(reply(self.request, 487, to_tag=tag))


class TransactionLayer:
    """All transactions of one endpoint.

    ``send(data, flow)`` writes bytes; ``OSError`` from it fails a client transaction. ``call_later(seconds, act)``
    gives a timer, with ``cancel()``. ``token()`` makes branches and tags, not to be guessed. ``sent_by(flow)`` is the
    host and port that peers reach us at, for Via. ``strays(response, flow)`` gets responses to INVITEs whose
    transaction is over: a 2xx must be acknowledged again.
    """

    def __init__(
        self, send: Callable[[bytes, Flow], None], call_later: Callable[[float, Callable[[], None]], Any], *,
        token: Callable[[], str], sent_by: Callable[[Flow], tuple[str, int]] = lambda flow: flow.local,
        strays: Callable[[Response, Flow], None] = lambda response, flow: None,
    ) -> None:  # fmt: skip
        self.call_later, self.token = call_later, token
        self._write, self._sent_by, self._strays = send, sent_by, strays
        self._clients: dict[tuple[str, str], ClientTransaction] = {}
        self._servers: dict[Any, ServerTransaction] = {}
        self._merged = WeakValueDictionary[Any, ServerTransaction]()
        self._answers: dict[Any, tuple[bytes, Flow]] = {}
        self._size = 0

    def request(
        self, request: Request, flow: Flow, on_response: OnResponse, on_failure: OnFailure, timeout: float = PATIENCE
    ) -> ClientTransaction:
        """Send ``request`` with a Via and a branch of its own, in place of any it has.

        ``on_response`` gets each provisional response, the final one, and for an INVITE each further 2xx; or
        ``on_failure`` is called once, with ``timeout`` (nothing final within ``timeout`` seconds; for an INVITE,
        nothing at all) or ``transport``. An ACK is sent, and that is all.
        """
        if "Max-Forwards" not in request.headers:
            request.headers.set("Max-Forwards", "70")
        branch = COOKIE + self.token()
        host, port = self._sent_by(flow)
        host = f"[{host}]" if ":" in host else host
        request.headers.set("Via", f"SIP/2.0/{flow.transport.upper()} {host}:{port};rport;branch={branch}")
        return ClientTransaction(self, branch, request, flow, on_response, on_failure, timeout)

    def receive(self, message: Message, flow: Flow) -> ServerTransaction | None:
        """Take a message. A new request is returned for its user to answer, and so is the ACK of a 2xx; repeats,
        CANCELs, ACKs of refusals and responses are dealt with: None."""
        if isinstance(message, Response):
            method = message.cseq.method
            client = self._clients.get((message.via.branch or "", method))
            if client is not None:
                client._receive(message)
            elif method == "INVITE":
                self._strays(message, flow)
            return None
        method = message.method
        key, legacy = _server_key(message, flow, "INVITE" if method == "ACK" else method)
        if (answer := self._answers.get(key)) is not None:
            self._send(*answer)
            return None
        known = self._servers.get(key)
        if method == "ACK":
            another = known is not None and legacy and known.to_tag and message.to.tag != known.to_tag
            if known is None or another or known.accepted:
                return ServerTransaction(self, key, message, flow)
            known._acknowledged()
            return None
        if known is not None:
            if not known.accepted:
                known._answer()
            return None
        transaction = ServerTransaction(self, key, message, flow)
        if method == "CANCEL":
            if (invite := self._servers.get(_server_key(message, flow, "INVITE")[0])) is not None:
                invite._cancel(transaction)
            else:
                transaction.respond(reply(message, 481, to_tag=self.token()))
            return None
        if message.to.tag is None:  # RFC 3261, 8.2.2.2: one request that came by two ways is one call
            path = (message.call_id, message.from_.tag, message.cseq.number, method)
            other = self._merged.get(path)
            if other is not None and not other.over and (other.accepted or not other.final):
                transaction.respond(reply(message, 482, to_tag=self.token()))
                return None
            self._merged[path] = transaction
        elif method == "INVITE":  # who goes on has our answer to the one before, of which nothing needs to be kept
            dialog = (message.call_id, message.from_.tag, message.to.tag)
            if (before := self._merged.get(dialog)) is not None and before.accepted:
                before._end()
            self._merged[dialog] = transaction
        return transaction

    def pending(self, cancel: Request, flow: Flow) -> bool:
        """Whether there is a request that ``cancel`` may be for."""
        return _server_key(cancel, flow, "INVITE")[0] in self._servers

    def lost(self, flow: Flow) -> None:
        """A connection is gone: requests that wait for an answer on it fail. Never call it from ``send``."""
        for client in self._clients.values():
            if client.flow == flow:
                self._fail_soon(client)

    def unreachable(self, datagram: bytes) -> None:
        """Nobody listens where ``datagram`` of ours went, of which this is the beginning: its request fails, unless
        it was answered. The branch proves that whoever says so has seen it."""
        branch, method = BRANCH.search(datagram), datagram.partition(b" ")[0].decode("ascii", "replace")
        client = self._clients.get((branch[0].decode(), method)) if branch is not None else None
        if client is not None and not client.heard:
            self._fail_soon(client)

    def _fail_soon(self, client: ClientTransaction) -> None:  # not now: what its user raises concerns nobody else
        self.call_later(0, lambda: client.fail("transport"))

    def close(self) -> None:
        """Drop everything, and tell nobody."""
        for transaction in (*self._clients.values(), *self._servers.values()):
            transaction.stop()

    @property
    def open(self) -> int:
        """Transactions in memory, of both sides."""
        return len(self._clients) + len(self._servers)

    def _keep(self, key: Any, answer: bytes, flow: Flow) -> None:
        self._answers[key] = answer, flow
        self._size += ANSWER + 2 * len(answer)
        while self._size > ANSWERS:
            self._size -= ANSWER + 2 * len(self._answers.pop(next(iter(self._answers)))[0])

    def _send(self, data: bytes, flow: Flow) -> bool:
        try:
            self._write(data, flow)
        except OSError:
            return False
        return True


def hop_by_hop(request: Request, method: str, to: str) -> Request:
    """The ACK of a refusal or the CANCEL of ``request``: for the same hop, so with its branch (9.1, 17.1.1.3)."""
    headers = Headers([("Via", request.headers.values("Via")[0]), ("Max-Forwards", "70")])
    for route in request.headers.values("Route"):
        headers.add("Route", route)
    headers.add("From", request.headers.get("From") or "")
    headers.add("To", to)
    headers.add("Call-ID", request.call_id)
    headers.add("CSeq", f"{request.cseq.number} {method}")
    return Request(method, request.uri, headers)


def _ignore(_: object) -> None: ...


def _server_key(request: Request, flow: Flow, method: str) -> tuple[Any, bool]:
    """What repeats of a request share (17.2.3), and whether it was matched the old way. The peer's address is part of
    it: nobody cancels or acknowledges for another."""
    via = request.via
    hop = (via.branch, via.host, via.port, method, flow.remote[0])
    if via.branch and via.branch.startswith(COOKIE) and via.branch != COOKIE:
        return hop, False
    return (hop, request.uri, request.from_.tag, request.call_id, request.cseq.number), True


def _answer_flow(request: Request, flow: Flow) -> Flow:
    """Note in the top Via where the request came from, and say where its responses go (RFC 3261, 18.2; RFC 3581). They
    only ever go to the address it came from: Via cannot aim them at somebody else."""
    via = request.via
    host, port = flow.remote
    asked = "rport" in via.parameters
    if asked:
        via.parameters["rport"] = str(port)
    if asked or via.host != host:
        via.parameters["received"] = host
        request.headers.set("Via", str(via), *request.headers.lines("Via")[1:])
    return flow if flow.reliable or asked else Flow("udp", flow.local, (host, via.port or 5060))
