"""SIP without a trunk: a registrar and telephones on loopback that our side registers at, rings and is rung by.

A far end of its own, SIP over UDP and PCMU over RTP, written from the RFCs and not from the adapter, so that each
checks the other. Numbers say what a callee does: those of every sandbox, and those of ``callee.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from anycarrier.credentials import Credential
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Delivery, RestRequest, Sandbox
from anycarrier.testing.sandbox_numbers import RETRY_AFTER, Login, login_of
from anycarrier_sip.sandbox.callee import live
from anycarrier_sip.sandbox.datagrams import Datagrams
from anycarrier_sip.sandbox.formats import Message, address, answers, challenges, fields, parameter, token, user
from anycarrier_sip.sandbox.leg import PATIENCE, T1, Leg

K = TypeVar("K")
V = TypeVar("V")

LOGIN_REFUSED = {Login.SUSPENDED: 403, Login.BROKE: 402, Login.THROTTLED: 503}
MOST = 4096
"""Messages and calls that are remembered."""
REGISTER_PATIENCE = 10.0
"""Seconds that a caller waits for somebody who is to register."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Where a user can be rung."""

    contact: str
    expires: float
    """Loop time."""


class SipSandbox(Sandbox):
    """See the module. Sockets are open from when it is made; ``base_url`` shows a page with what is registered.

    Besides those of every sandbox, ``quirks`` are ``duplicate`` and ``reorder`` (datagrams, SIP and RTP), ``pcma`` (no
    other codec) and ``no transfers`` (REFER is refused).
    """

    provider = "sip"

    ring_seconds = 0.05
    """How long each step of ringing takes, where the callee takes no longer."""
    transfer_seconds = 30.0
    """How long the target of a transfer rings that is not answered."""

    def __init__(self, *, base_url: str = "http://127.0.0.1", http: httpx.AsyncClient | None = None, port: int = 0) -> (
        None
    ):
        """``port`` is where trunks register, 0 for a free one."""
        super().__init__(base_url=base_url, http=http)
        self._datagrams = Datagrams(self._received, self.quirks, port)
        self.passwords: dict[str, str] = {}
        """By user name. Who is not here logs in with any password."""
        self.registrations: dict[str, Registration] = {}
        self.numbers: dict[str, str] = {}
        """Our side's numbers, each with the user it is rung at; "" for whoever is registered."""
        self.legs: dict[str, Leg] = {}
        """By Call-ID."""
        self._nonce = token()
        self._registered = asyncio.Event()
        self._replies: dict[tuple[str, str], bytes] = {}
        self._waiting: dict[tuple[str, str], Callable[[Message], None]] = {}
        self._acks: dict[tuple[str, str, str], tuple[bytes, tuple[str, int]]] = {}
        self.app = Starlette(routes=[Route("/", self._page)])

    @property
    def address(self) -> tuple[str, int]:
        """Where a trunk or softphone registers: host and UDP port."""
        return self._datagrams.address

    @property
    def at(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    # --- the account --------------------------------------------------------------------------------------------------

    def credential(self, **overrides: Any) -> Credential:
        """A new account each time, unless ``username`` names one."""
        from anycarrier_sip import SipCredential

        if overrides.get("preset") == "softphones":  # which log in to our side, and have no account here
            return SipCredential.model_validate(overrides)
        fields = {"preset": "pbx", "username": f"trunk-{token()}", "password": token(), **overrides}
        credential = SipCredential.model_validate(self.lead_here(fields))
        self.open_account(credential)
        return credential

    def lead_here(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Softphones stay as they are: they come to our side, which is their registrar."""
        if fields.get("preset") == "softphones":
            return dict(fields)
        host, port = self.address
        kept = {name: value for name, value in fields.items() if name not in ("region", "peers", "base_url")}
        return {**kept, "host": host, "port": port, "transport": "udp", "registers": True, "srtp": "off"}

    def open_account(self, credential: Credential) -> None:
        name, secrets = getattr(credential, "username", None), credential.secrets()
        if name and secrets:
            self.passwords[name] = secrets[0]

    def add_number(self, number: str) -> None:
        self.numbers.setdefault(number, "")

    def give_number(self, number: str, credential: Credential) -> None:
        self.open_account(credential)
        self.numbers[number] = getattr(credential, "username", None) or ""

    def sign(self, delivery: Delivery) -> Delivery:
        """Nothing in SIP is a signature, and no webhook is sent."""
        raise NotImplementedError("a SIP trunk sends no webhooks: there is nothing to sign")

    # --- calls --------------------------------------------------------------------------------------------------------

    async def ring(
        self,
        to: str,
        from_: str,
        *,
        said: bytes = b"",
        headers: Mapping[str, str] | None = None,
        offer: bool = True,
    ) -> FarEnd:
        """Returns once our side has said that it rings, or more. ``offer=False`` leaves the offer to our side's 200.

        ``LookupError`` too when nobody has registered who is rung at ``to``.
        """
        if to not in self.numbers:
            raise LookupError(f"{to} is no number of this trunk: add_number() was not told of it")
        try:
            contact = await self._contact_of(self.numbers[to])
        except TimeoutError:
            raise LookupError(f"nobody is registered who could be rung at {to}") from None
        leg = Leg(self, f"{token()}@sandbox", from_, to)
        _keep(self.legs, leg.call_id, leg)
        self.start(leg.ring(contact, dict(headers or {}), offer))
        await leg.named.wait()
        self.connect(leg.far_end)
        if said and not leg.over.is_set():
            self.start(leg.far_end.say(said))
        return leg.far_end

    def leg_of(self, far_end: FarEnd) -> Leg:
        """The dialog of a far end: to see what was said in it, put it on hold or move its sound."""
        return next(leg for leg in self.legs.values() if leg.far_end is far_end)

    async def hold(self, far_end: FarEnd, held: bool = True) -> None:
        """Put our side on hold, or come back."""
        await self.leg_of(far_end).change("sendonly" if held else "sendrecv")

    async def move(self, far_end: FarEnd) -> None:
        """Have the far end's sound come from another port, as after a change of networks."""
        leg = self.leg_of(far_end)
        leg.sound.move()
        await leg.change()

    async def _contact_of(self, name: str) -> str:
        async with asyncio.timeout(REGISTER_PATIENCE):
            while True:
                now = asyncio.get_running_loop().time()
                known = {who: each for who, each in self.registrations.items() if each.expires > now}
                if found := known.get(name) or (next(iter(known.values()), None) if not name else None):
                    return found.contact
                self._registered.clear()
                await self._registered.wait()

    # --- messages -----------------------------------------------------------------------------------------------------

    async def ask(
        self, request: Message, to: tuple[str, int], provisional: Callable[[Message], None] | None = None
    ) -> Message | None:
        """Send a request, again while nothing comes back. Its final response; None when there is none."""
        done: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        heard = asyncio.Event()

        def take(response: Message) -> None:
            self._log(response, "")
            heard.set()
            if response.status >= 200:
                if not done.done():
                    done.set_result(response)
            elif provisional is not None:
                provisional(response)

        _keep(self._waiting, request.transaction, take)
        self._log(request, "< ")
        wait = waited = 0.0
        while not heard.is_set() and waited < PATIENCE:
            self._datagrams.send(request.encode(), to)
            wait = min(2 * wait, 8 * T1) or T1
            waited += wait
            await asyncio.wait({done}, timeout=wait)
        return await done if heard.is_set() else None

    def reply(
        self,
        request: Message,
        source: tuple[str, int],
        status: int,
        *more: tuple[str, str],
        tag: str,
        body: bytes = b"",
    ) -> Message:
        """Respond, and again whenever the request is repeated."""
        response = request.reply(status, source, *more, tag=tag, body=body)
        _keep(self._replies, request.transaction, response.encode())
        self._log(response, "< ")
        self._datagrams.send(response.encode(), source)
        return response

    def acknowledge(self, response: Message, ack: Message, to: tuple[str, int]) -> None:
        """Send an ACK, and again whenever the response it is for is repeated."""
        _keep(self._acks, _final(response), (ack.encode(), to))
        self._log(ack, "< ")
        self._datagrams.send(ack.encode(), to)

    def _log(self, message: Message, mark: str) -> None:
        if leg := self.legs.get(message.get("Call-ID")):
            leg.log.append(mark + (f"{message.status} {message.method}" if message.status else message.method))

    def _received(self, data: bytes, source: tuple[str, int]) -> None:
        if not data.strip():
            return  # a keep-alive
        message = Message.parse(data)
        if message.status:
            if again := self._acks.get(_final(message)):
                self._datagrams.send(*again)
            elif take := self._waiting.get(message.transaction):
                take(message)
            return
        if message.method != "ACK" and message.transaction in self._replies:
            self._datagrams.send(self._replies[message.transaction], source)
            return
        self._log(message, "")
        leg = self.legs.get(message.get("Call-ID"))
        if leg is not None and (message.method == "CANCEL" or parameter(message.get("To"), "tag")):
            leg.received(message, source)
        elif message.method in ("REGISTER", "INVITE"):
            record = RestRequest(message.method, message.uri)
            self.requests.append(record)
            record.status = self._log_in(message, source)
            if record.status == 200:
                (self._register if message.method == "REGISTER" else self._invite)(message, source)
        elif message.method != "ACK":
            self.reply(message, source, 200 if message.method == "OPTIONS" else 481, tag=token())

    def _log_in(self, request: Message, source: tuple[str, int]) -> int:
        """200 for a request whose sender has shown who they are; else the status it was answered with."""
        login = fields(request.get("Authorization"))
        password = self.passwords.get(login.get("username", ""))
        kind = Login.GOOD if password is None else login_of(password)
        proven = password is None or (kind is not Login.WRONG and answers(login, request.method, password))
        status = LOGIN_REFUSED.get(kind, 200) if login.get("nonce") == self._nonce and proven else 401
        if status != 200:
            more = challenges(self._nonce) if status == 401 else []
            if status == 503:
                more.append(("Retry-After", f"{RETRY_AFTER:g}"))
            self.reply(request, source, status, *more, tag=token())
        return status

    def _register(self, request: Message, source: tuple[str, int]) -> None:
        name, contact = user(request.get("To")), request.get("Contact")
        if not contact:  # a question: who is registered? (RFC 3261, 10.2.3)
            known = self.registrations.get(name)
            self.reply(request, source, 200, *([("Contact", f"<{known.contact}>")] if known else []), tag=token())
            return
        seconds = int(parameter(contact, "expires") or request.get("Expires") or 3600)
        if contact == "*" or not seconds:
            self.registrations.pop(name, None)
        else:
            now = asyncio.get_running_loop().time()
            self.registrations[name] = Registration(address(contact), now + seconds)
            self._registered.set()
        more = [("Contact", f"<{address(contact)}>;expires={seconds}")] if seconds else []
        self.reply(request, source, 200, *more, tag=token())

    def _invite(self, request: Message, source: tuple[str, int]) -> None:
        from_, to = user(request.get("From")), user(request.uri)
        leg = Leg(self, request.get("Call-ID"), from_, to)
        _keep(self.legs, leg.call_id, leg)
        _keep(self._replies, request.transaction, request.reply(100, source, tag="").encode())
        self._log(request, "")
        leg.rung(request, source)
        self.connect(leg.far_end)
        self.start(live(leg))

    # --- coming and going ---------------------------------------------------------------------------------------------

    async def _page(self, request: Request) -> JSONResponse:
        calls = [{"id": leg.far_end.call_id, "to": leg.far_end.to, "state": leg.far_end.state}
                 for leg in self.legs.values()]  # fmt: skip
        return JSONResponse({"sip": f"sip:{self.at}", "registered": sorted(self.registrations), "calls": calls})

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            for leg in self.legs.values():
                leg.sound.close()
            self._datagrams.close()


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    kept[key] = value
    if len(kept) > MOST:
        del kept[next(iter(kept))]


def _final(response: Message) -> tuple[str, str, str]:
    """What a repeated final response to an INVITE has in common with the first."""
    kind = str(response.status) if response.method == "INVITE" and response.status >= 200 else ""
    return kind, response.get("Call-ID") + response.get("CSeq"), parameter(response.get("To"), "tag")
