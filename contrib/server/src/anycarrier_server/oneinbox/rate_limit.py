"""How much of the rolling day is left, as headers: of calls, or of minutes where those are what is used up."""

from __future__ import annotations

from anycarrier_server.store import Snapshot


def headers(used: Snapshot) -> dict[str, str]:
    """``Reset`` is the Unix second at which the oldest call leaves the day, and with it something is free again."""
    by_calls = used.calls_remaining == 0 or used.minutes_free > 0
    return {
        "X-RateLimit-Limit": str(used.calls_limit if by_calls else int(used.minutes_limit)),
        "X-RateLimit-Remaining": str(used.calls_remaining if by_calls else 0),
        "X-RateLimit-Reset": str(int(used.reset_at.timestamp())),
    }
