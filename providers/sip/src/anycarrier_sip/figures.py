"""What a listener reports to its operator: who is registered, what was refused, how well media came through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING

from anycarrier.listener import Figure, Health

if TYPE_CHECKING:
    from anycarrier_sip.guard import Counters
    from anycarrier_sip.listener import SipListener

LOSS = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, inf)
"""Bounds of the share of packets that a call has lost."""
JITTER = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, inf)
"""Bounds in seconds (RFC 3550, 6.4.1)."""


@dataclass(frozen=True)
class RtpStats:
    """One stream's so far. ``jitter`` in seconds; ``reported_`` is what the far end says of what it gets from us."""

    received: int
    lost: int
    late: int
    jitter: float
    filled: float
    """Seconds made up for what was lost."""
    sent: int
    unsent: int
    """Packets that the network did not take, or that were due while the process stood still."""
    refused: int
    """Packets from elsewhere, or that were none of this call's."""
    unauthentic: int
    reported_lost: int
    reported_jitter: float


class MediaFigures:
    """Loss and jitter of the calls that are over: the endpoint keeps one for all credentials."""

    def __init__(self) -> None:
        self._counts = {"loss": [0] * len(LOSS), "jitter": [0] * len(JITTER)}
        self._sums = {"loss": 0.0, "jitter": 0.0}

    def call_ended(self, stats: RtpStats) -> None:
        """Count one call; one without any packet is nobody's loss."""
        expected = stats.received + stats.lost
        if not expected:
            return
        for name, bounds, value in (("loss", LOSS, stats.lost / expected), ("jitter", JITTER, stats.jitter)):
            self._sums[name] += value
            self._counts[name][next(at for at, bound in enumerate(bounds) if value <= bound)] += 1

    def figures(self) -> Iterator[Figure]:
        """A histogram of each."""
        for name, bounds, help in (
            ("loss", LOSS, "Share of RTP packets that did not come, by call"),
            ("jitter", JITTER, "Interarrival jitter of RTP at the end of a call, in seconds"),
        ):
            buckets = dict(zip(bounds, accumulate(self._counts[name]), strict=True))
            yield Figure(f"sip_rtp_{name}", help, self._sums[name], "histogram", buckets=buckets)


def figures(listener: SipListener) -> Iterator[Figure]:
    """The credential's own, and of the first credential those that all share."""
    endpoint = listener.endpoint
    if listener.standing is not None:
        state = {"state": listener.standing.status.state, "kind": listener.standing.status.kind}
        yield Figure("sip_trunks", "Trunks, by how they stand with their carrier", 1, labels=state)
    if listener.registrar is not None:
        phones = sum(map(len, listener.registrar.registered().values()))
        yield Figure("sip_phones", "Softphones that are registered", phones)
    if endpoint.trunks[:1] == [listener]:
        yield from _refused(endpoint.guard.counters)
        yield from endpoint.media.figures()


def _refused(counters: Counters) -> Iterator[Figure]:
    for each in fields(counters):
        count = getattr(counters, each.name)
        yield Figure("sip_refused", "What was dropped, closed or refused", count, "counter", {"what": each.name})


def health(listener: SipListener) -> Iterator[Health]:
    """Sockets, the trunk's standing, and each softphone."""
    sockets = ", ".join(f"{kind}:{host}:{port}" for kind, (host, port) in listener.endpoint.addresses.items())
    yield Health("sockets", True, f"open at {sockets}")
    if listener.standing is not None:
        status = listener.standing.status
        subject = "registration" if status.kind == "register" else "carrier (OPTIONS)"
        ok = None if status.state == "starting" else status.state == "up"
        age = listener.endpoint.now() - status.since
        yield Health(subject, ok, f"{status}, for {age:.0f} s now" if ok else str(status))
        for target, missed in getattr(listener.standing, "misses", {}).items():
            answered = "answered the last OPTIONS" if not missed else f"left the last {missed} OPTIONS unanswered"
            yield Health(f"peer {target}", not missed, answered)
    elif listener.registrar is None:
        yield Health("carrier", None, "it has no host to ask: calls come from its networks")
    for name, phones in (listener.registrar.registered() if listener.registrar is not None else {}).items():
        yield Health(f"phone {name}", bool(phones) or None, f"at {', '.join(phones)}" if phones else "not registered")
    if listener.registrar is not None and (silent := listener.endpoint.guard.silent_places(listener.endpoint.now())):
        yield Health("wrong passwords", False, f"not heard for ten minutes, after three: {silent} of the addresses")
