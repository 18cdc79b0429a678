"""SIP messages: read from bytes, written to bytes (RFC 3261, sections 7, 19, 20 and 25). Pure.

:func:`parse` reads one message as it came in a datagram, or as :class:`StreamReader` cut it out of a stream::

    request = parse(data)            # Request or Response; SipError says how to refuse it
    request.to.uri.user, request.via.branch, request.cseq.number
    reply(request, 486).encode()     # Via, From, To, Call-ID and CSeq are the request's

The start line and the headers that every element needs are checked here; RFC 4475's invalid messages are refused. What
depends on who is asked (methods, extensions, bodies, schemes of a registration) is for the user agent to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anycarrier_sip.header_values import PHRASES, TOKEN, CSeq, NameAddr, SipError, Uri, Via, split
from anycarrier_sip.headers import UNSAFE, Headers

__all__ = [
    "LARGEST", "METHODS", "CSeq", "Headers", "Message", "NameAddr", "Request", "Response", "SipError", "StreamReader",
    "Uri", "Via", "parse", "reply",
]  # fmt: skip

LARGEST, MOST_HEADERS = 65536, 128
"""Bytes of a message, and its header lines; more is refused."""

METHODS = frozenset(
    "INVITE ACK BYE CANCEL OPTIONS REGISTER PRACK UPDATE INFO REFER NOTIFY SUBSCRIBE MESSAGE PUBLISH".split()
)
"""The methods with an RFC of their own; any other is 501, one of these that is not allowed 405."""

_CONTROL = re.compile(r"[\0-\x08\n-\x1f\x7f]")

T = TypeVar("T")


class _Message:
    headers: Headers
    body: bytes
    _parsed: dict[str, tuple[str, Any]]

    def _get(self, name: str, read: Callable[[str], T]) -> T:
        """The header's value, read once for as long as its text is the same; change the header, not what was read."""
        text = self.headers.get(name)
        if text is None:
            raise SipError(400, f"Missing {name}")
        known = self._parsed.get(name)
        if known is None or known[0] != text:
            known = self._parsed[name] = (text, read(text))
        value: T = known[1]
        return value

    @property
    def call_id(self) -> str:
        return self._get("Call-ID", _call_id)

    @property
    def cseq(self) -> CSeq:
        return self._get("CSeq", CSeq.parse)

    @property
    def from_(self) -> NameAddr:
        return self._get("From", NameAddr.parse)

    @property
    def to(self) -> NameAddr:
        return self._get("To", NameAddr.parse)

    @property
    def via(self) -> Via:
        """The topmost Via."""
        return self._get("Via", lambda text: Via.parse(split(text, ",")[0]))

    def _encode(self, start: str) -> bytes:
        if UNSAFE.search(start):
            raise ValueError("the start line holds a line end or NUL")
        lines = [start]
        lines += [f"{name}: {value}" for name, value in self.headers.items() if name != "Content-Length"]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode() + self.body


