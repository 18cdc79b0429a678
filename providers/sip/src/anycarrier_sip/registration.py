"""A trunk's standing with its carrier: REGISTER where it logs in, OPTIONS where the carrier knows our address.

    standing = standing_of(trunk, endpoint)     # Registration or Keepalive
    standing.start()
    standing.status                             # for the doctor: registered at udp:192.0.2.1:5060, ...
    await standing.stop()                       # unregisters, within UNREGISTER seconds

Either tells the trunk to which addresses its host resolves, since calls come from there as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from anycarrier.errors import (
    AuthenticationFailed,
    NotFound,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.digest import DigestClient
from anycarrier_sip.endpoint import Endpoint, token
from anycarrier_sip.message import Headers, NameAddr, Request, Response, SipError, Uri
from anycarrier_sip.resolver import Target
from anycarrier_sip.transaction import Flow

EXPIRES = 300
"""Seconds asked of a registrar: what restarts and forgets us has us back within four minutes."""
PATIENCE = 32.0
"""Seconds for a registrar's answer; :data:`OTHERS` where there is another target to try."""
OTHERS = 4.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""Seconds between attempts: doubled each time."""
REFUSED_PAUSE = 60.0
"""The first pause after a refused password: who asks more often is taken for a guesser and locked out."""
UNREGISTER = 2.0
"""Seconds that :meth:`Registration.stop` waits at most."""
CRLF_EVERY = 25.0
"""Seconds between two empty datagrams that keep a NAT's mapping to us open (RFC 5626, 4.4.1)."""
OPTIONS_EVERY, OPTIONS_PATIENCE = 30.0, 10.0
MISSES = 3
"""Unanswered OPTIONS after which a target is down."""
DOWN = 120.0
"""Seconds that a target which is down comes after all others, unless it answers before: the next OPTIONS renews it."""

log = logging.getLogger("anycarrier")


class Trunk(Protocol):
    """What a standing asks of the trunk it is for."""

    credential: SipCredential
    contact_user: str

    def resolved(self, addresses: Collection[str]) -> None:
        """The addresses of the trunk's host, whenever they are looked up: calls come from them too."""
        ...


@dataclass
class Status:
    """How a trunk stands with its carrier, for people and for metrics."""

    kind: str
    """``register`` or ``options``."""
    state: str = "starting"
    """``starting``, ``up``, ``down``, ``refused`` (by the carrier) or ``stopped``."""
    where: str = ""
    """The target that answered last."""
    since: float = 0.0
    """When :attr:`state` began, by the loop's clock."""
    until: float = 0.0
    """When a registration ends, by the loop's clock."""
    problem: str = ""
    """What to do about ``down`` and ``refused``."""
    failures: int = 0
    """Attempts in a row without success."""

    def __str__(self) -> str:
        word = {"up": "registered" if self.kind == "register" else "answers", "starting": "not tried yet"}
        told = f"{word.get(self.state, self.state)}{' at ' + self.where if self.where and self.state == 'up' else ''}"
        return f"{told}: {self.problem}" if self.problem else told


