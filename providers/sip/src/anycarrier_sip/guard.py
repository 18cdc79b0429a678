"""Who may speak to us, and how much: asked for each datagram and connection before a byte of it is read.

A SIP port on the Internet is scanned within minutes. A stranger gets no answer at all; what he sends costs one look-up
and one count. Known are the networks of credentials and operator, whoever we share a dialog or registration with, and
whoever we have just sent a request to.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network

from anycarrier.networks import unfolded

DATAGRAMS_A_SECOND = 1000
"""From one address; more are dropped unread (P8)."""
CONNECTIONS, OF_ONE, OF_PEER = 100, 50, 25
"""Accepted and open at a time (P8): all, those of one credential's peers or of one address where somebody has logged
in, and those of one peer's address. We open as many to one address as a credential may have."""
STRANGERS, OF_STRANGER = 50, 10
"""Those of all addresses that are no peer's and where nobody has logged in, and of one such address."""
CHALLENGES_A_SECOND = 10
"""To one address (P2)."""
WRONG_ANSWERS, SILENCE = 3, 600.0
"""So many wrong passwords, and for so many seconds an address is not heard (P2)."""
EXPECTED = 64.0
"""Seconds after a request of ours that messages of its receiver are read."""
REMEMBERED = 50_000
"""Addresses: whoever speaks from more of them takes no more memory."""

logger = logging.getLogger(__name__)


@dataclass
class Counters:
    """Since the start, for ``/metrics``: what was dropped, closed or refused, and why."""

    strangers: int = 0
    """Datagrams from addresses we do not know, dropped unread; requests from who may only answer us."""
    stranger_connections: int = 0
    refused_connections: int = 0
    """When as many were open as may be."""
    closed_connections: int = 0
    """By us: no TLS, whole message or login in time, idle, unreadable, too much at once."""
    over_rate: int = 0
    """Datagrams and messages of those who sent too many a second."""
    silenced: int = 0
    """Datagrams and connections of addresses that guessed passwords."""
    malformed: int = 0
    challenges: int = 0
    wrong_answers: int = 0
    refused_invites: int = 0
    """Answered 503: too many open on a credential, or draining."""
    failures: int = 0
    """Messages that met an error of ours; each is in the log."""


