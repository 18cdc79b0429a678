"""Digest authentication, as client and as server (RFC 3261, section 22; RFC 7616; RFC 8760). Pure but for chance.

A client answers a 401 or 407 once, and once more when only the nonce was too old::

    if client.authorize(request, response, now):
        ...                                     # the same request again, with CSeq + 1 and a branch of its own

A server keeps nothing per challenge: its nonce is a time stamp and an HMAC of that and the address.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from anycarrier_sip.message import Message, Request, Response, SipError, Uri

__all__ = ["Challenge", "DigestClient", "DigestServer", "Refusal", "answer", "challenges", "username"]

ALGORITHMS = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
"""Strongest first, and what hashlib calls them. Each has a variant ``-sess``."""

REUSED = 300.0
"""Seconds for which a nonce answers further requests unasked; registrars forget theirs after about as long."""

_FIELD = re.compile(r'\s*([\w.*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]*))\s*(?:,|$)')


def _fields(header: str) -> dict[str, str] | None:
    """The fields of ``Digest realm="...", ...``, names in lower case; None for another scheme or nonsense."""
    scheme, _, rest = header.strip().partition(" ")
    found: dict[str, str] = {}
    at = 0
    while scheme.lower() == "digest" and at < len(rest):
        match = _FIELD.match(rest, at)
        if match is None or match[1].lower() in found:
            return None
        found[match[1].lower()] = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        at = match.end()
    return found or None


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True)
class Challenge:
    """One ``WWW-Authenticate`` or, with ``proxy``, ``Proxy-Authenticate``. ``qop`` is "auth" or "", RFC 2069's way."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qop: str = ""
    opaque: str | None = None
    stale: bool = False
    proxy: bool = False


def challenges(response: Response) -> list[Challenge]:
    """Those that can be answered, strongest first; of equals, the one that came first."""
    found = []
    for proxy, name in ((False, "WWW-Authenticate"), (True, "Proxy-Authenticate")):
        for fields in filter(None, map(_fields, response.headers.lines(name))):
            algorithm, qops = fields.get("algorithm", "MD5"), fields.get("qop", "").replace(" ", "").lower().split(",")
            if not {"realm", "nonce"} <= fields.keys() or _strength(algorithm) not in ALGORITHMS:
                continue
            if "auth" in qops or qops == [""]:
                stale = fields.get("stale", "").lower() == "true"
                qop = "auth" if "auth" in qops else ""
                found.append(
                    Challenge(fields["realm"], fields["nonce"], algorithm, qop, fields.get("opaque"), stale, proxy)
                )
    return sorted(found, key=lambda challenge: list(ALGORITHMS).index(_strength(challenge.algorithm)))


def _strength(algorithm: str) -> str:
    return algorithm.upper().removesuffix("-SESS")


def answer(
    challenge: Challenge, username: str, password: str, method: str, uri: str, *, cnonce: str = "", count: int = 1
) -> str:
    """The ``response`` of RFC 7616, section 3.4.1, in hex."""
    algorithm = ALGORITHMS[_strength(challenge.algorithm)]

    def digest(*parts: str) -> str:
        return hashlib.new(algorithm, ":".join(parts).encode(), usedforsecurity=False).hexdigest()

    ours = digest(username, challenge.realm, password)
    if challenge.algorithm.upper().endswith("-SESS"):
        ours = digest(ours, challenge.nonce, cnonce)
    theirs = digest(method, uri)
    if not challenge.qop:
        return digest(ours, challenge.nonce, theirs)
    return digest(ours, challenge.nonce, f"{count:08x}", cnonce, challenge.qop, theirs)


@dataclass
class _Nonce:
    """The newest challenge of a realm, when it came, and how often it was answered."""

    challenge: Challenge
    since: float
    count: int = 0