class Login:
    """One credential's requests outside any dialog: the same Call-ID, counted, digest answered, all targets tried."""

    def __init__(self, endpoint: Endpoint, credential: SipCredential) -> None:
        self.endpoint = endpoint
        self.credential = credential
        self.looked_up: Callable[[Collection[str]], None] = lambda addresses: None
        password = credential.password.get_secret_value() if credential.password is not None else ""
        self._digest = DigestClient(credential.auth_username or credential.username or "", password)
        self._call_id = token()
        self._tag = token()
        self._cseq = random.randint(1, 10_000)  # noqa: S311
        host, port = credential.trunk.host or "", credential.trunk.port
        self.uri = Uri("sip", None, host, port)
        self._us = Uri("sip", credential.username, host)

    async def targets(self) -> list[Target]:
        """Where the host leads; ``ProviderUnavailable`` when nowhere."""
        try:
            found = await self.endpoint.targets(self.uri, self.credential.trunk.transport)
        except ConnectionError as problem:
            raise ProviderUnavailable("sip", "connect", str(problem), sent=False) from None
        self.looked_up([target.host for target in found])
        return found

    async def ask(self, method: str, headers: Callable[[Flow], dict[str, str]]) -> tuple[Response, Target, Flow]:
        """The final response of the first target that gives one. ``ProviderUnavailable`` when none does."""
        why, targets = "", await self.targets()
        for target in targets:
            patience = PATIENCE if target is targets[-1] else OTHERS
            try:
                flow = await self.endpoint.flow(target)
                response = await self._asked(method, headers(flow), flow, patience)
            except ConnectionError as failure:
                why = str(failure)
                self.endpoint.resolver.rest(target)
                continue
            if response.status != 503:
                self.endpoint.resolver.wake(target)
                return response, target, flow
            self.endpoint.resolver.rest(target, _seconds(response, "Retry-After") or 30)
            if target is targets[-1]:
                return response, target, flow
        step = f"Check that {targets[-1]} is right, and that a firewall lets our packets and its answers through."
        raise ProviderUnavailable("sip", method.lower(), why, next_step=step)

    async def ask_one(self, method: str, target: Target, patience: float) -> Response | None:
        """One request to one target, challenges unanswered; None when nothing comes back."""
        try:
            flow = await self.endpoint.flow(target)
            return await self._sent(self._request(method, {}), flow, patience)
        except ConnectionError:
            return None

    async def _asked(self, method: str, headers: dict[str, str], flow: Flow, patience: float) -> Response:
        request = self._request(method, headers)
        self._digest.prepare(request, self.endpoint.now())
        while True:
            response = await self._sent(request, flow, patience)
            if response.status not in (401, 407) or not self._digest.authorize(request, response, self.endpoint.now()):
                self._digest.succeeded(response, self.endpoint.now())
                return response
            self._cseq += 1
            request.headers.set("CSeq", f"{self._cseq} {method}")

    async def _sent(self, request: Request, flow: Flow, patience: float) -> Response:
        """The final response; ``ConnectionError`` says what came instead."""
        done: asyncio.Future[Response] = self.endpoint.loop.create_future()

        def responded(response: Response) -> None:
            if response.status >= 200 and not done.done():
                done.set_result(response)

        def failed(why: str) -> None:
            if not done.done():
                done.set_exception(ConnectionError("no answer" if why == "timeout" else "the connection was lost"))

        self.endpoint.request(request, flow, on_response=responded, on_failure=failed, timeout=patience)
        return await done

    def _request(self, method: str, headers: dict[str, str]) -> Request:
        self._cseq += 1
        to = self._us if method == "REGISTER" else Uri("sip", None, self.uri.host)
        written = {
            "From": str(NameAddr("", self._us, {"tag": self._tag})),
            "To": str(NameAddr("", to)),
            "Call-ID": self._call_id,
            "CSeq": f"{self._cseq} {method}",
            **headers,
        }
        return Request(method, str(self.uri), Headers(written.items()))

    def refused(self, response: Response, operation: str) -> ProviderError:
        """The typed error for a final response that is no success, with the next step."""
        status, user = response.status, self.credential.username
        kind: type[ProviderError] = ProviderUnavailable if status in (408, 480) or status >= 500 else RequestRejected
        text, step, told = f"it answered {response.phrase[:100]}", None, dict[str, Any]()
        if status in (401, 407) and user is None:
            kind, text = AuthenticationFailed, "it wants a login"
            step = "Give username and password, or have the carrier list the address that our packets come from."
        elif status in (401, 407):
            kind, text = AuthenticationFailed, f"the registrar refused the password of user {user!r}"
            step = "Check username and password (and auth_username, if the login has another name)."
        elif status == 403 and user is not None:
            kind, text = AuthenticationFailed, f"the registrar refused user {user!r}: {response.phrase[:100]}"
            step = "Check username and password, and that this address may use them."
        elif status == 403:
            kind, step = PermissionDenied, "Have the carrier list the address that our packets come from."
        elif status == 404:
            kind, text, step = NotFound, f"it knows no user {user!r}", "Check username and host."
        elif status == 429 or (status == 503 and "Retry-After" in response.headers):
            kind, told = RateLimited, {"retry_after": _seconds(response, "Retry-After")}
        return kind("sip", operation, text, status=status, next_step=step, **told)


