"""The SIP endpoint of a process: its sockets, its transactions, and who gets which request.

One for all credentials, shared through ``desk.shared(("sip", settings), ...)``. It hands a request inside a dialog to
that dialog, any other to one credential's trunk, found by the address it came from and then by our contact user::

    endpoint = await Endpoint.open(settings)
    endpoint.register(trunk)
    for target in await endpoint.targets(uri, None):
        flow = await endpoint.flow(target)
        transaction = endpoint.request(invite, flow, on_response=..., on_failure=...)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from anycarrier_sip.dialog import seconds_of
from anycarrier_sip.digest import DigestServer
from anycarrier_sip.figures import MediaFigures
from anycarrier_sip.guard import Guard
from anycarrier_sip.header_values import hostport
from anycarrier_sip.message import Request, Response, SipError, Uri, parse, reply
from anycarrier_sip.pacer import Pacer, PortRange
from anycarrier_sip.resolver import REST, Resolver, Target, port_of
from anycarrier_sip.settings import SipSettings
from anycarrier_sip.transaction import PATIENCE, ClientTransaction, Flow, OnFailure, OnResponse, ServerTransaction
from anycarrier_sip.transaction_layer import TransactionLayer
from anycarrier_sip.transport import Transport
from anycarrier_sip.trunks import Trunk, Trunks

RETRY_AFTER = 10
"""Seconds that a 503 of ours names."""
LARGE = 1300
"""Bytes; a larger request goes by TCP where the peer has it (RFC 3261, 18.1.1)."""
LONGEST_REST = 600.0
"""Seconds, however long a Retry-After is."""
REFUSED_TCP = 300.0
"""Seconds for which a peer that refused TCP is not asked again."""
REALM = "anycarrier"
"""What telephones show beside the question for a password."""
logger = logging.getLogger(__name__)


class InDialog(Protocol):
    """A dialog, as ``Endpoint.dialogs`` knows it."""

    def requested(self, transaction: ServerTransaction) -> None:
        """A request inside the dialog, the ACK of a 2xx too."""

    def stray(self, response: Response, flow: Flow) -> None:
        """A response to an INVITE whose transaction is over: acknowledge a 2xx again."""

    def peer_allowed(self, flow: Flow) -> bool:
        """Whether a request from there may be the peer's (P5)."""


