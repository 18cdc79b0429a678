"""Is all as it should be: carriers' logins and clocks, numbers whose settings are no longer ours, and speech engines.

Looks only; what has drifted is mended by configuring the number again (``numbers.resync``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx

from anycarrier.errors import AnycarrierError
from anycarrier.provider import Capability, Provider
from anycarrier_server.domain import manage_credentials, manage_numbers, speech_engines
from anycarrier_server.domain.access import Caller, need_admin
from anycarrier_server.domain.resources import Resources
from anycarrier_server.store import public_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import CredentialRow, LineRow

T = TypeVar("T")

AT_ONCE = 8
"""Carriers count requests per second; a check-up must not be what trips them."""

SKEW = 30.0
"""Seconds our clock may be off. Carriers and we refuse signatures that are minutes old."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``ok`` None: it cannot be told here. ``subject`` is the id of what was looked at, ``name`` for people;
    ``drift`` the carrier's settings that differ from ours."""

    check: str
    subject: str
    name: str
    ok: bool | None
    found: str
    drift: tuple[str, ...] = ()


async def check(resources: Resources, caller: Caller, *, limit: int, offset: int = 0) -> tuple[list[Finding], int]:
    """``limit`` numbers' settings at their carriers, and how many numbers there are; before the first of them every
    credential's login and listener, every carrier's clock, every engine in use and every agent that lacks one."""
    need_admin(caller, "a check-up")
    lines = await manage_numbers.list_numbers(resources.store, caller)
    looks = []
    listening = list[Finding]()
    if not offset:
        accounts = await manage_credentials.list_credentials(resources.store, caller)
        looks += [_login(resources, caller, one) for one in accounts]
        listening = [finding for one in accounts for finding in _listener(resources, one)]
        looks += [_clock(resources, one) for one in _one_per_carrier(accounts)]
    looks += [_drift(resources, line) for line in lines[offset : offset + limit]]
    found = await _some_at_a_time(looks)
    return (found if offset else await _speech(resources, caller) + listening + found), len(lines)


async def _speech(resources: Resources, caller: Caller) -> list[Finding]:
    """Engines that are configured or used unnamed, and agents whose calls are declined for want of one."""
    found = []
    for one in await speech_engines.list_engines(resources, caller):
        if one.by_service or one.settings or one.default_for:
            why_not = one.why_not
            if one.remote and why_not is None:
                why_not = (await speech_engines.verify_engine(resources, caller, one.name)).error
            ready = f"ready to {' and '.join(one.abilities)}"
            found.append(Finding("engine", one.name, one.name, why_not is None, why_not or ready))
    for agent in await resources.store.agents.list(caller.workspace_id):
        if (lacks := await speech_engines.lacking(resources, agent)) is not None:
            found.append(Finding("agent", agent.public_id, agent.name, False, speech_engines.declined(lacks)))
            continue
        unsure = await speech_engines.doubt(resources, agent) or await speech_engines.weakness(resources, agent)
        if unsure is not None:
            found.append(Finding("agent", agent.public_id, agent.name, None, unsure))
    return found


async def _login(resources: Resources, caller: Caller, row: CredentialRow) -> Finding:
    def finding(ok: bool | None, found: str) -> Finding:
        return Finding("login", row.public_id, row.name, ok, found)

    if row.status == "incomplete":
        return finding(False, f"incomplete: it lacks {', '.join(row.missing)}")
    try:
        said = await manage_credentials.verify_credential(resources, caller, row.id)
    except AnycarrierError as refused:
        return finding(None, str(refused))
    return finding(said.ok, f"{row.provider} knows the account {said.account}" if said.ok else str(said.error))


def _listener(resources: Resources, row: CredentialRow) -> Iterable[Finding]:
    """How the sockets of a carrier that has its own do in this process: registrations, peers, telephones."""
    for one in resources.exchange.listeners.health(row.public_id):
        yield Finding("listener", row.public_id, f"{row.name}: {one.subject}", one.ok, one.found)


async def _clock(resources: Resources, row: CredentialRow) -> Finding:
    def finding(ok: bool | None, found: str) -> Finding:
        return Finding("clock", row.provider, row.provider, ok, found)

    try:
        provider = await resources.exchange.switchboard.provider(row.public_id)
        skew = await clock_skew(provider)
    except (AnycarrierError, httpx.HTTPError) as failure:
        return finding(None, f"the carrier could not be asked for the time ({type(failure).__name__})")
    if skew is None:
        return finding(None, "the carrier does not tell the time")
    off = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {row.provider}'s"
    if abs(skew) > SKEW:
        return finding(False, f"our clock is {off}: set it (NTP), or signatures are refused")
    return finding(True, "our clock agrees with the carrier's")


async def clock_skew(provider: Provider) -> float | None:
    """Seconds our clock is ahead of the carrier's, by the Date header of any answer; None when it sends none."""
    root = getattr(provider.credential, "base_url", None) or provider.base_url
    if not root:
        return None
    before = utc_now()
    response = await provider.http.get(root, timeout=provider.timeout)
    after = utc_now()
    return skew_of(response.headers.get("date"), before, after)


def skew_of(date: str | None, before: datetime, after: datetime) -> float | None:
    """How far our clock is from ``date``, an HTTP date written between ``before`` and ``after``; 0 within its grain."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    if theirs.tzinfo is None:
        return None
    early, late = (before - theirs).total_seconds(), (after - theirs).total_seconds()
    # An HTTP date has no fraction: the true time is up to a second later.
    if early - 1.0 <= 0.0 <= late:
        return 0.0
    return early - 1.0 if early > 1.0 else late


async def _drift(resources: Resources, line: LineRow) -> Finding:
    def finding(ok: bool | None, found: str, drift: Iterable[str] = ()) -> Finding:
        return Finding("number", line.public_id, line.number, ok, found, tuple(drift))

    try:
        provider = await resources.exchange.switchboard.provider(public_id("credential", line.credential_id))
        if not provider.supports(Capability.CONFIGURE_NUMBER):
            if provider.supports(Capability.LISTEN):
                taken = await manage_numbers.calls_to_sockets(provider, line.number)
                return finding(taken.ok and line.status == "active", taken.message)
            return finding(None, "this carrier is configured by hand: its settings cannot be read")
        url = manage_numbers.webhook_url_of(resources, line)
        would = await provider.configure_number(line.number, webhook_url=url, dry_run=True)
    except AnycarrierError as refused:
        return finding(False, str(refused))
    if not would.ok:
        return finding(False, would.message)
    if would.changed:
        return finding(False, f"the carrier's settings are not ours: {', '.join(would.changed)}", would.changed)
    if line.status != "active":
        return finding(False, "the carrier is set right, but the number is not in service here", ("status",))
    return finding(True, "its calls come here")


def _one_per_carrier(accounts: Iterable[CredentialRow]) -> list[CredentialRow]:
    """Of carriers that have a clock to be asked: those that call sockets of ours sign nothing with the time."""
    found: dict[str, CredentialRow] = {}
    for row in accounts:
        if row.status != "incomplete" and not manage_numbers.by_sockets(row.provider):
            found.setdefault(row.provider, row)
    return list(found.values())


async def _some_at_a_time(looks: Iterable[Awaitable[T]]) -> list[T]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(look: Awaitable[T]) -> T:
        async with room:
            return await look

    return await asyncio.gather(*(one(look) for look in looks))
