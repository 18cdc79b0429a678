"""The headers of a SIP message, in any case, compact or not (RFC 3261, section 7.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from anycarrier_sip.header_values import TOKEN, SipError, split

__all__ = ["UNSAFE", "Headers"]

LONGEST_HEADER = 8192
"""Characters of a header line; a longer one is refused."""

UNSAFE = re.compile(r"[\r\n\0]")

_COMPACT = {
    "i": "call-id", "m": "contact", "e": "content-encoding", "l": "content-length", "c": "content-type", "f": "from",
    "s": "subject", "k": "supported", "t": "to", "v": "via", "o": "event", "r": "refer-to", "u": "allow-events",
    "b": "referred-by", "x": "session-expires", "a": "accept-contact", "j": "reject-contact", "y": "identity",
    "d": "request-disposition", "n": "identity-info",
}  # fmt: skip
_WRITTEN = {
    name.lower(): name
    for name in (
        "Via Route Record-Route From To Call-ID CSeq Max-Forwards Contact Content-Type Content-Length Allow Supported"
        " Require Proxy-Require Unsupported Accept User-Agent Server Subject Expires Min-Expires Session-Expires Min-SE"
        " Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate Authentication-Info RSeq RAck Event"
        " Refer-To Referred-By Replaces Reason Retry-After Warning P-Asserted-Identity Remote-Party-ID Privacy"
        " Diversion History-Info P-Called-Party-ID Identity Allow-Events Subscription-State Content-Encoding"
    ).split()
}
_WHOLE = frozenset(
    "from to call-id cseq subject date user-agent server organization retry-after authorization proxy-authorization"
    " www-authenticate proxy-authenticate authentication-info identity content-type refer-to replaces event".split()
)
"""Headers whose values may hold a comma that separates nothing."""


class Headers:
    """An ordered multimap; names in any case, compact ones expanded.

    Writing a line end or NUL raises ``ValueError``: nothing that a caller gives becomes a header of its own.
    """

    __slots__ = ("_fields",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, tuple[str, list[str]]] = {}
        for name, value in items:
            self.add(name, value)

    def get(self, name: str) -> str | None:
        """The first value, as one line; None when there is none."""
        found = self._fields.get(_key(name))
        return found[1][0] if found else None

    def lines(self, name: str) -> list[str]:
        """All values, one for each header line."""
        found = self._fields.get(_key(name))
        return list(found[1]) if found else []

    def values(self, name: str) -> list[str]:
        """All values; of list headers (Via, Route, Allow ...) those between the commas, each alone."""
        lines = self.lines(name)
        if _key(name) in _WHOLE:
            return lines
        return [value for line in lines for part in split(line, ",") if (value := part.strip())]

    def add(self, name: str, value: str) -> None:
        """One more line at the end."""
        key, value = _checked(name, value)
        self._fields.setdefault(key, (_WRITTEN.get(key, name), []))[1].append(value)

    def set(self, name: str, value: str) -> None:
        """One line in place of all of that name."""
        key, value = _checked(name, value)
        self._fields[key] = (_WRITTEN.get(key, name), [value])

    def prepend(self, name: str, value: str) -> None:
        """One more line before the others of that name."""
        key, value = _checked(name, value)
        if key in self._fields:
            self._fields[key][1].insert(0, value)
        else:
            self._fields = {key: (_WRITTEN.get(key, name), [value]), **self._fields}

    def set_first(self, name: str, value: str) -> None:
        """``value`` in place of the first line of that name: a top Via that learnt ``received``."""
        key, value = _checked(name, value)
        self._fields[key][1][0] = value

    def remove(self, name: str) -> None:
        self._fields.pop(_key(name), None)

    def copy(self) -> Headers:
        copied = Headers()
        copied._fields = {key: (name, list(values)) for key, (name, values) in self._fields.items()}
        return copied

    def items(self) -> Iterator[tuple[str, str]]:
        """Each line: its name as it is written, and its value."""
        for name, values in self._fields.values():
            for value in values:
                yield name, value

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    __hash__ = None  # type: ignore[assignment] # they change

    def __repr__(self) -> str:
        return f"Headers({', '.join(name for name, _ in self.items())})"  # values may be secrets

    def _read(self, line: str) -> None:
        """One line of a message as it came: NUL may be part of a quoted text there."""
        name, colon, value = line.partition(":")
        key = _key(name := name.rstrip(" \t"))
        if not colon or len(line) > LONGEST_HEADER or (key not in _WRITTEN and not TOKEN.fullmatch(name)):
            raise SipError(400, "Bad header")
        self._fields.setdefault(key, (_WRITTEN.get(key, name), []))[1].append(value.strip(" \t"))


def _key(name: str) -> str:
    name = name.lower()
    return _COMPACT.get(name, name)


def _checked(name: str, value: str) -> tuple[str, str]:
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is no name of a header")
    if UNSAFE.search(value):
        raise ValueError(f"the value for the header {name[:40]} holds a line end or NUL")
    return _key(name), value
