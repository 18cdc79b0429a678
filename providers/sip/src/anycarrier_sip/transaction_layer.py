"""All transactions of one endpoint: which message belongs to which (RFC 3261, 17.1.3, 17.2.3). No socket, no clock."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from anycarrier_sip.header_values import hostport
from anycarrier_sip.message import Message, Request, Response, reply
from anycarrier_sip.transaction import PATIENCE, ClientTransaction, Flow, OnFailure, OnResponse, ServerTransaction

COOKIE = "z9hG4bK"
"""How the branch of every sender since RFC 3261 begins; without it, requests are matched as in RFC 2543."""
BRANCH = re.compile(COOKIE.encode() + rb"\w+")
ANSWERS, ANSWER = 4 << 20, 1000
"""Bytes of answers kept for repeats, until newer ones take their place; and of one beside itself and its key."""


class TransactionLayer:
    """``send(data, flow)`` writes bytes; ``OSError`` from it fails a client transaction. ``call_later(seconds, act)``
    gives a timer, with ``cancel()``. ``token()`` makes branches and tags, not to be guessed. ``sent_by(flow)`` is the
    host and port that peers reach us at, for Via. ``strays(response, flow)`` gets responses to INVITEs whose
    transaction is over: a 2xx must be acknowledged again.
    """

    def __init__(
        self, send: Callable[[bytes, Flow], None], call_later: Callable[[float, Callable[[], None]], Any], *,
        token: Callable[[], str], sent_by: Callable[[Flow], tuple[str, int]] = lambda flow: flow.local,
        strays: Callable[[Response, Flow], None] = lambda response, flow: None,
    ) -> None:  # fmt: skip
        self.call_later, self.token, self._write, self._sent_by, self._strays = call_later, token, send, sent_by, strays
        self.clients: dict[tuple[str, str], ClientTransaction] = {}
        self.servers: dict[Any, ServerTransaction] = {}
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
        sent_by = hostport(*self._sent_by(flow))
        request.headers.set("Via", f"SIP/2.0/{flow.transport.upper()} {sent_by};rport;branch={branch}")
        return ClientTransaction(self, branch, request, flow, on_response, on_failure, timeout)

    def receive(self, message: Message, flow: Flow) -> ServerTransaction | None:
        """Take a message. A new request is returned for its user to answer, and so is the ACK of a 2xx; repeats,
        CANCELs, ACKs of refusals and responses are dealt with: None."""
        if isinstance(message, Response):
            client = self.clients.get((message.via.branch or "", message.cseq.method))
            if client is not None:
                client.receive(message)
            elif message.cseq.method == "INVITE":
                self._strays(message, flow)
            return None
        method = message.method
        key, legacy = _server_key(message, flow, "INVITE" if method == "ACK" else method)
        if (answer := self._answers.get(key)) is not None:
            self.send(*answer)
            return None
        known = self.servers.get(key)
        if method == "ACK":
            another = known is not None and legacy and known.to_tag and message.to.tag != known.to_tag
            if known is None or another or known.accepted:
                return ServerTransaction(self, key, message, flow)
            known.acknowledged()
            return None
        if known is not None:
            if not known.accepted:
                known.answer()
            return None
        transaction = ServerTransaction(self, key, message, flow)
        if method == "CANCEL":
            invite = self.servers.get(_server_key(message, flow, "INVITE")[0])
            if invite is None:
                transaction.respond(reply(message, 481, to_tag=self.token()))
            else:
                invite.cancel(transaction)
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
                before.end()
            self._merged[dialog] = transaction
        return transaction

    def pending(self, cancel: Request, flow: Flow) -> bool:
        """Whether there is a request that ``cancel`` may be for."""
        return _server_key(cancel, flow, "INVITE")[0] in self.servers

    def lost(self, flow: Flow) -> None:
        """A connection is gone: requests that wait for an answer on it fail. Never call it from ``send``."""
        for client in self.clients.values():
            if client.flow == flow:
                self._fail_soon(client)

    def unreachable(self, datagram: bytes) -> None:
        """Nobody listens where ``datagram`` of ours went, of which this is the beginning: its request fails, unless
        it was answered. The branch proves that whoever says so has seen it."""
        branch, method = BRANCH.search(datagram), datagram.partition(b" ")[0].decode("ascii", "replace")
        client = self.clients.get((branch[0].decode(), method)) if branch is not None else None
        if client is not None and not client.heard:
            self._fail_soon(client)

    def _fail_soon(self, client: ClientTransaction) -> None:  # not now: what its user raises concerns nobody else
        self.call_later(0, lambda: client.fail("transport"))

    def close(self) -> None:
        """Drop everything, and tell nobody."""
        for transaction in (*self.clients.values(), *self.servers.values()):
            transaction.stop()

    @property
    def open(self) -> int:
        """Transactions in memory, of both sides."""
        return len(self.clients) + len(self.servers)

    def keep(self, key: Any, answer: bytes, flow: Flow) -> None:
        """Send ``answer`` again when the request of ``key`` comes again."""
        self._answers[key] = answer, flow
        self._size += ANSWER + 2 * len(answer)
        while self._size > ANSWERS:
            self._size -= ANSWER + 2 * len(self._answers.pop(next(iter(self._answers)))[0])

    def send(self, data: bytes, flow: Flow) -> bool:
        """Whether there is a way for it."""
        try:
            self._write(data, flow)
        except OSError:
            return False
        return True


def _server_key(request: Request, flow: Flow, method: str) -> tuple[Any, bool]:
    """What repeats of a request share (17.2.3), and whether it was matched the old way. The peer's address is part of
    it: nobody cancels or acknowledges for another."""
    via = request.via
    hop = (via.branch, via.host, via.port, method, flow.remote[0])
    if via.branch and via.branch.startswith(COOKIE) and via.branch != COOKIE:
        return hop, False
    return (hop, request.uri, request.from_.tag, request.call_id, request.cseq.number), True
