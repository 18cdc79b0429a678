"""Who may speak to us, and how much: asked for each datagram and connection before a byte of it is read.

A SIP port on the Internet is scanned within minutes. A stranger gets no answer at all; what he sends costs one look-up
and one count. Known are the networks of credentials and operator, whoever we share a dialog with, and whoever we have
just sent a request to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from anycarrier.networks import Network, in_networks

DATAGRAMS_A_SECOND = 1000
"""From one address; more are dropped unread (P8)."""
CONNECTIONS = 100
"""Accepted and open at a time (P8)."""
CHALLENGES_A_SECOND = 10
"""To one address (P2)."""
WRONG_ANSWERS, SILENCE = 3, 600.0
"""So many wrong passwords, and for so many seconds an address is not heard (P2)."""
EXPECTED = 64.0
"""Seconds after a request of ours that messages of its receiver are read."""
REMEMBERED = 50_000
"""Addresses. Who floods us from more has us look them up again; it takes no more memory."""
FRESH = 1.0
"""Seconds for which an address is not looked up again: peers change as names are resolved."""

logger = logging.getLogger(__name__)


@dataclass
class Counters:
    """Since the start, for ``/metrics``: what was dropped, closed or refused, and why."""

    strangers: int = 0
    """Datagrams from addresses we do not know, dropped unread; requests from who may only answer us."""
    stranger_connections: int = 0
    refused_connections: int = 0
    """Of peers, when as many were open as may be."""
    closed_connections: int = 0
    """By us: no TLS or whole message in time, idle, unreadable, too much at once."""
    over_rate: int = 0
    """Datagrams and messages of peers that sent too many a second."""
    silenced: int = 0
    """Datagrams and connections of addresses that guessed passwords."""
    malformed: int = 0
    challenges: int = 0
    wrong_answers: int = 0
    refused_invites: int = 0
    """Answered 503: too many open on a credential, or draining."""
    failures: int = 0
    """Messages that met an error of ours; each is in the log."""


class _Source:
    """What is known of one address."""

    __slots__ = ("count", "known", "second", "until")

    def __init__(self, known: bool, until: float) -> None:
        self.known, self.until = known, until
        self.second = self.count = 0


class Guard:
    """``networks`` gives all known networks; ``strangers`` lets unknown addresses be read: only with softphones."""

    def __init__(self, networks: Callable[[], Iterable[Network]], *, strangers: bool = False) -> None:
        self.counters = Counters()
        self._networks = networks
        self._strangers = strangers
        self._sources: dict[str, _Source] = {}
        self._expected: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._challenged: dict[str, tuple[int, int]] = {}
        self._wrong: dict[str, int] = {}
        self._silent: dict[str, float] = {}
        self._told, self._told_at = 0, -60.0

    def datagram(self, address: str, now: float) -> bool:
        """Whether a datagram or message from ``address`` is to be read. Counts it."""
        source = self._sources.get(address)
        if source is None or source.until <= now:
            source = self._look_up(address, now)
        if not source.known:
            self.counters.strangers += 1
            if now - self._told_at >= 60:
                self._tell(address, now)
            return False
        second = int(now)
        if source.second != second:
            source.second, source.count = second, 0
        source.count += 1
        if source.count > DATAGRAMS_A_SECOND:
            self.counters.over_rate += 1
            return False
        return not (self._silent and self.silent(address, now))

    def connection(self, address: str, open_now: int, now: float) -> bool:
        """Whether to keep a connection just accepted, beside ``open_now`` others. Counts one that is not kept."""
        if not self._look_up(address, now).known:
            self.counters.stranger_connections += 1
        elif open_now >= CONNECTIONS:
            self.counters.refused_connections += 1
        elif not self.silent(address, now):
            return True
        return False

    def is_peer(self, address: str) -> bool:
        """Whether ``address`` is in a network of a credential or the operator."""
        return in_networks(address, self._networks())

    def expect(self, address: str, now: float) -> None:
        """A request goes to ``address``: read what comes back."""
        if self._expected.get(address, 0) <= now:
            self._sources.pop(address, None)
        self._expected[address] = now + EXPECTED

    def hold(self, address: str) -> None:
        """Read what ``address`` sends until :meth:`release` was called as often."""
        self._held[address] = self._held.get(address, 0) + 1
        self._sources.pop(address, None)

    def release(self, address: str) -> None:
        """The end of one :meth:`hold`."""
        if (left := self._held.pop(address, 0) - 1) > 0:
            self._held[address] = left

    def changed(self) -> None:
        """Networks are others now: look everybody up again."""
        self._sources.clear()

    def may_challenge(self, address: str, now: float) -> bool:
        """Whether a digest challenge may be sent to ``address``; if not, answer nothing. Counts it (P2)."""
        second, count = self._challenged.get(address, (0, 0))
        count = count + 1 if second == int(now) else 1
        if len(self._challenged) >= REMEMBERED:
            self._challenged.clear()
        self._challenged[address] = (int(now), count)
        if count > CHALLENGES_A_SECOND:
            return False
        self.counters.challenges += 1
        return True

    def wrong_answer(self, address: str, now: float) -> None:
        """``address`` gave a wrong password; after three it is not heard for ten minutes (P2), unless it is a peer."""
        self.counters.wrong_answers += 1
        if len(self._wrong) >= REMEMBERED:
            self._wrong.clear()
        self._wrong[address] = self._wrong.get(address, 0) + 1
        if self._wrong[address] >= WRONG_ANSWERS:
            del self._wrong[address]
            self._silent = {one: until for one, until in self._silent.items() if until > now}
            self._silent[address] = now + SILENCE

    def right_answer(self, address: str) -> None:
        """``address`` gave a right one: earlier mistakes are forgotten."""
        self._wrong.pop(address, None)

    def silent(self, address: str, now: float) -> bool:
        """Whether ``address`` is not heard, for the wrong passwords it gave. Counts it."""
        if self._silent.get(address, 0) <= now or self.is_peer(address):
            return False
        self.counters.silenced += 1
        return True

    def _look_up(self, address: str, now: float) -> _Source:
        asked = address in self._held or self._expected.get(address, 0) > now
        known = self._strangers or asked or self.is_peer(address)
        source = self._sources.get(address)
        if source is None:
            if len(self._sources) >= REMEMBERED:
                self._sources.clear()
                self._expected = {one: until for one, until in self._expected.items() if until > now}
            source = self._sources[address] = _Source(known, now)
        source.known, source.until = known, now + FRESH
        return source

    def _tell(self, address: str, now: float) -> None:
        dropped, self._told = self.counters.strangers - self._told, self.counters.strangers
        self._told_at = now
        logger.info("sip: dropped %d datagrams of strangers, the last from %s", dropped, address)
