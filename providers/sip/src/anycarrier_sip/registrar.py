"""Who may come in by password: callers that are challenged (P11), and softphones that register with us (P2).

A challenge keeps no state: its nonce is checked by what is in it, its 401 is sent once and forgotten. So strangers cost
nothing, and get at most ten answers a second; after three wrong passwords they get none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from anycarrier.errors import RequestRejected
from anycarrier.sip import SipAddress, is_sip
from anycarrier_sip.credential import SipUser
from anycarrier_sip.digest import Refusal, username
from anycarrier_sip.endpoint import Endpoint
from anycarrier_sip.message import NameAddr, Request, Response, SipError, reply
from anycarrier_sip.transaction import Flow, ServerTransaction

SHORTEST, DEFAULT, LONGEST = 60, 3600, 3600
"""Seconds that a registration may last, and does when the phone does not say."""
PHONES = 5
"""Contacts of one user, and of one REGISTER; the one that registered longest ago makes room."""


def admit(endpoint: Endpoint, tx: ServerTransaction, password_of: Callable[[str], str | None]) -> str | None:
    """The name whose password the request proves. None: it was challenged, or left without any answer."""
    address, now, guard = tx.flow.remote[0], endpoint.now(), endpoint.guard
    found = endpoint.digest.check(tx.request, address, now, password_of)
    if not isinstance(found, Refusal):
        guard.right_answer(address, found)
        return found
    if found.wrong:
        guard.wrong_answer(address, username(tx.request) or "", now)
    if guard.is_peer(address) or (not guard.silent(address, now) and guard.may_challenge(address, now)):
        response = reply(tx.request, 401, to_tag=endpoint.layer.token())
        for challenge in endpoint.digest.challenges(address, now, stale=found.stale):
            response.headers.add("WWW-Authenticate", challenge)
        tx.forget(response)
    else:
        tx.forget()
    return None


@dataclass(eq=False)
class Binding:
    """One phone. It is reached where it registered from: the address in its Contact may be behind a NAT."""

    contact: str
    flow: Flow
    until: float
    call_id: str
    cseq: int
    expiry: asyncio.TimerHandle | None = None


class Registrar:
    """The phones of one ``softphones`` credential."""

    def __init__(self, endpoint: Endpoint, users: tuple[SipUser, ...]) -> None:
        self._endpoint = endpoint
        self._users = {user.name.lower(): user for user in users}
        self._bindings: dict[str, list[Binding]] = {name: [] for name in self._users}
        endpoint.losses.append(self._lost)

    def close(self) -> None:
        """Forget all phones."""
        self._endpoint.losses.remove(self._lost)
        for name in self._bindings:
            self._keep(name, [])

    def recognizes(self, request: Request, flow: Flow) -> bool:
        """Whether the request shows the name of a user, or comes from a phone that is registered."""
        if (name := username(request)) is not None:
            return name.lower() in self._users
        return any(phone.flow == flow for phones in self._bindings.values() for phone in phones)

    def registered(self) -> dict[str, list[str]]:
        """Where each user's phones are, for the doctor: ``{"alice": ["udp:192.0.2.7:5060"]}``."""
        return {
            name: [f"{one.flow.transport}:{one.flow.remote[0]}:{one.flow.remote[1]}" for one in phones]
            for name, phones in self._bindings.items()
        }

    def caller(self, tx: ServerTransaction) -> SipUser | None:
        """Whose phone calls; None: it was challenged, or left without any answer."""
        name = admit(self._endpoint, tx, self._password)
        return None if name is None else self._users[name.lower()]

    def register(self, tx: ServerTransaction) -> None:
        """Answer a REGISTER (RFC 3261, 10.3)."""
        user = self.caller(tx)
        if user is None:
            return
        try:
            response = self._registered(tx, user.name.lower())
        except SipError as refused:
            response = reply(tx.request, refused.status, refused.phrase, to_tag=self._endpoint.layer.token())
            if refused.status == 423:
                response.headers.add("Min-Expires", str(SHORTEST))
        tx.respond(response)

    def ways(self, to: str) -> list[tuple[str, Flow]]:
        """Request-URI and flow for each phone of who is called: by number or ``sip:name@...``, the newest first.

        ``RequestRejected`` when nobody of that name or number is here.
        """
        name = (SipAddress.parse(to).user or "").lower() if is_sip(to) else ""
        user = self._users.get(name) or next((one for one in self._users.values() if one.number == to), None)
        if user is None:
            step = "Only the credential's own users can be called: give one's number, or sip:name@host."
            raise RequestRejected("sip", "dial", "no softphone has this number or name", next_step=step)
        phones = self._bindings[user.name.lower()]
        if not phones:
            step = "Register one with that name and its password, then dial again."
            raise RequestRejected("sip", "dial", f"no phone is registered as {user.name!r}", next_step=step)
        return [(phone.contact, phone.flow) for phone in reversed(phones)]

    def _registered(self, tx: ServerTransaction, name: str) -> Response:
        request, now = tx.request, self._endpoint.now()
        if any((address.uri.user or "").lower() != name for address in (request.to, request.from_)):
            raise SipError(403)  # a user registers his own phones only
        phones, contacts = self._bindings[name], request.headers.values("Contact")
        if len(contacts) > PHONES:
            raise SipError(403)
        if contacts == ["*"]:
            if request.headers.get("Expires") != "0":
                raise SipError(400)
            phones, contacts = [], []
        for address in map(NameAddr.parse, contacts):
            seconds, contact = _expires(request, address), str(address.uri)
            if address.uri.scheme not in ("sip", "sips"):
                raise SipError(400)
            if 0 < seconds < SHORTEST:
                raise SipError(423)
            same = [one for one in phones if one.contact == contact]
            if any(one.call_id == request.call_id and one.cseq >= request.cseq.number for one in same):
                raise SipError(500)  # out of order: an older request came later
            phones = [one for one in phones if one not in same]
            if seconds:
                until = now + min(seconds, LONGEST)
                phones.append(Binding(contact, tx.flow, until, request.call_id, request.cseq.number))
        self._keep(name, phones[-PHONES:])
        response = reply(request, 200, to_tag=self._endpoint.layer.token())
        for one in self._bindings[name]:
            response.headers.add("Contact", f"<{one.contact}>;expires={max(1, round(one.until - now))}")
        return response

    def _keep(self, name: str, phones: list[Binding]) -> None:
        """Read what comes from these phones until they expire, and keep their connections open."""
        before, self._bindings[name] = self._bindings[name], phones
        for one in phones:
            if one.expiry is None:
                self._endpoint.hold(one.flow)
                one.expiry = self._endpoint.call_later(one.until - self._endpoint.now(), partial(self._drop, name, one))
        for one in before:
            if one not in phones and one.expiry is not None:
                one.expiry.cancel()
                self._endpoint.release(one.flow)

    def _drop(self, name: str, phone: Binding) -> None:
        self._keep(name, [one for one in self._bindings[name] if one is not phone])

    def _lost(self, flow: Flow) -> None:
        for name, phones in self._bindings.items():
            self._keep(name, [one for one in phones if one.flow != flow])

    def _password(self, name: str) -> str | None:
        user = self._users.get(name.lower())
        return None if user is None else user.password.get_secret_value()


def _expires(request: Request, contact: NameAddr) -> int:
    text = contact.parameters.get("expires") or request.headers.get("Expires") or ""
    return int(text[:9]) if text.isascii() and text.isdigit() else DEFAULT
