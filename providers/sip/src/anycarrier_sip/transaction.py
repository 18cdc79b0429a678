"""Transactions: the four machines of RFC 3261, section 17, corrected by RFC 6026. Pure: bytes and times in and out.

A *transaction* is one request and its responses on one hop. The layer repeats what may be lost, absorbs what comes
twice, acknowledges refusals, and ends everything in bounded time:

    client INVITE    A repeats, B gives up, D absorbs repeated refusals, M passes on repeated 2xx
    client others    E repeats, F gives up, K absorbs
    server INVITE    G repeats a refusal until its ACK, H gives up, I absorbs ACKs, L absorbs INVITEs after a 2xx
    server others    J absorbs

A 2xx to an INVITE is repeated, and acknowledged, by the user of this layer: both cross hops.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from anycarrier_sip.message import Headers, Message, Request, Response, reply

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
    """Between which two sockets a message went: ``udp``, ``tcp`` or ``tls``; ``connection`` is 0 for UDP."""

    transport: str
    local: tuple[str, int]
    remote: tuple[str, int]
    connection: int = 0

    @property
    def reliable(self) -> bool:
        """True where nothing needs repeating."""
        return self.transport != "udp"


class State(Enum):
    """The states of all four machines; a client INVITE that is "calling" is ``TRYING``."""

    TRYING = auto()
    PROCEEDING = auto()
    ACCEPTED = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    TERMINATED = auto()


PENDING = (State.TRYING, State.PROCEEDING)


class Transaction:
    """What both sides share: a state, and timers by name."""

    def __init__(self, layer: TransactionLayer, request: Request, flow: Flow, key: Any) -> None:
        self.request = request
        self.flow = flow
        self.state = State.TRYING
        self._layer = layer
        self._key = key
        self._invite = request.method == "INVITE"
        self._alarms: dict[str, list[Any]] = {}
        self._pause = layer.timers.t1

    @property
    def final(self) -> bool:
        """True once a final response was received (client) or sent (server)."""
        return self.state not in PENDING

    def _set(self, name: str, at: float, act: Callable[[float], None]) -> None:
        self._stop(name)
        self._alarms[name] = self._layer._alarm(at, act)

    def _stop(self, *names: str) -> None:
        for name in names or tuple(self._alarms):
            if (alarm := self._alarms.pop(name, None)) is not None:
                alarm[2] = None

    def _finish(self, state: State, now: float, linger: float) -> None:
        """Enter ``state``, the last but one: after ``linger`` seconds all is over."""
        self.state = state
        self._stop()
        if linger:
            self._set("end", now + linger, self._end)
        else:
            self._end(now)

    def _end(self, now: float) -> None:
        self.state = State.TERMINATED
        self._stop()
        self._layer._forget(self, self._key)


class ClientTransaction(Transaction):
    """A request of ours. No callback comes from within ``request`` or ``cancel``."""

    def __init__(
        self, layer: TransactionLayer, request: Request, flow: Flow, key: Any,
        on_response: Callable[[Response], Any], on_failure: Callable[[str], Any],
    ) -> None:  # fmt: skip
        super().__init__(layer, request, flow, key)
        self._on_response = on_response
        self._on_failure = on_failure
        self.heard = False
        """True once any response has come: the request arrived, and must not go to another target."""
        self._wire = request.encode()
        self._cancelling = False

    def cancel(self, now: float) -> None:
        """Take an INVITE back: by CANCEL, once a provisional response has come (RFC 3261, 9.1); expect a 487. A 2xx
        that crosses it still comes by ``on_response``. Without a final response it fails after 32 s: ``timeout``."""
        if self._invite and not self._cancelling:
            self._cancelling = True
            if self.state is State.PROCEEDING:
                self._send_cancel(now)

    def _start(self, now: float, timeout: float | None) -> None:
        if not self.flow.reliable:
            self._set("repeat", now + self._pause, self._repeat)
        self._set("timeout", now + (timeout or self._layer.timers.patience), lambda now: self._fail("timeout", now))
        self._send(now)

    def _send(self, now: float) -> None:
        if not self._layer._send(self._wire, self.flow):
            self._set("timeout", now, lambda now: self._fail("transport", now))

    def _repeat(self, now: float) -> None:
        longest = self._layer.timers.t2
        if self._invite:
            self._pause *= 2  # timer A: ever longer, until timer B
        else:  # timer E
            self._pause = longest if self.state is State.PROCEEDING else min(2 * self._pause, longest)
        self._set("repeat", now + self._pause, self._repeat)
        self._send(now)

    def _fail(self, why: str, now: float) -> None:
        self._end(now)
        self._on_failure(why)

    def _send_cancel(self, now: float) -> None:
        self._set("timeout", now + self._layer.timers.patience, lambda now: self._fail("timeout", now))
        cancel = hop_by_hop(self.request, "CANCEL", self.request.headers.get("To") or "")
        self._layer._add_client(cancel, self.flow, self._key[0], now, ignore, ignore)

    def _receive(self, response: Response, now: float) -> None:
        status, timers, reliable = response.status, self._layer.timers, self.flow.reliable
        self.heard = True
        if self.state is State.COMPLETED:
            if self._invite and status >= 300:
                self._layer._send(self._wire, self.flow)  # the ACK
            return
        if self.state is State.ACCEPTED:
            if 200 <= status < 300:
                self._on_response(response)  # a repeat, or another phone the call was forked to (RFC 6026)
            return
        if status < 200:
            first, self.state = self.state is State.TRYING, State.PROCEEDING
            if self._invite and first:
                self._stop()
                if self._cancelling:
                    self._send_cancel(now)
        elif not self._invite:
            self._finish(State.COMPLETED, now, 0 if reliable else timers.t4)  # timer K
        elif status < 300:
            self._finish(State.ACCEPTED, now, timers.patience)  # timer M
        else:
            self._wire = hop_by_hop(self.request, "ACK", response.headers.get("To") or "").encode()
            self._layer._send(self._wire, self.flow)
            self._finish(State.COMPLETED, now, 0 if reliable else timers.patience)  # timer D
        self._on_response(response)


class ServerTransaction(Transaction):
    """A request of theirs. The ACK of a 2xx is one too, which takes no response."""

    def __init__(self, layer: TransactionLayer, request: Request, flow: Flow, key: Any) -> None:
        super().__init__(layer, request, flow, key)
        self.on_cancel: Callable[[], None] | None = None
        """Called when an INVITE is cancelled before its final response: send 487. Without it, 487 is sent."""
        self.to_tag: str | None = None
        """The tag in our responses; None before the first."""
        self.cancelled = False
        self._answer_flow = _answer_flow(request, flow)
        self._last = b""

    def respond_once(self, response: Response, now: float) -> None:
        """Send ``response`` and forget the request, so that who may be a stranger costs nothing; a repeat is new."""
        self._layer._send(response.encode(), self._answer_flow)
        self._end(now)

    def drop(self, now: float) -> None:
        """Forget the request without any answer."""
        self._end(now)

    def respond(self, response: Response, now: float) -> None:
        """Send ``response``. A 2xx to an INVITE may be sent again until its ACK; anything else after a final response
        is too late, and is dropped."""
        again = self.state is State.ACCEPTED and 200 <= response.status < 300
        if self.final and not again:
            return
        timers, reliable = self._layer.timers, self.flow.reliable
        if response.status >= 200:
            self.on_cancel = None  # too late for it, and the call may go
        self._last = response.encode()
        self.to_tag = response.to.tag or self.to_tag
        if response.status < 200:
            self.state = State.PROCEEDING
            self._stop("trying")
        elif not self._invite:
            self._finish(State.COMPLETED, now, 0 if reliable else timers.patience)  # timer J
        elif response.status >= 300:
            self._finish(State.COMPLETED, now, timers.patience)  # timer H
            if not reliable:
                self._set("repeat", now + self._pause, self._repeat)
        elif not again:
            self._finish(State.ACCEPTED, now, timers.patience)  # timer L
        self._layer._send(self._last, self._answer_flow)

    def _start(self, now: float) -> None:
        if self._invite:
            trying = reply(self.request, 100)
            self._set("trying", now + self._layer.timers.trying, lambda now: self.respond(trying, now))

    def _repeat(self, now: float) -> None:  # timer G
        self._pause = min(2 * self._pause, self._layer.timers.t2)
        self._set("repeat", now + self._pause, self._repeat)
        self._layer._send(self._last, self._answer_flow)

    def _repeated(self) -> None:
        """The request came again."""
        if self.state in (State.PROCEEDING, State.COMPLETED):
            self._layer._send(self._last, self._answer_flow)

    def _acknowledged(self, now: float) -> None:
        if self.state is State.COMPLETED:
            self._finish(State.CONFIRMED, now, 0 if self.flow.reliable else self._layer.timers.t4)  # timer I


class TransactionLayer:
    """All transactions of one endpoint. Call :meth:`advance` at :attr:`next_at`.

    ``send(data, flow)`` writes bytes; ``OSError`` from it fails a client transaction. ``token()`` makes branches and
    tags, not to be guessed. ``sent_by(flow)`` is the host and port that peers reach us at, for Via.
    """

    def __init__(
        self, send: Callable[[bytes, Flow], None], timers: Timers = Timers(), *,
        token: Callable[[], str], sent_by: Callable[[Flow], tuple[str, int]] = lambda flow: flow.local,
    ) -> None:  # fmt: skip
        self.timers = timers
        self.token = token
        self.strays: Callable[[Response, Flow], None] = ignore
        """Called with a response to an INVITE whose transaction is over: a 2xx must be acknowledged again."""
        self.woken: Callable[[float], None] = ignore
        """Called with :attr:`next_at` when it is earlier than it was."""
        self._write = send
        self._sent_by = sent_by
        self._clients: dict[Any, ClientTransaction] = {}
        self._servers: dict[Any, ServerTransaction] = {}
        self._merged: dict[Any, ServerTransaction] = {}
        self._alarms: list[list[Any]] = []
        self._count = 0

    def request(
        self, request: Request, flow: Flow, now: float, on_response: Callable[[Response], Any],
        on_failure: Callable[[str], Any], *, timeout: float | None = None,
    ) -> ClientTransaction:  # fmt: skip
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
        key, legacy = _server_key(message, flow, "INVITE" if method == "ACK" else method)
        known = self._servers.get(key)
        if method == "ACK":
            if known is not None and legacy and known.to_tag and message.to.tag != known.to_tag:
                known = None
            if known is not None and known.state is not State.ACCEPTED:
                known._acknowledged(now)
                return None
            ack = ServerTransaction(self, message, flow, key)
            ack.state = State.TERMINATED
            return ack
        if known is not None:
            known._repeated()
            return None
        transaction = self._servers[key] = ServerTransaction(self, message, flow, key)
        if method == "CANCEL":
            self._cancel(transaction, now)
            return None
        if message.to.tag is None:  # RFC 3261, 8.2.2.2: one request that came by two ways is one call
            other = self._merged.get(path := _path(message))
            if other is not None and other.state in (*PENDING, State.ACCEPTED):
                transaction.respond(reply(message, 482, to_tag=self.token()), now)
                return None
            self._merged[path] = transaction
        transaction._start(now)
        return transaction

    def pending(self, cancel: Request, flow: Flow) -> bool:
        """Whether there is a request that ``cancel`` may be for."""
        return _server_key(cancel, flow, "INVITE")[0] in self._servers

    def lost(self, flow: Flow, now: float) -> None:
        """A connection is gone: requests that wait for an answer on it fail. Never call it from ``send``."""
        for client in [one for one in self._clients.values() if one.flow == flow]:
            if client.final:
                client._end(now)
            else:
                client._fail("transport", now)

    def advance(self, now: float) -> None:
        """Do what is due at ``now``."""
        while (at := self.next_at) is not None and at <= now:
            heapq.heappop(self._alarms)[2](now)

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

    # --- for the transactions -----------------------------------------------------------------------------------

    def _add_client(
        self, request: Request, flow: Flow, branch: str, now: float, on_response: Callable[[Response], Any],
        on_failure: Callable[[str], Any], timeout: float | None = None,
    ) -> ClientTransaction:  # fmt: skip
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
        invite = self._servers.get(_server_key(cancel.request, cancel.flow, "INVITE")[0])
        if invite is None:
            return cancel.respond(reply(cancel.request, 481, to_tag=self.token()), now)
        tag = invite.to_tag or self.token()
        cancel.respond(reply(cancel.request, 200, to_tag=tag), now)
        if not invite.final and not invite.cancelled:
            invite.cancelled = True
            if invite.on_cancel is not None:
                invite.on_cancel()
            else:
                invite.respond(reply(invite.request, 487, to_tag=tag), now)

    def _send(self, data: bytes, flow: Flow) -> bool:
        try:
            self._write(data, flow)
        except OSError:
            return False
        return True

    def _alarm(self, at: float, act: Callable[[float], None]) -> list[Any]:
        self._count += 1
        alarm = [at, self._count, act]
        heapq.heappush(self._alarms, alarm)
        if self._alarms[0] is alarm:
            self.woken(at)
        return alarm

    def _forget(self, transaction: Transaction, key: Any) -> None:
        if isinstance(transaction, ClientTransaction):
            self._clients.pop(key, None)
        else:
            self._servers.pop(key, None)
            if self._merged.get(path := _path(transaction.request)) is transaction:
                del self._merged[path]


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


def ignore(*_: Any) -> None:
    """Nothing."""


def _path(request: Request) -> tuple[Any, ...]:
    """What a request keeps on every way it takes."""
    return (request.call_id, request.from_.tag, request.cseq.number, request.method)


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
    if asked or via.host != host:
        if asked:
            via.parameters["rport"] = str(port)
        via.parameters["received"] = host
        request.headers.set_first("Via", str(via))
    if flow.reliable or asked:
        return flow
    return Flow(flow.transport, flow.local, (host, via.port or 5060), flow.connection)
