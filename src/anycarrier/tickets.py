"""The ticket of a media socket, which says whose call it carries.

Sealed (AES-GCM), so it can be neither forged nor read from an access log; it expires, works once, and names the
call it was made for. Holding it gives no access to anything but one call's audio, and it never contains a carrier
secret. It is in the URL's path, or in its query or a header where a carrier's socket cannot carry it in the path.

A carrier may ask for its instructions only once a dialled call is answered, and any process may be asked. Then the
ticket made at dial is made again: its nonce comes from its facts (as in SIV modes), so that it is the same ticket.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from anycarrier import plugins
from anycarrier.callbook import OnceStore
from anycarrier.errors import ConfigurationError, PluginError, TicketRefused, UnknownProvider
from anycarrier.provider import TicketPlace
from anycarrier.webhooks import basic_login

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What the media socket must know. ``call_id`` is empty for an outbound call the carrier has yet to name."""

    provider: str
    credential_id: str
    reference: str
    call_id: str
    agent_id: str
    expires: int
    machine_detection: str = "off"
    """What we listen for ourselves: :class:`anycarrier.calls.MachineDetection`."""


class TicketOffice:
    """Issues and redeems tickets. ``secret`` must be the same in every process; ``clock`` gives Unix seconds."""

    def __init__(self, secret: str | bytes, once: OnceStore, *, clock: Callable[[], float] = time.time) -> None:
        raw = secret.encode() if isinstance(secret, str) else secret
        if len(raw) < 32:
            raise ConfigurationError(
                "the exchange's secret is too short: give it at least 32 random bytes, "
                "e.g. from python -c 'import secrets; print(secrets.token_hex(32))'"
            )
        self._key = hashlib.sha256(b"anycarrier media ticket 1\0" + raw).digest()
        self._nonce_key = hashlib.sha256(b"anycarrier media ticket nonce 1\0" + raw).digest()
        self._once = once
        self._clock = clock
        self._made: AESGCM | None = None

    def issue(
        self,
        *,
        provider: str,
        credential_id: str,
        reference: str,
        call_id: str,
        agent_id: str,
        ttl: float,
        machine_detection: str = "off",
    ) -> str:
        """A new ticket good for ``ttl`` seconds, safe in a URL."""
        ticket = Ticket(
            provider, credential_id, reference, call_id, agent_id, self.expiry(ttl), machine_detection=machine_detection
        )
        return self._seal(msgspec.msgpack.encode(ticket), os.urandom(12))

    def expiry(self, ttl: float) -> int:
        """When a ticket expires that is good for ``ttl`` seconds from now, in Unix seconds."""
        return int(self._clock() + ttl)

    def reissue(self, ticket: Ticket) -> str:
        """The one ticket of these facts: the same text each time, in every process, and used up once."""
        plain = msgspec.msgpack.encode(ticket)
        return self._seal(plain, hmac.digest(self._nonce_key, plain, "sha256")[:12])

    def _seal(self, plain: bytes, nonce: bytes) -> str:
        return base64.urlsafe_b64encode(nonce + self._cipher().encrypt(nonce, plain, b"")).rstrip(b"=").decode()

    async def redeem(self, text: str, place: TicketPlace | None = None) -> Ticket:
        """The ticket, used up by this call; else :class:`TicketRefused`, with 401 when there is none at all.

        With ``place``, where it was found, it counts only if its carrier brings it there; elsewhere it is not used up.
        """
        if not text:
            raise TicketRefused("none was given", status=401)
        ticket, nonce = self._open(text)
        left = ticket.expires - self._clock()
        if left <= 0:
            raise TicketRefused("it has expired")
        if place is not None and place is not _ticket_place(ticket.provider):
            raise TicketRefused(f"its carrier does not bring it in the {place}")
        if not await self._once.first(f"ticket:{nonce}", left + 60):
            raise TicketRefused("it was used before")
        return ticket

    def _open(self, text: str) -> tuple[Ticket, str]:
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
            # Decoding is lenient; only the one spelling we issued counts, or a used ticket could be respelled.
            if base64.urlsafe_b64encode(sealed).rstrip(b"=").decode() != text:
                raise TicketRefused("it is not one of ours")
            plain = self._cipher().decrypt(sealed[:12], sealed[12:], b"")
            return msgspec.msgpack.decode(plain, type=Ticket), sealed[:12].hex()
        except (InvalidTag, binascii.Error, ValueError, msgspec.MsgspecError):
            raise TicketRefused("it is not one of ours") from None

    def _cipher(self) -> AESGCM:
        if self._made is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._made = AESGCM(self._key)
        return self._made


def _ticket_place(provider: str) -> TicketPlace:
    try:
        return plugins.get_provider(provider).ticket_place
    except (UnknownProvider, PluginError) as gone:  # uninstalled or broken since the ticket was issued
        raise TicketRefused(f"its carrier cannot be used here: {gone}") from gone


def find_ticket(path: str, query: str, headers: Mapping[str, str]) -> tuple[str, TicketPlace]:
    """The ticket a media socket brings, "" when it has none, and where: path, query (``ticket``) or ``Authorization``.

    ``headers`` has lower-case names.
    """
    if path:
        return path, TicketPlace.PATH
    if given := parse_qs(query[:4096]).get("ticket"):
        return given[0], TicketPlace.QUERY
    return _authorized(headers), TicketPlace.HEADER


def _authorized(headers: Mapping[str, str]) -> str:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    return basic_login(headers.get("authorization", ""))[1]
