"""Where a SIP URI leads: NAPTR, SRV, then addresses (RFC 3263), in the order to try them; dead targets rest.

Each address passes the operator's :meth:`SipSettings.permits`, so that no tenant's name leads inside.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from anycarrier_sip.header_values import hostport
from anycarrier_sip.message import Uri
from anycarrier_sip.settings import SipSettings, is_address

REST = 30.0
"""Seconds that a target which gave nothing or 503 comes after all others."""
LIFETIME = 5.0
"""Seconds for one DNS question, all servers asked."""
UNKNOWN_TTL = 30.0
"""Seconds that the absence of a record is believed, and an address of ``/etc/hosts``."""
REMEMBERED = 5000
"""Answers of DNS: far ends may name hosts without end."""
SERVICES = {"SIPS+D2T": "tls", "SIP+D2U": "udp", "SIP+D2T": "tcp"}
PREFIXES = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}


class NoTarget(ConnectionError):
    """A URI leads nowhere: no such name, no address that may be called, no answer from DNS."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place to try. ``host`` is an address; ``tls_name`` is the name its certificate must be for."""

    transport: str
    host: str
    port: int
    tls_name: str = ""

    def __str__(self) -> str:
        return f"{self.transport}:{hostport(self.host, self.port)}"


class Resolver:
    """DNS with its cache, and which targets rest. ``now`` is the clock of the cache."""

    def __init__(self, settings: SipSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        hosts = [ip_address(one.host) for one in settings.bindings]
        self._types = [kind for kind, version in (("A", 4), ("AAAA", 6)) if any(h.version == version for h in hosts)]
        self._udp = any(one.transport == "udp" for one in settings.bindings)
        self._dns: dns.asyncresolver.Resolver | None = None
        self._known: dict[tuple[str, str], tuple[float, Any]] = {}
        self._resting: dict[str, float] = {}

    def rest(self, target: Target, seconds: float = REST) -> None:
        """``target`` gave nothing, or 503 with ``Retry-After: seconds``: try others first meanwhile."""
        now = self._now()
        self._resting = {known: until for known, until in self._resting.items() if until > now}
        self._resting[str(target)] = now + seconds

    def wake(self, target: Target) -> None:
        """``target`` has answered."""
        self._resting.pop(str(target), None)

    def resting(self, target: Target) -> bool:
        """Whether others are to be tried first."""
        return self._resting.get(str(target), 0) > self._now()

    async def targets(self, uri: Uri, transport: str | None = None) -> list[Target]:
        """All targets in the order to try them, at least one. ``transport`` is used in place of the URI's own.

        :class:`NoTarget` says why there is none.
        """
        secure = uri.scheme == "sips"
        host = (uri.parameters.get("maddr") or uri.host).lower().removesuffix(".")
        wanted = transport or ("tls" if secure else (uri.parameters.get("transport") or "").lower()) or None
        if wanted not in (None, "udp", "tcp", "tls"):
            raise NoTarget(f"sip: the transport {wanted} is not spoken here: use udp, tcp or tls")
        default = "udp" if self._udp else "tcp"
        found: list[tuple[str, str, int]] = []  # transport, host, port
        if uri.port is not None or is_address(host):
            found = [(wanted or default, host, uri.port or port_of(wanted or default))]
        else:
            for spoken, service in await self._services(host, wanted, secure):
                found += [(spoken, *place) for place in await self._places(service)]
            found = found or [(wanted or default, host, port_of(wanted or default))]
        targets: list[Target] = []
        refused = False
        for spoken, name, port in found:
            for address in await self._addresses(name):
                if not self._settings.permits(address):
                    refused = True
                    continue
                targets.append(Target(spoken, address, port, host if spoken == "tls" else ""))
        if not targets:
            raise NoTarget(
                f"sip: {host} is a private or reserved address. Name the public one, or have whoever runs this process "
                "list the network in SipSettings(private_targets=...)"
                if refused
                else f"sip: {host} has no address of a kind we have a socket for: check the name"
            )
        return sorted(dict.fromkeys(targets), key=self.resting)

    async def _services(self, host: str, wanted: str | None, secure: bool) -> list[tuple[str, str]]:
        """Transports, each with its SRV name, best first."""
        spoken = [wanted] if wanted else ["tls"] if secure else ["udp", "tcp", "tls"]
        if not self._udp:
            spoken = [one for one in spoken if one != "udp"]
        if wanted is None:
            records = sorted(await self._ask(host, "NAPTR"), key=lambda one: (one.order, one.preference))
            services = [
                (SERVICES[kind], one.replacement.to_text(omit_final_dot=True))
                for one in records
                if (kind := one.service.decode("ascii", "replace").upper()) in SERVICES and one.flags.lower() == b"s"
            ]
            if chosen := [pair for pair in services if pair[0] in spoken]:
                return chosen
        return [(one, PREFIXES[one] + host) for one in spoken]

    async def _places(self, service: str) -> list[tuple[str, int]]:
        """Hosts and ports of an SRV name, by priority, drawn by weight (RFC 2782)."""
        records = await self._ask(service, "SRV")
        ordered = records.processing_order() if records else ()
        names = [(one.target.to_text(omit_final_dot=True), one.port) for one in ordered]
        return [(name, port) for name, port in names if name]  # "." says: not here

    async def _addresses(self, name: str) -> list[str]:
        if is_address(name):
            return [name]
        answers = await asyncio.gather(*(self._ask(name, kind) for kind in self._types), return_exceptions=True)
        found = [one.address for answer in answers if not isinstance(answer, BaseException) for one in answer]
        if not found and not self._settings.nameservers:
            found = await self._from_hosts_file(name)
        if not found and (failure := next((one for one in answers if isinstance(one, BaseException)), None)):
            raise failure
        return found

    async def _from_hosts_file(self, name: str) -> list[str]:
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        versions = [4 if kind == "A" else 6 for kind in self._types]
        found = dict.fromkeys(str(one[4][0]) for one in answers)
        return [one for one in found if is_address(one) and ip_address(one).version in versions]

    async def _ask(self, name: str, kind: str) -> Any:
        """Records, for as long as their TTL says; old ones rather than none when DNS does not answer."""
        until, records = self._known.get((name, kind), (0.0, []))
        if until > self._now():
            return records
        try:
            answer = await self._asked().resolve(name, kind, search=False, lifetime=LIFETIME)
            records, ttl = (answer.rrset, answer.rrset.ttl) if answer.rrset else ([], UNKNOWN_TTL)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            records, ttl = [], UNKNOWN_TTL
        except (dns.exception.DNSException, OSError) as problem:
            if not until:
                raise NoTarget(f"sip: DNS gave no answer for {name} ({type(problem).__name__}): try later") from problem
            ttl = REST
        self._known[name, kind] = (self._now() + ttl, records)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]  # the first that was asked
        return records

    def _asked(self) -> dns.asyncresolver.Resolver:
        if self._dns is None:
            servers = self._settings.nameservers
            try:
                self._dns = dns.asyncresolver.Resolver(configure=not servers)
            except dns.resolver.NoResolverConfiguration:
                self._dns = dns.asyncresolver.Resolver(configure=False)
            if servers:
                self._dns.nameservers = [_nameserver(one) for one in servers]
        return self._dns


def port_of(transport: str) -> int:
    """The default port."""
    return 5061 if transport == "tls" else 5060


def _nameserver(text: str) -> Any:
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    return dns.nameserver.Do53Nameserver(host, int(port)) if colon and is_address(host) else text
