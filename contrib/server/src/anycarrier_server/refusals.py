"""Why the service says no. The faces turn each into their own status code and body.

Refusal
  BadCursor             a page cursor we did not make
  IdempotencyConflict   the key was used for another request
  Taken                 a handle or number is somebody's already
  InUse                 still needed by the things named in ``by``
  DuplicateRule         that contact rule exists, as ``existing``
  NotThatSide           the contact rule is for the other side only
  TooManyWebhooks       the workspace has as many subscriptions as it may
  UrlRefused            a client's URL leads where we do not go
    HostUnknown         it leads nowhere just now: its name has no address
  OverLimit             the rolling day is used up; ``snapshot`` says how
  StoreOverloaded       the database is too far behind to take more
    StoreAway           it does not answer at all
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from anycarrier.errors import AnycarrierError, LimitReached, PolicyRefusal

if TYPE_CHECKING:
    from anycarrier_server.store.limits import Snapshot


class Refusal(AnycarrierError):
    """Base: the request was understood and is not done."""


class BadCursor(Refusal, ValueError):
    """The cursor is not one of ours."""

    def __init__(self) -> None:
        super().__init__("the cursor is not valid: pass next_cursor of the page before, or none for the first page")


class IdempotencyConflict(Refusal):
    """The Idempotency-Key came with another body within 24 hours."""

    def __init__(self, call_id: UUID) -> None:
        self.call_id = call_id
        super().__init__("this Idempotency-Key was used for another request; use a new key for a new call")


class Taken(Refusal):
    """A name or number that must be unique is held already."""

    def __init__(self, what: str, value: str) -> None:
        self.what = what
        super().__init__(f"{what} {value!r} is taken")


class InUse(Refusal):
    """It cannot go while others need it; ``by`` are their public ids."""

    def __init__(self, what: str, by: Iterable[str]) -> None:
        self.by = tuple(by)
        super().__init__(f"the {what} is still used by {', '.join(self.by[:5])}; remove or move them first")


class DuplicateRule(Refusal):
    """A contact rule already covers this; ``existing`` is its id."""

    def __init__(self, existing: UUID) -> None:
        self.existing = existing
        super().__init__("a contact rule already covers this number on this side; change that one")


class NotThatSide(Refusal):
    """A change meant one side of a contact rule, which is for the other (``direction``) only."""

    def __init__(self, direction: str) -> None:
        self.direction = direction
        super().__init__(f"the rule is for {direction} calls only")


class TooManyWebhooks(Refusal):
    """The workspace has ``limit`` webhook subscriptions, and no more are taken."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"this workspace has {limit} webhook subscriptions, which is the limit: remove one first, or have the "
            "operator raise ANYCARRIER_MAX_WEBHOOKS"
        )


class UrlRefused(PolicyRefusal):
    """We do not connect there for a client: wrong scheme, private address, or an address in disguise."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the URL is refused: {why}")


class HostUnknown(UrlRefused):
    """The name does not resolve; it may tomorrow."""


class OverLimit(LimitReached):
    """The workspace's calls or minutes of the last 24 hours are used up. ``retry_after`` is in seconds."""

    def __init__(self, what: str, snapshot: Snapshot, retry_after: float) -> None:
        self.snapshot = snapshot
        self.limit = "minutes" if snapshot.calls_remaining else "calls"
        super().__init__(f"{what} in 24 hours", retry_after=retry_after)


class StoreOverloaded(Refusal):
    """More rows wait to be written than memory allows: the database is down or far too slow."""


class StoreAway(StoreOverloaded):
    """Nobody answers at the database: it is restarting, or the network is gone."""

    def __init__(
        self,
        why: str = "the database does not answer just now: try again in a moment, but before you ask for a change "
        "again, look whether it was made",
    ) -> None:
        super().__init__(why)


class StoreFull(StoreAway):
    """The database has no room to write."""

    def __init__(self) -> None:
        super().__init__(
            "the database's disk is full, so nothing was written: whoever runs the service must make room. Live calls "
            "go on and can be stopped"
        )
