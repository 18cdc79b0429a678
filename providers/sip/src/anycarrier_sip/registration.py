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
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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
from anycarrier_sip.dialog import seconds_of
from anycarrier_sip.digest import DigestClient
from anycarrier_sip.endpoint import Endpoint, token
from anycarrier_sip.message import Headers, NameAddr, Request, Response, SipError, Uri
from anycarrier_sip.resolver import Target
from anycarrier_sip.transaction import Flow
from anycarrier_sip.trunks import Trunk

EXPIRES = 300
"""Seconds asked of a registrar: what restarts and forgets us has us back within four minutes."""
PATIENCE, OTHERS = 32.0, 4.0
"""Seconds for a registrar's answer, and where there is another target to try."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""Seconds between attempts: doubled each time."""
REFUSED_PAUSE = 60.0
"""The first pause after a refused password: who asks more often is taken for a guesser and locked out."""
UNREGISTER = 2.0
"""Seconds that :meth:`Standing.stop` waits at most."""
CRLF_EVERY = 25.0
"""Seconds between two empty datagrams that keep a NAT's mapping to us open (RFC 5626, 4.4.1)."""
OPTIONS_EVERY, OPTIONS_PATIENCE, MISSES, DOWN = 30.0, 10.0, 3, 120.0
"""Seconds between OPTIONS, and for an answer; how many unanswered ones put a target down: for so many seconds it comes
after all others, unless it answers before, and the next OPTIONS renews them."""

log = logging.getLogger("anycarrier")


@dataclass
class Status:
    """How a trunk stands with its carrier, for people and for metrics. Times are the loop's."""

    kind: str
    """``register`` or ``options``."""
    state: str = "starting"
    """``starting``, ``up``, ``down``, ``refused`` (by the carrier) or ``stopped``."""
    where: str = ""
    """The target that answered last."""
    since: float = 0.0
    """When :attr:`state` began."""
    until: float = 0.0
    """When a registration ends."""
    problem: str = ""
    """What to do about ``down`` and ``refused``."""

    def __str__(self) -> str:
        word = {"up": "registered" if self.kind == "register" else "answers", "starting": "not tried yet"}
        told = f"{word.get(self.state, self.state)}{' at ' + self.where if self.where and self.state == 'up' else ''}"
        return f"{told}: {self.problem}" if self.problem else told


class Login:
    """One credential's requests outside any dialog: the same Call-ID, counted, digest answered, all targets tried."""

    def __init__(self, endpoint: Endpoint, credential: SipCredential) -> None:
        self.endpoint, self.credential = endpoint, credential
        password = credential.password.get_secret_value() if credential.password is not None else ""
        self._digest = DigestClient(credential.auth_username or credential.username or "", password)
        self._call_id, self._tag = token(), token()
        self._cseq = random.randint(1, 10_000)  # noqa: S311
        self.uri = Uri("sip", None, credential.trunk.host or "", credential.trunk.port)
        self._us = Uri("sip", credential.username, self.uri.host)

    async def targets(self) -> list[Target]:
        """Where the host leads; ``ProviderUnavailable`` when nowhere."""
        try:
            return await self.endpoint.targets(self.uri, self.credential.trunk.transport)
        except ConnectionError as problem:
            raise ProviderUnavailable("sip", "connect", str(problem), sent=False) from None

    async def ask(self, method: str, headers: Callable[[Flow], dict[str, str]]) -> tuple[Response, Target, Flow]:
        """The final response of the first target that gives one. ``ProviderUnavailable`` when none does."""
        why, targets = "", await self.targets()
        for target in targets:
            last = target is targets[-1]
            try:
                flow = await self.endpoint.flow(target)
                response = await self._ask(method, headers(flow), flow, PATIENCE if last else OTHERS)
            except ConnectionError as failure:
                why = str(failure)
                continue
            if response.status != 503 or last:
                return response, target, flow
        step = f"Check that {targets[-1]} is right, and that a firewall lets our packets and its answers through."
        raise ProviderUnavailable("sip", method.lower(), why, next_step=step)

    async def _ask(self, method: str, headers: dict[str, str], flow: Flow, patience: float) -> Response:
        request, now = self.request(method, headers), self.endpoint.now
        self._digest.prepare(request, now())
        while True:
            response = await self.send(request, flow, patience)
            if response.status not in (401, 407) or not self._digest.authorize(request, response, now()):
                self._digest.succeeded(response, now())
                return response
            self._cseq += 1
            request.headers.set("CSeq", f"{self._cseq} {method}")

    async def send(self, request: Request, flow: Flow, patience: float) -> Response:
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

    def request(self, method: str, headers: dict[str, str]) -> Request:
        """The next one."""
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
            kind, told = RateLimited, {"retry_after": seconds_of(response, "Retry-After")}
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


