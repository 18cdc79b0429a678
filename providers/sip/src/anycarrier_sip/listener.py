"""One credential's side of the process's SIP endpoint: which requests are its, and the calls that it has."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Collection, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason
from anycarrier.errors import CallElsewhere, ConfigurationError
from anycarrier.events import IncomingCall
from anycarrier.listener import Desk, Figure, Health
from anycarrier.networks import LOOPBACK, Network, in_networks
from anycarrier.sip import SipAddress, headers_of, is_sip
from anycarrier_sip.addressing import Caller, address_of, called, caller, identity_headers
from anycarrier_sip.call_leg import CallLeg, bare_reply
from anycarrier_sip.dialog import Dialog, unsupported
from anycarrier_sip.digest import DigestClient, username
from anycarrier_sip.endpoint import Endpoint
from anycarrier_sip.figures import figures, health
from anycarrier_sip.header_values import parameters_of
from anycarrier_sip.invitation import Destination, Inbound, Outbound
from anycarrier_sip.media import RtpStream
from anycarrier_sip.message import METHODS, NameAddr, Request, Response, SipError, Uri
from anycarrier_sip.registrar import Registrar, admit
from anycarrier_sip.registration import Standing, standing_of
from anycarrier_sip.sdp import NotAcceptable
from anycarrier_sip.settings import SipSettings
from anycarrier_sip.sip_call import SipCall
from anycarrier_sip.transaction import Flow, ServerTransaction
from anycarrier_sip.trunks import refuse_overlap

if TYPE_CHECKING:
    from anycarrier_sip.provider import SipProvider

log = logging.getLogger("anycarrier")

REMEMBERED, MOST_REMEMBERED = 600.0, 10_000
"""Seconds that an ended call is known, and how many of them at most."""
STOP_PATIENCE = 2.0
"""Seconds that the far ends have to answer our BYEs when we stop."""


class SipListener:
    """A credential's listener, and its :class:`anycarrier_sip.trunks.Trunk`."""

    def __init__(self, provider: SipProvider, desk: Desk) -> None:
        self.provider, self.desk = provider, desk
        self.credential = credential = provider.credential
        self.preset = credential.trunk
        self.host = self.preset.host or ""
        self.settings = desk.settings(SipSettings)
        self.ours = self.settings.public_address or self.settings.bindings[0].host
        """Our own host, as others see it."""
        self.contact_user = credential.contact_user or secrets.token_hex(8)
        self.peers: Sequence[Network] = credential.networks
        self.own_user = credential.contact_user is not None or self.preset.registers
        self.from_anywhere = credential.preset == "softphones"
        self.challenges = self.from_anywhere or credential.challenge
        self.endpoint: Endpoint
        self.running = False
        self.standing: Standing | None = None
        """How the carrier takes us; None where there is nobody to ask."""
        self.registrar: Registrar | None = None
        """The phones of ``softphones``."""
        self.calls: dict[str, SipCall] = {}
        self._ended: OrderedDict[str, tuple[float, Call]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = AsyncExitStack()
        user, password = credential.auth_username or credential.username, credential.password
        self._digest = DigestClient(user, password.get_secret_value()) if user and password else None

    # --- coming and going -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the process's sockets, opened with the first credential. ``ConfigurationError`` names what is wrong."""
        self.credential.check(self.settings)
        try:
            shared = self.desk.shared(("sip", self.settings), partial(Endpoint.open, self.settings))
            self.endpoint = await self._held.enter_async_context(shared)
            self.standing = standing_of(self, self.endpoint)
            if self.standing is not None:
                await self.standing.look_up()
            refuse_overlap(self, self.endpoint.trunks)
            self.endpoint.register(self)
            self._held.callback(self.endpoint.unregister, self)
            if self.standing is not None:
                self.standing.start()
                self._held.push_async_callback(self.standing.stop)
            if self.from_anywhere:
                self.registrar = Registrar(self.endpoint, self.credential.users)
                self._held.callback(self.registrar.close)
            self.running = True
        except BaseException:
            await self._held.aclose()
            raise

    async def stop(self) -> None:
        """Hang up, and leave the sockets."""
        self.running = False
        for call in list(self.calls.values()):
            call.hang_up(EndReason.API_STOP)
        for _ in range(2):
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=STOP_PATIENCE)
            legs = [leg for leg in self.endpoint.dialogs.values() if isinstance(leg, CallLeg) and leg.trunk is self]
            if all(leg.settled.is_set() for leg in legs):
                break
            for leg in legs:  # no ACK has come: a BYE goes out all the same
                leg.settle()
        for call in list(self.calls.values()):  # whose CANCEL has no answer yet
            call.end(EndReason.CANCELED)
        for leg in legs:
            leg.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._held.aclose()

    def resolved(self, addresses: Collection[str]) -> None:
        """The addresses of the carrier's host are peers: calls come from there."""
        before, known = self.peers, self in self.endpoint.trunks
        self.peers = tuple(dict.fromkeys([*self.credential.networks, *map(ip_network, addresses)]))
        if self.peers == before or not known:
            return
        self.endpoint.unregister(self)
        try:
            refuse_overlap(self, self.endpoint.trunks)
        except ConfigurationError as problem:
            log.warning("%s", problem)
            self.peers = before
        self.endpoint.register(self)

    def health(self) -> list[Health]:
        """Sockets, registration or peers, telephones."""
        return [*health(self)]

    def figures(self) -> list[Figure]:
        """For ``/metrics``."""
        return [*figures(self)]

    def drain(self) -> None:
        """New calls get 503 with Retry-After, on all credentials of these sockets."""
        self.endpoint.draining = True

    # --- what the endpoint asks -------------------------------------------------------------------------------------

    def wants(self, request: Request, flow: Flow) -> bool:
        """Whether a call from a peer is for one of our numbers; who is challenged first hears nothing of them."""
        numbers = self.credential.numbers
        return self.challenges or not numbers or self._called(request).to in numbers

    def recognizes(self, request: Request, flow: Flow) -> bool:
        """Whether the request shows a login of ours, or comes from a phone of ours."""
        if self.registrar is not None:
            return self.registrar.recognizes(request, flow)
        return self.credential.challenge and username(request) == self.credential.username

    def is_peer(self, flow: Flow) -> bool:
        """Whether somebody at the carrier's addresses speaks."""
        return in_networks(flow.remote[0], self.peers)

    def invited(self, tx: ServerTransaction) -> None:
        """A call comes in."""
        who = None
        if self.registrar is not None:
            if (user := self.registrar.caller(tx)) is None:
                return
            who = Caller(user.number or f"sip:{user.name}@{self.ours}", user.name)
        if self.credential.challenge and admit(self.endpoint, tx, self._password) is None:
            return
        try:
            self._invited(tx, who)
        except SipError as refused:
            self._respond(tx, refused.status, refused.phrase)
        except NotAcceptable:
            self._respond(tx, 488)

    def _respond(self, tx: ServerTransaction, status: int, phrase: str | None = None) -> None:
        tx.respond(bare_reply(tx.request, status, phrase, self.endpoint.layer.token()))

    def _password(self, name: str) -> str | None:
        password = self.credential.password
        return password.get_secret_value() if password and name == self.credential.username else None

    def _invited(self, tx: ServerTransaction, who: Caller | None) -> None:
        request, to = tx.request, self._called(tx.request)
        if unsupported(request):
            raise SipError(420)
        if replaces := request.headers.get("Replaces"):
            return self._replaced(tx, replaces)
        if self.credential.numbers and to.to not in self.credential.numbers:
            raise SipError(404)
        accepted = {kind.partition(";")[0].strip().lower() for kind in request.headers.values("Accept")}
        if accepted and not accepted & {"application/sdp", "application/*", "*/*"}:
            raise SipError(406)
        who = who or caller(request, trusted=self.is_peer(tx.flow), country=self.credential.country)
        call = Inbound(self, self._new_call(Direction.INBOUND, CallStatus.RINGING, who.number, to.to), tx)
        self.calls[call.call.id] = call
        event = IncomingCall(
            call=call.call, call_id=call.call.id, event_id=f"{call.call.id}:invite", raw=call.call.raw,
            verified=who.verified, forwarded_from=to.forwarded_from, headers=headers_of(dict(request.headers.items())),
        )  # fmt: skip
        self.spawn(self._announce(call, event), f"announce sip call {call.call.id}")

    async def _announce(self, call: Inbound, event: IncomingCall) -> None:
        taken = False
        try:
            taken = (await self.desk.event(event)).status < 400
        finally:
            if not taken:
                call.refuse(480, EndReason.PROVIDER_UNAVAILABLE)

    def _new_call(self, direction: Direction, status: CallStatus, from_: str, to: str, reference: str = "") -> Call:
        return Call(
            id="sip_" + secrets.token_hex(12), provider=self.provider.name, direction=direction, from_=from_, to=to,
            status=status, reference=reference, created_at=datetime.now(UTC),
        )  # fmt: skip

    def _replaced(self, tx: ServerTransaction, header: str) -> None:
        """An INVITE that takes over one of our calls (RFC 3891): of this credential's only (P3)."""
        named = parameters_of(header)
        local, remote = named.get("to-tag"), named.get("from-tag")
        for call in self.calls.values():
            dialog = call.dialog
            if (dialog.call_id, dialog.local.tag, dialog.remote.tag) == (named[""], local, remote):
                if not call.answered or call.call.ended:
                    raise SipError(481)
                if "early-only" in named:
                    raise SipError(486)
                return call.replaced(tx, Dialog.incoming(tx.request, secrets.token_hex(8)))
        raise SipError(481)

    def requested(self, tx: ServerTransaction) -> None:
        """Anything else outside a dialog: only OPTIONS has an answer (P3), and REGISTER of a softphone."""
        method = tx.request.method
        if method == "REGISTER" and self.registrar is not None:
            return self.registrar.register(tx)
        status = {"OPTIONS": 200, "REFER": 603, **dict.fromkeys(("NOTIFY", "BYE", "INFO", "UPDATE", "PRACK"), 481)}
        otherwise = 405 if method in METHODS else 501
        self._respond(tx, 420 if unsupported(tx.request) else status.get(method, otherwise))

    def _called(self, request: Request) -> Any:
        credential = self.credential
        return called(request, contact_user=self.contact_user, country=credential.country, numbers=credential.numbers)

    # --- what the provider asks -------------------------------------------------------------------------------------

    def call(self, call_id: str, operation: str) -> SipCall:
        """The live call; ``CallElsewhere`` for one that this process does not have."""
        if (call := self.calls.get(call_id)) is None:
            raise CallElsewhere(self.provider.name, operation, call_id)
        return call

    def known(self, call_id: str) -> Call:
        """How the call stands, up to ten minutes after its end; ``CallElsewhere``."""
        self._forget()
        return self._ended[call_id][1] if call_id in self._ended else self.call(call_id, "fetch_call").call

    def has_ended(self, call_id: str) -> bool:
        """Whether the call was here, and is over."""
        return call_id in self._ended

    def place(self, request: DialRequest) -> Outbound:
        """Begin a call."""
        call = self._new_call(Direction.OUTBOUND, CallStatus.INITIATED, request.from_, request.to, request.reference)
        outbound = Outbound(self, call, request, self._destination(request))
        self.calls[call.id] = outbound
        self.spawn(outbound.place(), f"place sip call {call.id}")
        return outbound

    def uri_of(self, to: str, flow: Flow | None) -> Uri:
        """The Request-URI for a number at the carrier, or the ``sip:`` address as it is; for a phone at the other end
        of ``flow``, a number that it reaches at the socket of ours that it talks to."""
        if is_sip(to):
            return Uri.parse(str(SipAddress.parse(to)))
        uri = address_of(to, self.preset, self.credential.country, self.host or self.ours)
        if self.host or flow is None:
            return uri
        return NameAddr.parse(self.endpoint.contact(flow, uri.user or "")).uri

    def identity(self, number: str, flow: Flow | None) -> tuple[NameAddr, list[tuple[str, str]]]:
        """From, and the other headers that tell who calls, for who is at the other end of ``flow``."""
        host, country = self.host or self.ours, self.credential.country
        (_, from_), *others = identity_headers(number, trunk=self.preset, country=country, host=host)
        shown = NameAddr.parse(from_)
        if not self.host and flow is not None:  # a phone calls back whom this names
            shown.uri = Uri("sip", shown.uri.user, shown.uri.host, self.uri_of(number, flow).port)
        return shown, others

    def _destination(self, request: DialRequest) -> Destination:
        carrier, port = Uri("sip", None, self.host, self.preset.port), self.preset.port
        contact, phone = self.registrar.ways(request.to)[0] if self.registrar is not None else ("", None)
        local, headers = self.identity(request.caller_id or request.from_, phone)
        if phone is not None:
            return Destination(contact, local, headers, carrier, None, phone)
        uri = self.uri_of(request.to, None)
        if not is_sip(request.to) or (uri.host == self.host and uri.port in (None, port)):
            return Destination(str(uri), local, headers, carrier, self.preset.transport)
        return Destination(str(uri), local, headers, uri, uri.parameters.get("transport"))

    # --- what calls ask ---------------------------------------------------------------------------------------------

    async def open_media(self, call: SipCall, flow: Flow) -> RtpStream:
        """Ports for a call's sound."""
        secure = flow.transport == "tls" or self.settings.srtp_without_tls
        behind_nat: tuple[object, ...] = ()
        if self.from_anywhere:  # a softphone sends from where it signals, one on this machine from any address of it
            behind_nat = (flow.remote[0], *(LOOPBACK if ip_address(flow.local[0]).is_loopback else ()))
        address, networks = self.settings.public_address or flow.local[0], (*self.preset.media, *behind_nat)
        return RtpStream(
            pacer=self.endpoint.pacer, ports=self.endpoint.ports, bind_host=flow.local[0], advertised_host=address,
            srtp=self.preset.srtp if secure else "off", call_id=call.call.id, permits=self.settings.permits,
            media_networks=tuple(ip_network(str(one)) for one in networks),
        )  # fmt: skip

    def authorize(self, request: Request, response: Response) -> bool:
        """Answer a challenge in ``request``; False where that was done, or there is no password."""
        return self._digest is not None and self._digest.authorize(request, response, self.endpoint.now())

    def over(self, call: SipCall) -> None:
        """The call has ended: remember how."""
        self.calls.pop(call.call.id, None)
        if call.media is not None:
            self.endpoint.media.call_ended(call.media.stats())
        self._ended[call.call.id] = self.endpoint.now(), call.call
        self._forget()

    def _forget(self) -> None:
        oldest = asyncio.get_running_loop().time() - REMEMBERED
        while self._ended and (len(self._ended) > MOST_REMEMBERED or next(iter(self._ended.values()))[0] < oldest):
            self._ended.popitem(last=False)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do ``work`` beside; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=failure)
