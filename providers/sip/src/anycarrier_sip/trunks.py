"""Which credential a request is for: found by the address it came from, then by our contact user, login or number."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from anycarrier.errors import ConfigurationError
from anycarrier.networks import Network, unfolded
from anycarrier_sip.guard import REMEMBERED
from anycarrier_sip.message import Request, Uri
from anycarrier_sip.transaction import Flow, ServerTransaction

OPEN_INVITES = 50
"""INVITEs of one trunk that wait for our final response, or whose 2xx or CANCEL waits for an ACK; more are answered 503
(P8): nobody has agents answer to an address that is not his, or the call book filled."""

logger = logging.getLogger(__name__)


class Trunk(Protocol):
    """One credential's side of the endpoint."""

    credential: Any
    contact_user: str
    """The user of our Contact: random, so that calls to it are for this credential."""
    own_user: bool
    """Whether all its calls are addressed to that user, so that others may share its peers."""
    challenges: bool
    """Whether it asks callers for a password: any such one may ask, the answer tells whose the call is."""
    peers: Sequence[Network]
    """Networks that its calls come from, resolved hosts too. When they change, register it again."""
    from_anywhere: bool
    """True for a registrar of softphones: INVITE and REGISTER from any address are its, to be challenged (P2)."""

    def resolved(self, addresses: Collection[str]) -> None:
        """The addresses of its host, whenever they are looked up: calls come from them too."""

    def wants(self, request: Request, flow: Flow) -> bool:
        """Whether the request, from an address of its peers, is for this credential."""

    def recognizes(self, request: Request, flow: Flow) -> bool:
        """Whether it challenges callers, and this one shows a login of its or is a phone that has registered."""

    def invited(self, transaction: ServerTransaction) -> None:
        """A new call."""

    def requested(self, transaction: ServerTransaction) -> None:
        """Any other request outside a dialog."""


class Trunks(Sequence[Trunk]):
    """Those of one endpoint. Whoever is in ``everyones`` networks may be the peer of each."""

    def __init__(self, everyones: Collection[Network]) -> None:
        self.at = lru_cache(REMEMBERED)(self._at)
        """Those whose peer an address may be."""
        self.anywhere: list[Trunk] = []
        """Those that requests may come to from any address."""
        self._everyones = everyones
        self._trunks: list[Trunk] = []
        self._networks: dict[tuple[int, int], dict[int, list[Trunk]]] = {}
        """Who has which, by IP version and prefix length, then address."""
        self._unsettled: dict[int, dict[tuple[str, int], ServerTransaction]] = {}
        """Those that :data:`OPEN_INVITES` counts, of each trunk, by Call-ID and CSeq."""

    def __getitem__(self, at: Any) -> Any:
        return self._trunks[at]

    def __len__(self) -> int:
        return len(self._trunks)

    def add(self, trunk: Trunk) -> None:
        """One more, with the peers that it has now."""
        self._set([*self._trunks, trunk])

    def remove(self, trunk: Trunk) -> None:
        """One less."""
        self._set([one for one in self._trunks if one is not trunk])
        self._unsettled.pop(id(trunk), None)

    def _set(self, trunks: list[Trunk]) -> None:
        self._trunks, self._networks = trunks, {}
        self.anywhere = [trunk for trunk in trunks if trunk.from_anywhere]
        self.at.cache_clear()
        for trunk in trunks:
            for network in {*self._everyones, *trunk.peers}:
                same_size = self._networks.setdefault((network.version, network.prefixlen), {})
                same_size.setdefault(int(network.network_address), []).append(trunk)

    def _at(self, text: str) -> Sequence[Trunk]:
        """A look-up for each size of a network, however many there are."""
        address, found = unfolded(text), set[int]()
        for (version, length), same_size in self._networks.items():
            rest = address.max_prefixlen - length
            if version == address.version:
                found.update(map(id, same_size.get(int(address) >> rest << rest, ())))
        return [trunk for trunk in self._trunks if id(trunk) in found] if found else ()

    def whose(self, request: Request, flow: Flow) -> Trunk | None:
        """By source address; where several share it, by our contact user, then by login or phone, then by who wants
        it: one, or none. Who has a user of his own gets nothing else of what is shared with one who has none, so that
        no tenant gets another's calls by naming his carrier's network (:func:`refuse_overlap`).
        """
        candidates = () if request.method == "REGISTER" and self.anywhere else self.at(flow.remote[0])
        user = Uri.parse(request.uri).user
        by_user = [trunk for trunk in candidates if user and trunk.contact_user == user]
        known = [trunk for trunk in (*candidates, *self.anywhere) if trunk.recognizes(request, flow)]
        plain = [trunk for trunk in candidates if not trunk.own_user]
        found = by_user or known or plain or candidates or self.anywhere
        if request.method != "INVITE" or by_user:
            return found[0] if found else None  # an OPTIONS is nobody's in particular
        wanting = [trunk for trunk in found if trunk.wants(request, flow)]
        if len(wanting) > 1 and not all(trunk.challenges for trunk in wanting):
            logger.warning("sip: a call from %s fits %d credentials", flow.remote[0], len(wanting))
            return None
        return wanting[0] if wanting else None

    def may_ring(self, trunk: Trunk, transaction: ServerTransaction) -> bool:
        """Whether the trunk has a place for one more INVITE. Counts it."""
        before, request = self._unsettled.get(id(trunk), {}), transaction.request
        unsettled = {key: one for key, one in before.items() if not one.final or one.awaits_ack}
        if len(unsettled) >= OPEN_INVITES:
            return False
        self._unsettled[id(trunk)] = {**unsettled, (request.call_id, request.cseq.number): transaction}
        return True

    def settled(self, ack: Request) -> None:
        """The INVITE that ``ack`` is for counts no more."""
        for unsettled in self._unsettled.values():
            unsettled.pop((ack.call_id, ack.cseq.number), None)


def refuse_overlap(mine: Trunk, others: Iterable[Trunk]) -> None:
    """Raise ``ConfigurationError`` where calls from one address or login could be ``mine`` or another credential's.

    Sharing a carrier's network is fine for trunks that calls are addressed to by a user of their own, or that all
    challenge. What is left goes to who was there first, so nobody gets calls by naming another's network.
    """
    for other in others:
        taken = {user.name.lower() for user in other.credential.users}
        if double := [user.name for user in mine.credential.users if user.name.lower() in taken]:
            raise ConfigurationError(
                f"sip users: {', '.join(double)} logs in to another credential of this process already, and a login "
                "must say whose it is. Choose a name that no other has, like alice-sales, here and on the telephone"
            )
        apart = mine.own_user and mine.contact_user != other.contact_user
        if apart or (mine.credential.challenge and other.credential.challenge):
            continue
        for peer in mine.peers:
            if any(peer.overlaps(theirs) for theirs in other.peers):
                raise ConfigurationError(
                    f"sip: calls from {peer} belong to another credential of this process already. Give this one a "
                    "contact_user that no other has, and have the carrier send its calls to sip:CONTACT_USER@ our "
                    "address; or set challenge, username and password on both, if the far end answers challenges"
                )
