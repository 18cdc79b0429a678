"""What is known of carriers before anybody has typed anything: defaults for the credential's fields. Data, no code.

Sources are the carriers' public pages, as read in November 2026; none of it was tried against a real trunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from anycarrier_sip.settings import Transport

PresetName = Literal["twilio-elastic", "telnyx", "pbx", "softphones"]
NumberForm = Literal["e164", "digits", "country"]
"""How a called number is written: ``+4930...``; ``4930...``; as dialled from the credential's ``country``."""
Identity = Literal["pai", "rpid", "from"]
"""What tells our caller-id beside From: ``P-Asserted-Identity`` (RFC 3325), ``Remote-Party-ID``, nothing."""
Srtp = Literal["off", "offered", "required"]


@dataclass(frozen=True, slots=True)
class Preset:
    """The defaults of one kind of trunk. A credential's :attr:`SipCredential.trunk` is one with its fields put in."""

    host: str | None = None
    port: int | None = None
    """None: by DNS (RFC 3263), else 5060, or 5061 for TLS."""
    transport: Transport | None = None
    """None: by DNS, else UDP."""
    registers: bool = False
    """Log in with REGISTER. False: the carrier knows our address, or challenges each call."""
    peers: tuple[str, ...] = ()
    """Networks that calls come from. The addresses that ``host`` resolves to are peers as well."""
    media: tuple[str, ...] = ()
    """Networks that media comes from, beside the address in the SDP."""
    number_form: NumberForm = "e164"
    identity: Identity = "from"
    srtp: Srtp = "off"
    info_digits: bool = False
    """Send keys by INFO when no telephone-event was negotiated."""
    next_target_on: frozenset[int] = frozenset({503})
    """Final responses after which another target of the host is tried; so are silence and a lost connection."""
    transfer_diversion: bool = False
    """The carrier wants to see our number as ``Diversion`` on a leg it is asked to make."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """``region`` to host; ``{name}`` stands for the trunk's own."""


_TWILIO_EDGES = ("ashburn", "dublin", "frankfurt", "roaming", "sao-paulo", "singapore", "sydney", "tokyo", "umatilla")

PRESETS: Mapping[PresetName, Preset] = {
    # www.twilio.com/docs/sip-trunking, /ip-addresses. No REGISTER: an IP access list, a credential list, or both.
    "twilio-elastic": Preset(
        hosts={"": "{name}.pstn.twilio.com"} | {edge: f"{{name}}.pstn.{edge}.twilio.com" for edge in _TWILIO_EDGES},
        peers=(
            "54.172.60.0/30", "54.244.51.0/30",  # North America: Virginia, Oregon
            "177.71.206.192/30",  # South America
            # Check before release: these five are from memory, not from the page.
            "54.171.127.192/30", "35.156.191.128/30",  # Europe: Ireland, Frankfurt
            "54.65.63.192/30", "54.169.127.128/30", "54.252.254.64/30",  # Tokyo, Singapore, Sydney
        ),
        media=("168.86.128.0/18",),
        identity="pai",
        next_target_on=frozenset(range(500, 600)),
    ),
    # sip.telnyx.com; developers.telnyx.com/docs/voice/sip-trunking.
    "telnyx": Preset(
        hosts={
            "": "sip.telnyx.com", "us": "sip.telnyx.com", "eu": "sip-eu.telnyx.com",
            # Check before release: the carrier's page spells these by country.
            "ca": "sip.telnyx.ca", "au": "sip.telnyx.com.au",
        },
        registers=True,
        # United States. Of Europe, Canada and Australia two of the carrier's pages disagree: a trunk there names its
        # own in `peers`, unless its host resolves to them.
        peers=("192.76.120.10/32", "64.16.250.10/32"),
        identity="pai",
        next_target_on=frozenset({408, 480, 503, 504}),
        transfer_diversion=True,
    ),
    "pbx": Preset(registers=True, number_form="country", info_digits=True),
    "softphones": Preset(),
}  # fmt: skip