class Endpoint:
    """Made by :meth:`open`, inside a running loop."""

    def __init__(self, settings: SipSettings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.trunks = Trunks(settings.known_networks)
        self.dialogs: dict[tuple[str, str], InDialog] = {}
        """By Call-ID and local tag: use :meth:`attach` and :meth:`detach`."""
        self.losses: list[Callable[[Flow], None]] = []
        """Called with each connection that ends."""
        self.draining = False
        """True: new calls are answered 503 with Retry-After."""
        self.pacer = Pacer()
        self.media = MediaFigures()
        self.ports = PortRange(*settings.rtp_ports)
        self.digest = DigestServer(secrets.token_bytes(32), REALM, algorithms=settings.digest_algorithms)
        """Challenges callers, for all credentials."""
        self.guard = Guard(self.trunks.at, strangers=settings.softphones)
        self.resolver = Resolver(settings, self.loop.time)
        self.layer = TransactionLayer(
            self._send, self.loop.call_later, token=token, sent_by=self._sent_by, strays=self._stray
        )
        self.transport = Transport(settings, self.guard, self._received, self._lost, self.layer.unreachable)
        self._flows: dict[tuple[str, str], Flow] = {}
        self._sending: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, settings: SipSettings) -> Endpoint:
        """Open the operator's sockets; ``ConfigurationError`` names the one that could not be, and none stays open."""
        endpoint = cls(settings)
        await endpoint.transport.open()
        return endpoint

    async def aclose(self) -> None:
        """Close the sockets; what is still under way is dropped."""
        self.layer.close()
        self.pacer.close()
        for task in self._sending:
            task.cancel()
        await self.transport.aclose()

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where we listen, by transport."""
        return self.transport.addresses

    # --- trunks and dialogs -------------------------------------------------------------------------------------

    def register(self, trunk: Trunk) -> None:
        """Let ``trunk`` have its requests."""
        self.trunks.add(trunk)

    def unregister(self, trunk: Trunk) -> None:
        """The end of :meth:`register`."""
        self.trunks.remove(trunk)

    def attach(self, call_id: str, local_tag: str, dialog: InDialog, flow: Flow) -> None:
        """Let ``dialog`` have its requests; what comes from the peer of ``flow`` is read, its connection kept open."""
        self.detach(call_id, local_tag)
        self.dialogs[call_id, local_tag] = dialog
        self._flows[call_id, local_tag] = flow
        self.hold(flow)

    def detach(self, call_id: str, local_tag: str) -> None:
        """The end of :meth:`attach`."""
        self.dialogs.pop((call_id, local_tag), None)
        if (flow := self._flows.pop((call_id, local_tag), None)) is not None:
            self.release(flow)

    def hold(self, flow: Flow) -> None:
        """Read what comes from the peer of ``flow`` and keep its connection, until :meth:`release`."""
        self.guard.hold(flow.remote[0])
        self.transport.hold(flow)

    def release(self, flow: Flow) -> None:
        """The end of one :meth:`hold`."""
        self.guard.release(flow.remote[0])
        self.transport.hold(flow, -1)

    # --- our requests -------------------------------------------------------------------------------------------

    def request(
        self, request: Request, flow: Flow, *, on_response: OnResponse, on_failure: OnFailure, timeout: float = PATIENCE
    ) -> ClientTransaction:
        """Send it: :meth:`TransactionLayer.request`. An ACK too. Who gives nothing, or 503, rests (:meth:`rest`)."""

        def responded(response: Response) -> None:
            if response.status == 503:
                self.rest(flow, seconds_of(response, "Retry-After"))
            else:
                self.resolver.wake(_target(flow))
            on_response(response)

        def failed(why: str) -> None:
            if not transaction.heard:
                self.rest(flow)
            on_failure(why)

        self.guard.expect(flow.remote[0], self.now())
        transaction = self.layer.request(request, flow, responded, failed, timeout)
        return transaction

    async def targets(self, uri: Uri, transport: str | None) -> list[Target]:
        """Where to send, in order (RFC 3263); ``NoTarget``, a ``ConnectionError``, when there is nowhere."""
        return await self.resolver.targets(uri, transport)

    async def flow(self, target: Target, size: int = 0) -> Flow:
        """The way to ``target``, opened or reused; ``ConnectionError``, and it rests. A request of ``size`` bytes that
        is too large for UDP gets a TCP connection, if the peer has it."""
        tcp = Target("tcp", target.host, target.port)
        if target.transport == "udp" and size > LARGE and not self.resolver.resting(tcp):
            try:
                return await self.transport.flow(tcp)
            except ConnectionError:
                self.resolver.rest(tcp, REFUSED_TCP)
        try:
            return await self.transport.flow(target)
        except ConnectionError:
            self.resolver.rest(target)
            raise

    def rest(self, flow: Flow, seconds: float | None = None) -> None:
        """Try whoever is at the other end of ``flow`` after all others for a while: it gave nothing."""
        self.resolver.rest(_target(flow), min(seconds or REST, LONGEST_REST))

    def alive(self, flow: Flow) -> bool:
        """Whether the connection of ``flow`` is still there; always true of UDP."""
        return self.transport.alive(flow)

    def contact(self, flow: Flow, user: str) -> str:
        """Our Contact for who is at the other end of ``flow``: ``<sip:user@192.0.2.1:5060;transport=tcp>``."""
        parameter = "" if flow.transport == "udp" else f";transport={flow.transport}"
        return f"<sip:{user}@{hostport(*self._sent_by(flow))}{parameter}>"

    def now(self) -> float:
        """The loop's clock."""
        return self.loop.time()

    def call_later(self, seconds: float, callback: Callable[[], Any]) -> asyncio.TimerHandle:
        """The loop's timer."""
        return self.loop.call_later(seconds, callback)

    # --- what comes in ------------------------------------------------------------------------------------------

    def _received(self, data: bytes, flow: Flow) -> None:
        try:
            self._take(data, flow)
        except Exception:  # of a trunk's or of ours: no message ends the socket's reader
            self.guard.counters.failures += 1
            logger.exception("sip: a message could not be handled")

    def _take(self, data: bytes, flow: Flow) -> None:
        if data.isspace():
            return  # a keep-alive (RFC 5626)
        try:
            message = parse(data)
        except SipError as error:
            self.guard.counters.malformed += 1
            if error.status and error.request is not None and self.guard.is_peer(flow.remote[0]):
                answer = reply(error.request, error.status, error.phrase, to_tag=self.layer.token())
                with contextlib.suppress(OSError):
                    self.transport.send(answer.encode(), flow)
            return
        if isinstance(message, Request) and not self._known(message, flow):
            self.guard.counters.strangers += 1
            return
        transaction = self.layer.receive(message, flow)
        if transaction is not None:
            self._dispatch(transaction)

    def _known(self, request: Request, flow: Flow) -> bool:
        """Whether the request is to be answered at all: who may only answer us, or may register, may not ask."""
        dialog = self.dialogs.get((request.call_id, request.to.tag or ""))
        if (dialog is not None and dialog.peer_allowed(flow)) or self.trunks.at(flow.remote[0]):
            return True
        if not self.trunks.anywhere:
            return False
        if request.method in ("REGISTER", "INVITE"):
            return request.to.tag is None
        return request.method == "ACK" or (request.method == "CANCEL" and self.layer.pending(request, flow))

    def _dispatch(self, transaction: ServerTransaction) -> None:
        request, flow = transaction.request, transaction.flow
        tag = request.to.tag
        if tag is not None:
            dialog = self.dialogs.get((request.call_id, tag))
            if dialog is not None and dialog.peer_allowed(flow):
                if request.method == "ACK":
                    self.trunks.settled(request)
                self._hand_over(dialog.requested, transaction)
            elif request.method != "ACK":
                self._refuse(transaction, 481)
            return
        if request.method == "ACK":
            return
        trunk = self.trunks.whose(request, flow)
        if trunk is None:
            self._refuse(transaction, 404)
        elif request.method != "INVITE":
            self._hand_over(trunk.requested, transaction)
        elif self.draining or not self.trunks.may_ring(trunk, transaction):
            self.guard.counters.refused_invites += 1
            self._refuse(transaction, 503, RETRY_AFTER)
        else:
            self._hand_over(trunk.invited, transaction)

    def _hand_over(self, handler: Callable[[ServerTransaction], None], transaction: ServerTransaction) -> None:
        try:
            handler(transaction)
        except Exception:
            if not transaction.final:
                self._refuse(transaction, 500)
            raise

    def _refuse(self, transaction: ServerTransaction, status: int, retry_after: int = 0) -> None:
        response = reply(transaction.request, status, to_tag=self.layer.token())
        if retry_after:
            response.headers.set("Retry-After", str(retry_after))
        transaction.respond(response)

    def _stray(self, response: Response, flow: Flow) -> None:
        dialog = self.dialogs.get((response.call_id, response.from_.tag or ""))
        if dialog is not None:
            dialog.stray(response, flow)

    def _lost(self, flow: Flow) -> None:
        self.layer.lost(flow)
        for told in self.losses:
            self.loop.call_soon(told, flow)

    # --- inside -------------------------------------------------------------------------------------------------

    def _sent_by(self, flow: Flow) -> tuple[str, int]:
        host, port = flow.local if flow.transport == "udp" else self.addresses.get(flow.transport, flow.local)
        return self.settings.public_address or host, port

    def _send(self, data: bytes, flow: Flow) -> None:
        try:
            self.transport.send(data, flow)
        except ConnectionError:
            if not (flow.connection and data.startswith(b"SIP/2.0 ")):
                raise
            task = self.loop.create_task(self._send_anew(data, flow))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_anew(self, response: bytes, flow: Flow) -> None:
        """The connection of a request is gone: its response goes to where its sender listens (RFC 3261, 18.2.2)."""
        via = parse(response).via
        target = Target(flow.transport, flow.remote[0], via.port or port_of(flow.transport), via.host)
        with contextlib.suppress(OSError):
            self.transport.send(response, await self.flow(target))


def _target(flow: Flow) -> Target:
    return Target(flow.transport, *flow.remote)


def token() -> str:
    """For branches and tags: not to be guessed, so never anybody else's."""
    return secrets.token_hex(10)
