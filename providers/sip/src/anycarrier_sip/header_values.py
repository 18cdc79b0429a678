"""What SIP headers hold: URIs, addresses, Via, CSeq (RFC 3261, sections 19.1, 20 and 25). Pure.

``parse`` of each takes one value, ``str()`` writes it; :class:`SipError` is for what the grammar does not allow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from anycarrier_sip.message import Request

PHRASES = {
    int(line[:3]): line[4:]
    for line in (
        "100 Trying|180 Ringing|183 Session Progress|200 OK|302 Moved Temporarily|400 Bad Request"
        "|401 Unauthorized|403 Forbidden|404 Not Found|405 Method Not Allowed|406 Not Acceptable|408 Request Timeout"
        "|415 Unsupported Media Type|416 Unsupported URI Scheme|420 Bad Extension|422 Session Interval Too Small"
        "|423 Interval Too Brief|480 Temporarily Unavailable|481 Call/Transaction Does Not Exist|482 Loop Detected"
        "|486 Busy Here|487 Request Terminated|488 Not Acceptable Here|491 Request Pending|500 Server Internal Error"
        "|501 Not Implemented|503 Service Unavailable|505 Version Not Supported|603 Decline"
    ).split("|")
}
"""Of the responses that we give."""


class SipError(Exception):
    """A message or a part of one that cannot be used.

    ``status`` is the answer it deserves; 0: none, drop it in silence. ``request`` is what could be read of a refused
    request, good enough for :func:`anycarrier_sip.message.reply`; its other headers may be missing or wrong.
    """

    def __init__(self, status: int, phrase: str = "", request: Request | None = None) -> None:
        self.status, self.phrase, self.request = status, phrase or PHRASES.get(status, ""), request
        super().__init__(self.phrase)


def bad(what: str) -> SipError:
    """A 400 that names the part and never its content, which a stranger wrote."""
    return SipError(400, f"Bad {what}")


# Patterns are linear: no part of one can match what the part after it matches, so hostile input costs its length.
TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_UNQUOTED_VALUE = re.compile("[A-Za-z0-9\\-.!%*_+`'~\\[\\]:/@&=$?#(){}|^\u00a1-\U0010ffff]+")
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:.]+")  # token or host
_PART = {sign: re.compile(rf'(?s:(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^{sign}"<])*)') for sign in ",;"}


def quoted(text: str) -> str:
    """Without NUL, which a quoted text may hold (RFC 4475's intmeth) and no header that we write."""
    return '"' + text.replace("\0", "").replace("\\", "\\\\").replace('"', '\\"') + '"'


def _without_backslashes(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def split(text: str, separator: str) -> list[str]:
    """The parts between ``separator``, those in quotes and angle brackets aside; all in one where they do not close."""
    if '"' not in text and "<" not in text:
        return text.split(separator)
    parts, end = [], -1
    while end < len(text):
        start = end + 1
        match = _PART[separator].match(text, start)
        end = match.end() if match else start
        parts.append(text[start:end])
        if end < len(text) and text[end] != separator:
            return [text]
    return parts


def parameters(text: str, separator: str = ";") -> dict[str, str | None]:
    """``;name=value;flag``, or nothing: names in lower case, once each, quotes taken off."""
    before, *parts = split(text, separator)
    found: dict[str, str | None] = {}
    for name, equals, value in (part.partition("=") for part in parts):
        name, value = name.strip().lower(), value.strip()
        match = _QUOTED.fullmatch(value)
        if name in found or not TOKEN.fullmatch(name) or not (match or not equals or _UNQUOTED_VALUE.fullmatch(value)):
            raise bad("parameters")
        if match:
            value = _without_backslashes(match[1])
        found[name] = value if equals else None
    if before.strip():
        raise bad("parameters")
    return found


def parameters_of(text: str) -> dict[str, str]:
    """``1800;refresher=uac`` taken as it comes: the value under "", then its parameters; names in lower case."""
    first, *rest = split(text, ";")
    pairs = (part.partition("=") for part in rest)
    return {"": first.strip(), **{name.strip().lower(): told.strip().strip('"') for name, _, told in pairs}}


def _written(found: dict[str, str | None]) -> str:
    return "".join(
        f";{name}" if value is None else f";{name}={value if _NEEDS_NO_QUOTES.fullmatch(value) else quoted(value)}"
        for name, value in found.items()
    )


@lru_cache(512)
def _host_and_port(host: str, port: str | None) -> tuple[str, int | None]:
    """The host in lower case, IPv6 without brackets (RFC 3261, 25.1; the underscore of careless networks allowed)."""
    try:
        if host.startswith("["):
            host = str(IPv6Address(host[1:-1]))
        elif host.rstrip(".").rpartition(".")[2].isdigit():
            host = str(IPv4Address(host))
        elif len(host) > 255 or not host[0].isalnum() or ".." in host:
            raise ValueError
        if port is not None and not 0 < int(port) < 65536:
            raise ValueError
    except ValueError:
        raise bad("host or port") from None
    return host.lower(), None if port is None else int(port)


def hostport(host: str, port: int | None = None) -> str:
    """``host:port``, IPv6 in brackets."""
    return (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")


_PARAMETER, _HEADER = r"[A-Z0-9\-_.!~*'()\[\]/:&+$%]", r"A-Z0-9\-_.!~*'()\[\]/?:+$%"
_URI = re.compile(
    r"(?i)(sips?):"
    r"(?:([A-Z0-9\-_.!~*'()&=+$,;?/%#]+)(?::([A-Z0-9\-_.!~*'()&=+$,%]*))?@)?"  # '#' of dial strings, though unescaped
    r"(\[[0-9A-F:.]+\]|[A-Z0-9_.\-]+)(?::([0-9]{1,5}))?"
    rf"((?:;{_PARAMETER}+(?:={_PARAMETER}*)?)*)"
    rf"(?:\?([{_HEADER}]+=[={_HEADER}]*(?:&[{_HEADER}]+=[={_HEADER}]*)*))?"
)
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_OTHER_SCHEME = re.compile(r"(?!(?i:sips?):)([A-Za-z][A-Za-z0-9+.\-]*):([^\s<>\"]+)")


@dataclass(frozen=True)
class Uri:
    """``sip:alice@example.com;transport=tcp``, taken apart, escapes decoded; ``str()`` writes it as it was parsed.

    ``host`` is lower case and without brackets, names of parameters are lower case. ``tel:+1555`` has the number as
    ``user`` and no host; of any other scheme, ``host`` is all that comes behind the colon, as it is.
    """

    scheme: str
    user: str | None
    host: str
    port: int | None = None
    parameters: dict[str, str | None] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    password: str | None = None
    text: str = field(default="", compare=False, repr=False)
    """As it was written: an escaped reserved character is not the same as the bare one (RFC 3261, 19.1.4)."""

    @classmethod
    @lru_cache(512)  # the messages of a call name the same few
    def parse(cls, text: str) -> Uri:
        match = _URI.fullmatch(text)
        if match is None or _BAD_ESCAPE.search(text):
            return cls._other(text)
        scheme, user, password, host, port, behind, headers = match.groups()
        found: dict[str, str | None] = {}
        for part in behind.split(";")[1:]:
            name, equals, given = part.partition("=")
            name, value = unquote(name).lower(), unquote(given) if equals else None
            # Once each, says 19.1.1; baresip repeats a transport= that its user typed, and means no harm.
            if found.setdefault(name, value) != value:
                raise bad("URI")
        pairs = (part.split("=", 1) for part in headers.split("&")) if headers else ()
        return cls(
            scheme.lower(), user and unquote(user), *_host_and_port(host, port), found,
            {unquote(name): unquote(value) for name, value in pairs},
            password and unquote(password), text,
        )  # fmt: skip

    @classmethod
    def _other(cls, text: str) -> Uri:
        match = _OTHER_SCHEME.fullmatch(text)
        if match is None or not text.isprintable():
            raise bad("URI")
        if match[1].lower() != "tel":
            return cls(match[1].lower(), None, match[2], text=text)
        number, semicolon, behind = match[2].partition(";")
        return cls("tel", number, "", None, parameters(semicolon + behind), text=text)

    def with_headers(self, headers: Mapping[str, str]) -> Uri:
        """The same with ``headers`` for the request that it is used for, as in Refer-To."""
        return Uri.parse(f"{self}{'&' if self.headers else '?'}{_written_headers(headers)}") if headers else self

    def __str__(self) -> str:
        if self.text:
            return self.text
        secret = "" if self.password is None else f":{quote(self.password, safe='!~*()&=+$,')}"
        user = "" if self.user is None else f"{quote(self.user, safe='!~*()&=+$,;?/')}{secret}@"
        text = f"{self.scheme}:{user}{hostport(self.host, self.port)}"
        for name, value in self.parameters.items():
            text += f";{quote(name, safe=_BARE)}" + ("" if value is None else f"={quote(value, safe=_BARE)}")
        return f"{text}?{_written_headers(self.headers)}" if self.headers else text


_BARE = "!~*()[]/:+$"


def _written_headers(headers: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name, safe=_BARE)}={quote(value, safe=_BARE)}" for name, value in headers.items())


_NAME_ADDR = re.compile(
    # Unquoted, only tokens are legal. Names of people (accents, brackets) come unquoted from PBXs and confuse nobody;
    # what would be another address, a quote or an end of one stays refused.
    r'(?s)(?:"((?:[^"\\]|\\.)*)"\s*|([^",<>;:@\\\0-\x08\n-\x1f\x7f]*))<([^>]*)>(.*)'
    r'|([^?,;<>"]+)(.*)'
)


@dataclass
class NameAddr:
    """``"Alice" <sip:alice@example.com>;tag=a6c85cf``: the value of From, To, Contact, Route and their like.

    Without angle brackets, parameters belong to the header and not to the URI (RFC 3261, 20).
    """

    display: str
    uri: Uri
    parameters: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        match = _NAME_ADDR.fullmatch(text.strip())
        if match is None:
            raise bad("address")
        in_quotes, plain, within, behind, bare, behind_bare = match.groups()
        if within is None:
            return cls("", Uri.parse(bare.rstrip()), parameters(behind_bare))
        display = plain.strip() if in_quotes is None else _without_backslashes(in_quotes)
        return cls(display, Uri.parse(within), parameters(behind))

    @property
    def tag(self) -> str | None:
        return self.parameters.get("tag")

    def __str__(self) -> str:
        return f"{quoted(self.display) + ' ' if self.display else ''}<{self.uri}>{_written(self.parameters)}"


_VIA = re.compile(
    r"(?i)SIP\s*/\s*2\.0\s*/\s*([A-Z0-9\-.!%*_+`'~]+)\s+"
    r"(\[[0-9A-F:.]+\]|[A-Z0-9_.\-]+)\s*(?::\s*([0-9]{1,5}))?\s*(;.*)?"
)


@dataclass
class Via:
    """``SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport``; ``transport`` is upper case."""

    transport: str
    host: str
    port: int | None = None
    parameters: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Via:
        match = _VIA.fullmatch(text.strip())
        if match is None:
            raise bad("Via")
        return cls(match[1].upper(), *_host_and_port(match[2], match[3]), parameters(match[4] or ""))

    @property
    def branch(self) -> str | None:
        """The transaction's id; None, or without ``z9hG4bK`` and more behind it, from an element of RFC 2543."""
        return self.parameters.get("branch")

    def __str__(self) -> str:
        return f"SIP/2.0/{self.transport} {hostport(self.host, self.port)}{_written(self.parameters)}"


_CSEQ = re.compile(rf"([0-9]{{1,10}})\s+({TOKEN.pattern})")


@dataclass
class CSeq:
    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        match = _CSEQ.fullmatch(text)
        if match is None or int(match[1]) >= 2**31:
            raise bad("CSeq")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"
