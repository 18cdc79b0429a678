"""Why the service says no: one tree. The faces turn each into their own status code and body.

Refusal                  the request was understood and is not done
  Unauthorized           no key, or not a good one
  Forbidden              a good key, that may not do this
  Unknown                no such thing; ``foreign`` when it is another workspace's
  Invalid                the request does not make sense; ``errors`` in the FastAPI list shape
  TooLarge               the body is longer than we take
  BadCursor              a page cursor we did not make
  IdempotencyConflict    the key was used for another request
  Taken                  a handle or number that must be unique is held already
  InUse                  still needed by the things named in ``by``
  DuplicateRule          that contact rule exists, as ``existing``
  NotThatSide            the contact rule is for the other side only
  TooManyWebhooks        the workspace has as many subscriptions as it may
  CredentialRequired     several carriers' credentials, or none: say which
  ProviderMismatch       the number's provider is not the credential's
  NumberInactive         the number is held but not in service
  NumberNotOwned         ``from_number`` is not a number of this workspace
  NoStock                the carrier has no number that fits
  LineHeld               the agent has a number already
  CallsLive              a call is using it
  CallOver               the call has ended, or has no leg at the carrier yet
  Blocked                contact rules forbid this recipient
  NotOffered             the service does not do that; ``code`` says what
  ShuttingDown           this process takes no new calls
  StoreOverloaded        the database is too far behind to take more
    StoreUnreachable     it does not answer: what a client is told of ``outage.DatabaseUnavailable``
      StoreFull          it has no room to write: of ``outage.DatabaseFull``
PolicyRefusal
  UrlRefused             a client's URL leads where we do not go
    HostUnknown          it leads nowhere just now: its name has no address
LimitReached
  OverLimit              the rolling day is used up (``store.limits``, where the day is counted)
  NoRoom                 too many calls at once, or too quickly (``domain``)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from anycarrier.errors import AnycarrierError, PolicyRefusal
from anycarrier.redaction import mask_number


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


class StoreOverloaded(Refusal):
    """More rows wait to be written than memory allows: the database is down or far too slow."""


class StoreUnreachable(StoreOverloaded):
    """Nobody answers at the database: it is restarting, or the network is gone."""

    def __init__(
        self,
        why: str = "the database does not answer just now: try again in a moment, but before you ask for a change "
        "again, look whether it was made",
    ) -> None:
        super().__init__(why)


class StoreFull(StoreUnreachable):
    """The database has no room to write."""

    def __init__(self) -> None:
        super().__init__(
            "the database's disk is full, so nothing was written: whoever runs the service must make room. Live calls "
            "go on and can be stopped"
        )


class Unauthorized(Refusal):
    """The key is missing, unknown, revoked or expired."""

    def __init__(self) -> None:
        super().__init__(
            "give a valid API key: Authorization: Bearer <key>, or X-API-Key: <key>. "
            "The first admin key was printed when the service started first"
        )


class Forbidden(Refusal):
    """The key may not do this."""


class Unknown(Refusal):
    """There is no such thing for this caller. ``kind`` is its name: call, agent, number ...; ``why`` what is known."""

    def __init__(self, kind: str, *, foreign: bool = False, why: str = "") -> None:
        self.kind = kind
        self.foreign = foreign
        super().__init__(f"no such {kind}: {why or 'check the id, and that the key is of the right workspace'}")


class Invalid(Refusal):
    """The request cannot be done as it stands. ``errors`` are ``{"loc": [...], "msg": str, "type": str}``."""

    def __init__(self, errors: Sequence[dict[str, Any]]) -> None:
        self.errors = list(errors)
        where = ".".join(str(part) for part in self.errors[0]["loc"])
        super().__init__(f"{where}: {self.errors[0]['msg']}")

    @classmethod
    def field(cls, name: str, message: str, *, where: str = "body", type: str = "value_error") -> Invalid:
        """One field of the body (or ``where`` else) is wrong."""
        return cls([{"loc": [where, *name.split(".")], "msg": message, "type": type}])


class TooLarge(Refusal):
    """The body is longer than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the body is longer than {limit} bytes")


class CredentialRequired(Refusal):
    """Which carrier account is meant is not clear; ``choices`` are the credentials there are."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = tuple(choices)
        have = f"give credential_id: one of {', '.join(choices)}" if choices else "add a carrier credential first"
        super().__init__(have)


class ProviderMismatch(Refusal):
    """The credential is of another carrier than the request says."""

    def __init__(self, said: str, actual: str) -> None:
        super().__init__(f"provider is {said!r}, but the credential is for {actual!r}: give the one that fits")


class NumberInactive(Refusal):
    """The number is held, but not in service: the carrier could not be configured."""

    def __init__(self, number: str, why: str = "") -> None:
        super().__init__(f"{mask_number(number)} is not active" + (f": {why}" if why else "") + ". Register it again")


class NumberNotOwned(Refusal):
    """The number to call from is not registered here."""

    def __init__(self, number: str) -> None:
        super().__init__(f"{mask_number(number)} is not a number of this workspace: register it first")


class NoStock(Refusal):
    """Nothing fits the filters."""

    def __init__(self) -> None:
        super().__init__("the carrier offers no number that fits: widen the filters")


class LineHeld(Refusal):
    """One number per agent, and it has one."""

    def __init__(self, line: str) -> None:
        super().__init__(f"the agent has number {line} already: release it first")


class CallsLive(Refusal):
    """Something cannot go while calls use it."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"{count} call(s) are using it: stop them first")


class CallOver(Refusal):
    """There is nothing to act on: the call is over, or the carrier has no leg of it yet."""


class Blocked(Refusal):
    """The agent's contact rules forbid it. ``rule_id`` None: the list's default did."""

    def __init__(self, address: str, reason: str, rule_id: UUID | None) -> None:
        self.address = address
        self.reason = reason
        self.rule_id = rule_id
        super().__init__(f"{mask_number(address)} may not be called: {reason}")


class NotOffered(Refusal):
    """The contract knows it and this service does not do it."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class ShuttingDown(Refusal):
    """The process is about to stop; another one, or the next, takes the call."""

    def __init__(self) -> None:
        super().__init__("this process is shutting down and starts no new calls: try again in a moment")
