"""Lines (a number in service), the number registry, and what to do with an incoming call.

The default route is the number's own agent; a platform may decide call by call. Nothing here talks to a carrier.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from anycarrier.calls import EndReason
from anycarrier.errors import NumberNotAssigned
from anycarrier.events import IncomingCall, RoutingFailure
from anycarrier.numbers import PhoneNumber, SyncResult


class Line(BaseModel):
    """One number in service. ``sync`` is how configuring it at the carrier went, None when that was not asked for."""

    model_config = ConfigDict(frozen=True)

    number: PhoneNumber
    agent_id: str
    credential_id: str
    provider: str
    sync: SyncResult | None = None


@runtime_checkable
class NumberRegistry(Protocol):
    """Number -> Line. Four methods, so a platform can put its own database behind it."""

    async def assign(self, line: Line) -> None:
        """Put a line in service, replacing what the number had."""
        ...

    async def lookup(self, number: str) -> Line:
        """The number's line, or ``NumberNotAssigned``."""
        ...

    async def unassign(self, number: str) -> None:
        """Take the number out of service, or ``NumberNotAssigned``."""
        ...

    async def lines(self) -> list[Line]:
        """All lines in service."""
        ...


class MemoryNumberRegistry:
    """The reference registry: a dict."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    async def assign(self, line: Line) -> None:
        self._lines[line.number] = line

    async def lookup(self, number: str) -> Line:
        try:
            return self._lines[number]
        except KeyError:
            raise NumberNotAssigned(number) from None

    async def unassign(self, number: str) -> None:
        if self._lines.pop(number, None) is None:
            raise NumberNotAssigned(number)

    async def lines(self) -> list[Line]:
        return list(self._lines.values())


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
