"""Which IP addresses are public and which lead inside, for what a stranger has us connect to (SSRF). Pure.

A name is judged by every address that it resolves to, and the connection goes to an address that was judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
NAT64 = IPv6Network("64:ff9b::/96")

SPECIAL: tuple[Network, ...] = tuple(
    ip_network(net)
    for net in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/8", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7",
        "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
"""IANA's special-purpose registries and multicast, written out: ``ipaddress`` answers differently from one patch
release to the next."""


def unfolded(address: str | Address) -> Address:
    """The address, or the IPv4 one in an IPv6 one that leads to it (mapped, NAT64); ``ValueError`` if it is none."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        if found in NAT64:
            return IPv4Address(int(found) & 0xFFFFFFFF)
    return found


def in_networks(address: str | Address, networks: Iterable[Network]) -> bool:
    """Whether ``address``, unfolded, is in one of ``networks``. ``ValueError`` where it is none."""
    found = unfolded(address)
    return any(found in network for network in networks)


def is_public(address: str | Address) -> bool:
    """Whether ``address``, unfolded, is in no network of :data:`SPECIAL`. ``ValueError`` where it is none."""
    return not in_networks(address, SPECIAL)


def on_domain(url: str, *domains: str) -> bool:
    """True for an https URL, at the usual port, on a host below one of ``domains``: where a login of theirs may go."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    safe = parts.scheme == "https" and port in (None, 443) and "@" not in parts.netloc
    host = parts.hostname or ""
    labels = host.isascii() and all(label.replace("-", "").isalnum() for label in host.split("."))
    return safe and labels and any(host.endswith(f".{domain}") for domain in domains)
