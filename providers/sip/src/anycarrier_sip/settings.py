"""What the operator of a process decides, and no tenant can: sockets, the public address, ports, whom we may call.

A credential (``credential.py``) says who a tenant is and where his carrier is; :meth:`SipSettings.permits` says whether
this process goes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from anycarrier.networks import LOOPBACK, Network, in_networks, is_public

Transport = Literal["udp", "tcp", "tls"]



@dataclass(frozen=True, slots=True)
class Binding:
    """One socket to open: ``udp:192.0.2.10:5060``."""

    transport: Transport
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Binding:
        """Read ``TRANSPORT:ADDRESS:PORT``; an IPv6 address stands in brackets. ``ValueError`` says what is wrong."""
        transport, _, rest = text.strip().partition(":")
        host, _, port = rest.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            address, number = str(ip_address(host)), int(port)
        except ValueError:
            address, number = "", -1
        if transport not in ("udp", "tcp", "tls") or not 0 <= number < 65536:
            raise ValueError(f"{text!r} is no socket to listen on: write it like udp:192.0.2.10:5060 or tls:[::1]:5061")
        return cls(transport, address, number)  # type: ignore[arg-type]  # one of the three

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


class SipSettings(BaseModel):
    """The operator's settings of all SIP credentials of a process.

    Without any, one UDP socket on loopback is opened: enough to register with a server on this machine.

    >>> SipSettings(listen=("udp:192.0.2.10:5060", "tcp:192.0.2.10:5060"), rtp_ports=(20000, 24000))
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    listen: tuple[str, ...] = Field(
        default=("udp:127.0.0.1:0",), min_length=1, description="sockets, like udp:0.0.0.0:5060; port 0 is any free one"
    )
    public_address: str | None = Field(
        default=None, description="the address others reach us at, for Via, Contact and SDP: behind NAT, or on 0.0.0.0"
    )
    rtp_ports: tuple[int, int] = Field(default=(10000, 20000), description="first and last UDP port for media")
    peers: tuple[str, ...] = Field(
        default=(), description="networks (CIDR) that may speak to us beside those of the credentials"
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file: our certificate and its chain")
    tls_key: Path | None = Field(default=None, description="PEM file: its private key, if not in the same file")
    tls_ca: Path | None = Field(default=None, description="PEM file: authorities to trust instead of the system's")
    softphones: bool = Field(default=False, description="let credentials be registrars, reachable from any address")
    digest_algorithms: tuple[Literal["MD5", "SHA-256"], ...] = Field(
        default=("MD5",),
        min_length=1,
        description="what callers are challenged with; baresip 1.0 for one gives up where SHA-256 is among them",
    )
    private_targets: tuple[str, ...] | None = Field(
        default=None,
        description="private networks (CIDR) that credentials may name; None: loopback if all of listen is loopback",
    )
    srtp_without_tls: bool = Field(default=False, description="send SRTP keys over UDP and TCP, readable on the way")
    nameservers: tuple[str, ...] = Field(default=(), description="DNS servers, ADDRESS or ADDRESS:PORT; the system's")

    @field_validator("listen", "peers", "private_targets", "nameservers", "digest_algorithms", mode="before")
    @classmethod
    def _several_in_one_text(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("listen")
    @classmethod
    def _are_sockets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Binding.parse(one)) for one in value)

    @field_validator("peers", "private_targets")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else tuple(str(network(one)) for one in value)

    @field_validator("public_address")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        try:
            found = ip_address(value.strip()) if value is not None else None
        except ValueError:
            found = ip_address("0.0.0.0")  # noqa: S104  as useless as a name
        if found is not None and found.is_unspecified:
            raise ValueError("public_address is an IP address that others reach this machine at, like 192.0.2.10")
        return None if found is None else str(found)

    @field_validator("rtp_ports")
    @classmethod
    def _is_a_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        first, last = value
        if not 1024 <= first < last <= 65535:
            raise ValueError("rtp_ports are the first and the last of a range from 1024 to 65535, like (10000, 20000)")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if any(one.transport == "tls" for one in self.bindings) and self.tls_certificate is None:
            raise ValueError("listening on tls needs tls_certificate, a PEM file with our certificate")
        if self.public_address is None and any(ip_address(one.host).is_unspecified for one in self.bindings):
            raise ValueError(
                "listening on all addresses needs public_address, the one that others reach this machine at; "
                "or listen on one address only"
            )
        return self

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """:attr:`listen`, taken apart."""
        return tuple(map(Binding.parse, self.listen))

    @property
    def known_networks(self) -> tuple[Network, ...]:
        """:attr:`peers`, taken apart."""
        return tuple(map(ip_network, self.peers))

    @property
    def permitted_private(self) -> tuple[Network, ...]:
        """Networks that are not public and may be called all the same."""
        if self.private_targets is not None:
            return tuple(map(ip_network, self.private_targets))
        return LOOPBACK if all(ip_address(one.host).is_loopback for one in self.bindings) else ()

    def permits(self, address: str) -> bool:
        """Whether a tenant may have this process send to ``address``: a public one, or one the operator has listed.

        Ask it of every address a name resolves to, and of each that a far end names in a Contact or a Route.
        """
        return is_address(address) and (is_public(address) or in_networks(address, self.permitted_private))


def network(text: str) -> Network:
    """The network that ``text`` names, an address being one of its own; ``ValueError`` says what is wrong."""
    try:
        return ip_network(text.strip())
    except ValueError:
        raise ValueError(
            f"{text[:50]!r} is no network: write it like 192.0.2.0/24 (no bits set beyond the prefix) or 192.0.2.7"
        ) from None


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