async def check_login(endpoint: Endpoint, credential: SipCredential) -> str:
    """Ask the carrier whether it knows us, changing nothing: the account's public name, or why not.

    A REGISTER without Contact, which asks for the bindings there are (RFC 3261, 10.2.3); where there is no registrar,
    OPTIONS, to which any answer but a refusal will do.
    """
    account = credential.account or "sip"
    if credential.trunk.host is None:
        return account  # softphones, or a trunk that only calls us: nobody to ask
    login = Login(endpoint, credential)
    method = "REGISTER" if credential.trunk.registers else "OPTIONS"
    response, _, _ = await login.ask(method, lambda flow: {})
    if response.status >= 300 and (method == "REGISTER" or response.status in (401, 403, 407)):
        raise login.refused(response, "check_credential")
    return account


class Registration:
    """Keeps a trunk registered until :meth:`stop`: refreshed in time, again at once when its connection is lost."""

    def __init__(self, trunk: Trunk, endpoint: Endpoint) -> None:
        self.status = Status("register", since=endpoint.now())
        self._trunk = trunk
        self._endpoint = endpoint
        self._login = Login(endpoint, trunk.credential)
        self._login.looked_up = trunk.resolved
        self._expires = EXPIRES
        self._flow: Flow | None = None
        self._again = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def look_up(self) -> None:
        """Tell the trunk what its host resolves to; nothing if DNS does not say."""
        with contextlib.suppress(ProviderError):
            await self._login.targets()

    def start(self) -> None:
        """Begin; returns at once."""
        self._endpoint.losses.append(self._lost)
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._keep_alive())]

    async def stop(self) -> None:
        """Give the registration up, within :data:`UNREGISTER` seconds, answered or not."""
        if self._lost in self._endpoint.losses:
            self._endpoint.losses.remove(self._lost)
        await _ended(self._tasks)
        if self._flow is not None:
            with contextlib.suppress(TimeoutError, ProviderError):  # then it ends by itself
                async with asyncio.timeout(UNREGISTER):
                    await self._register(0)
            self._release()
        _move(self.status, "stopped", self._endpoint.now())

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._again.clear()
            try:
                granted = await self._register(self._expires)
            except ProviderError as problem:
                refused = isinstance(problem, AuthenticationFailed | PermissionDenied | NotFound)
                first, pause = max(pause, REFUSED_PAUSE if refused else FIRST_PAUSE), min(2 * pause, LONGEST_PAUSE)
                self._failed(problem, refused)
                told = problem.retry_after if isinstance(problem, RateLimited) else None
                await asyncio.sleep(min(max(first, told or 0), LONGEST_PAUSE) * random.uniform(0.8, 1.0))  # noqa: S311
                continue
            pause = FIRST_PAUSE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(granted * 0.8 * random.uniform(0.9, 1.0)):  # noqa: S311
                    await self._again.wait()

    async def _register(self, expires: int) -> float:
        """One round; the seconds granted. ``ProviderError`` says why not."""
        while True:
            wanted = expires

            def headers(flow: Flow) -> dict[str, str]:
                return {"Contact": self._endpoint.contact(flow, self._trunk.contact_user), "Expires": str(wanted)}  # noqa: B023

            response, target, flow = await self._login.ask("REGISTER", headers)
            minimum = _seconds(response, "Min-Expires") or 0
            if response.status == 423 and expires and expires < minimum <= 86400:
                self._expires = expires = int(minimum)
                continue
            if not 200 <= response.status < 300:
                raise self._login.refused(response, "register")
            if not expires:
                return 0
            granted = self._granted(response, expires)
            self._succeeded(target, flow, granted)
            return granted

    def _granted(self, response: Response, asked: int) -> float:
        """What the registrar says of our Contact, else of all (RFC 3261, 10.2.4)."""
        granted = _seconds(response, "Expires") or asked
        for value in response.headers.values("Contact"):
            try:
                contact = NameAddr.parse(value)
            except SipError:
                continue
            expires = contact.parameters.get("expires") or ""
            if contact.uri.user == self._trunk.contact_user and expires.isascii() and expires.isdigit():
                granted = int(expires[:9])
        return max(float(min(granted, 86400)), 5.0)

    def _succeeded(self, target: Target, flow: Flow, granted: float) -> None:
        if self._flow != flow:
            self._release()
            self._flow = flow
            self._endpoint.hold(flow)
        if self.status.state != "up":
            log.info("sip: %s is registered at %s", self._trunk.credential.account, target)
        now = self._endpoint.now()
        _move(self.status, "up", now)
        self.status.where, self.status.until = str(target), now + granted

    def _failed(self, problem: ProviderError, refused: bool) -> None:
        text = str(problem)
        if self.status.problem != text:
            log.warning("sip: %s is not registered: %s", self._trunk.credential.account, text)
        _move(self.status, "refused" if refused else "down", self._endpoint.now(), text)

    def _release(self) -> None:
        if self._flow is not None:
            self._endpoint.release(self._flow)
            self._flow = None

    def _lost(self, flow: Flow) -> None:
        if flow == self._flow:
            self._release()
            self._again.set()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(CRLF_EVERY * random.uniform(0.8, 1.0))  # noqa: S311
            if self._flow is not None:
                try:
                    self._endpoint.transport.send(b"\r\n\r\n", self._flow)
                except OSError:
                    self._again.set()


