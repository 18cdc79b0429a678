"""SIP messages: read from bytes, written to bytes (RFC 3261, sections 7, 19, 20 and 25). Pure.

    request = parse(data)            # Request or Response; SipError says how to refuse it
    request.to.uri.user, request.via.branch, request.cseq.number
    reply(request, 486).encode()     # Via, From, To, Call-ID and CSeq are the request's

The start line and the headers that every element needs are checked here, as RFC 4475 judges them. What depends on who
is asked (methods, extensions, bodies, schemes of a registration) is for the user agent to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from anycarrier_sip.header_values import PHRASES, TOKEN, CSeq, NameAddr, SipError, Uri, Via, bad, split

__all__ = [
    "LARGEST", "METHODS", "CSeq", "Headers", "Message", "NameAddr", "Request", "Response", "SipError", "StreamReader",
    "Uri", "Via", "parse", "reply",
]  # fmt: skip

LARGEST, MOST_HEADERS, LONGEST_HEADER = 65536, 128, 8192
"""Bytes of a message, its header lines, and characters of one; more is refused (P8)."""

METHODS = {*"INVITE ACK BYE CANCEL OPTIONS REGISTER PRACK UPDATE INFO REFER NOTIFY SUBSCRIBE MESSAGE PUBLISH".split()}
"""The methods with an RFC of their own; any other is 501, one of these that is not allowed 405."""

_COMPACT = {
    "i": "Call-ID", "m": "Contact", "e": "Content-Encoding", "l": "Content-Length", "c": "Content-Type", "f": "From",
    "s": "Subject", "k": "Supported", "t": "To", "v": "Via", "o": "Event", "r": "Refer-To", "u": "Allow-Events",
    "b": "Referred-By", "x": "Session-Expires", "a": "Accept-Contact", "j": "Reject-Contact", "y": "Identity",
    "d": "Request-Disposition", "n": "Identity-Info",
}  # fmt: skip
_UNSAFE = re.compile(r"[\r\n\0]")
_CONTROL = re.compile(r"[\0-\x08\n-\x1f\x7f]")

T = TypeVar("T")


class Headers:
    """An ordered multimap; names in any case, compact ones expanded (RFC 3261, 7.3).

    Writing a line end or NUL raises ``ValueError``: nothing that a caller gives becomes a header of its own (P9).
    """

    __slots__ = ("_fields",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, tuple[str, list[str]]] = {}  # by lower-case name: the name as written, and the lines
        for name, value in items:
            self.add(name, value)

    def lines(self, name: str) -> list[str]:
        """The value of each line."""
        return list(self._fields.get(name.lower(), ("", ()))[1])

    def get(self, name: str) -> str | None:
        """The first line's value; None when there is none."""
        found = self._fields.get(name.lower())
        return found[1][0] if found else None

    def values(self, name: str) -> list[str]:
        """The values of a list header (Via, Route, Allow ...), those between its commas each alone."""
        return [value for line in self.lines(name) for part in split(line, ",") if (value := part.strip())]

    def add(self, name: str, value: str) -> None:
        """One more line at the end."""
        if not TOKEN.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is no name of a header")
        if _UNSAFE.search(value):
            raise ValueError(f"the value for the header {name[:40]} holds a line end or NUL")
        self._add(name, value)

    def set(self, name: str, *values: str) -> None:
        """``values``, a line each, in place of all of that name."""
        self.remove(name)
        for value in values:
            self.add(name, value)

    def remove(self, name: str) -> None:
        self._fields.pop(name.lower(), None)

    def items(self) -> Iterator[tuple[str, str]]:
        """Each line: its name as it is written, and its value."""
        return ((name, value) for name, values in self._fields.values() for value in values)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._fields

    def __repr__(self) -> str:
        return f"Headers({', '.join(name for name, _ in self.items())})"  # values may be secrets

    def _add(self, name: str, value: str) -> None:
        name = _COMPACT.get(name.lower(), name)
        self._fields.setdefault(name.lower(), (name, []))[1].append(value)


_WORD = r"""[A-Za-z0-9\-.!%*_+`'~()<>:\\"/\[\]?{}]+"""
_CALL_ID = re.compile(f"{_WORD}(?:@{_WORD})?")


def _call_id(text: str) -> str:
    if _CALL_ID.fullmatch(text):
        return text
    raise bad("Call-ID")