@dataclass
class Request(_Message):
    """``uri`` is the Request-URI as it is on the wire."""

    method: str
    uri: str
    headers: Headers
    body: bytes = b""
    answered: dict[tuple[bool, str], int] = field(default_factory=dict, repr=False, compare=False)  # see DigestClient
    _parsed: dict[str, tuple[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def encode(self) -> bytes:
        """As it goes on the wire, with its Content-Length; ``ValueError`` for what would not be one message."""
        if not TOKEN.fullmatch(self.method) or " " in self.uri:
            raise ValueError("a method is a token, and a Request-URI has no space")
        return self._encode(f"{self.method} {self.uri} SIP/2.0")


@dataclass
class Response(_Message):
    status: int
    phrase: str
    headers: Headers
    body: bytes = b""
    _parsed: dict[str, tuple[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def encode(self) -> bytes:
        """As it goes on the wire, with its Content-Length; ``ValueError`` for what would not be one message."""
        return self._encode(f"SIP/2.0 {self.status:03} {self.phrase}")


Message = Request | Response

_FOLD = re.compile(r"\r\n[ \t]+")
_STATUS_LINE = re.compile(r"(?i)SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?")
_VERSION = re.compile(r"(?i)SIP/([0-9]+\.[0-9]+)")
_CALL_ID = re.compile(r"""[A-Za-z0-9\-.!%*_+`'~()<>:\\"/\[\]?{}]+(?:@[A-Za-z0-9\-.!%*_+`'~()<>:\\"/\[\]?{}]+)?""")
_ONCE = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type", "Session-Expires")


def _call_id(text: str) -> str:
    if not _CALL_ID.fullmatch(text):
        raise _bad("Call-ID")
    return text


def parse(data: bytes) -> Message:
    """One message, and nothing behind its Content-Length. ``SipError``: 400, 416, 501 or 505 as a request deserves.

    Its status is 0 for responses that must be dropped (malformed, or not for us: more than one Via), for a malformed
    ACK, and for what is no SIP at all.
    """
    if data[:1] in (b"\r", b"\n"):
        data = data.lstrip(b"\r\n")  # RFC 3261, 7.5
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank or len(data) > LARGEST:
        raise SipError(0, "no SIP message, or too large a one")
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = head.decode("latin-1")  # names of old PBXs; what is compared must be ASCII anyway
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    start, *lines = text.split("\r\n")
    headers = Headers()
    if start[:4].upper() == "SIP/":
        return _response(start, lines, headers, body)
    method, *rest = start.split(" ")
    named = TOKEN.fullmatch(method) is not None
    if not named or not _VERSION.fullmatch(start.rstrip().rpartition(" ")[2]):
        raise SipError(0, "no SIP message")
    request = Request(method, rest[0], headers, body)
    try:
        _read(lines, headers)
        if len(rest) != 2:
            raise _bad("start line")
        if rest[1].upper() != "SIP/2.0":
            raise SipError(505)
        _check(request)
        _check_request(request)
    except SipError as error:
        answerable = method != "ACK" and "Via" in headers
        raise SipError(error.status if answerable else 0, error.phrase, request if answerable else None) from None
    return request


def _response(start: str, lines: list[str], headers: Headers, body: bytes) -> Response:
    match = _STATUS_LINE.fullmatch(start)
    if match is None:
        raise SipError(0, "no status line")
    response = Response(int(match[1]), match[2] or "", headers, body)
    try:
        _read(lines, headers)
        _check(response)
    except SipError as error:
        raise SipError(0, error.phrase) from None
    if len(headers.lines("Via")) > 1:
        raise SipError(0, "a response for somebody else")  # RFC 3261, 8.1.3.3
    return response


def _read(lines: list[str], headers: Headers) -> None:
    """The header lines. All are read, so that a refused request can be answered; then the first error is raised."""
    error = _bad("message: too many headers") if len(lines) > MOST_HEADERS else None
    for line in lines[:MOST_HEADERS]:
        try:
            if "\r" in line or "\n" in line or ("\0" in line and UNSAFE.search(re.sub(r"\\.", "", line))):
                raise _bad("header")
            headers._read(line)
        except SipError as problem:
            error = error or problem
    if error:
        raise error


def _check(message: Message) -> None:
    """What every message needs, once each and well-formed; its body is cut to its Content-Length."""
    headers = message.headers
    for name in _ONCE:
        if len(headers._fields.get(name.lower(), ("", ()))[1]) > 1:
            raise SipError(400, f"Repeated {name}")
    if "Via" not in headers:
        raise SipError(400, "Missing Via")
    message.call_id, message.from_, message.to, message.cseq  # noqa: B018 reading them checks them
    vias = headers.values("Via")
    headers._fields["via"] = ("Via", vias)  # one a line, so that the top one can be taken off
    message.via  # noqa: B018
    for via in vias[1:]:
        Via.parse(via)
    for name in ("Contact", "Route", "Record-Route"):
        if name in headers:
            _check_addresses(message, name)
    length = headers.get("Content-Length")
    if length is not None:
        if not (length.isdigit() and length.isascii()) or len(length) > 6 or int(length) > len(message.body):
            raise _bad("Content-Length")
        message.body = message.body[: int(length)]


def _check_addresses(message: Message, name: str) -> None:
    values = message.headers.values(name)
    if name == "Contact" and values == ["*"]:
        return
    for value in values:
        if name != "Contact" and "<" not in value:
            raise _bad(name)
        message._parsed[name] = (value, NameAddr.parse(value))


def _check_request(request: Request) -> None:
    if request.cseq.method != request.method:
        raise _bad("CSeq") if request.method in METHODS else SipError(501)
    hops = request.headers.get("Max-Forwards")
    if hops is not None and not (hops.isdigit() and hops.isascii() and len(hops) < 10 and int(hops) <= 255):
        raise _bad("Max-Forwards")
    uri = Uri.parse(request.uri)
    if uri.headers:
        raise _bad("Request-URI")
    if uri.scheme not in ("sip", "sips", "tel"):
        raise SipError(416)


def _bad(what: str) -> SipError:
    return SipError(400, f"Bad {what}")


def reply(
    request: Request, status: int, phrase: str | None = None, *, to_tag: str | None = None, body: bytes = b"",
    content_type: str = "",
) -> Response:  # fmt: skip
    """The response with what RFC 3261, 8.2.6 has it take from ``request``; ``to_tag`` unless To has one.

    Also for the ``request`` of a :class:`SipError`: of that, only what can be printed is told again.
    """
    headers = Headers()
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        for value in request.headers.lines(name)[: None if name == "Via" else 1]:
            if name in ("From", "To"):
                value = _told_again(value, to_tag if name == "To" and status > 100 else None) or ""
            if value and not _CONTROL.search(value):
                headers.add(name, value)
    if 100 < status < 300:
        for route in request.headers.lines("Record-Route"):
            headers.add("Record-Route", route)
    if content_type:
        headers.add("Content-Type", content_type)
    return Response(status, PHRASES.get(status, "Unknown") if phrase is None else phrase, headers, body)


def _told_again(value: str | None, tag: str | None) -> str | None:
    """From or To, without the control characters that a quoted name may hold, and with ``tag`` where it has none."""
    try:
        address = NameAddr.parse(value or "")
    except SipError:
        return value if value and not _CONTROL.search(value) else None
    if value and _CONTROL.search(value):
        address.display = ""
        value = str(address)
    return f"{value};tag={tag}" if tag and address.tag is None else value


_LENGTH = re.compile(rb"(?i)\r\n(?:content-length|l)[ \t]*:(?:[ \t]|\r\n[ \t])*([0-9]{1,6})[ \t]*(?=\r\n)")


class StreamReader:
    """Cuts a stream into messages by their Content-Length, which RFC 3261, 18.3 demands of streams.

    A double CRLF between messages, RFC 5626's ping, is given as ``b"\\r\\n\\r\\n"``. ``SipError``: the stream cannot be
    followed any further, close it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` completes."""
        buffer, found = self._buffer, []
        buffer += data
        while buffer:
            if buffer[0] in b"\r\n":
                if buffer.startswith(b"\r\n\r\n"):
                    found.append(bytes(buffer[:4]))
                    del buffer[:4]
                elif b"\r\n\r\n".startswith(bytes(buffer)):
                    break
                else:
                    del buffer[:1]
                continue
            end = buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(buffer) > LARGEST:
                    raise SipError(0, "no end of a message in 64 KiB")
                break
            lengths = _LENGTH.findall(buffer[: end - 2])
            if len(lengths) != 1 or end + int(lengths[0]) > LARGEST:
                raise SipError(0, "one Content-Length is needed, of at most 64 KiB")
            whole = end + int(lengths[0])
            if len(buffer) < whole:
                break
            found.append(bytes(buffer[:whole]))
            del buffer[:whole]
        return found
