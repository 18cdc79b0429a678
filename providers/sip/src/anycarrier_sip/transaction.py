"""Transactions: the four machines of RFC 3261, section 17, corrected by RFC 6026. Pure: bytes and times in and out.

A *transaction* is one request and its responses on one hop. The layer repeats what may be lost, absorbs what comes
twice, acknowledges refusals, and ends everything in bounded time:

    client INVITE    A repeats, B gives up, D absorbs repeated refusals, M passes on repeated 2xx
    client others    E repeats, F gives up, K absorbs
    server INVITE    G repeats a refusal until its ACK, H gives up, I absorbs ACKs, L absorbs INVITEs after a 2xx
    server others    J absorbs

Who repeats a 2xx to an INVITE until its ACK, and who acknowledges one, is the user of this layer: both cross hops.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from anycarrier_sip.message import Headers, Message, Request, Response, Via, reply

COOKIE = "z9hG4bK"
"""How the branch of every sender since RFC 3261 begins; without it, requests are matched as in RFC 2543."""


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds (RFC 3261, table 4)."""

    t1: float = 0.5
    """A round trip: the first repeat."""
    t2: float = 4.0
    """The longest pause between repeats."""
    t4: float = 5.0
    """How long a message may travel."""
    trying: float = 0.2
    """An INVITE without any answer of ours for so long is answered 100 (17.2.1)."""

    @property
    def patience(self) -> float:
        """Timers B, D, F, H, J, L, M."""
        return 64 * self.t1


@dataclass(frozen=True, slots=True)
class Flow:
    """Between which two sockets a message went. ``connection`` tells TCP and TLS connections apart; 0 for UDP."""

    transport: str
    """``udp``, ``tcp`` or ``tls``."""
    local: tuple[str, int]
    remote: tuple[str, int]
    connection: int = 0

    @property
    def reliable(self) -> bool:
        """True where nothing needs repeating."""
        return self.transport != "udp"


class State(Enum):
    """The states of all four machines; ``TRYING`` is a client INVITE's "calling" too."""

    TRYING = auto()
    PROCEEDING = auto()
    ACCEPTED = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    TERMINATED = auto()


PENDING = (State.TRYING, State.PROCEEDING)
"""No final response yet."""


class Transaction:
    """What both sides share: a state, and timers by name."""

    def __init__(self, layer: TransactionLayer, request: Request, flow: Flow, key: Any) -> None:
        self.request = request
        self.flow = flow
        self.state = State.TRYING
        self._layer = layer
        self._key = key
        self._invite = request.method == "INVITE"
        self._timers: dict[str, list[Any]] = {}

    @property
    def final(self) -> bool:
        """True once a final response was received (client) or sent (server)."""
        return self.state not in PENDING

    def _set(self, name: str, at: float, act: Callable[[float], None]) -> None:
        self._stop(name)
        self._timers[name] = self._layer._alarm(at, act)

    def _stop(self, *names: str) -> None:
        for name in names or tuple(self._timers):
            if (entry := self._timers.pop(name, None)) is not None:
                entry[2] = None

    def _end_in(self, seconds: float, now: float) -> None:
        self._stop()
        if seconds:
            self._set("end", now + seconds, self._end)
        else:
            self._end(now)

    def _end(self, now: float) -> None:
        self.state = State.TERMINATED
        self._stop()
        self._layer._forget(self, self._key)


