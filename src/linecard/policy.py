"""May this call be made: where to, how fast, how many. Asked before the carrier is, on dial and on transfer.

The default is narrow on purpose: a voice agent can be talked into dialling, and premium or far-away numbers are how
that becomes money (toll fraud). Unless told otherwise, a number rings only its own country, and no premium-rate line.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache

from linecard.errors import DestinationNotAllowed, LimitReached
from linecard.numbers import country_of, e164


@lru_cache(maxsize=4096)
def premium_rate(number: str) -> bool:
    """True when the numbering plan says calling it costs the caller extra."""
    import phonenumbers

    try:
        kind = phonenumbers.number_type(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False
    return bool(kind in (phonenumbers.PhoneNumberType.PREMIUM_RATE, phonenumbers.PhoneNumberType.SHARED_COST))


class Policy:
    """Destinations and rates.

    ``allow`` and ``deny`` hold ISO countries (``"US"``), number prefixes (``"+4930"``), SIP hosts
    (``"sip:pbx.example.com"``) or ``"*"``; the longest match wins, ``deny`` on a tie. An empty ``allow`` means the
    calling number's own country. ``max_concurrent`` and ``calls_per_second`` are per credential and process.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        max_concurrent: int | None = None,
        calls_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.allow = tuple(allow)
        self.deny = tuple(deny)
        self.max_concurrent = max_concurrent
        self.calls_per_second = calls_per_second
        self._clock = clock
        self._recent: dict[str, deque[float]] = {}

    def check_destination(self, from_: str, to: str) -> None:
        """Return if ``from_`` may ring ``to`` (E.164, or ``sip:`` on transfer), else ``DestinationNotAllowed``."""
        if to.startswith(("sip:", "sips:")):
            host = "sip:" + to.partition(":")[2].rpartition("@")[2].partition(";")[0].partition(":")[0].lower()
            if host not in self.allow and "*" not in self.allow:
                raise DestinationNotAllowed(to, f"{host} is not in the allowed SIP hosts")
            return
        e164(to)
        country = country_of(to)
        allowed = self._match(self.allow or (country_of(from_) or from_[:2],), to, country)
        denied = self._match(self.deny, to, country)
        if denied and denied >= allowed:
            raise DestinationNotAllowed(to, "its country or prefix is denied")
        if not allowed:
            raise DestinationNotAllowed(to, f"country {country or 'unknown'} is not among those allowed")
        # A prefix longer than a country code was written by somebody who meant that very number range.
        if allowed <= 4 and premium_rate(to):
            raise DestinationNotAllowed(to, "it is a premium-rate number")

    @staticmethod
    def _match(rules: Iterable[str], number: str, country: str | None) -> int:
        """How specific the best match is: 0 none, 1 ``*``, 2 country, else 1 + the prefix's length."""
        best = 0
        for rule in rules:
            if rule == "*":
                best = max(best, 1)
            elif rule.startswith("+"):
                if number.startswith(rule):
                    best = max(best, 1 + len(rule))
            elif rule == country:
                best = max(best, 2)
        return best

    def check_rate(self, credential_id: str, in_progress: int) -> None:
        """Count one new call on the credential, or ``LimitReached``."""
        if self.max_concurrent is not None and in_progress >= self.max_concurrent:
            raise LimitReached(f"{self.max_concurrent} calls at once on credential {credential_id!r}")
        if self.calls_per_second is None:
            return
        now = self._clock()
        window = max(1.0, 1.0 / self.calls_per_second)
        recent = self._recent.setdefault(credential_id, deque())
        while recent and recent[0] <= now - window:
            recent.popleft()
        if len(recent) >= max(1, int(self.calls_per_second * window)):
            raise LimitReached(
                f"{self.calls_per_second:g} calls per second on credential {credential_id!r}",
                retry_after=recent[0] + window - now,
            )
        recent.append(now)
