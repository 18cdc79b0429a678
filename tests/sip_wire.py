"""An endpoint whose sockets are a script: what it sends is shown to a far end, which says what comes back and when.

No byte leaves the process, and in an ``ExactLoop`` no second passes: hours of registrations take milliseconds.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from anycarrier.networks import Network
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.endpoint import Endpoint
from anycarrier_sip.message import Message, Request, Response, parse, reply
from anycarrier_sip.resolver import Target
from anycarrier_sip.settings import SipSettings
from anycarrier_sip.transaction import Flow, ServerTransaction
from virtual_time import ExactLoop, virtually

HERE = ("192.0.2.1", 5060)
Answer = Callable[[Request, Flow], Response | None]


class Wire:
    """Stands in for ``Transport``. ``sent`` is all that was sent, with the time and the flow."""

    def __init__(self, endpoint: Endpoint, answer: Answer, delay: float = 0.01) -> None:
        self.endpoint = endpoint
        self.answer = answer
        self.delay = delay
        self.sent: list[tuple[float, bytes, Flow]] = []
        self.dead: set[str] = set()
        """Hosts that no connection reaches, and that swallow datagrams."""
        self.addresses = {"udp": HERE, "tcp": HERE}
        self.held: dict[Flow, int] = {}
        self._connections: dict[Target, Flow] = {}
        self._numbers = itertools.count(1)

    @property
    def requests(self) -> list[Request]:
        found = [parse(data) for _, data, _ in self.sent if data.strip()]
        return [one for one in found if isinstance(one, Request)]

    def times(self, method: str) -> list[float]:
        """When requests of this kind were sent."""
        return [at for at, data, _ in self.sent if data.startswith(method.encode())]

    def send(self, data: bytes, flow: Flow) -> None:
        if flow.connection and flow not in self._connections.values():
            raise ConnectionError
        self.sent.append((self.endpoint.now(), data, flow))
        message: Message | None = parse(data) if data.strip() else None
        if flow.remote[0] in self.dead or not isinstance(message, Request):
            return
        if (response := self.answer(message, flow)) is not None:
            self.endpoint.loop.call_later(self.delay, self.endpoint._received, response.encode(), flow)

    async def flow(self, target: Target) -> Flow:
        remote = (target.host, target.port)
        if target.transport == "udp":
            return Flow("udp", HERE, remote)
        if target.host in self.dead:
            raise ConnectionError(f"sip: no connection to {target}: refused")
        if target not in self._connections:
            self._connections[target] = Flow(target.transport, HERE, remote, next(self._numbers))
        return self._connections[target]

    def cut(self) -> None:
        """All connections end."""
        flows = list(self._connections.values())
        self._connections.clear()
        for flow in flows:
            self.held.pop(flow, None)
            self.endpoint._lost(flow)

    def alive(self, flow: Flow) -> bool:
        return not flow.connection or flow in self._connections.values()

    def hold(self, flow: Flow, times: int = 1) -> None:
        self.held[flow] = max(0, self.held.get(flow, 0) + times)
        if not self.held[flow]:
            del self.held[flow]

    async def aclose(self) -> None:
        pass


class OneTrunk:
    """A trunk with nothing behind it."""

    contact_user = "k3j2h1"
    from_anywhere = own_user = challenges = False

    def __init__(self, credential: SipCredential) -> None:
        self.credential = credential
        self.peers: Sequence[Network] = credential.networks
        self.addresses: Collection[str] = ()

    def resolved(self, addresses: Collection[str]) -> None:
        self.addresses = addresses

    def wants(self, request: Request, flow: Flow) -> bool:
        return True

    def recognizes(self, request: Request, flow: Flow) -> bool:
        return False

    def invited(self, transaction: ServerTransaction) -> None: ...

    def requested(self, transaction: ServerTransaction) -> None: ...


class Registrar:
    """A registrar of one user, written from RFC 3261 and RFC 2617."""

    def __init__(self, username: str = "201", password: str = "secret") -> None:
        self.username, self.password = username, password
        self.bindings: dict[str, int] = {}
        self.expires: int | None = None
        """What it grants, whatever is asked."""
        self.minimum = 0
        self.forced: list[int] = []
        """Statuses to answer next, whatever is asked."""
        self.silent = False
        self.queries = 0
        self.others: list[str] = []
        """Contacts of other devices."""

    def __call__(self, request: Request, flow: Flow) -> Response | None:
        if self.silent:
            return None
        if self.forced:
            return self._plain(request, self.forced.pop(0))
        if request.method == "OPTIONS":
            return self._plain(request, 200)
        given = request.headers.get("Authorization")
        if given is None or not self._right(given, request.method):
            challenge = self._plain(request, 401)
            challenge.headers.add("WWW-Authenticate", 'Digest realm="pbx", nonce="n1", algorithm=MD5')
            return challenge
        contact = request.headers.get("Contact")
        wanted = int(request.headers.get("Expires") or 3600)
        if contact is None:
            self.queries += 1
        elif 0 < wanted < self.minimum:
            refused = self._plain(request, 423)
            refused.headers.add("Min-Expires", str(self.minimum))
            return refused
        else:
            self.bindings[contact] = wanted if not wanted or self.expires is None else self.expires
        answer = self._plain(request, 200)
        for bound, seconds in self.bindings.items():
            if seconds:
                answer.headers.add("Contact", f"{bound};expires={seconds}")
        for other in self.others:
            answer.headers.add("Contact", other)
        return answer

    def _plain(self, request: Request, status: int) -> Response:
        return reply(request, status, to_tag="far")

    def _right(self, given: str, method: str) -> bool:
        fields = dict(part.strip().split("=", 1) for part in given.removeprefix("Digest ").split(","))
        fields = {name: value.strip('"') for name, value in fields.items()}
        if fields["username"] != self.username:
            return False
        ours = md5(f"{self.username}:pbx:{self.password}")
        return fields["response"] == md5(f"{ours}:{fields['nonce']}:{md5(method + ':' + fields['uri'])}")


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


Play = Callable[[Wire, OneTrunk], Awaitable[None]]


def on_a_wire(
    play: Play, credential: SipCredential, answer: Answer, *, hosts: Iterable[str] = (), **settings: Any
) -> None:
    """Run ``play`` in virtual time. ``hosts``: what the credential's host resolves to."""

    async def run() -> None:
        endpoint = Endpoint(SipSettings(**settings))
        wire = Wire(endpoint, answer)
        endpoint.transport = wire  # type: ignore[assignment]
        endpoint.layer._write = wire.send
        resolver = endpoint.resolver

        async def targets(uri: Any, transport: str | None = None) -> list[Target]:
            found = [Target(transport or "udp", host, uri.port or 5060) for host in hosts or (uri.host,)]
            return sorted(found, key=resolver.resting)

        resolver.targets = targets  # type: ignore[method-assign]
        trunk = OneTrunk(credential)
        endpoint.register(trunk)
        await play(wire, trunk)
        await endpoint.aclose()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "something is still at work"

    virtually(run(), ExactLoop)