class Guard:
    """``whose_peer`` gives the credentials whose peer an address may be; ``strangers`` lets unknown addresses be read:
    only with softphones."""

    def __init__(self, whose_peer: Callable[[str], Sequence[object]], *, strangers: bool = False) -> None:
        self.counters = Counters()
        self._whose_peer = whose_peer
        self._strangers = strangers
        self._held = Counter[str]()
        self._expected: dict[str, float] = {}
        self._second = 0
        self._messages, self._challenged = Counter[str](), Counter[str]()
        """In this second."""
        self._wrong: dict[str, list[str]] = {}
        """The names that wrong passwords were for."""
        self._silent: dict[str, float] = {}
        self._told, self._told_at = 0, -60.0
        self._warned_at = -60.0

    def datagram(self, address: str, now: float) -> bool:
        """Whether a datagram or message from ``address`` is to be read. Counts it."""
        if not self._known(address, now):
            self.counters.strangers += 1
            if now - self._told_at >= 60:
                dropped, self._told = self.counters.strangers - self._told, self.counters.strangers
                self._told_at = now
                logger.info("sip: dropped %d datagrams of strangers, the last from %s", dropped, address)
            return False
        self._turn(now)
        self._messages[address] += 1
        if self._messages[address] > DATAGRAMS_A_SECOND:
            self.counters.over_rate += 1
            return False
        return not self.silent(address, now)

    def connection(self, address: str, others: Collection[str], now: float) -> bool:
        """Whether to keep a connection just accepted, beside those of ``others``. Counts one that is not kept."""
        if not self._known(address, now):
            self.counters.stranger_connections += 1
        elif not self._has_place(address, others):
            self.counters.refused_connections += 1
        else:
            return not self.silent(address, now)
        return False

    def is_peer(self, address: str) -> bool:
        """Whether it is in a network of a credential or the operator."""
        return bool(self._whose_peer(address))

    def trusts(self, address: str) -> bool:
        """Whether it is a peer's, or somebody there has logged in or shares a dialog with us."""
        return address in self._held or self.is_peer(address)

    def expect(self, address: str, now: float) -> None:
        """A request goes to ``address``: read what comes back."""
        self._turn(now)
        self._expected[address] = now + EXPECTED

    def hold(self, address: str) -> None:
        """Read what ``address`` sends until :meth:`release` was called as often."""
        self._held[address] += 1

    def release(self, address: str) -> None:
        """The end of one :meth:`hold`."""
        self._held[address] -= 1
        if self._held[address] <= 0:
            del self._held[address]

    def may_challenge(self, address: str, now: float) -> bool:
        """Whether a digest challenge may be sent to ``address``; if not, answer nothing. Counts it (P2)."""
        self._turn(now)
        self._challenged[place(address)] += 1
        if self._challenged[place(address)] > CHALLENGES_A_SECOND:
            return False
        self.counters.challenges += 1
        return True

    def wrong_answer(self, address: str, name: str, now: float) -> None:
        """``address`` gave a wrong password; after three it is not heard for ten minutes (P2), unless it is a peer."""
        self.counters.wrong_answers += 1
        if len(self._wrong) >= REMEMBERED:
            self._wrong.clear()
        guessed = self._wrong.setdefault(place(address), [])
        guessed.append(name)
        if len(guessed) >= WRONG_ANSWERS:
            del self._wrong[place(address)]
            if self.is_peer(address):
                return
            self._silent = {one: until for one, until in self._silent.items() if until > now}
            self._silent[place(address)] = now + SILENCE
            if now - self._warned_at >= 60:
                self._warned_at = now
                told = "sip: %s gave %d wrong passwords and is not heard for %.0f s: is a telephone set wrong?"
                logger.warning(told, place(address), WRONG_ANSWERS, SILENCE)

    def silent_places(self, now: float) -> int:
        """How many addresses are not heard at present, for the wrong passwords they gave."""
        return sum(until > now for until in self._silent.values())

    def right_answer(self, address: str, name: str) -> None:
        """``address`` gave a right one: earlier mistakes of that name are forgotten."""
        if place(address) in self._wrong:
            self._wrong[place(address)] = [one for one in self._wrong[place(address)] if one != name]

    def silent(self, address: str, now: float) -> bool:
        """Whether ``address`` is not heard, for the wrong passwords it gave. Counts it."""
        if not self._silent or self._silent.get(place(address), 0) <= now or self.is_peer(address):
            return False
        self.counters.silenced += 1
        return True

    def _known(self, address: str, now: float) -> bool:
        return self._strangers or self.trusts(address) or self._expected.get(address, 0) > now

    def _has_place(self, address: str, others: Collection[str]) -> bool:
        whose, here = self._whose_peer(address), sum(place(one) == place(address) for one in others)
        if len(others) >= CONNECTIONS:
            return False
        if whose:
            return here < OF_PEER and sum(self._whose_peer(one) == whose for one in others) < OF_ONE
        if self.trusts(address):
            return here < OF_ONE
        return here < OF_STRANGER and sum(not self.trusts(one) for one in others) < STRANGERS

    def _turn(self, now: float) -> None:
        """Count anew each second."""
        if self._second != int(now):
            self._second = int(now)
            self._messages.clear()
            self._challenged.clear()
            self._expected = {one: until for one, until in self._expected.items() if until > now}


@lru_cache(REMEMBERED)
def place(address: str) -> str:
    """The address; of IPv6 its /64 network, since who has one there has them all."""
    found = unfolded(address)
    return str(found) if found.version == 4 else str(ip_network((int(found) >> 64 << 64, 64)))
