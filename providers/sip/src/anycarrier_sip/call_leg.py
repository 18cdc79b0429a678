"""A call's dialog on the wire: requests of ours, responses that must arrive, and a timer for everything."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from anycarrier.errors import AnycarrierError
from anycarrier_sip.dialog import ALLOW, MIN_SE, SUPPORTED, Dialog, options_of
from anycarrier_sip.message import Request, Response, reply
from anycarrier_sip.transaction import PATIENCE, T1, T2, ClientTransaction, Flow, ServerTransaction

if TYPE_CHECKING:
    from anycarrier_sip.listener import SipListener

log = logging.getLogger("anycarrier")


KNOWN_OPTIONS = frozenset(
    "answermode eventlist from-change gin gruu histinfo ice join multiple-refer norefersub nosub outbound path"
    " policy precondition pref privacy recipient-list-invite record-aware resource-priority sdp-anat sec-agree"
    " siprec target-dialog tdialog trickle-ice uui".split()
)
"""Option tags (IANA) that a 420 names; what else was asked for is not repeated (P9)."""

TOLD = {
    200: {"Allow": ALLOW, "Supported": ", ".join(SUPPORTED), "Accept": "application/sdp"},
    405: {"Allow": ALLOW},
    415: {"Accept": "application/sdp"},
    422: {"Min-SE": str(MIN_SE)},
}
"""Headers that go with a status."""


class CallLeg:
    """One side of a call: ours. Requests go to where the far end's come from, unless it names another place."""

    def __init__(self, trunk: SipListener, name: str, dialog: Dialog, flow: Flow | None) -> None:
        self.trunk, self.endpoint, self.dialog = trunk, trunk.endpoint, dialog
        self.invite: ClientTransaction | None = None
        """The last INVITE of ours."""
        self.insisting: tuple[ServerTransaction, Response] | None = None
        """The response to an INVITE that is repeated until its ACK or PRACK comes."""
        self.settled = asyncio.Event()
        """No 2xx of ours waits for its ACK: only then may we hang up (RFC 3261, 15)."""
        self.settled.set()
        self.offering = False
        """An offer of ours waits for its answer."""
        self.closed = False
        self._name = name
        self.flow = flow
        self._reached = ""
        """The next hop that :attr:`flow` leads to, where that is not whom the first message came from."""
        self._addresses = {flow.remote[0]} if flow is not None else set[str]()
        self._alarms: dict[str, asyncio.TimerHandle] = {}

    def peer_allowed(self, flow: Flow) -> bool:
        """Whether requests inside the call's dialogs may come from there: only from its peer, or its carrier (P5)."""
        return flow.remote[0] in self._addresses or self.trunk.is_peer(flow)

    def requested(self, tx: ServerTransaction) -> None:
        """Answer a request inside the dialog: once the call is over, only a BYE is in order."""
        if tx.request.method != "ACK":
            self.answer(tx, 200 if tx.request.method == "BYE" else 481)

    def stray(self, response: Response, flow: Flow) -> None:
        """A 2xx to an INVITE of ours whose transaction is over: its ACK was lost."""
        if 200 <= response.status < 300 and response.to.tag == self.dialog.remote_tag:
            self.acknowledge(response, self.dialog)

    def answer(self, tx: ServerTransaction, status: int, phrase: str | None = None, **headers: str) -> None:
        """Respond without a body."""
        tx.respond(bare_reply(tx.request, status, phrase, self.dialog.local_tag, headers))

    # --- responses of ours that must arrive -------------------------------------------------------------------------

    def insist(self, tx: ServerTransaction, response: Response, give_up: Callable[[], None]) -> None:
        """Send a response to an INVITE until :meth:`settle`, ``give_up`` after 32 s."""
        self.insisting = tx, response
        self.alarm("patience", PATIENCE, give_up)
        self._send_again(tx, response, T1)

    def _send_again(self, tx: ServerTransaction, response: Response, pause: float) -> None:
        tx.respond(response)
        self.alarm("again", pause, lambda: self._send_again(tx, response, min(2 * pause, T2)))

    def settle(self) -> None:
        """No response of ours waits for its ACK or PRACK any more."""
        self.stop("again", "patience")
        self.insisting, self.offering = None, False
        self.settled.set()

    # --- requests of ours -------------------------------------------------------------------------------------------

    async def ask(
        self, method: str, headers: Mapping[str, str] = {}, body: bytes = b"", kind: str = "", *,
        dialog: Dialog | None = None, heard: Callable[[Response], None] | None = None,
    ) -> Response | None:  # fmt: skip
        """Send a request inside the dialog; its final response, or None when there is none. A challenge is answered.
        ``heard`` sees each response before."""
        dialog = dialog or self.dialog
        request = dialog.request(method)
        request.body = body
        told = {"Allow": ALLOW, "Supported": ", ".join(SUPPORTED)} if method in ("INVITE", "UPDATE") else {}
        for name, value in {**told, **headers, "Content-Type": kind}.items():
            if value:
                request.headers.add(name, value)

        def came(response: Response) -> None:
            if method == "INVITE" and 200 <= response.status < 300:
                self.acknowledge(response, dialog)
            if heard is not None:
                heard(response)

        anew = False
        while True:
            flow = await self._reach(dialog, anew)
            request.headers.set("Contact", self.contact(flow))
            response = await self.send(request, flow, came, 2 * PATIENCE)  # an INVITE may be kept ringing for ever
            if response == "transport" and not anew:
                anew = True  # the connection was lost: over a new one, once
            elif isinstance(response, str):
                return None
            elif response.status not in (401, 407) or not self.trunk.authorize(request, response):
                return response
            else:
                dialog.local_cseq += 1
                request.headers.set("CSeq", f"{dialog.local_cseq} {method}")

    async def send(
        self, request: Request, flow: Flow, heard: Callable[[Response], None], patience: float, *,
        silence_only: bool = False,
    ) -> Response | str:  # fmt: skip
        """Send a request; its final response, or why there is none. ``heard`` sees each response before. After
        ``patience`` seconds it is taken back; with ``silence_only``, only if there was no response at all."""
        done: asyncio.Future[Response | str] = asyncio.get_running_loop().create_future()

        def finish(outcome: Response | str) -> None:
            if not done.done():
                done.set_result(outcome)

        def responded(response: Response) -> None:
            try:
                heard(response)
            finally:
                if response.status >= 200:
                    finish(response)

        def too_long() -> None:
            if not transaction.heard:
                self.endpoint.rest(flow)
            if not transaction.heard or not silence_only:
                transaction.cancel()  # should it still be heard
                finish("timeout")

        transaction = self.endpoint.request(request, flow, on_response=responded, on_failure=finish)
        if request.method == "INVITE":
            self.invite = transaction
        timer = self.endpoint.call_later(patience, too_long)
        try:
            return await done
        finally:
            timer.cancel()

    def acknowledge(self, response: Response, dialog: Dialog) -> None:
        """ACK a 2xx to an INVITE of ours, as often as it comes."""
        ack = dialog.request("ACK", cseq=response.cseq.number)
        self.spawn(self._send_ack(ack, dialog))

    async def _send_ack(self, ack: Request, dialog: Dialog) -> None:
        self.endpoint.request(ack, await self._reach(dialog), on_response=_ignore, on_failure=_ignore)

    async def _reach(self, dialog: Dialog, anew: bool = False) -> Flow:
        """The way to the far end: the next hop, else whom its messages came from (NAT; a place we may not go to)."""
        assert self.flow is not None
        hop, flow = dialog.next_hop, self.flow
        transport = "tls" if hop.scheme == "sips" else hop.parameters.get("transport")
        same = (transport or flow.transport).lower() == flow.transport
        # Who is connected to us is reached by that connection, whatever port his Contact names (RFC 5923).
        there = hop.host == flow.remote[0] and (flow.reliable or (hop.port or 5060) == flow.remote[1])
        here = (same and there) or str(hop) == self._reached
        here = here or self.trunk.from_anywhere  # a softphone's Contact may be behind its NAT
        if anew or not here or not self.endpoint.alive(flow):
            try:
                for target in await self.endpoint.targets(hop, transport):
                    flow = await self.endpoint.flow(target)
                    self._reached = str(hop)
                    self.attach(flow)
                    break
            except (OSError, AnycarrierError, ValueError) as problem:
                log.debug("sip call %s: the next hop is not reached: %s", self._name, type(problem).__name__)
        return self.flow

    def attach(self, flow: Flow) -> None:
        """Have requests inside the dialog, and expect them from the other end of ``flow``."""
        self.flow = flow
        self._addresses.add(flow.remote[0])
        if not self.closed:
            self.endpoint.attach(self.dialog.call_id, self.dialog.local_tag, self, flow)

    def contact(self, flow: Flow) -> str:
        """Our Contact."""
        return self.endpoint.contact(flow, self.trunk.contact_user)

    async def say_bye(self) -> None:
        """Hang up, and forget the dialog once that was answered."""
        await self.settled.wait()
        await self.ask("BYE")
        self.close()

    def close(self) -> None:
        """Forget the dialog: nothing more will come on it."""
        self.closed = True
        self.settle()
        self.stop(*self._alarms)
        self.endpoint.detach(self.dialog.call_id, self.dialog.local_tag)

    # --- clock and tasks --------------------------------------------------------------------------------------------

    def alarm(self, name: str, seconds: float, act: Callable[[], object]) -> None:
        """Call ``act`` in ``seconds``, unless the alarm of that name is set anew or stopped."""
        self.stop(name)
        self._alarms[name] = self.endpoint.call_later(seconds, act)

    def stop(self, *names: str) -> None:
        """Stop these alarms."""
        for name in names:
            if (handle := self._alarms.pop(name, None)) is not None:
                handle.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` beside; what it raises is reported."""
        self.trunk.spawn(work, f"sip call {self._name}")


def bare_reply(
    request: Request, status: int, phrase: str | None, tag: str, headers: Mapping[str, str] = {}
) -> Response:
    """A response without a body, with the headers that go with its status. Nothing that came is told again but what a
    response must repeat (P9)."""
    response = reply(request, status, phrase, to_tag=tag)
    told = {**TOLD.get(status, {}), **headers}
    if status == 420:
        told["Unsupported"] = ", ".join(sorted(options_of(request, "Require") & KNOWN_OPTIONS)) or "unknown"
    if status == 500:
        told["Retry-After"] = str(random.randint(0, 10))  # noqa: S311  RFC 3261, 14.2
    for name, value in told.items():
        response.headers.add(name, value)
    return response


def _ignore(_: object) -> None: ...
