"""Who may speak to us, and how much: asked for each datagram and connection before a byte of it is read.

A SIP port on the Internet is scanned within minutes. A stranger gets no answer at all; what he sends costs one look-up
and one count. Known are the networks of credentials and operator, and whoever we have just sent something to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

DATAGRAMS_A_SECOND = 1000
"""From one address; more are dropped unread (P8)."""
CONNECTIONS = 100
"""Accepted and open at a time (P8)."""
CHALLENGES_A_SECOND = 10
"""To one address that is not a known peer's (P2)."""
WRONG_ANSWERS = 3
SILENCE = 600.0
"""So many wrong passwords, and for so many seconds an address is not heard (P2)."""
REMEMBERED = 50_000
"""Addresses; who floods us from more makes us look them up again, and takes no more memory."""
FRESH = 1.0
"""Seconds that the answer for an address is kept: peers change as names are resolved and phones register."""

logger = logging.getLogger(__name__)


@dataclass
class Counters:
    """Since the start of the process; for ``/metrics``."""

    strangers: int = 0
    """Datagrams from addresses we do not know, dropped unread, and requests from those who may only answer."""
    stranger_connections: int = 0
    refused_connections: int = 0
    """From known peers, when as many were open as may be."""
    closed_connections: int = 0
    """By us: no whole message in time, idle, unreadable, or too much at once."""
    over_rate: int = 0
    """Datagrams and messages of peers that sent too many a second."""
    silenced: int = 0
    """Datagrams and connections of addresses that guessed passwords."""
    malformed: int = 0
    challenges: int = 0
    wrong_answers: int = 0
    refused_invites: int = 0
    """INVITEs answered 503: too many open on a credential, or draining."""
    failures: int = 0
    """Messages that met an error of ours; each is in the log."""


class _Source:
    """What is known of one address."""

    __slots__ = ("checked", "count", "known", "second")

    def __init__(self, known: bool, checked: float) -> None:
        self.known = known
        self.checked = checked
        self.second = self.count = 0


class Guard:
    """``networks`` gives all known networks; ``strangers`` lets unknown addresses be read: only with softphones."""

    def __init__(self, networks: Callable[[], Iterable[Network]], *, strangers: bool = False) -> None:
        self.counters = Counters()
        self._networks = networks
        self._strangers = strangers
        self._sources: dict[str, _Source] = {}
        self._held: dict[str, int] = {}
        self._expected: dict[str, float] = {}
        self._challenged: dict[str, tuple[int, int]] = {}
        self._wrong: dict[str, int] = {}
        self._silent: dict[str, float] = {}
        self._told_at: float | None = None
        self._told = 0

    def datagram(self, address: str, now: float) -> bool:
        """Whether a datagram from ``address`` is to be read. Counts it."""
        source = self._sources.get(address)
        if source is None or now - source.checked >= FRESH:
            source = self._look_up(address, now, source)
        if not source.known:
            self.counters.strangers += 1
            if self._told_at is None or now - self._told_at >= 60:
                self._tell(address, now)
            return False
        second = int(now)
        if source.second != second:
            source.second, source.count = second, 0
        source.count += 1
        if source.count > DATAGRAMS_A_SECOND:
            self.counters.over_rate += 1
            return False
        if self._silent and self._silent.get(address, 0) > now and not self.is_peer(address):
            self.counters.silenced += 1
            return False
        return True

    def connection(self, address: str, open_now: int, now: float) -> bool:
        """Whether to keep a connection just accepted. Counts one that is not kept."""
        if not self._look_up(address, now, None).known:
            self.counters.stranger_connections += 1
        elif self._silent.get(address, 0) > now and not self.is_peer(address):
            self.counters.silenced += 1
        elif open_now >= CONNECTIONS:
            self.counters.refused_connections += 1
        else:
            return True
        return False

    def is_peer(self, address: str) -> bool:
        """Whether ``address`` is in a network of a credential or the operator."""
        return in_networks(address, self._networks())

    def expect(self, address: str, until: float) -> None:
        """Read what ``address`` sends until then: we have asked it something."""
        if until > self._expected.get(address, 0):
            if address not in self._expected:
                self._sources.pop(address, None)
            self._expected[address] = until

    def hold(self, address: str) -> None:
        """Read what ``address`` sends until :meth:`release` was called as often: there is a dialog or registration."""
        self._held[address] = self._held.get(address, 0) + 1
        self._sources.pop(address, None)

    def release(self, address: str) -> None:
        """The end of one :meth:`hold`."""
        left = self._held.get(address, 0) - 1
        if left > 0:
            self._held[address] = left
        else:
            self._held.pop(address, None)

    def changed(self) -> None:
        """Networks are others now: look everybody up again."""
        self._sources.clear()

    def may_challenge(self, address: str, now: float) -> bool:
        """Whether a digest challenge may be sent to ``address``; if not, answer nothing. Counts it (P2)."""
        second, count = self._challenged.get(address, (0, 0))
        count = count + 1 if second == int(now) else 1
        if len(self._challenged) > REMEMBERED:
            self._challenged.clear()
        self._challenged[address] = (int(now), count)
        if count > CHALLENGES_A_SECOND:
            return False
        self.counters.challenges += 1
        return True

    def wrong_answer(self, address: str, now: float) -> None:
        """``address`` gave a wrong password; after three it is not heard for ten minutes (P2)."""
        self.counters.wrong_answers += 1
        if len(self._wrong) > REMEMBERED:
            self._wrong.clear()
        self._wrong[address] = self._wrong.get(address, 0) + 1
        if self._wrong[address] >= WRONG_ANSWERS:
            del self._wrong[address]
            self._silent = {known: until for known, until in self._silent.items() if until > now}
            self._silent[address] = now + SILENCE

    def right_answer(self, address: str) -> None:
        """``address`` gave a right one: earlier mistakes are forgotten."""
        self._wrong.pop(address, None)

    def _look_up(self, address: str, now: float, old: _Source | None) -> _Source:
        known = self._strangers or address in self._held or self._expected.get(address, 0) > now
        known = known or in_networks(address, self._networks())
        if old is not None:
            old.known, old.checked = known, now
            return old
        if len(self._sources) >= REMEMBERED:
            self._sources.clear()
            self._expected = {known: until for known, until in self._expected.items() if until > now}
        source = self._sources[address] = _Source(known, now)
        return source

    def _tell(self, address: str, now: float) -> None:
        dropped = self.counters.strangers - self._told
        self._told, self._told_at = self.counters.strangers, now
        logger.info(
            "sip: dropped %d datagrams from addresses that are nobody's peers, the last from %s", dropped, address
        )


def in_networks(address: str, networks: Iterable[Network]) -> bool:
    """Whether ``address`` is in one of them."""
    found = ip_address(address.partition("%")[0])
    if not isinstance(found, IPv4Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
