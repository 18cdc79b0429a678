"""Magic numbers and magic secrets: what a sandbox does when one of them is dialled or logged in with.

The same table for every carrier, so one test asks for "busy" everywhere; each sandbox says it in its own dialect.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What becomes of an outbound call."""

    ANSWERS = "answers"
    """Answers at once and stays until somebody hangs up: every number that is not in the table."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    """Rings until the timeout the caller asked for."""
    REJECTED = "rejected"
    """The callee declines: SIP 603."""
    INVALID_NUMBER = "invalid_number"
    """The REST request is refused: no such number can exist."""
    MACHINE = "machine"
    """An answering machine: a greeting, then a beep, then it listens."""
    FAX = "fax"
    THROTTLED = "throttled"
    """The REST request is answered 429, with a hint when to come back where the carrier has one."""
    SERVER_ERROR = "server_error"
    """The REST request is answered 500."""
    TIMEOUT = "timeout"
    """The REST request is never answered."""
    FORBIDDEN = "forbidden"
    """The account may not ring this destination."""
    NO_FUNDS = "no_funds"
    """The account has no money left."""
    HANGS_UP = "hangs_up"
    """Answers and hangs up after :data:`HANGS_UP_AFTER` seconds."""
    RINGS = "rings"
    """Rings :data:`RINGS_FOR` seconds, then answers."""
    NOT_FOUND = "not_found"
    """Taken by the API, rings, then the network says SIP 404."""
    MEDIA_DROP = "media_drop"
    """Answers; the media socket breaks after :data:`DROPS_AFTER` seconds while the call stays up."""


OUTCOMES: dict[str, Outcome] = {
    "+15005550101": Outcome.BUSY,
    "+15005550102": Outcome.NO_ANSWER,
    "+15005550103": Outcome.REJECTED,
    "+15005550104": Outcome.INVALID_NUMBER,
    "+15005550105": Outcome.MACHINE,
    "+15005550106": Outcome.FAX,
    "+15005550107": Outcome.THROTTLED,
    "+15005550108": Outcome.SERVER_ERROR,
    "+15005550109": Outcome.TIMEOUT,
    "+15005550110": Outcome.FORBIDDEN,
    "+15005550111": Outcome.NO_FUNDS,
    "+15005550112": Outcome.HANGS_UP,
    "+15005550113": Outcome.RINGS,
    "+15005550114": Outcome.NOT_FOUND,
    "+15005550115": Outcome.MEDIA_DROP,
}

GONE_NUMBER = "+15005550120"
"""Found by search; buying it fails, as if someone else had bought it first."""

PENDING_NUMBER = "+15005550121"
"""Its order stays pending for a while, with carriers whose orders are asynchronous."""

RINGS_FOR = 1.0
HANGS_UP_AFTER = 1.0
DROPS_AFTER = 1.0
RETRY_AFTER = 2.0
"""Seconds a throttled request is told to wait."""


class Login(StrEnum):
    """What a REST secret logs in to. Any secret is good, except those containing one of these words."""

    GOOD = "good"
    WRONG = "wrong"
    SUSPENDED = "suspended"
    BROKE = "broke"
    THROTTLED = "throttled"


def outcome_of(number: str) -> Outcome:
    """What dialling ``number`` leads to."""
    return OUTCOMES.get(number, Outcome.ANSWERS)


def login_of(secret: str) -> Login:
    """What logging in with ``secret`` leads to."""
    if not secret:
        return Login.WRONG
    return next((login for login in Login if login is not Login.GOOD and login.value in secret), Login.GOOD)
