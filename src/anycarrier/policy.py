"""Which calls may be made: destinations, calls per second, calls at once. Checked before each dial and transfer.

The default is narrow on purpose: a caller can talk a voice agent into dialling, and toll fraud earns money from premium
and international numbers. By default a number may call only its own country, and no premium-rate number.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from anycarrier.errors import ConfigurationError, DestinationNotAllowed, InvalidSipAddress, LimitReached
from anycarrier.numbering_plan import Reach, calling_code, countries, is_premium_range, premium_range, reach
from anycarrier.numbers import country_of, e164
from anycarrier.sip import SipAddress, host_name, is_sip

EVERY_NUMBER = "*"
EVERY_SIP_HOST = "sip:*"

_OTHER_NAMES = {
    "UK": "GB", "GBR": "GB", "ENGLAND": "GB", "UNITED KINGDOM": "GB", "USA": "US", "UNITED STATES": "US",
    "GER": "DE", "DEU": "DE", "GERMANY": "DE", "FRA": "FR", "FRANCE": "FR", "CAN": "CA", "CANADA": "CA", "IND": "IN",
    "INDIA": "IN", "AUS": "AU", "AUSTRALIA": "AU", "ALL": "*", "ANY": "*", "**": "*",
}  # fmt: skip
"""What people write instead of an ISO code or ``*``."""


def advise(setting: str, entries: Sequence[str]) -> str:
    """The next step in a refusal, for the programmer: what to add to ``allow``, or to remove from ``deny``."""
    listed = ", ".join(map(repr, entries))
    if setting == "deny":
        return f"To let it through, take {listed} out of Policy(deny=...)"
    return f"To let it through, add {listed} to Policy(allow=...)"


class Policy:
    """Destinations and rates.

    ``allow`` and ``deny`` hold ISO countries (``"US"``), number prefixes (``"+4930"``), SIP hosts
    (``"sip:pbx.example.com"``), ``"*"`` for all numbers and ``"sip:*"`` for all SIP hosts; the longest match wins,
    ``deny`` on a tie, and a bare country code (``"+49"``) counts like a country. An empty ``allow`` means the calling
    number's own country. ``ConfigurationError`` for an entry that is none of these.

    Premium numbers, and numbers that the numbering plan does not know, need a prefix of their own: ``"+1900"`` allows
    the numbers that begin with it; ``"US"``, ``"+1"`` and ``"*"`` do not. Emergency numbers are never allowed.

    ``max_concurrent`` and ``calls_per_second`` are per credential and process. ``advise(setting, entries)`` words
    the next step in a refusal, for the person who can change ``allow`` and ``deny``.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        max_concurrent: int | None = None,
        calls_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        advise: Callable[[str, Sequence[str]], str] = advise,
    ) -> None:
        self.allow = checked_entries("allow", allow)
        self.deny = checked_entries("deny", deny)
        self.max_concurrent = max_concurrent
        self.calls_per_second = calls_per_second
        self._advise = advise
        self._clock = clock
        self._recent: dict[str, deque[float]] = {}

    def check_destination(self, from_: str, to: str) -> None:
        """Raise ``DestinationNotAllowed`` unless ``from_`` may call ``to`` (E.164, or ``sip:`` on transfer).

        Raises ``InvalidNumber`` or ``InvalidSipAddress`` if ``to`` is neither.
        """
        if is_sip(to):
            self._check_sip(to)
        else:
            self._check_number(from_, e164(to))

    def _check_number(self, from_: str, to: str) -> None:
        country, kind = country_of(to), reach(to)
        if kind is Reach.EMERGENCY:
            raise DestinationNotAllowed(to, "it begins with an emergency number", "Those are never dialled")
        home = () if self.allow else (country_of(from_) or f"+{calling_code(from_) or from_[1:]}",)
        allowed, by = _best(self.allow or home, to, country)
        denied, denied_by = _best(self.deny, to, country)
        if denied and denied >= allowed:
            raise self._denied(to, "its country or prefix is denied", denied_by)
        if not allowed:
            why = f"country {country or 'unknown'} is not among those allowed"
            entry = country if country and kind is Reach.ORDINARY else _range_of(to, kind)
            raise self._not_allowed(to, why, *home, entry)
        if kind is Reach.PREMIUM and not _names_premium(by, to):
            raise self._not_allowed(to, "it is a premium-rate number", *home, _range_of(to, kind))
        if kind is Reach.UNKNOWN and allowed <= _COUNTRY:
            why = "the numbering plan knows no such number (too long, too short or not assigned)"
            raise self._not_allowed(to, why, *home, _range_of(to, kind))

    def _check_sip(self, to: str) -> None:
        address = SipAddress.parse(to)
        if elsewhere := address.rerouted():
            raise DestinationNotAllowed(address.host, elsewhere, "Leave it out of the address")
        for host in address.hosts:
            entry = f"sip:{host}"
            allowed = 2 if entry in self.allow else int(EVERY_SIP_HOST in self.allow)
            denied = 2 if entry in self.deny else int(EVERY_SIP_HOST in self.deny)
            if denied and denied >= allowed:
                raise self._denied(host, f"{entry} is denied", entry if denied == 2 else EVERY_SIP_HOST)
            if not allowed:
                raise self._not_allowed(host, f"{entry} is not in the allowed SIP hosts", entry)
        if (number := address.number) is not None:
            self._check_number_at_host(number)

    def _check_number_at_host(self, to: str) -> None:
        """A gateway dials the number in a SIP address: what is dear, an emergency or denied is so there too."""
        country, kind = country_of(to), reach(to)
        if kind is Reach.EMERGENCY:
            raise DestinationNotAllowed(to, "it begins with an emergency number", "Those are never dialled")
        allowed, by = _best(self.allow, to, country)
        denied, denied_by = _best(self.deny, to, country)
        if denied and denied >= allowed:
            raise self._denied(to, "its country or prefix is denied", denied_by)
        if kind is Reach.PREMIUM and not _names_premium(by, to):
            raise self._not_allowed(to, "it is a premium-rate number", _range_of(to, kind))

    def _denied(self, to: str, why: str, entry: str) -> DestinationNotAllowed:
        return DestinationNotAllowed(to, why, self._advise("deny", [entry]))

    def _not_allowed(self, to: str, why: str, *entries: str) -> DestinationNotAllowed:
        """``entries`` begin with the calling number's own country, which is implied only while ``allow`` is empty."""
        return DestinationNotAllowed(to, why, self._advise("allow", entries))

    def check_rate(self, credential_id: str, in_progress: int) -> None:
        """Count one new call on the credential; raises ``LimitReached`` if it is over a limit."""
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