class Keepalive:
    """Asks the targets of a trunk that does not register whether they are there; one that is not is called last."""

    def __init__(self, trunk: Trunk, endpoint: Endpoint) -> None:
        self.status = Status("options", since=endpoint.now())
        self.misses: dict[Target, int] = {}
        """Unanswered OPTIONS in a row, by target."""
        self._endpoint = endpoint
        self._login = Login(endpoint, trunk.credential)
        self._login.looked_up = trunk.resolved
        self._tasks: list[asyncio.Task[None]] = []

    async def look_up(self) -> None:
        """Tell the trunk what its host resolves to; nothing if DNS does not say."""
        with contextlib.suppress(ProviderError):
            await self._login.targets()

    def start(self) -> None:
        """Begin; returns at once."""
        self._tasks = [asyncio.create_task(self._keep())]

    async def stop(self) -> None:
        """End."""
        await _ended(self._tasks)
        _move(self.status, "stopped", self._endpoint.now())

    async def _keep(self) -> None:
        while True:
            try:
                targets = await self._login.targets()
                self.misses = {target: self.misses.get(target, 0) for target in targets}
                await asyncio.gather(*map(self._ask, targets))
            except ProviderError as problem:
                _move(self.status, "down", self._endpoint.now(), str(problem))
            else:
                self._judge(targets)
            await asyncio.sleep(OPTIONS_EVERY)

    async def _ask(self, target: Target) -> None:
        response = await self._login.ask_one("OPTIONS", target, OPTIONS_PATIENCE)
        resolver = self._endpoint.resolver
        if response is not None:
            self.misses[target] = 0
            resolver.wake(target)
            return
        self.misses[target] = self.misses.get(target, 0) + 1
        if self.misses[target] >= MISSES:
            if self.misses[target] == MISSES:
                log.warning("sip: %s of %s is down: it answers no OPTIONS", target, self._login.uri.host)
            resolver.rest(target, DOWN)

    def _judge(self, targets: list[Target]) -> None:
        alive = next((target for target in targets if not self.misses[target]), None)
        if alive is not None:
            _move(self.status, "up", self._endpoint.now())
            self.status.where = str(alive)
        elif all(self.misses[target] >= MISSES for target in targets):
            host = self._login.uri.host
            advice = f"no target of {host} answers OPTIONS: check host, port and transport, and that it allows us"
            _move(self.status, "down", self._endpoint.now(), advice)


Standing = Registration | Keepalive


def standing_of(trunk: Trunk, endpoint: Endpoint) -> Standing | None:
    """What keeps the trunk's standing; None where there is no host to ask."""
    preset = trunk.credential.trunk
    if preset.host is None:
        return None
    return Registration(trunk, endpoint) if preset.registers else Keepalive(trunk, endpoint)


def _move(status: Status, state: str, now: float, problem: str = "") -> None:
    if status.state != state:
        status.state, status.since = state, now
    status.problem = problem
    status.failures = status.failures + 1 if problem else 0


def _seconds(response: Response, name: str) -> float | None:
    """The leading number of a header like ``Retry-After: 120 (maintenance)``."""
    digits = (response.headers.get(name) or "").strip().partition(";")[0].partition("(")[0].strip()
    return float(digits[:9]) if digits.isascii() and digits.isdigit() else None


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()