class _Parsed(Generic[T]):
    """A header's value, read once for as long as its text is the same; change the header, not what was read."""

    def __init__(self, name: str, read: Callable[[str], T]) -> None:
        self._name, self._read = name, read

    def __get__(self, message: _Message, owner: type[_Message]) -> T:
        text = message.headers.get(self._name)
        if text is None:
            raise SipError(400, f"Missing {self._name}")
        known = message._parsed.get(self._name)
        if known is None or known[0] != text:
            known = message._parsed[self._name] = (text, self._read(text))
        value: T = known[1]
        return value


class _Message:
    headers: Headers
    body: bytes
    _parsed: dict[str, tuple[str, Any]]

    call_id = _Parsed("Call-ID", _call_id)
    cseq = _Parsed("CSeq", CSeq.parse)
    from_ = _Parsed("From", NameAddr.parse)
    to = _Parsed("To", NameAddr.parse)
    via = _Parsed("Via", Via.parse)
    """The topmost; each has a line of its own."""

    def encode(self) -> bytes:
        """As it goes on the wire, with its Content-Length; ``ValueError`` for what would not be one message."""
        start = self._start_line()
        if _UNSAFE.search(start):
            raise ValueError("the start line holds a line end or NUL")
        headers = sorted(self.headers.items(), key=lambda header: header[0] != "Via")  # at the top, for fast proxies
        lines = [f"{name}: {value}" for name, value in headers if name.lower() != "content-length"]
        return "\r\n".join([start, *lines, f"Content-Length: {len(self.body)}\r\n\r\n"]).encode() + self.body

    def _start_line(self) -> str:
        raise NotImplementedError


