"""What the sandbox reads and writes: SIP messages, SDP and digests, as far as a telephone on loopback needs them.

Written from the RFCs, not from the adapter, so that each checks the other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

REASONS = {
    100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 202: "Accepted", 302: "Moved Temporarily",
    401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 484: "Address Incomplete", 486: "Busy Here", 487: "Request Terminated",
    488: "Not Acceptable Here", 500: "Server Internal Error", 503: "Service Unavailable", 603: "Decline",
}  # fmt: skip
COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "k": "supported",
           "c": "content-type", "r": "refer-to", "b": "referred-by", "o": "event", "x": "session-expires"}  # fmt: skip


@dataclass
class Message:
    """A request or a response; ``start`` is its first line."""

    start: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Message:
        """One datagram; ``ValueError`` when it is no message."""
        head, _, body = data.partition(b"\r\n\r\n")
        start, *lines = re.sub(r"\r\n[ \t]+", " ", head.decode()).split("\r\n")
        if "SIP/2.0" not in start:
            raise ValueError("no SIP message")
        pairs = (line.partition(":")[::2] for line in lines)
        return cls(start, [(name.strip(), value.strip()) for name, value in pairs], body)

    def encode(self) -> bytes:
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join([*lines, f"Content-Length: {len(self.body)}"]) + "\r\n\r\n").encode() + self.body

    @property
    def method(self) -> str:
        """The request's method, for a response that of its CSeq."""
        return self.get("CSeq").split()[-1] if self.status else self.start.split()[0]

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def uri(self) -> str:
        """The Request-URI."""
        return self.start.split()[1]

    @property
    def branch(self) -> str:
        return parameter(self.get("Via"), "branch")

    @property
    def transaction(self) -> tuple[str, str]:
        """What a request has in common with its repeats and its responses (RFC 3261, section 17)."""
        return f"{self.get('Via').partition(';')[0]} {self.branch}", self.method

    def all(self, name: str) -> list[str]:
        """Values of every header of that name, compact form or not."""
        wanted = name.lower()
        return [value for key, value in self.headers if COMPACT.get(key.lower(), key.lower()) == wanted]

    def get(self, name: str) -> str:
        """The first value; "" without one."""
        return next(iter(self.all(name)), "")

    def reply(self, status: int, source: tuple[str, int], *more: tuple[str, str], tag: str, body: bytes = b"") -> (
        Message
    ):
        """The response to this request, which came from ``source``."""
        via, *below = self.all("Via")
        via = re.sub(r";rport(=\d*)?(?=;|$)", f";rport={source[1]};received={source[0]}", via)
        to = self.get("To")
        if status > 100 and "tag=" not in to:
            to += f";tag={tag}"
        headers = [("Via", each) for each in (via, *below)]
        headers += [("From", self.get("From")), ("To", to)]
        headers += [(name, self.get(name)) for name in ("Call-ID", "CSeq")]
        headers += [("Record-Route", each) for each in self.all("Record-Route")]
        headers += [*more, *([("Content-Type", "application/sdp")] if body else [])]
        return Message(f"SIP/2.0 {status} {REASONS.get(status, 'Whatever')}", headers, body)


def parameter(header: str, name: str) -> str:
    """A header's parameter, outside of any <>; "" without it."""
    found = re.search(rf";\s*{name}\s*=\s*\"?([^;,\"\s]+)", re.sub(r"<[^>]*>", "", header), re.IGNORECASE)
    return found[1] if found else ""


def address(header: str) -> str:
    """The URI in a name-addr or addr-spec, without the header's parameters."""
    found = re.search(r"<([^>]*)>", header)
    return found[1] if found else header.partition(";")[0].strip()


def user(uri: str) -> str:
    """The user part of a URI; "" without one."""
    return address(uri).partition(":")[2].partition("@")[0] if "@" in uri else ""


