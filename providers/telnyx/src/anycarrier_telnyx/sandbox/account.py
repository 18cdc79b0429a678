"""An account at the sandbox: its applications, numbers, orders, calls and recordings, and the key that signs for it.

There is one per API key, made when the key is first seen. The signing key and the id of the first application are
derived from the API key, so that a credential made here is as good at the next start.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nacl.signing import SigningKey

from anycarrier_telnyx.sandbox.validation import refuse
from anycarrier_telnyx.sandbox.webhooks import moment

if TYPE_CHECKING:
    from anycarrier_telnyx.sandbox.leg import Leg
    from anycarrier_telnyx.sandbox.recordings import Recording

CALL_KEPT = timedelta(minutes=10)
"""How long an ended call can still be asked for."""


def decimal_id() -> str:
    """A 19-digit id, as connections, numbers and profiles have; too long for a float."""
    return str(10**18 + secrets.randbelow(9 * 10**18))


def first_application(api_key: str) -> str:
    """The id of the application that the account with this API key begins with."""
    number = int.from_bytes(hashlib.sha256(b"anycarrier telnyx application " + api_key.encode()).digest()[:8])
    return str(10**18 + number % (9 * 10**18))


def signing_key(api_key: str) -> SigningKey:
    """The key that signs the webhooks of the account with this API key."""
    return SigningKey(hashlib.sha256(b"anycarrier telnyx sandbox " + api_key.encode()).digest())


def public_key(api_key: str) -> str:
    """What the account's owner reads in the portal: the public key, base64."""
    return base64.b64encode(bytes(signing_key(api_key).verify_key)).decode()


@dataclass
class Account:
    """Everything one API key can see."""

    api_key: str
    profile_id: str = field(default_factory=decimal_id)
    user_id: str = field(default_factory=lambda: secrets.token_hex(16))
    applications: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    voice_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    legs: dict[str, Leg] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)
    verified: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Numbers of other carriers that the account has proven to be its own, by number."""
    searched: set[str] = field(default_factory=set)
    """Numbers seen in a search: only these can be ordered."""
    dials: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Answers to dial commands by their command_id; a repeat gets the first one's."""

    def __post_init__(self) -> None:
        self.key = signing_key(self.api_key)
        self.created_at = moment()
        # What a person has clicked together in the portal: it may dial out, and where its events go is not set yet.
        outbound = {"outbound_voice_profile_id": self.profile_id}
        self.first_application = self.add_application(
            {"application_name": "Default", "webhook_event_url": "", "webhook_api_version": "2", "outbound": outbound},
            first_application(self.api_key),
        )["id"]

    def add_application(self, given: dict[str, Any], application_id: str | None = None) -> dict[str, Any]:
        """A new call control application; what is not given has the carrier's defaults."""
        made = {
            "active": True,
            "anchorsite_override": "Latency",
            "call_cost_in_webhooks": False,
            "dtmf_type": "RFC 2833",
            "first_command_timeout": False,
            "first_command_timeout_secs": 30,
            "redact_dtmf_debug_logging": False,
            "tags": [],
            "webhook_api_version": "1",
            "webhook_event_failover_url": "",
            "webhook_timeout_secs": None,
            **given,
            "inbound": {"shaken_stir_enabled": False, **given.get("inbound", {})},
            "outbound": dict(given.get("outbound", {})),
            "id": application_id or decimal_id(),
            "record_type": "call_control_application",
            "created_at": moment(),
            "updated_at": moment(),
        }
        self.applications[made["id"]] = made
        return made

    def add_number(self, number: str, connection_id: str = "", kind: str = "local") -> dict[str, Any]:
        """A number the account owns from now on."""
        country = "CA" if number[2:5] in ("416", "514", "604") else "US"
        made: dict[str, Any] = {
            "id": decimal_id(),
            "record_type": "phone_number",
            "phone_number": number,
            "phone_number_type": kind,
            "country_iso_alpha2": country,
            "status": "active",
            "tags": [],
            "connection_id": connection_id,
            "connection_name": self.applications.get(connection_id, {}).get("application_name", ""),
            "customer_reference": None,
            "external_pin": None,
            "t38_fax_gateway_enabled": True,
            "purchased_at": moment(),
            "billing_group_id": None,
            "emergency_enabled": False,
            "emergency_address_id": "",
            "call_forwarding_enabled": True,
            "cnam_listing_enabled": False,
            "call_recording_enabled": False,
            "messaging_profile_id": "",
            "messaging_profile_name": "",
            "deletion_lock_enabled": False,
            "source_type": "number_order",
            "created_at": moment(),
            "updated_at": moment(),
        }
        self.numbers[made["id"]] = made
        return made

    def number(self, e164: str) -> dict[str, Any] | None:
        """The record of an owned number, None when it is not ours."""
        return next((owned for owned in self.numbers.values() if owned["phone_number"] == e164), None)

    def verify(self, number: str) -> dict[str, Any]:
        """A number of another carrier, proven to be the account's by a code that was sent to it."""
        self.verified[number] = {"phone_number": number, "record_type": "verified_number", "verified_at": moment()}
        return self.verified[number]

    def may_show(self, number: str, *also: str) -> None:
        """Refuse a ``from`` that is neither the account's nor verified nor, in a transfer, of the call itself.

        https://developers.telnyx.com/docs/voice/sip-trunking/troubleshooting/response-codes (D51); a transfer may
        show the original caller.
        """
        if self.number(number) is None and number not in self.verified and number not in also:
            raise refuse("10010", "Unverified origination number D51", pointer="/from")

    def leg(self, call_control_id: str) -> Leg:
        """A call by its id; one that ended a while ago is as unknown as one that never was."""
        leg = self.legs.get(call_control_id)
        if leg is None or (leg.ended_at is not None and datetime.now(UTC) - leg.ended_at > CALL_KEPT):
            raise refuse("90015", "The call control ID is not known.", pointer="/call_control_id")
        return leg