class Standing(Login):
    """Keeps one up until :meth:`stop`."""

    kind: str

    def __init__(self, trunk: Trunk, endpoint: Endpoint) -> None:
        super().__init__(endpoint, trunk.credential)
        self.trunk = trunk
        self.status = Status(self.kind, since=endpoint.now())
        self.misses: dict[Target, int] = {}
        """Unanswered OPTIONS in a row, by target."""
        self._tasks: list[asyncio.Task[None]] = []

    async def targets(self) -> list[Target]:
        found = await super().targets()
        self.trunk.resolved([target.host for target in found])
        return found

    async def look_up(self) -> None:
        """Tell the trunk what its host resolves to; nothing if DNS does not say."""
        with contextlib.suppress(ProviderError):
            await self.targets()

    def start(self) -> None:
        """Begin; returns at once."""
        self._tasks = [asyncio.create_task(self._keep())]

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._move("stopped")

    async def _keep(self) -> None:
        raise NotImplementedError

    def _move(self, state: str, problem: str = "", **more: Any) -> None:
        since = self.status.since if self.status.state == state else self.endpoint.now()
        self.status = replace(self.status, state=state, since=since, problem=problem, **more)


class Registration(Standing):
    """Registered: refreshed in time, again at once when its connection is lost."""

    kind = "register"

    def __init__(self, trunk: Trunk, endpoint: Endpoint) -> None:
        super().__init__(trunk, endpoint)
        self._expires = EXPIRES
        self._flow: Flow | None = None
        self._again = asyncio.Event()

    def start(self) -> None:
        super().start()
        self.endpoint.losses.append(self._lost)
        self._tasks.append(asyncio.create_task(self._keep_alive()))

    async def stop(self) -> None:
        """Give the registration up, within :data:`UNREGISTER` seconds, answered or not."""
        if self._lost in self.endpoint.losses:
            self.endpoint.losses.remove(self._lost)
        await super().stop()
        if self._flow is not None:
            with contextlib.suppress(TimeoutError, ProviderError):  # then it ends by itself
                async with asyncio.timeout(UNREGISTER):
                    await self._register(0)
            self._hold(None)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._again.clear()
            try:
                granted = await self._register(self._expires)
            except ProviderError as problem:
                refused = isinstance(problem, AuthenticationFailed | PermissionDenied | NotFound)
                if self.status.problem != str(problem):
                    log.warning("sip: %s is not registered: %s", self.credential.account, problem)
                self._move("refused" if refused else "down", str(problem))
                asked = problem.retry_after if isinstance(problem, RateLimited) else None
                wait = max(pause, REFUSED_PAUSE if refused else 0, asked or 0)
                pause = min(2 * pause, LONGEST_PAUSE)
                await asyncio.sleep(min(wait, LONGEST_PAUSE) * random.uniform(0.8, 1.0))  # noqa: S311
                continue
            pause = FIRST_PAUSE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(granted * 0.8 * random.uniform(0.9, 1.0)):  # noqa: S311
                    await self._again.wait()

    async def _register(self, expires: int) -> float:
        """One round; the seconds granted. ``ProviderError`` says why not."""

        def headers(flow: Flow) -> dict[str, str]:
            return {"Contact": self.endpoint.contact(flow, self.trunk.contact_user), "Expires": str(expires)}

        response, target, flow = await self.ask("REGISTER", headers)
        minimum = seconds_of(response, "Min-Expires") or 0
        if response.status == 423 and expires and expires < minimum <= 86400:
            self._expires = minimum
            return await self._register(minimum)
        if not 200 <= response.status < 300:
            raise self.refused(response, "register")
        if not expires:
            return 0
        granted = self._granted(response, expires)
        self._hold(flow)
        if self.status.state != "up":
            log.info("sip: %s is registered at %s", self.credential.account, target)
        self._move("up", where=str(target), until=self.endpoint.now() + granted)
        return granted

    def _granted(self, response: Response, asked: int) -> float:
        """What the registrar says of our Contact, else of all (RFC 3261, 10.2.4)."""
        granted = seconds_of(response, "Expires") or asked
        for value in response.headers.values("Contact"):
            try:
                contact = NameAddr.parse(value)
            except SipError:
                continue
            expires = contact.parameters.get("expires") or ""
            if contact.uri.user == self.trunk.contact_user and expires.isascii() and expires.isdigit():
                granted = int(expires[:9])
        return max(float(min(granted, 86400)), 5.0)

    def _hold(self, flow: Flow | None) -> None:
        """Read what comes from the registrar, and keep the connection to it."""
        if flow != self._flow:
            before, self._flow = self._flow, flow
            if flow is not None:
                self.endpoint.hold(flow)
            if before is not None:
                self.endpoint.release(before)

    def _lost(self, flow: Flow) -> None:
        if flow == self._flow:
            self._hold(None)
            self._again.set()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(CRLF_EVERY * random.uniform(0.8, 1.0))  # noqa: S311
            if self._flow is not None:
                try:
                    self.endpoint.transport.send(b"\r\n\r\n", self._flow)
                except OSError:
                    self._again.set()


