"""What an open call may be waiting for, and what becomes of it when that does not come. Data, and no I/O.

The rules are carried out by ``call_watch.py``, for the library alone as for the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from anycarrier.calls import Call, CallStatus, Direction, EndReason
from anycarrier.errors import AnycarrierError, NotFound, RequestRejected

RING_TIME = 30.0
"""Seconds a dial may ring where nobody said otherwise, as in ``DialRequest``."""

RING_GRACE = 15.0
"""Seconds beyond its ring time after which a dial of a dead process is hung up, unless it was answered here."""

QUEUED_AT_CARRIER = 24 * 3600.0
"""Seconds a carrier may hold a dial back: calls above an account's calls per second wait there, for up to a day."""

WRITE_OFF = 300.0
"""Seconds of failed questions and hang-ups after which a call is written off."""

RETRY = (2.0, 30.0)
"""Seconds before a failed question or hang-up is repeated: the first time, and at most."""

AGAIN = (30.0, 300.0)
"""Seconds before a call that may stay up is asked about again: the first time, and at most."""

STILL_UP = 60.0
"""Seconds after an accepted hang-up in which a carrier may go on saying that the call is up."""

HANG_UP_LATER = 3600.0
"""Seconds a hang-up is repeated after the call was written off, so that it does not bill on at the carrier."""


class Phase(StrEnum):
    """What an open call is waiting for."""

    UNCONFIRMED = "dialled; the carrier has not named the call"
    QUEUED = "dialled; queued at the carrier"
    DIALLING = "dialled; not answered"
    ROUTING = "incoming; the router is deciding"
    OFFERED = "incoming; answer sent, or declined without effect; not answered"
    LEFT_RINGING = "incoming; left ringing on purpose"
    NO_STREAM = "answered; its media stream has not come"
    TALKING = "answered; its media stream is here"
    STREAM_ENDED = "its media stream has ended"
    ABANDONED = "its process died"
    ENDING = "we asked for the end"
    TRANSFERRED = "handed on to somebody else"


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a call that stays in a phase. Seconds count from the call's last change of phase or status.

    ``ask_after``: then the carrier is asked. ``hang_up_after``: then a call that is still up is hung up; None leaves
    it up. ``write_off_after``: seconds of failed attempts after which the call ends in the book all the same; None
    never. ``at_most``: the longest a call may stay, however well the carrier speaks of it. ``rings``: the ring time
    is added to the first two. ``reason`` is the end's, unless somebody has given another.
    """

    ask_after: float
    hang_up_after: float | None
    reason: EndReason
    write_off_after: float | None = WRITE_OFF
    at_most: float | None = None
    rings: bool = False

    def bound(self, ring_time: float = RING_TIME) -> float | None:
        """Seconds until the call has ended in the book, whatever fails; None when nothing but the call ends it."""
        ring = ring_time if self.rings else 0.0
        if self.write_off_after is None:
            return None
        longest = self.hang_up_after if self.hang_up_after is not None else self.at_most
        return None if longest is None else longest + ring + self.write_off_after


RULES: Mapping[Phase, Rule] = {
    Phase.UNCONFIRMED: Rule(60, 60, EndReason.PROVIDER_UNAVAILABLE, write_off_after=0, rings=True),
    Phase.QUEUED: Rule(60, QUEUED_AT_CARRIER, EndReason.NO_ANSWER, write_off_after=3600, rings=True),
    Phase.DIALLING: Rule(60, 240, EndReason.NO_ANSWER, rings=True),
    Phase.ROUTING: Rule(60, 600, EndReason.AGENT_ERROR),
    Phase.OFFERED: Rule(60, 60, EndReason.MEDIA_ERROR),
    Phase.LEFT_RINGING: Rule(60, 600, EndReason.NO_ANSWER),
    Phase.NO_STREAM: Rule(30, 30, EndReason.MEDIA_ERROR),
    Phase.TALKING: Rule(600, None, EndReason.MEDIA_ERROR, write_off_after=None),
    Phase.STREAM_ENDED: Rule(5, 5, EndReason.MEDIA_ERROR),
    Phase.ABANDONED: Rule(10, 10, EndReason.MEDIA_ERROR),
    Phase.ENDING: Rule(10, 10, EndReason.UNKNOWN),
    Phase.TRANSFERRED: Rule(60, None, EndReason.TRANSFERRED, write_off_after=3600, at_most=24 * 3600),
}
"""One rule a phase. ``STREAM_ENDED`` waits as long as the exchange's ``settle`` says."""

LIMITED = frozenset({Phase.TALKING, Phase.NO_STREAM})
"""Phases in which the call's time limit runs; in the others its end is near anyway, or is not ours to bring about."""

MAY_TALK = frozenset(
    {
        Phase.UNCONFIRMED,
        Phase.QUEUED,
        Phase.DIALLING,
        Phase.ROUTING,
        Phase.OFFERED,
        Phase.NO_STREAM,
        Phase.TALKING,
    }
)
"""Phases of calls that may still get, or have, a conversation here."""


def phase_of(
    call: Call,
    *,
    held: bool = False,
    stream_over: bool = False,
    abandoned: bool = False,
    routing: bool = False,
    left_ringing: bool = False,
) -> Phase:
    """The phase of an open call.

    ``held``: a session of this process carries its audio. ``stream_over``: it did, and its media socket has closed.
    ``abandoned``: its process is dead. ``routing`` and ``left_ringing`` are of incoming calls.
    """
    if not call.id:
        return Phase.UNCONFIRMED
    if call.handed_on:
        return Phase.TRANSFERRED
    if call.intent is not None:
        return Phase.ENDING
    answered = call.status is CallStatus.ANSWERED
    if held and answered:
        return Phase.TALKING
    if stream_over:
        return Phase.STREAM_ENDED
    if answered:
        return Phase.ABANDONED if abandoned else Phase.NO_STREAM
    if call.direction is Direction.OUTBOUND:
        return Phase.QUEUED if call.status is CallStatus.QUEUED else Phase.DIALLING
    if left_ringing:
        return Phase.LEFT_RINGING
    if routing:
        return Phase.ROUTING
    return Phase.ABANDONED if abandoned else Phase.OFFERED


def is_gone(problem: AnycarrierError) -> bool:
    """True when the carrier says that it has no such call, or has it no longer."""
    return isinstance(problem, RequestRejected) and (isinstance(problem, NotFound) or problem.status in (404, 410, 422))


def longer(pauses: tuple[float, float], tries: int) -> float:
    """The pause before the next of ``tries``: twice as long each time, up to the second of ``pauses``."""
    first, most = pauses
    return min(first * 2.0 ** min(tries, 16), most)


def table() -> str:
    """The rules for a person, as a Markdown table; times in seconds."""
    rows = [
        ["a call that is", "is asked about after", "and hung up after", "is over here by", "with the reason"],
        ["---"] * 5,
    ]
    for phase, rule in RULES.items():
        ring = "ring time + " if rule.rings else ""
        hung_up = "-" if rule.hang_up_after is None else f"{ring}{_time(rule.hang_up_after)}"
        asked = f"{ring}{_time(rule.ask_after)}"
        if phase is Phase.UNCONFIRMED:  # there is nothing to name it by
            asked = hung_up = "-"
        bound = rule.bound(0.0)
        over = "the end of the call" if bound is None else f"{ring}{_time(bound)}"
        reason = "the one given" if phase is Phase.ENDING else f"`{rule.reason}`"
        rows.append([phase.value, asked, hung_up, over, "-" if bound is None else reason])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
