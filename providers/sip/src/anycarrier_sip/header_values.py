"""What SIP headers hold: URIs, addresses, Via, CSeq (RFC 3261, sections 19.1, 20 and 25). Pure.

``parse`` of each takes one value, ``str()`` writes it; :class:`SipError` is for what the grammar does not allow::

    NameAddr.parse('"Alice" <sip:alice@example.com;transport=tcp>;tag=a6c85cf').uri.parameters["transport"]   # "tcp"
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from anycarrier_sip.message import Request

__all__ = ["PHRASES", "TOKEN", "CSeq", "NameAddr", "SipError", "Uri", "Via", "split"]

PHRASES = {
    int(line[:3]): line[4:]
    for line in """
100 Trying|180 Ringing|181 Call Is Being Forwarded|182 Queued|183 Session Progress|200 OK|202 Accepted
300 Multiple Choices|301 Moved Permanently|302 Moved Temporarily|400 Bad Request|401 Unauthorized|402 Payment Required
403 Forbidden|404 Not Found|405 Method Not Allowed|406 Not Acceptable|407 Proxy Authentication Required
408 Request Timeout|410 Gone|413 Request Entity Too Large|414 Request-URI Too Long|415 Unsupported Media Type
416 Unsupported URI Scheme|420 Bad Extension|421 Extension Required|422 Session Interval Too Small
423 Interval Too Brief|480 Temporarily Unavailable|481 Call/Transaction Does Not Exist|482 Loop Detected
483 Too Many Hops|484 Address Incomplete|485 Ambiguous|486 Busy Here|487 Request Terminated|488 Not Acceptable Here
489 Bad Event|491 Request Pending|494 Security Agreement Required|500 Server Internal Error|501 Not Implemented
502 Bad Gateway|503 Service Unavailable|504 Server Time-out|505 Version Not Supported|513 Message Too Large
600 Busy Everywhere|603 Decline|604 Does Not Exist Anywhere|606 Not Acceptable|607 Unwanted|608 Rejected
""".strip().replace("\n", "|").split("|")
}  # fmt: skip


class SipError(Exception):
    """A message or a part of one that cannot be used.

    ``status`` is the answer it deserves; 0 says that it deserves none: drop it in silence. ``request`` is what could be
    read of a refused request, good enough for :func:`reply`; its other headers may be missing or wrong.
    """

    def __init__(self, status: int, phrase: str = "", request: Request | None = None) -> None:
        super().__init__(phrase or PHRASES.get(status, ""))
        self.status, self.phrase, self.request = status, phrase or PHRASES.get(status, ""), request


def _bad(what: str) -> SipError:
    """A 400 that names the part and never its content, which a stranger wrote."""
    return SipError(400, f"Bad {what}")


# Patterns are linear: no part of one can match what the part after it matches, so hostile input costs its length.
TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PARAMETER_VALUE = re.compile(r"[A-Za-z0-9\-.!%*_+`'~\[\]:/@&=$?#(){}|^]+")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:.]+")  # token or host


def _quoted_pairs(text: str) -> str:
    """What is between the quotes, without the backslashes."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) if "\\" in text else text


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_PART = {sign: re.compile(rf'(?s:(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^{sign}"<])*)') for sign in ",;"}


def split(text: str, separator: str) -> list[str]:
    """The parts between ``separator``, those in quotes and angle brackets aside; all in one where they do not close."""
    if '"' not in text and "<" not in text:
        return text.split(separator)
    parts, start, end = [], 0, -1
    while end < len(text):
        start = end + 1
        match = _PART[separator].match(text, start)
        end = match.end() if match else start
        parts.append(text[start:end])
        if end < len(text) and text[end] != separator:
            return [text]
    return parts


@lru_cache(4096)
def _host(text: str) -> str:
    """A host in lower case, IPv6 without brackets (RFC 3261, 25.1; the underscore of careless networks allowed)."""
    try:
        if text.startswith("["):
            return str(IPv6Address(text[1:-1]))
        if text.rstrip(".").rpartition(".")[2].isdigit():
            return str(IPv4Address(text))
    except ValueError:
        raise _bad("host") from None
    if len(text) > 255 or not text[0].isalnum() or ".." in text:
        raise _bad("host")
    return text.lower()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isdigit() and 0 < int(text) < 65536):
        raise _bad("port")
    return int(text)


def _parameters(text: str) -> dict[str, str | None]:
    """``;name=value;flag``: names in lower case, quotes taken off."""
    text = text.strip()
    found: dict[str, str | None] = {}
    if not text:
        return found
    if text[0] != ";":
        raise _bad("parameters")
    for part in split(text[1:], ";"):
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if name in found or not TOKEN.fullmatch(name):
            raise _bad("parameters")
        if not equals:
            found[name] = None
        elif value.startswith('"'):
            if not (quoted := _QUOTED.fullmatch(value)):
                raise _bad("parameters")
            found[name] = _quoted_pairs(quoted[1])
        elif _PARAMETER_VALUE.fullmatch(value) or (value and value.isprintable() and not value.isascii()):
            found[name] = value
        else:
            raise _bad("parameters")
    return found


def _written_parameters(parameters: dict[str, str | None]) -> str:
    return "".join(
        f";{name}" if value is None else f";{name}={value if _PLAIN_VALUE.fullmatch(value) else _quote(value)}"
        for name, value in parameters.items()
    )