class DigestClient:
    """Answers challenges with one name and password, for any number of requests at once."""

    def __init__(
        self, username: str, password: str, *, cnonce: Callable[[], str] = lambda: secrets.token_hex(8)
    ) -> None:
        self._username, self._password, self._cnonce = username, password, cnonce
        self._nonces: dict[tuple[bool, str], _Nonce] = {}  # by proxy or not, and realm

    def authorize(self, request: Request, response: Response, now: float) -> bool:
        """Answer every hop and realm that ``response`` challenges, in ``request``'s headers, which this changes.

        False: there is nothing to answer, or it was answered and the password is wrong; give up.
        """
        offered: dict[tuple[bool, str], Challenge] = {}
        for challenge in challenges(response):
            offered.setdefault((challenge.proxy, challenge.realm), challenge)
        given = {(proxy, realm) for proxy, realm, _ in _credentials(request)}
        for hop, challenge in offered.items():
            # Credentials that nobody counted came with a copied request, and count as an answer.
            answered = request.answered.get(hop, 1) if hop in given else 0
            if answered > 1 or (answered == 1 and not challenge.stale):
                return False
        for hop, challenge in offered.items():
            request.answered[hop] = request.answered.get(hop, 1) + 1 if hop in given else 1
            self._nonces[hop] = _Nonce(challenge, now)
            self._add(request, self._nonces[hop])
        return bool(offered)

    def prepare(self, request: Request, now: float) -> None:
        """Answer in advance the challenge that was last met, to save the next request a round trip."""
        for hop, nonce in self._nonces.items():
            if now - nonce.since < REUSED and nonce.challenge.qop:
                self._add(request, nonce)
                request.answered[hop] = 0

    def succeeded(self, response: Response, now: float) -> None:
        """Take the ``nextnonce`` of a 2xx, if it has one."""
        for proxy, name in ((False, "Authentication-Info"), (True, "Proxy-Authentication-Info")):
            fields = _fields("Digest " + (response.headers.get(name) or ""))
            for hop, nonce in self._nonces.items():
                if fields and "nextnonce" in fields and hop[0] is proxy:
                    self._nonces[hop] = _Nonce(replace(nonce.challenge, nonce=fields["nextnonce"], stale=False), now)

    def _add(self, request: Request, nonce: _Nonce) -> None:
        challenge = nonce.challenge
        nonce.count += 1
        cnonce = self._cnonce()
        result = answer(
            challenge, self._username, self._password, request.method, request.uri, cnonce=cnonce, count=nonce.count
        )
        text = (
            f"Digest username={_quote(self._username)}, realm={_quote(challenge.realm)}, "
            f'nonce={_quote(challenge.nonce)}, uri={_quote(request.uri)}, response="{result}", '
            f"algorithm={challenge.algorithm}"
        )
        if challenge.qop:
            text += f', qop={challenge.qop}, nc={nonce.count:08x}, cnonce="{cnonce}"'
        elif challenge.algorithm.upper().endswith("-SESS"):
            text += f', cnonce="{cnonce}"'
        if challenge.opaque is not None:
            text += f", opaque={_quote(challenge.opaque)}"
        name = "Proxy-Authorization" if challenge.proxy else "Authorization"
        others = [line for proxy, realm, line in _credentials(request)
                  if proxy is challenge.proxy and realm != challenge.realm]  # fmt: skip
        request.headers.remove(name)
        for line in [*others, text]:
            request.headers.add(name, line)


def _credentials(message: Message) -> list[tuple[bool, str | None, str]]:
    """The credentials it carries: for a proxy or not, their realm, and their line."""
    return [
        (proxy, (_fields(line) or {}).get("realm"), line)
        for proxy, name in ((False, "Authorization"), (True, "Proxy-Authorization"))
        for line in message.headers.lines(name)
    ]


def username(request: Request) -> str | None:
    """The name in its Authorization, unproven; None without one."""
    fields = next(filter(None, map(_fields, request.headers.lines("Authorization"))), {})
    return fields.get("username")


