"""What to do with an incoming call. The default is the number's own agent; a platform may decide otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from anycarrier.calls import EndReason
from anycarrier.events import IncomingCall, RoutingFailure
from anycarrier.registry import Line


@dataclass(frozen=True, slots=True)
class Answer:
    """Take the call and connect it to ``agent_id``; ``custom`` travels with the stream, ``time_limit`` is seconds."""

    agent_id: str
    custom: Mapping[str, str] = field(default_factory=dict)
    time_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """Decline: ``BUSY`` sounds busy to the caller, anything else as declined. ``why`` is for the people who look at it
    later; ``failure`` says that the call should have reached ``agent_id``, and is told as ``RoutingFailed``."""

    reason: EndReason = EndReason.REJECTED
    why: str = field(default="", compare=False)
    failure: RoutingFailure | None = field(default=None, compare=False)
    agent_id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the call on to a number or ``sip:`` address, without an agent."""

    to: str


@dataclass(frozen=True, slots=True)
class LeaveRinging:
    """Do nothing: it rings until the caller or the carrier gives up."""


Route = Answer | Reject | Forward | LeaveRinging

Router = Callable[[IncomingCall, Line | None], Awaitable[Route]]
"""Given the call and the number's line (None: not assigned), what to do."""


async def by_line(event: IncomingCall, line: Line | None) -> Route:
    """The number's own agent; a number that is not assigned is declined."""
    return Reject() if line is None else Answer(line.agent_id)