@dataclass
class Request(_Message):
    """``uri`` is the Request-URI as it is on the wire."""

    method: str
    uri: str
    headers: Headers
    body: bytes = b""
    answered: dict[tuple[bool, str], int] = field(default_factory=dict, repr=False, compare=False)
    """How often :class:`anycarrier_sip.digest.DigestClient` answered each hop's challenge to it."""
    _parsed: dict[str, tuple[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def _start_line(self) -> str:
        if not TOKEN.fullmatch(self.method) or " " in self.uri:
            raise ValueError("a method is a token, and a Request-URI has no space")
        return f"{self.method} {self.uri} SIP/2.0"


@dataclass
class Response(_Message):
    status: int
    phrase: str
    headers: Headers
    body: bytes = b""
    _parsed: dict[str, tuple[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def _start_line(self) -> str:
        return f"SIP/2.0 {self.status:03} {self.phrase}"


Message = Request | Response

_FOLD = re.compile(r"\r\n[ \t]+")
_PAIR = re.compile(r"\\[^\r\n]")
_STATUS_LINE = re.compile(r"(?i)SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?")
_REQUEST_LINE = re.compile(rf"({TOKEN.pattern})(?: (.*))? (?i:SIP)/([0-9]+\.[0-9]+\s*)")
_ONCE = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type", "Session-Expires")


def parse(data: bytes) -> Message:
    """One message, and nothing behind its Content-Length. ``SipError``: 400, 416, 501 or 505 as a request deserves.

    Its status is 0 for responses that must be dropped (malformed, or not for us: more than one Via), for a malformed
    ACK, and for what is no SIP at all.
    """
    head, blank, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")  # RFC 3261, 7.5
    if not blank or len(data) > LARGEST:
        raise SipError(0, "no SIP message, or too large a one")
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = head.decode("latin-1")  # names of old PBXs; what is compared must be ASCII anyway
    start, *lines = _FOLD.sub(" ", text).split("\r\n")
    message: Message
    version = "2.0"
    if match := _STATUS_LINE.fullmatch(start):
        message = Response(int(match[1]), match[2] or "", Headers(), body)
    elif match := _REQUEST_LINE.fullmatch(start):
        message, version = Request(match[1], match[2] or "", Headers(), body), match[3]
    else:
        raise SipError(0, "no SIP message")
    try:
        _read(lines, message.headers)
        if version != "2.0":
            raise SipError(400 if version.strip() == "2.0" else 505)
        _check(message)
    except SipError as error:
        if isinstance(message, Response) or message.method == "ACK" or "Via" not in message.headers:
            error.status = 0
        else:
            error.request = message
        raise
    return message


def _read(lines: list[str], headers: Headers) -> None:
    """The header lines. All are read, so that a refused request can be answered; then what was wrong is raised."""
    wrong = len(lines) > MOST_HEADERS
    for line in lines[:MOST_HEADERS]:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        # NUL may be part of a quoted text.
        unsafe = _UNSAFE.search(line) and _UNSAFE.search(_PAIR.sub("", line))
        if unsafe or not colon or len(line) > LONGEST_HEADER or not TOKEN.fullmatch(name):
            wrong = True
        else:
            headers._add(name, value.strip(" \t"))
    if wrong:
        raise bad("header")


def _check(message: Message) -> None:
    """What every message needs, once each and well-formed; its body is cut to its Content-Length."""
    headers = message.headers
    for name in _ONCE:
        if len(headers.lines(name)) > 1:
            raise SipError(400, f"Repeated {name}")
    message.call_id, message.from_, message.to, message.cseq  # noqa: B018 reading them checks them
    if not (vias := headers.values("Via")):
        raise SipError(400, "Missing Via")
    headers._fields["via"] = ("Via", vias)  # one a line, so that the top one can be taken off
    if isinstance(message, Response) and len(vias) > 1:
        raise SipError(400, "a response for somebody else")  # RFC 3261, 8.1.3.3
    for via in vias:
        Via.parse(via)
    for name in ("Contact", "Route", "Record-Route"):
        for value in headers.values(name):
            if name != "Contact" and "<" not in value:
                raise bad(name)
            if headers.lines(name) != ["*"]:
                NameAddr.parse(value)
    message.body = message.body[: _number(headers, "Content-Length", len(message.body))]
    if isinstance(message, Request):
        _number(headers, "Max-Forwards", 255)
        if message.cseq.method != message.method:
            raise bad("CSeq") if message.method in METHODS else SipError(501)
        uri = Uri.parse(message.uri)
        if uri.headers:
            raise bad("Request-URI")
        if uri.scheme not in ("sip", "sips", "tel"):
            raise SipError(416)


def _number(headers: Headers, name: str, most: int) -> int:
    text = headers.get(name)
    if text is None:
        return most
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) > most:
        raise bad(name)
    return int(text)


def reply(
    request: Request, status: int, phrase: str | None = None, *, to_tag: str = "", body: bytes = b"",
    content_type: str = "",
) -> Response:  # fmt: skip
    """The response with what RFC 3261, 8.2.6 has it take from ``request``; ``to_tag`` unless To has one.

    Also for the ``request`` of a :class:`SipError`. What cannot be printed is told again as a question mark.
    """
    headers = Headers()
    routes = None if 100 < status < 300 else 0
    for name, most in (("Via", None), ("From", 1), ("To", 1), ("Call-ID", 1), ("CSeq", 1), ("Record-Route", routes)):
        for value in request.headers.lines(name)[:most]:
            headers.add(name, _CONTROL.sub("?", value))
    with suppress(SipError):
        if to_tag and status > 100 and request.to.tag is None:
            headers.set("To", f"{headers.get('To')};tag={to_tag}")
    if content_type:
        headers.add("Content-Type", content_type)
    return Response(status, PHRASES.get(status, "Unknown") if phrase is None else phrase, headers, body)


_PING = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\n(?:content-length|l)[ \t]*:(?:[ \t]|\r\n[ \t])*([0-9]{1,6})[ \t]*(?=\r\n)")


class StreamReader:
    """Cuts a stream into messages by their Content-Length (RFC 3261, 18.3), and RFC 5626's pings, a double CRLF each.

    ``SipError``: the stream cannot be followed any further, close it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """What ``data`` completes."""
        buffer, found = self._buffer, []
        buffer += data
        while buffer == _PING or not _PING.startswith(buffer):
            whole = len(_PING)
            if not buffer.startswith(_PING):
                del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]  # RFC 3261, 7.5
                end = buffer.find(b"\r\n\r\n") + 4
                if end < 4 and len(buffer) <= LARGEST:
                    break
                lengths = _LENGTH.findall(buffer[: max(end - 2, 0)])
                if len(lengths) != 1 or (whole := end + int(lengths[0])) > LARGEST:
                    raise SipError(0, "no message of at most 64 KiB with one Content-Length")
            if len(buffer) < whole:
                break
            found.append(bytes(buffer[:whole]))
            del buffer[:whole]
        return found
