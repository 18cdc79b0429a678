"""One account at the sandbox: its token, its numbers, its calls and recordings, and ids in the carrier's shape."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anycarrier_twilio.sandbox.leg import Leg
    from anycarrier_twilio.sandbox.recording import Recording


def new_sid(prefix: str) -> str:
    """``prefix`` and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)


@dataclass(slots=True)
class Account:
    """``numbers`` holds the carrier's own resources by PN sid; ``token`` signs webhooks and may log in."""

    sid: str
    token: str
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: dict[str, Leg] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)

    def number(self, number: str) -> dict[str, Any] | None:
        """The resource of a number the account holds."""
        return next((owned for owned in self.numbers.values() if owned["phone_number"] == number), None)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One entry of the carrier's debugger: an error code, what it says, and the call it is about."""

    code: int
    message: str
    call_sid: str = ""
