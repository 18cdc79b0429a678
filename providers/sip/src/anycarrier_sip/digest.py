"""Digest authentication, as client and as server (RFC 3261, section 22; RFC 7616; RFC 8760). Pure but for chance.

A client answers a 401 or 407 once, and once more when only the nonce was too old. A server keeps nothing per challenge:
its nonce is a time stamp and an HMAC of that and the address.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from anycarrier_sip.header_values import parameters, quoted
from anycarrier_sip.message import Request, Response, SipError, Uri

ALGORITHMS = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
"""Strongest first, and what hashlib calls them. Each has a variant ``-sess``."""

REUSED = 300.0
"""Seconds for which a nonce answers further requests unasked; registrars forget theirs after about as long."""


def _fields(header: str) -> dict[str, str]:
    """The fields of ``Digest realm="...", ...``, names in lower case; none of another scheme or of nonsense."""
    scheme, _, rest = header.strip().partition(" ")
    try:
        found = parameters("," + rest.rstrip(", "), ",") if scheme.lower() == "digest" else {}
    except SipError:
        return {}
    return {name: value or "" for name, value in found.items()}


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


def _plain(algorithm: str) -> str:
    return algorithm.upper().removesuffix("-SESS")


def challenges(response: Response) -> list[Challenge]:
    """Those that can be answered, strongest first; of equals, the one that came first."""
    found = []
    for proxy, name in ((False, "WWW-Authenticate"), (True, "Proxy-Authenticate")):
        for fields in map(_fields, response.headers.lines(name)):
            algorithm, qops = fields.get("algorithm", "MD5"), fields.get("qop", "").replace(" ", "").lower().split(",")
            known = _plain(algorithm) in ALGORITHMS and {"realm", "nonce"} <= fields.keys()
            if known and ("auth" in qops or qops == [""]):
                qop, stale = "auth" if "auth" in qops else "", fields.get("stale", "").lower() == "true"
                opaque = fields.get("opaque")
                found.append(Challenge(fields["realm"], fields["nonce"], algorithm, qop, opaque, stale, proxy))
    return sorted(found, key=lambda challenge: list(ALGORITHMS).index(_plain(challenge.algorithm)))


def answer(
    challenge: Challenge, username: str, password: str, method: str, uri: str, *, cnonce: str = "", count: int = 1
) -> str:
    """The ``response`` of RFC 7616, section 3.4.1, in hex."""

    def digest(*parts: str) -> str:
        algorithm = ALGORITHMS[_plain(challenge.algorithm)]
        return hashlib.new(algorithm, ":".join(parts).encode(), usedforsecurity=False).hexdigest()

    ours = digest(username, challenge.realm, password)
    if challenge.algorithm.upper().endswith("-SESS"):
        ours = digest(ours, challenge.nonce, cnonce)
    counted = (f"{count:08x}", cnonce, challenge.qop) if challenge.qop else ()
    return digest(ours, challenge.nonce, *counted, digest(method, uri))


class DigestClient:
    """Answers challenges with one name and password, for any number of requests at once."""

    def __init__(self, username: str, password: str, *, cnonce: Callable[[], str] | None = None) -> None:
        self._username, self._password, self._cnonce = username, password, cnonce or partial(secrets.token_hex, 8)
        # By proxy or not, and realm: the newest challenge, when it came, and the counts of its answers.
        self._nonces: dict[tuple[bool, str], tuple[Challenge, float, Iterator[int]]] = {}

    def authorize(self, request: Request, response: Response, now: float) -> bool:
        """Answer every hop and realm that ``response`` challenges, in ``request``'s headers, which this changes.

        False: there is nothing to answer, or it was answered and the password is wrong; give up.
        """
        offered: dict[tuple[bool, str], Challenge] = {}
        for challenge in challenges(response):
            offered.setdefault((challenge.proxy, challenge.realm), challenge)
        for hop, challenge in offered.items():
            if request.answered.get(hop, 0) >= (2 if challenge.stale else 1):
                return False
        for hop, challenge in offered.items():
            request.answered[hop] = request.answered.get(hop, 0) + 1
            self._nonces[hop] = (challenge, now, count(1))
            self._add(request, challenge, next(self._nonces[hop][2]))
        return bool(offered)

    def prepare(self, request: Request, now: float) -> None:
        """Answer in advance the challenge that was last met, to save the next request a round trip."""
        for challenge, since, counts in self._nonces.values():
            if now - since < REUSED and challenge.qop:
                self._add(request, challenge, next(counts))

    def succeeded(self, response: Response, now: float) -> None:
        """Take the ``nextnonce`` of a 2xx, if it has one."""
        for hop, (challenge, _, _) in self._nonces.items():
            told = response.headers.get("Proxy-Authentication-Info" if hop[0] else "Authentication-Info") or ""
            if following := _fields(f"Digest {told}").get("nextnonce"):
                self._nonces[hop] = (replace(challenge, nonce=following, stale=False), now, count(1))

    def _add(self, request: Request, challenge: Challenge, number: int) -> None:
        cnonce, user, uri = self._cnonce(), self._username, request.uri
        result = answer(challenge, user, self._password, request.method, uri, cnonce=cnonce, count=number)
        text = (
            f"Digest username={quoted(user)}, realm={quoted(challenge.realm)}, nonce={quoted(challenge.nonce)}, "
            f'uri={quoted(uri)}, response="{result}", algorithm={challenge.algorithm}'
        )
        if challenge.qop:
            text += f', qop={challenge.qop}, nc={number:08x}, cnonce="{cnonce}"'
        elif challenge.algorithm.upper().endswith("-SESS"):
            text += f', cnonce="{cnonce}"'
        if challenge.opaque is not None:
            text += f", opaque={quoted(challenge.opaque)}"
        name = "Proxy-Authorization" if challenge.proxy else "Authorization"
        others = [line for line in request.headers.lines(name) if _fields(line).get("realm") != challenge.realm]
        request.headers.set(name, *others, text)


def username(request: Request) -> str | None:
    """The name in its Authorization, unproven; None without one."""
    return next(filter(None, map(_fields, request.headers.lines("Authorization"))), {}).get("username")


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

    def challenges(self, address: str, now: float, *, stale: bool = False) -> list[str]:
        """Values of ``WWW-Authenticate`` for who asks from ``address``: RFC 8760, 2.4 wants the strongest first."""
        # Two telephones behind one address must not share a nonce.
        nonce = self._nonce(address, f"{int(now):010x}{secrets.token_hex(4)}")
        old = ", stale=true" if stale else ""
        start = f'Digest realm={quoted(self.realm)}, nonce="{nonce}", algorithm='
        return [f'{start}{algorithm}, qop="auth"{old}' for algorithm in self._algorithms]

    def _nonce(self, address: str, stamp: str) -> str:
        return stamp + hmac.digest(self._secret, f"{stamp} {address}".encode(), "sha256").hex()[:32]

    def check(
        self, request: Request, address: str, now: float, password_of: Callable[[str], str | None]
    ) -> str | Refusal:
        """The user whose password ``request`` proves, or why not; ``password_of`` gives None for nobody's name.

        Only who answers a nonce that was sent to ``address`` can be wrong: anybody else may have forged it.
        """
        lines = map(_fields, request.headers.lines("Authorization"))
        fields = next((one for one in lines if one.get("realm") == self.realm), {})
        algorithm, nonce, user = fields.get("algorithm", "MD5"), fields.get("nonce", ""), fields.get("username", "")
        if algorithm.upper() not in ("MD5", "SHA-256") or fields.get("qop") != "auth":
            return Refusal()
        if not hmac.compare_digest(self._nonce(address, nonce[:18]).encode(), nonce.encode()):
            return Refusal(stale=True)
        counted, uri, cnonce = fields.get("nc", "").lower(), fields.get("uri", ""), fields.get("cnonce", "")
        if not re.fullmatch("[0-9a-f]{8}", counted) or not _same(uri, request.uri):
            return Refusal(wrong=True)
        password, number = password_of(user), int(counted, 16)
        challenge = Challenge(self.realm, nonce, algorithm, "auth")
        expected = answer(challenge, user, password or "", request.method, uri, cnonce=cnonce, count=number)
        right = hmac.compare_digest(expected.encode(), fields.get("response", "").lower().encode())
        if password is None or not right:
            return Refusal(wrong=True)
        if not 0 <= now - int(nonce[:10], 16) <= self._lifetime or number <= self._counts.get(nonce, 0):
            return Refusal(stale=True)
        self._counts.pop(nonce, None)
        self._counts[nonce] = number
        if len(self._counts) > self.REMEMBERED:
            del self._counts[next(iter(self._counts))]
        return user


def _same(one: str, other: str) -> bool:
    """Whether two URIs name the same resource; telephones leave out ports and parameters as they like."""
    try:
        first, second = Uri.parse(one), Uri.parse(other)
    except SipError:
        return one == other
    return (first.scheme, first.user, first.host) == (second.scheme, second.user, second.host)
