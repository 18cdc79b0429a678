"""SIP text from and for strangers: addresses (``sip:desk@pbx.example.com``), and headers that travel with a call. Pure.

Addresses are read by the grammar of RFC 3261, section 25.1, by one parser for policy, transfers, the service's APIs and
carriers' plugins, so that none of them sees another host than the one that is called. It accepts the RFC's grammar and
nothing beside it: one ``@``, no spaces, quotes, brackets or control characters, escapes decoded once. What an address
may *do* is the policy's question; :meth:`SipAddress.rerouted` answers half of it.

Of headers, only custom ones (``X-...``) and ``User-to-User`` (RFC 7433) travel. All others belong to the carrier and
the network: a caller could otherwise claim another's identity (``P-Asserted-Identity``) or route past the carrier's
rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes

from pydantic import AfterValidator

from anycarrier.errors import InvalidSipAddress
from anycarrier.numbers import E164, e164

LONGEST = 2048
"""Characters of an address; a longer one is refused unread."""

# Patterns of the grammar. Compiled when an address is first read, not when the library is imported.
_ESCAPE = "%[0-9A-Fa-f]{2}"
_UNRESERVED = r"A-Za-z0-9\-_.!~*'()"
_USER = rf"(?:[{_UNRESERVED}&=+$,;?/]|{_ESCAPE})+"
_PASSWORD = rf"(?:[{_UNRESERVED}&=+$,]|{_ESCAPE})*"
_PARAMETER = rf"(?:[{_UNRESERVED}\[\]/:&+$]|{_ESCAPE})+"
_HEADER = rf"(?:[{_UNRESERVED}\[\]/?:+$]|{_ESCAPE})*"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = rf"(?:{_LABEL}\.)*[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?\.?"
_PORT = "[0-9]{1,5}"
_SEPARATORS = re.compile(r"[-.()\s]")  # between the digits of a number (RFC 3966, 3)

_REROUTING_HEADERS = frozenset(
    "route record-route via v path service-route contact m to t from f call-id i cseq max-forwards"
    " refer-to r replaces join target-dialog authorization proxy-authorization proxy-require"
    " body content-type c content-length l content-encoding e method".split()
)
"""Headers of a URI that would change where the request goes, who it says it is from or what it carries.