def hostport(uri: str) -> tuple[str, int]:
    """Where a URI of a numeric host points."""
    host, _, port = address(uri).rpartition("@")[2].removeprefix("sip:").partition(";")[0].partition(":")
    return host, int(port or 5060)


def token() -> str:
    return secrets.token_hex(8)


# --- digests: RFC 7616, RFC 8760 --------------------------------------------------------------------------------------

ALGORITHMS = {"SHA-256": "sha256", "MD5": "md5"}


def challenges(nonce: str) -> list[tuple[str, str]]:
    """The strongest first."""
    asked = 'Digest realm="sandbox", nonce="{}", qop="auth", algorithm={}'
    return [("WWW-Authenticate", asked.format(nonce, algorithm)) for algorithm in ALGORITHMS]


def fields(login: str) -> dict[str, str]:
    """What an Authorization header says."""
    return {name.lower(): bare or quoted for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', login)}


def answers(told: Mapping[str, str], method: str, password: str) -> bool:
    """Whether the fields of an Authorization header show that its sender knows the password."""

    def digest(*parts: str) -> str:
        kind = ALGORITHMS.get(told.get("algorithm", "MD5"), "md5")
        return hashlib.new(kind, ":".join(parts).encode(), usedforsecurity=False).hexdigest()

    secret = digest(told.get("username", ""), told.get("realm", ""), password)
    request = digest(method, told.get("uri", ""))
    counted = (told.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
    return hmac.compare_digest(told.get("response", ""), digest(secret, *counted, request))


# --- session descriptions: RFC 8866, RFC 3264 -------------------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """What one side of a call says of its sound. ``payload_type`` is 0 (PCMU) or 8 (PCMA)."""

    host: str
    port: int
    payload_type: int = 0
    events: int = 101
    """Payload type of telephone events; -1 without them."""
    direction: str = "sendrecv"
    version: int = 1

    def encode(self, id: int) -> bytes:
        name = {0: "PCMU", 8: "PCMA"}[self.payload_type]
        formats = f"{self.payload_type}{f' {self.events}' if self.events >= 0 else ''}"
        lines = ["v=0", f"o=sandbox {id} {self.version} IN IP4 {self.host}", "s=-", f"c=IN IP4 {self.host}", "t=0 0",
                 f"m=audio {self.port} RTP/AVP {formats}", f"a=rtpmap:{self.payload_type} {name}/8000"]  # fmt: skip
        if self.events >= 0:
            lines += [f"a=rtpmap:{self.events} telephone-event/8000", f"a=fmtp:{self.events} 0-15"]
        return "\r\n".join([*lines, "a=ptime:20", f"a={self.direction}", "a=rtcp-mux", ""]).encode()

    @classmethod
    def parse(cls, body: bytes, *, prefer: int = 0) -> Session:
        """The audio of a description; ``LookupError`` when it has none that we could send. ``prefer`` a payload type
        where there is a choice."""
        text = body.decode()
        media = re.search(r"^m=audio (\d+) RTP/AVP ([\d ]+)", text, re.MULTILINE)
        host = re.findall(r"^c=IN IP4 (\S+)", text, re.MULTILINE)
        if media is None or not host:
            raise LookupError("no audio over IPv4")
        offered = [int(each) for each in media[2].split()]
        known = sorted({0, 8} & set(offered), key=lambda each: (each != prefer, offered.index(each)))
        if not known or (prefer and known[0] != prefer):
            raise LookupError("no codec of ours")
        events = re.search(r"^a=rtpmap:(\d+) telephone-event/8000", text, re.MULTILINE | re.IGNORECASE)
        way = re.findall(r"^a=(sendrecv|sendonly|recvonly|inactive)\s*$", text, re.MULTILINE)
        direction = "inactive" if host[-1] == "0.0.0.0" else (way or ["sendrecv"])[-1]  # noqa: S104 compared, not bound
        return cls(host[-1], int(media[1]), known[0], int(events[1]) if events else -1, direction)