class ClientTransaction(Transaction):
    """A request of ours. Callbacks come from :meth:`TransactionLayer.receive`, ``advance`` and ``lost``, never from
    ``request`` or ``cancel``."""

    def __init__(
        self,
        layer: TransactionLayer,
        request: Request,
        flow: Flow,
        key: Any,
        on_response: Callable[[Response], None],
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__(layer, request, flow, key)
        self._on_response = on_response
        self._on_failure = on_failure
        self._wire = request.encode()
        self._pause = layer.timers.t1
        self._cancelling = False
        self._ack = b""

    def cancel(self, now: float) -> None:
        """Take an INVITE back: by CANCEL, once a provisional response has come (RFC 3261, 9.1); expect a 487. A 2xx
        that crosses it still comes by ``on_response``. Without a final response, it fails after 32 s: ``timeout``."""
        if not self._invite or self._cancelling or self.final:
            return
        self._cancelling = True
        if self.state is State.PROCEEDING:
            self._send_cancel(now)

    def _start(self, now: float, timeout: float | None) -> None:
        timers = self._layer.timers
        if not self.flow.reliable:
            self._set("repeat", now + self._pause, self._repeat)
        self._set("timeout", now + (timeout or timers.patience), lambda now: self._fail("timeout", now))
        self._send(self._wire, now)

    def _send(self, data: bytes, now: float) -> None:
        if not self._layer._send(data, self.flow):
            self._set("timeout", now, lambda now: self._fail("transport", now))

    def _repeat(self, now: float) -> None:
        timers = self._layer.timers
        if self._invite:
            self._pause *= 2  # timer A: the pauses grow until timer B
        else:  # timer E
            self._pause = timers.t2 if self.state is State.PROCEEDING else min(2 * self._pause, timers.t2)
        self._set("repeat", now + self._pause, self._repeat)
        self._send(self._wire, now)

    def _fail(self, why: str, now: float) -> None:
        self._end(now)
        self._on_failure(why)

    def _send_cancel(self, now: float) -> None:
        cancel = hop_by_hop(self.request, "CANCEL", self.request.headers.get("To") or "")
        patience = self._layer.timers.patience
        self._set("timeout", now + patience, lambda now: self._fail("timeout", now))
        self._layer._add_client(cancel, self.flow, self._key[0], now, ignore, ignore)

    def _receive(self, response: Response, now: float) -> None:
        status, timers = response.status, self._layer.timers
        if self.state is State.COMPLETED:
            if self._invite and status >= 300:
                self._layer._send(self._ack, self.flow)
            return
        if self.state is State.ACCEPTED:
            if 200 <= status < 300:
                self._on_response(response)  # a repeat, or another phone the call was forked to (RFC 6026)
            return
        if status < 200:
            first = self.state is State.TRYING
            self.state = State.PROCEEDING
            if self._invite and first:
                self._stop()
                if self._cancelling:
                    self._send_cancel(now)
        elif self._invite and status < 300:
            self.state = State.ACCEPTED
            self._end_in(timers.patience, now)  # timer M
        elif self._invite:
            self.state = State.COMPLETED
            self._ack = hop_by_hop(self.request, "ACK", response.headers.get("To") or "").encode()
            self._layer._send(self._ack, self.flow)
            self._end_in(0 if self.flow.reliable else timers.patience, now)  # timer D
        else:
            self.state = State.COMPLETED
            self._end_in(0 if self.flow.reliable else timers.t4, now)  # timer K
        self._on_response(response)


class ServerTransaction(Transaction):
    """A request of theirs. An ACK of a 2xx is one too, which takes no response."""

    def __init__(self, layer: TransactionLayer, request: Request, flow: Flow, key: Any, answer_flow: Flow) -> None:
        super().__init__(layer, request, flow, key)
        self.on_cancel: Callable[[], None] | None = None
        """Called when an INVITE is cancelled before its final response: send 487. Without it, 487 is sent."""
        self.to_tag: str | None = None
        """The tag in our responses; None before the first."""
        self.cancelled = False
        self._answer_flow = answer_flow
        self._last = b""
        self._pause = layer.timers.t1

    def respond(self, response: Response, now: float) -> None:
        """Send ``response``. A 2xx to an INVITE may be sent again until its ACK; anything else after a final response
        is too late, and is dropped."""
        again = self.state is State.ACCEPTED and 200 <= response.status < 300
        if self.final and not again:
            return
        self._last = response.encode()
        if response.status > 100:
            self.to_tag = response.to.tag or self.to_tag
        timers, reliable = self._layer.timers, self.flow.reliable
        if response.status < 200:
            self.state = State.PROCEEDING
            self._stop("trying")
        elif not self._invite:
            self.state = State.COMPLETED
            self._end_in(0 if reliable else timers.patience, now)  # timer J
        elif response.status >= 300:
            self.state = State.COMPLETED
            self._end_in(timers.patience, now)  # timer H
            if not reliable:
                self._set("repeat", now + self._pause, self._repeat)
        elif not again:
            self.state = State.ACCEPTED
            self._end_in(timers.patience, now)  # timer L
        self._layer._send(self._last, self._answer_flow)

    def _start(self, now: float) -> None:
        if self._invite:
            self._set("trying", now + self._layer.timers.trying, self._trying)

    def _trying(self, now: float) -> None:
        self.respond(reply(self.request, 100), now)

    def _repeat(self, now: float) -> None:  # timer G
        self._pause = min(2 * self._pause, self._layer.timers.t2)
        self._set("repeat", now + self._pause, self._repeat)
        self._layer._send(self._last, self._answer_flow)

    def _repeated(self) -> None:
        """The request came again."""
        if self._last and self.state in (State.PROCEEDING, State.COMPLETED):
            self._layer._send(self._last, self._answer_flow)

    def _acknowledged(self, now: float) -> None:
        if self.state is State.COMPLETED:
            self.state = State.CONFIRMED
            self._end_in(0 if self.flow.reliable else self._layer.timers.t4, now)  # timer I


class TransactionLayer:
    """All transactions of one endpoint.

    ``send(data, flow)`` writes bytes; an ``OSError`` from it fails a client transaction. ``sent_by(flow)`` is the host
    and port that peers reach us at, for Via. Nobody else may call :meth:`advance` late: at :attr:`next_at`.
    """

    def __init__(
        self,
        send: Callable[[bytes, Flow], None],
        timers: Timers = Timers(),
        *,
        sent_by: Callable[[Flow], tuple[str, int]] = lambda flow: flow.local,
        token: Callable[[], str],
    ) -> None:
        self.timers = timers
        self.token = token
        """Makes branches and tags: never the same twice, and not to be guessed."""
        self.strays: Callable[[Response, Flow], None] = ignore
        """Called with a response to an INVITE whose transaction is over: a 2xx must be acknowledged again."""
        self.woken: Callable[[float], None] = ignore
        """Called with a time when :meth:`advance` is needed earlier than it was."""
        self._write = send
        self._sent_by = sent_by
        self._clients: dict[Any, ClientTransaction] = {}
        self._servers: dict[Any, ServerTransaction] = {}
        self._merged: dict[Any, ServerTransaction] = {}
        self._alarms: list[list[Any]] = []
        self._count = 0

    def request(
        self,
        request: Request,
        flow: Flow,
        now: float,
        on_response: Callable[[Response], None],
        on_failure: Callable[[str], None],
        *,
        timeout: float | None = None,
    ) -> ClientTransaction:
        """Send ``request`` with a Via and a branch of its own, in place of any it has.

        ``on_response`` gets each provisional response, the final one, and for an INVITE each further 2xx; or
        ``on_failure`` is called once, with ``timeout`` (nothing final within ``timeout`` seconds, by default 32; for an
        INVITE, nothing at all) or ``transport``. An ACK is sent, and that is all.
        """
        if "Max-Forwards" not in request.headers:
            request.headers.set("Max-Forwards", "70")
        branch = COOKIE + self.token()
        host, port = self._sent_by(flow)
        host = f"[{host}]" if ":" in host else host
        request.headers.remove("Via")
        request.headers.prepend("Via", f"SIP/2.0/{flow.transport.upper()} {host}:{port};rport;branch={branch}")
        return self._add_client(request, flow, branch, now, on_response, on_failure, timeout)

    def receive(self, message: Message, flow: Flow, now: float) -> ServerTransaction | None:
        """Take a message. A new request is returned for its user to answer, and so is the ACK of a 2xx; repeats,
        CANCELs, ACKs of refusals and responses are dealt with: None."""
        if isinstance(message, Response):
            self._receive_response(message, flow, now)
            return None
        method = message.method
        key, legacy = self._server_key(message, flow, "INVITE" if method == "ACK" else method)
        answer_flow = _answer_flow(message, flow)
        known = self._servers.get(key)
        if method == "ACK":
            ours = known is not None and not (legacy and known.to_tag and message.to.tag != known.to_tag)
            if known is None or not ours or known.state is State.ACCEPTED:
                ack = ServerTransaction(self, message, flow, key, answer_flow)
                ack.state = State.TERMINATED
                return ack
            known._acknowledged(now)
            return None
        if known is not None:
            known._repeated()
            return None
        transaction = ServerTransaction(self, message, flow, key, answer_flow)
        self._servers[key] = transaction
        if method == "CANCEL":
            self._cancel(transaction, now)
            return None
        if message.to.tag is None:
            # RFC 3261, 8.2.2.2: one request that came by two ways is one call.
            path = (message.call_id, message.from_.tag, message.cseq.number, method)
            other = self._merged.setdefault(path, transaction)
            if other is not transaction:
                if other.state in (*PENDING, State.ACCEPTED):
                    transaction.respond(reply(message, 482, to_tag=self.token()), now)
                    return None
                self._merged[path] = transaction
        transaction._start(now)
        return transaction

    def lost(self, flow: Flow, now: float) -> None:
        """A connection is gone: requests that wait for an answer on it fail. Never call it from ``send``."""
        for client in [c for c in self._clients.values() if c.flow == flow]:
            if client.final:
                client._end(now)
            else:
                client._fail("transport", now)

    def advance(self, now: float) -> None:
        """Do what is due at ``now``."""
        while (at := self.next_at) is not None and at <= now:
            act = heapq.heappop(self._alarms)[2]
            act(now)

    @property
    def next_at(self) -> float | None:
        """When :meth:`advance` has something to do; None: never, unless something comes first."""
        while self._alarms and self._alarms[0][2] is None:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    @property
    def open(self) -> int:
        """Transactions in memory, of both sides."""
        return len(self._clients) + len(self._servers)

    # --- inside -------------------------------------------------------------------------------------------------

    def _add_client(
        self,
        request: Request,
        flow: Flow,
        branch: str,
        now: float,
        on_response: Callable[[Response], Any],
        on_failure: Callable[[str], Any],
        timeout: float | None = None,
    ) -> ClientTransaction:
        key = (branch, request.method)
        client = ClientTransaction(self, request, flow, key, on_response, on_failure)
        if request.method == "ACK":
            client.state = State.TERMINATED
            self._send(client._wire, flow)
        else:
            self._clients[key] = client
            client._start(now, timeout)
        return client

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        method = response.cseq.method
        client = self._clients.get((response.via.branch, method))
        if client is not None:
            client._receive(response, now)
        elif method == "INVITE":
            self.strays(response, flow)

    def _cancel(self, cancel: ServerTransaction, now: float) -> None:
        """RFC 3261, 9.2."""
        invite = self._servers.get(self._server_key(cancel.request, cancel.flow, "INVITE")[0])
        if invite is None:
            cancel.respond(reply(cancel.request, 481, to_tag=self.token()), now)
            return
        cancel.respond(reply(cancel.request, 200, to_tag=invite.to_tag or self.token()), now)
        if invite.final or invite.cancelled:
            return
        invite.cancelled = True
        if invite.on_cancel is not None:
            invite.on_cancel()
        else:
            invite.respond(reply(invite.request, 487, to_tag=invite.to_tag or self.token()), now)

    def _server_key(self, request: Request, flow: Flow, method: str) -> tuple[Any, bool]:
        """What repeats of a request share (17.2.3), and whether it was matched the old way. The peer's address is
        part of it: nobody cancels or acknowledges for another."""
        via = request.via
        branch = via.branch or ""
        if branch.startswith(COOKIE) and len(branch) > len(COOKIE):
            return (branch, via.host.lower(), via.port, method, flow.remote[0]), False
        hop = (via.host.lower(), via.port, via.branch)
        identity = (request.uri, request.from_.tag, request.call_id, request.cseq.number)
        return (hop, identity, method, flow.remote[0]), True

    def _send(self, data: bytes, flow: Flow) -> bool:
        try:
            self._write(data, flow)
        except OSError:
            return False
        return True

    def _alarm(self, at: float, act: Callable[[float], None]) -> list[Any]:
        self._count += 1
        entry = [at, self._count, act]
        heapq.heappush(self._alarms, entry)
        if self._alarms[0] is entry:
            self.woken(at)
        return entry

    def _forget(self, transaction: Transaction, key: Any) -> None:
        if isinstance(transaction, ClientTransaction):
            self._clients.pop(key, None)
            return
        self._servers.pop(key, None)
        request = transaction.request
        path = (request.call_id, request.from_.tag, request.cseq.number, request.method)
        if self._merged.get(path) is transaction:
            del self._merged[path]


def hop_by_hop(request: Request, method: str, to: str) -> Request:
    """The ACK of a refusal or the CANCEL of ``request``: for the same hop, so with its branch (9.1, 17.1.1.3)."""
    headers = Headers()
    headers.add("Via", request.headers.values("Via")[0])
    headers.add("Max-Forwards", "70")
    for route in request.headers.values("Route"):
        headers.add("Route", route)
    headers.add("From", request.headers.get("From") or "")
    headers.add("To", to)
    headers.add("Call-ID", request.call_id)
    headers.add("CSeq", f"{request.cseq.number} {method}")
    return Request(method, request.uri, headers)


def _answer_flow(request: Request, flow: Flow) -> Flow:
    """Note in the top Via where the request came from, and say where its responses go (RFC 3261, 18.2; RFC 3581). They
    only ever go to the address it came from: Via cannot aim them at somebody else."""
    via: Via = request.via
    host, port = flow.remote
    asked = "rport" in via.parameters
    if asked:
        via.parameters["rport"] = str(port)
    if asked or via.host != host:
        via.parameters["received"] = host
        request.headers.set_first("Via", str(via))
    if flow.reliable or asked:
        return flow
    return Flow(flow.transport, flow.local, (host, via.port or 5060), flow.connection)


def ignore(*_: Any) -> None:
    """Nothing."""