RFC 3261, 19.1.5 asks not to honour most of them; a switch that does would send the call elsewhere. ``method`` is no
header, but a switch may take it for the parameter.
"""

_REROUTING_PARAMETERS = frozenset(
    "method route received fs_path rn cic tgrp trunk-context phone-context".split()
)
"""``received`` and ``fs_path`` name the next hop to common switches, ``method`` makes the call another request, and the
others tell a gateway another number or network than the user of the address (RFC 4694, 4904, 3966)."""


def is_sip(text: str) -> bool:
    """True for what claims to be a SIP address, well-formed or not."""
    return isinstance(text, str) and text[:5].lower().startswith(("sip:", "sips:"))


def destination(text: str) -> str:
    """``text`` unchanged when it is E.164 or a SIP address, else ``InvalidNumber``."""
    return SipAddress.parse(text).text if isinstance(text, str) and is_sip(text) else e164(text)


Destination = Annotated[str, AfterValidator(destination)]
"""A number or SIP address, checked by pydantic where a model takes one."""


@dataclass(frozen=True, slots=True)
class SipAddress:
    """One SIP or SIPS URI, taken apart; escapes are decoded.

    ``host`` is lower case without a final dot: a name, an IPv4 address, or an IPv6 address in its shortest form without
    brackets. Names of parameters are lower case. ``text`` is the address as it was given.
    """

    text: str
    scheme: str
    host: str
    port: int | None = None
    user: str | None = None
    password: str | None = None
    parameters: tuple[tuple[str, str | None], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> SipAddress:
        """Read ``text``; ``InvalidSipAddress`` says which part is wrong."""
        if not isinstance(text, str) or not is_sip(text):
            raise InvalidSipAddress("it must start with sip: or sips:")
        if len(text) > LONGEST:
            raise InvalidSipAddress(f"it is longer than {LONGEST} characters")
        scheme, _, rest = text.partition(":")
        userinfo, at, rest = rest.partition("@") if "@" in rest else ("", "", rest)
        if "@" in rest:
            raise InvalidSipAddress('it has more than one "@": inside a user, parameter or header write %40')
        user = password = None
        if at:
            name, colon, secret = userinfo.partition(":")
            user = _decoded(name, _USER, "user")
            password = _decoded(secret, _PASSWORD, "password") if colon else None
        rest, question, tail = rest.partition("?")
        hostport, *parameters = rest.split(";")
        host, port = _hostport(hostport)
        return cls(
            text=text,
            scheme=scheme.lower(),
            host=host,
            port=port,
            user=user,
            password=password,
            parameters=tuple(_parameters(parameters)),
            headers=tuple(_headers(tail)) if question else (),
        )

    def parameter(self, name: str) -> str | None:
        """The parameter's value, "" for a parameter without one, None when it is absent."""
        return next((value or "" for known, value in self.parameters if known == name.lower()), None)

    @property
    def maddr(self) -> str | None:
        """The host that ``maddr`` sends the request to in place of ``host``, spelt like ``host``."""
        value = self.parameter("maddr")
        return None if value is None else _host(value, "maddr")

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host the address names as a place to send the request to."""
        return (self.host,) if self.maddr is None else (self.host, self.maddr)

    @property
    def number(self) -> str | None:
        """The number that a gateway at :attr:`host` would dial, in E.164; None where the user begins with none.

        That is a user with a plus sign, or digits that are said to be a telephone's (``user=phone``). What comes behind
        15 digits, or behind the digits, counts for nothing, as in networks.
        """
        digits = _SEPARATORS.sub("", (self.user or "").partition(";")[0])
        if (self.parameter("user") or "").lower() == "phone" and not digits.startswith("+"):
            digits = f"+{digits}"
        found = E164.match(digits)
        return found[0] if found else None

    def rerouted(self) -> str | None:
        """What could lead a carrier or switch elsewhere than to :attr:`hosts`, in words; None when nothing does."""
        for name, value in self.parameters:
            if name in _REROUTING_PARAMETERS and not (name == "method" and (value or "").upper() == "INVITE"):
                return f"the parameter {name} changes where the call goes or what it is"
        for name, _ in self.headers:
            if name.lower() in _REROUTING_HEADERS:
                return f"the header {name} changes where the call goes or what it is"
        # Legal in a user (RFC 3261), and taken for the end of the host or of the address by who does not look for "@"
        # first; behind a comma some carriers expect digits to press.
        written = self.text.partition(":")[2].partition("@")[0] if self.user is not None else ""
        if any(sign in written for sign in ";?/,"):
            return "its user holds one of ;?/, which some switches take for the end of the host: write %3B %3F %2F %2C"
        return None

    def __str__(self) -> str:
        """The address in one normal spelling: lower-case host, escapes only where they are needed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        told = f"{self.scheme}:"
        if self.user is not None:
            told += quote(self.user, safe=_PLAIN_USER)
            told += (f":{quote(self.password, safe=_PLAIN_USER)}" if self.password is not None else "") + "@"
        told += host + (f":{self.port}" if self.port is not None else "")
        for name, value in self.parameters:
            told += f";{quote(name, safe=_PLAIN)}" + (f"={quote(value, safe=_PLAIN)}" if value is not None else "")
        headers = "&".join("=".join(quote(part, safe=_PLAIN_HEADER) for part in header) for header in self.headers)
        return f"{told}?{headers}" if headers else told


_PLAIN_USER = "!~*'()&=+$,"
_PLAIN = "!~*'()[]/:&+$"
_PLAIN_HEADER = "!~*'()[]/?:+$"


def host_name(text: str) -> str:
    """A host alone, as :attr:`SipAddress.host` spells it (IPv6 with or without brackets); ``InvalidSipAddress``."""
    return _host(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text, "host")