@dataclass(frozen=True)
class Refusal:
    """No access: challenge again. ``stale``: only the nonce was too old. ``wrong``: the name or the password was."""

    stale: bool = False
    wrong: bool = False


class DigestServer:
    """Challenges the users of one realm and checks what they answer.

    A nonce is good for ``lifetime`` seconds from the address that it was made for, and each of its counts once, as far
    as the last few thousand nonces are concerned.
    """

    REMEMBERED = 5000

    def __init__(
        self, secret: bytes, realm: str, *, lifetime: float = 300, algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    ) -> None:
        self._secret, self.realm, self._lifetime, self._algorithms = secret, realm, lifetime, algorithms
        self._counts: dict[str, int] = {}  # by nonce, the highest count so far

    def challenge(self, address: str, now: float, *, algorithm: str = "MD5", stale: bool = False) -> str:
        """The value of a ``WWW-Authenticate`` for whoever asks from ``address``."""
        old = ", stale=true" if stale else ""
        nonce = self._nonce(address, f"{int(now):010x}{secrets.token_hex(4)}")
        return f'Digest realm={_quote(self.realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"{old}'

    def challenges(self, address: str, now: float, *, stale: bool = False) -> list[str]:
        """One for each of our algorithms, which RFC 8760, section 2.4 wants strongest first."""
        return [self.challenge(address, now, algorithm=name, stale=stale) for name in self._algorithms]

    def _nonce(self, address: str, stamp: str) -> str:
        """``stamp`` is the time and a random part: two telephones behind one address must not share a nonce."""
        return stamp + hmac.digest(self._secret, f"{stamp} {address}".encode(), "sha256").hex()[:32]

    def check(
        self, request: Request, address: str, now: float, password_of: Callable[[str], str | None]
    ) -> str | Refusal:
        """The user whose password ``request`` proves, or why not; ``password_of`` gives None for nobody's name."""
        fields = next((found for line in request.headers.lines("Authorization")
                       if (found := _fields(line)) and found.get("realm") == self.realm), None)  # fmt: skip
        if fields is None:
            return Refusal()
        algorithm, nonce, user = fields.get("algorithm", "MD5"), fields.get("nonce", ""), fields.get("username", "")
        count, cnonce = fields.get("nc", ""), fields.get("cnonce", "")
        if algorithm.upper() not in ("MD5", "SHA-256") or fields.get("qop") != "auth":
            return Refusal()
        if not re.fullmatch("[0-9a-f]{8}", count.lower()) or not _same(fields.get("uri", ""), request.uri):
            return Refusal(wrong=True)
        made = int(nonce[:10], 16) if re.fullmatch("[0-9a-f]{50}", nonce) else 0
        ours = hmac.compare_digest(self._nonce(address, nonce[:18]).encode(), nonce.encode())
        password = password_of(user)
        expected = answer(
            Challenge(self.realm, nonce, algorithm, "auth"), user, password or "", request.method, fields["uri"],
            cnonce=cnonce, count=int(count, 16),
        )  # fmt: skip
        right = hmac.compare_digest(expected.encode(), fields.get("response", "").lower().encode())
        if password is None or not right:
            return Refusal(wrong=True)
        if not ours or not 0 <= now - made <= self._lifetime or int(count, 16) <= self._counts.get(nonce, 0):
            return Refusal(stale=True)
        self._counts.pop(nonce, None)
        self._counts[nonce] = int(count, 16)
        if len(self._counts) > self.REMEMBERED:
            del self._counts[next(iter(self._counts))]
        return user


def _same(one: str, other: str) -> bool:
    """Whether two URIs name the same resource; telephones leave out ports and parameters as they like."""
    if one == other:
        return True
    try:
        first, second = Uri.parse(one), Uri.parse(other)
    except SipError:
        return False
    return (first.scheme, first.user, first.host) == (second.scheme, second.user, second.host)