class Keepalive(Standing):
    """Asks the targets of a trunk that does not register whether they are there; one that is not is called last."""

    kind = "options"

    async def _keep(self) -> None:
        while True:
            try:
                targets = await self.targets()
                self.misses = {target: self.misses.get(target, 0) for target in targets}
                await asyncio.gather(*map(self._look, targets))
            except ProviderError as problem:
                self._move("down", str(problem))
            else:
                self._judge(targets)
            await asyncio.sleep(OPTIONS_EVERY)

    async def _look(self, target: Target) -> None:
        try:  # any answer will do
            flow = await self.endpoint.flow(target)
            await self.send(self.request("OPTIONS", {}), flow, OPTIONS_PATIENCE)
            self.misses[target] = 0
            self.endpoint.resolver.wake(target)
        except ConnectionError:
            self.misses[target] += 1
            if self.misses[target] >= MISSES:
                self.endpoint.resolver.rest(target, DOWN)
            if self.misses[target] == MISSES:
                log.warning("sip: %s of %s is down: it answers no OPTIONS", target, self.uri.host)

    def _judge(self, targets: list[Target]) -> None:
        alive = next((target for target in targets if not self.misses[target]), None)
        if alive is not None:
            self._move("up", where=str(alive))
        elif all(self.misses[target] >= MISSES for target in targets):
            host = self.uri.host
            advice = f"no target of {host} answers OPTIONS: check host, port and transport, and that it allows us"
            self._move("down", advice)


def standing_of(trunk: Trunk, endpoint: Endpoint) -> Standing | None:
    """What keeps the trunk's standing; None where there is no host to ask."""
    preset = trunk.credential.trunk
    if preset.host is None:
        return None
    return Registration(trunk, endpoint) if preset.registers else Keepalive(trunk, endpoint)