_URI = re.compile(
    r"(?i)(sips?):"
    r"(?:([A-Z0-9\-_.!~*'()&=+$,;?/%#]+)(?::([A-Z0-9\-_.!~*'()&=+$,%]*))?@)?"  # '#' of dial strings, though unescaped
    r"(\[[0-9A-F:.]+\]|[A-Z0-9_.\-]+)(?::([0-9]{1,5}))?"
    r"((?:;[A-Z0-9\-_.!~*'()\[\]/:&+$%=]+)*)"
    r"(?:\?([A-Z0-9\-_.!~*'()\[\]/?:+$%=&]+))?"
)
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_OTHER_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):([^\s<>\"]+)")
_USER_SAFE, _PARAMETER_SAFE, _HEADER_SAFE = "!~*'()&=+$,;?/", "!~*'()[]/:&+$", "!~*'()[]/?:+$"


@dataclass
class Uri:
    """``sip:alice@example.com;transport=tcp``, taken apart, escapes decoded; ``str()`` puts it together again.

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
    # An escaped reserved character is not the same as the bare one (RFC 3261, 19.1.4), so a part is written as it came.
    _spelled: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Uri:
        match = _URI.fullmatch(text)
        if match is None:
            return cls._other(text)
        if "%" in text and _BAD_ESCAPE.search(text):
            raise _bad("URI")
        scheme, user, password, host, port, parameters, headers = match.groups()
        uri = cls(scheme.lower(), None, _host(host), _port(port))
        if user is not None:
            uri.user = uri._decoded(user)
            uri.password = None if password is None else uri._decoded(password)
        for part in parameters[1:].split(";") if parameters else ():
            name, equals, given = part.partition("=")
            name, value = uri._decoded(name).lower(), uri._decoded(given) if equals else None
            # Once each, says 19.1.1; baresip repeats a transport= that its user typed, and means no harm.
            if not name or "=" in given or uri.parameters.get(name, value) != value:
                raise _bad("URI")
            uri.parameters[name] = value
        for part in headers.split("&") if headers else ():
            name, equals, value = part.partition("=")
            if not name or not equals:
                raise _bad("URI")
            uri.headers[uri._decoded(name)] = uri._decoded(value)
        return uri

    @classmethod
    def _other(cls, text: str) -> Uri:
        match = _OTHER_SCHEME.fullmatch(text)
        if match is None or not text.isprintable() or match[1].lower() in ("sip", "sips"):
            raise _bad("URI")
        scheme, rest = match[1].lower(), match[2]
        if scheme != "tel":
            return cls(scheme, None, rest)
        number, semicolon, parameters = rest.partition(";")
        return cls(scheme, number, "", None, _parameters(semicolon + parameters))

    def _decoded(self, part: str) -> str:
        if "%" not in part:
            return part
        decoded = unquote(part, errors="replace")
        self._spelled[decoded] = part
        return decoded

    def _encoded(self, part: str, safe: str) -> str:
        return self._spelled.get(part) or quote(part, safe=safe)

    def __str__(self) -> str:
        if self.scheme not in ("sip", "sips"):
            return f"{self.scheme}:{self.user or ''}{self.host}{_written_parameters(self.parameters)}"
        text = self.scheme + ":"
        if self.user is not None:
            secret = "" if self.password is None else ":" + self._encoded(self.password, "!~*'()&=+$,")
            text += self._encoded(self.user, _USER_SAFE) + secret + "@"
        text += _bracketed(self.host) + ("" if self.port is None else f":{self.port}")
        for name, value in self.parameters.items():
            text += ";" + self._encoded(name, _PARAMETER_SAFE)
            text += "" if value is None else "=" + self._encoded(value, _PARAMETER_SAFE)
        headers = "&".join(
            f"{self._encoded(name, _HEADER_SAFE)}={self._encoded(value, _HEADER_SAFE)}"
            for name, value in self.headers.items()
        )
        return f"{text}?{headers}" if headers else text


# Unquoted, only tokens are legal. Names of people (accents, brackets) come unquoted from PBXs and confuse nobody; what
# would be another address, a quote or an end of one stays refused.
_BARE_DISPLAY = re.compile(r'[^",<>;:@\\\0-\x08\n-\x1f\x7f]*')


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
        text = text.strip()
        display, rest = "", text
        if text.startswith('"'):
            if not (quoted := _QUOTED.match(text)):
                raise _bad("address")
            display, rest = _quoted_pairs(quoted[1]), text[quoted.end() :].lstrip()
            if not rest.startswith("<"):
                raise _bad("address")
        elif (left := text.find("<")) > 0:
            display, rest = text[:left].strip(), text[left:]
            if not _BARE_DISPLAY.fullmatch(display):
                raise _bad("address")
        if rest.startswith("<"):
            uri, closed, tail = rest[1:].partition(">")
            if not closed:
                raise _bad("address")
        else:
            uri, semicolon, tail = rest.partition(";")
            uri, tail = uri.rstrip(), semicolon + tail
            if "?" in uri or "," in uri:
                raise _bad("address")
        return cls(display, Uri.parse(uri), _parameters(tail))

    @property
    def tag(self) -> str | None:
        return self.parameters.get("tag")

    def __str__(self) -> str:
        display = _quote(self.display) + " " if self.display else ""
        return f"{display}<{self.uri}>{_written_parameters(self.parameters)}"


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
            raise _bad("Via")
        return cls(match[1].upper(), _host(match[2]), _port(match[3]), _parameters(match[4] or ""))

    @property
    def branch(self) -> str | None:
        """The transaction's id; None, or without ``z9hG4bK`` and more behind it, from an element of RFC 2543."""
        return self.parameters.get("branch")

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {_bracketed(self.host)}{port}{_written_parameters(self.parameters)}"


_CSEQ = re.compile(r"([0-9]{1,10})\s+([A-Za-z0-9\-.!%*_+`'~]+)")


@dataclass
class CSeq:
    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        match = _CSEQ.fullmatch(text)
        if match is None or int(match[1]) >= 2**31:
            raise _bad("CSeq")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"
