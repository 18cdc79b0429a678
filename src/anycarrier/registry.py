"""Which agent answers which number. Nothing here talks to a carrier."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from anycarrier.errors import NumberNotAssigned
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