def _hostport(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        host += bracket
        port = rest[1:] if rest.startswith(":") else None
        if rest and port is None:
            raise InvalidSipAddress("its host is no name or address")
    else:
        host, colon, port = text.partition(":")
        port = port if colon else None
    if port is not None and not (re.fullmatch(_PORT, port) and 0 < int(port) < 65536):
        raise InvalidSipAddress("its port is not a number from 1 to 65535")
    return _host(host, "host"), int(port) if port is not None else None


def _host(text: str, what: str) -> str:
    if text.startswith("[") and text.endswith("]") and "%" not in text:
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise InvalidSipAddress(f"its {what} is not an IPv6 address") from None
    if len(text) <= 254 and re.fullmatch(_NAME, text):
        return text.lower().removesuffix(".")
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise InvalidSipAddress(f"its {what} is no name or address") from None


def _parameters(parts: Iterable[str]) -> Iterable[tuple[str, str | None]]:
    seen = set()
    for part in parts:
        name, equals, value = part.partition("=")
        name = _decoded(name, _PARAMETER, "parameter").lower()
        if name in seen:
            raise InvalidSipAddress("a parameter is there twice")
        seen.add(name)
        decoded = _decoded(value, _PARAMETER, "parameter") if equals else None
        if name == "maddr":
            _host(decoded or "", "maddr")
        yield name, decoded


def _headers(text: str) -> Iterable[tuple[str, str]]:
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise InvalidSipAddress("a header must be like ?Name=value&Other=value")
        yield _decoded(name, _HEADER, "header"), _decoded(value, _HEADER, "header")


def _decoded(text: str, grammar: str, what: str) -> str:
    """``text`` without escapes, when ``grammar`` allows it and nothing is hidden in them."""
    if not re.fullmatch(grammar, text):
        raise InvalidSipAddress(f"its {what} is empty or holds characters that must be escaped")
    if "%" not in text:
        return text
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise InvalidSipAddress(f"an escape in its {what} is not UTF-8") from None
    if not decoded.isprintable():  # line ends would add headers, NUL would end the text for some
        raise InvalidSipAddress(f"an escape in its {what} is a control character")
    return decoded


MOST_HEADERS, LONGEST_HEADER = 20, 1024
"""Headers a call may carry, and characters of one value."""

_HEADER_NAME = re.compile(r"(?ai)x-[a-z0-9_-]{1,60}|user-to-user")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def may_travel(name: str, value: object) -> bool:
    """Whether the header may travel: a custom name or User-to-User, and a value of printable ASCII on one line."""
    return (
        _HEADER_NAME.fullmatch(name) is not None
        and isinstance(value, str)
        and len(value) <= LONGEST_HEADER
        and _HEADER_VALUE.fullmatch(value) is not None
    )


def headers_of(carried: Mapping[str, object]) -> dict[str, str]:
    """What of ``carried``, a carrier's headers of an incoming call, may reach an agent; the rest stays in ``raw``."""
    found = {name: value for name, value in carried.items() if may_travel(name, value) and isinstance(value, str)}
    return dict(list(found.items())[:MOST_HEADERS])


def checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """``headers`` as they are; ``ValueError`` for one that may not be sent, naming it and not its value."""
    if len(headers) > MOST_HEADERS:
        raise ValueError(f"{len(headers)} headers: at most {MOST_HEADERS} travel with a call")
    for name, value in headers.items():
        if not may_travel(name, value):
            raise ValueError(
                f"header {name[:70]!r} may not be sent: only X-... and User-to-User travel, with values of printable "
                f"ASCII of at most {LONGEST_HEADER} characters"
            )
    if len({name.lower() for name in headers}) != len(headers):
        raise ValueError("two headers have the same name; case does not count")
    return headers


CallHeaders = Annotated[Mapping[str, str], AfterValidator(checked_headers)]
"""Headers to send with a call, checked by pydantic where a model takes them."""