def _names_premium(entry: str, number: str) -> bool:
    """Whether the entry of ``allow`` that lets ``number`` through means premium numbers, or that one."""
    return entry == number or (entry.startswith("+") and is_premium_range(entry))


_COUNTRY = 2
"""How specific a country or a bare country code is; ``*`` is 1, a longer prefix 1 + its length."""


def _best(rules: Iterable[str], number: str, country: str | None) -> tuple[int, str]:
    """How specific the best match among ``rules`` is, and that rule; (0, "") without any."""
    best, by = 0, ""
    for rule in rules:
        rank = 0
        if rule == EVERY_NUMBER:
            rank = 1
        elif rule.startswith("+"):
            if number.startswith(rule):
                rank = _COUNTRY if calling_code(rule) == rule[1:] else 1 + len(rule)
        elif rule == country:
            rank = _COUNTRY
        if rank > best:
            best, by = rank, rule
    return best, by


def _range_of(number: str, kind: Reach) -> str:
    """The prefix to allow for a number that an entry for its country does not cover."""
    if kind is Reach.PREMIUM:
        return premium_range(number)
    return number[: 1 + len(calling_code(number) or "") + 3]


# --- entries of allow and deny --------------------------------------------------------------------------------------


def checked_entries(setting: str, entries: Iterable[str]) -> tuple[str, ...]:
    """``entries`` of ``allow`` or ``deny`` as they are compared; ``ConfigurationError`` for one that can never match.

    A misspelt ``deny`` would allow calls without any error.
    """
    if isinstance(entries, str):
        raise ConfigurationError(f"{setting} is a list of entries: write [{entries!r}]")
    return tuple(_checked(setting, entry) for entry in entries)


def _checked(setting: str, entry: object) -> str:
    if not isinstance(entry, str):
        hint = "entries are texts, like 'US'"
    elif (found := _entry(entry)) is not None:
        return found
    elif "," in entry:
        hint = "write one entry for each"
    elif (near := _near(entry)) is not None:
        hint = f"did you mean {near!r}?"
    else:
        hint = "write a country (US), a prefix (+4930), a SIP host (sip:pbx.example.com), * or sip:*"
    raise ConfigurationError(f"{setting}: {entry!r} names no country, prefix or SIP host: {hint}")


def _entry(text: str) -> str | None:
    """``text`` if it is a valid entry (SIP hosts normalized), else None."""
    if text in (EVERY_NUMBER, EVERY_SIP_HOST):
        return text
    if text.startswith("sip:"):
        try:
            return f"sip:{host_name(text[4:])}"
        except InvalidSipAddress:
            return None
    if text.startswith("+"):
        digits = text[1:]
        return text if digits.isascii() and digits.isdigit() and len(digits) < 16 and calling_code(text) else None
    return text if text in countries() else None


def _near(text: str) -> str | None:
    """The entry that ``text`` was probably meant to be; None if that is unclear."""
    tidy = text.strip().strip("'\"[]")
    known = _OTHER_NAMES.get(tidy.upper())
    if known is not None:
        return known
    if is_sip(tidy):
        try:
            return f"sip:{SipAddress.parse(tidy).host}"
        except InvalidSipAddress:
            return None
    digits = re.sub(r"[^0-9]", "", tidy)
    if digits and not re.search(r"[^0-9+ ()./-]", tidy):
        return _entry(f"+{digits.lstrip('0')}")
    return _entry(tidy.upper()) or (_entry(f"sip:{tidy}") if "." in tidy else None)
