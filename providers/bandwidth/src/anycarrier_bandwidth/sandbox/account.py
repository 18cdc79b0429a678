"""The sandbox's state: accounts with their applications, numbers, packages, locations, orders, calls and recordings."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from anycarrier_bandwidth.sandbox.leg import Leg
    from anycarrier_bandwidth.sandbox.recordings import Recording

SITE, PEER = "7001", "9001"
"""The one sub-account and the one location that an account begins with."""


def new_id(prefix: str) -> str:
    """``prefix`` and four groups, as the carrier writes the ids of calls (``c-``), recordings (``r-``), streams."""
    return f"{prefix}-{secrets.token_hex(4)}-{uuid4()}"


def stamp(when: datetime | None) -> str | None:
    """ISO 8601 with milliseconds and ``Z``."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if when else None


def national(number: str) -> str:
    """Ten digits, as the numbers API writes a North American number."""
    return number.removeprefix("+1")


@dataclass(frozen=True, slots=True)
class Login:
    """What is sent along with a callback."""

    user: str = ""
    password: str = ""


NO_LOGIN = Login()


@dataclass(slots=True)
class Application:
    """A Voice-V2 application; ``fields`` are its elements by name, the passwords kept apart: no answer shows them."""

    id: str
    fields: dict[str, str] = field(default_factory=dict)
    login: Login = NO_LOGIN
    fallback_login: Login = NO_LOGIN


@dataclass(slots=True)
class Number:
    """A number the account holds."""

    number: str
    status: str = "Inservice"
    site: str = SITE
    peer: str = PEER
    package: str | None = None
    services: set[str] = field(default_factory=set)
    """Activated voice services: INBOUND, OUTBOUND_NATIONAL, OUTBOUND_INTERNATIONAL."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class Order:
    """An order that takes time: of numbers, of their disconnection, of the activation of services."""

    numbers: tuple[str, ...]
    customer_id: str = ""
    site: str = ""
    status: str = "RECEIVED"
    error: tuple[str, str] | None = None
    id: str = field(default_factory=lambda: str(uuid4()))
    created: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class Account:
    """``packages`` and ``peers`` (by site and peer) say which application gets their numbers' calls."""

    id: str
    applications: dict[str, Application] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    peers: dict[tuple[str, str], str | None] = field(default_factory=lambda: {(SITE, PEER): None})
    orders: dict[str, Order] = field(default_factory=dict)
    disconnects: dict[str, Order] = field(default_factory=dict)
    activations: dict[str, Order] = field(default_factory=dict)
    calls: dict[str, Leg] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)

    def application_of(self, number: Number) -> Application | None:
        """Who gets the number's calls; None where it takes none: a package's numbers must be activated first."""
        if number.package is not None:
            chosen = self.packages.get(number.package) if "INBOUND" in number.services else None
        else:
            chosen = self.peers.get((number.site, number.peer))
        return self.applications.get(chosen or "")
