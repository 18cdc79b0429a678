"""SIP and custom headers of a call, in and out: which names may travel, and what their values may hold. Pure.

Only custom headers (``X-...``) and ``User-to-User`` (RFC 7433) travel. All others belong to the carrier and the
network: a caller could otherwise claim another's identity (``P-Asserted-Identity``) or route past the carrier's rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

MOST, LONGEST = 20, 1024
"""Headers a call may carry, and characters of one value."""

_NAME = re.compile(r"(?i)x-[a-z0-9_-]{1,60}|user-to-user")
_VALUE = re.compile(r"[\x20-\x7e]*")


def allowed(name: str, value: object) -> bool:
    """Whether the header may travel: a custom name or User-to-User, and a value of printable ASCII on one line."""
    return (
        _NAME.fullmatch(name) is not None
        and isinstance(value, str)
        and len(value) <= LONGEST
        and _VALUE.fullmatch(value) is not None
    )


def headers_of(carried: Mapping[str, object]) -> dict[str, str]:
    """What of ``carried``, a carrier's headers of an incoming call, may reach an agent; the rest stays in ``raw``."""
    found = {name: value for name, value in carried.items() if allowed(name, value) and isinstance(value, str)}
    return dict(list(found.items())[:MOST])


def checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    """``headers`` as they are; ``ValueError`` for one that may not be sent, naming it and not its value."""
    if len(headers) > MOST:
        raise ValueError(f"{len(headers)} headers: at most {MOST} travel with a call")
    for name, value in headers.items():
        if not allowed(name, value):
            raise ValueError(
                f"header {name[:70]!r} may not be sent: only X-... and User-to-User travel, with values of printable "
                f"ASCII of at most {LONGEST} characters"
            )
    if len({name.lower() for name in headers}) != len(headers):
        raise ValueError("two headers have the same name; case does not count")
    return headers


CallHeaders = Annotated[Mapping[str, str], AfterValidator(checked)]
"""Headers to send with a call, checked by pydantic where a model takes them."""
