"""Whom a stream hears: one address, port and SSRC, however many send to its port; and so whom it speaks to. Pure.

The address that the description names may be heard, if it may be sent to, and behind NAT, which changes ports, any port
of it, or of an address in the peer's media networks. Who speaks first is heard; for 10 packets or half a second the one
that was named may still take its place. After that, only another port or SSRC of the same address may, and only when
the one heard was silent for 2 s.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

PACKETS, SECONDS = 10, 0.5
"""For how long the address that was named may take the place of another."""
SILENT = 2.0
"""Seconds after which another source of the same address may."""

Address = tuple[str, int] | tuple[str, int, int, int]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RtpSource:
    """One stream's. ``permits`` says which of the addresses that are named may be sent to."""

    def __init__(self, networks: Sequence[Network], permits: Callable[[str], bool]) -> None:
        self.address: Address | None = None
        self.ssrc = -1
        self.spoke_at = 0.0
        """When it was heard last, to a second."""
        self.named: tuple[str, int] = ("", 0)
        self._networks, self._permits = networks, permits
        self._since, self._before = 0.0, 0
        """When it was taken, and how many packets had been heard by then."""

    def name(self, remote: tuple[str, int]) -> None:
        """A description names ``remote``; if that is new, whoever was heard is not any more."""
        if remote != self.named:
            self.named, self.address, self.ssrc = remote, None, -1

    def may_be(self, address: Address) -> bool:
        """Whether a packet from there is looked at."""
        if self.address is not None and address[0] == self.address[0]:
            return True
        if address[0] == self.named[0] and self._permits(address[0]):
            return True
        host = ipaddress.ip_address(address[0])
        return any(host in network for network in self._networks)

    def take(self, address: Address, ssrc: int, packets: int, now: float) -> bool:
        """Whether a packet that is sound, and authentic where there is SRTP, is of the source that is heard now.

        ``packets`` were heard so far.
        """
        if self.address is not None and (address, ssrc) != (self.address, self.ssrc):
            silent = now - self.spoke_at >= SILENT and address[0] == self.address[0]
            open_still = packets - self._before < PACKETS and now - self._since < SECONDS
            if not silent and not (open_still and address[:2] == self.named != self.address[:2]):
                return False
        self.address, self.ssrc, self.spoke_at = address, ssrc, now
        self._since, self._before = now, packets
        return True

    def target(self) -> Address | None:
        """Whom to speak to: who is heard, and before that who was named; nobody, where that is 0.0.0.0."""
        host = ipaddress.ip_address(self.named[0])
        if host.is_unspecified:
            return None
        return self.address or (self.named if self._permits(self.named[0]) else None)

    def rtcp_target(self, named: tuple[str, int]) -> tuple[str, int] | None:
        """The same for RTCP on a port of its own: behind NAT the one beside that which is heard."""
        if self.address is not None and self.address[:2] != self.named:
            return self.address[0], min(self.address[1] + 1, 65535)
        heard = self.address is not None and self.address[0] == named[0]
        return named if heard or self._permits(named[0]) else None
