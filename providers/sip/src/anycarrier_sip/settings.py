"""What the operator of a process decides, and no tenant can: sockets, the public address, ports, whom we may call.

A credential (``credential.py``) says who a tenant is and where his carrier is; :meth:`SipSettings.permits` says whether
this process goes there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from anycarrier.networks import LOOPBACK, Network, in_networks, is_public
from anycarrier_sip.header_values import hostport

Transport = Literal["udp", "tcp", "tls"]

_SOCKET = re.compile(r"(udp|tcp|tls):(?:\[([^]]+)\]|([^:]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Binding:
    """One socket to open: ``udp:192.0.2.10:5060``."""

    transport: Transport
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Binding:
        """Read ``TRANSPORT:ADDRESS:PORT``; an IPv6 address stands in brackets. ``ValueError`` says what is wrong."""
        match = _SOCKET.fullmatch(text.strip())
        if match is None or not is_address(match[2] or match[3]) or int(match[4]) > 65535:
            raise ValueError(f"{text!r} is no socket to listen on: write it like udp:192.0.2.10:5060 or tls:[::1]:5061")
        return cls(match[1], str(ip_address(match[2] or match[3])), int(match[4]))  # type: ignore[arg-type]  # of three

    def __str__(self) -> str:
        return f"{self.transport}:{hostport(self.host, self.port)}"


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
        return bool(ip_address(host))
    except ValueError:
        return False


Several = BeforeValidator(lambda value: tuple(value.replace(",", " ").split()) if isinstance(value, str) else value)
"""A tuple may be written as one text, with commas or spaces between."""

Texts = Annotated[tuple[str, ...], Several]
Networks = Annotated[Texts, AfterValidator(lambda value: tuple(str(network(one)) for one in value))]


class SipSettings(BaseModel):
    """The operator's settings of all SIP credentials of a process.

    Without any, one UDP socket on loopback is opened: enough to register with a server on this machine.

    >>> SipSettings(listen=("udp:192.0.2.10:5060", "tcp:192.0.2.10:5060"), rtp_ports=(20000, 24000))
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    listen: Annotated[Texts, AfterValidator(lambda value: tuple(str(Binding.parse(one)) for one in value))] = Field(
        default=("udp:127.0.0.1:0",), min_length=1, description="sockets, like udp:0.0.0.0:5060; port 0 is any free one"
    )
    public_address: str | None = Field(
        default=None, description="the address others reach us at, for Via, Contact and SDP: behind NAT, or on 0.0.0.0"
    )
    rtp_ports: Annotated[tuple[int, int], Several] = Field(
        default=(10000, 20000), description="first and last UDP port for media"
    )
    peers: Networks = Field(
        default=(), description="networks (CIDR) that may speak to us beside those of the credentials"
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file: our certificate and its chain")
    tls_key: Path | None = Field(default=None, description="PEM file: its private key, if not in the same file")
    tls_ca: Path | None = Field(default=None, description="PEM file: authorities to trust instead of the system's")
    softphones: bool = Field(default=False, description="let credentials be registrars, reachable from any address")
    digest_algorithms: Annotated[tuple[Literal["MD5", "SHA-256"], ...], Several] = Field(
        default=("MD5",),
        min_length=1,
        description="what callers are challenged with; baresip 1.0 for one gives up where SHA-256 is among them",
    )
    private_targets: Networks | None = Field(
        default=None,
        description="private networks (CIDR) that credentials may name; unset: loopback, if all of listen is loopback",
    )
    srtp_without_tls: bool = Field(default=False, description="send SRTP keys over UDP and TCP, readable on the way")
    nameservers: Texts = Field(default=(), description="DNS servers, ADDRESS or ADDRESS:PORT; the system's")

    @field_validator("public_address")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and (not is_address(value.strip()) or ip_address(value.strip()).is_unspecified):
            raise ValueError("public_address is an IP address that others reach this machine at, like 192.0.2.10")
        return value and value.strip()

    @field_validator("rtp_ports")
    @classmethod
    def _is_a_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1024 <= value[0] < value[1] <= 65535:
            raise ValueError("rtp_ports are the first and the last of a range from 1024 to 65535, like 10000,20000")
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
    def on_loopback(self) -> bool:
        """Whether nobody but this machine reaches us."""
        return all(ip_address(one.host).is_loopback for one in self.bindings)

    @property
    def known_networks(self) -> tuple[Network, ...]:
        """:attr:`peers`, taken apart."""
        return tuple(map(ip_network, self.peers))

    def permits(self, address: str) -> bool:
        """Whether a tenant may have this process send to ``address``: a public one, or one the operator has listed.

        Ask it of every address a name resolves to, and of each that a far end names in a Contact or a Route.
        """
        private = tuple(map(ip_network, self.private_targets or ()))
        if self.private_targets is None and self.on_loopback:
            private = LOOPBACK
        return is_address(address) and (is_public(address) or in_networks(address, private))
