"""A number's requests and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from anycarrier_server.domain import sync
from anycarrier_server.oneinbox.shapes import Id, Moment, Number, Sent, Shown, Text, Url
from anycarrier_server.store import public_id
from anycarrier_server.store.models import LineRow

if TYPE_CHECKING:
    from anycarrier_server.service import Service

Action = Literal["auto_accept", "auto_reject", "webhook", "forward"]


class HandlingSent(Sent):
    """How incoming calls are taken. ``incoming_call_action`` null: as ``auto_accept``."""

    incoming_call_action: Action | None = Field(
        default=None,
        description="auto_accept connects the agent: its websocket_url, else its handler, else `listen`; auto_reject "
        "declines; webhook asks incoming_call_webhook_url; forward sends the caller to the forwarding target",
    )
    websocket_url: Url | None = Field(
        default=None, description="Where calls go: your server, as wss://. Takes precedence over a handler"
    )
    incoming_call_webhook_url: Url | None = None
    forwarding_target_type: Literal["phone", "sip"] | None = None
    forwarding_phone_number: Number | None = None
    forwarding_sip_uri: str | None = Field(default=None, max_length=512, pattern=r"^sips?:[!-~]+$")


class HandlingShown(Shown):
    """How incoming calls are taken."""

    incoming_call_action: str | None
    websocket_url: str | None
    incoming_call_webhook_url: str | None
    forwarding_target_type: str | None
    forwarding_phone_number: str | None
    forwarding_sip_uri: str | None


class FallbackSent(Sent):
    """Who takes the calls the first cannot."""

    agent_id: Id


class RoutingSent(Sent):
    """Who takes the number's calls; keys not given stay, those given as null are cleared."""

    agent_id: Id | None = None
    fallback: FallbackSent | None = None
    voicemail_message: Text | None = Field(default=None, description="Spoken when nobody can take the call")


class RegisterSent(Sent):
    """A number you hold at the carrier."""

    phone_number: Number
    provider: str = Field(min_length=1, max_length=64, description="Name of the credential's carrier")
    agent_id: Id
    friendly_name: str | None = Field(default=None, max_length=255)
    credential_id: Id | None = Field(default=None, description="Not needed when the carrier has one account here")
    provider_config: dict[str, Any] | None = Field(
        default=None,
        description="A SIP trunk's trunk_address, auth_username and auth_password. Checked to be whole; not used and "
        "not kept, since calls go through the carrier's call-control API",
    )
    inbound_routing: RoutingSent | None = None
    inbound_webhook_url: Url | None = Field(default=None, description="Asked, for 3 s, what to do with each ring")


class NumberChange(Sent):
    """What to change; keys not given stay."""

    friendly_name: str | None = Field(default=None, max_length=255)
    agent_id: Id | None = Field(
        default=None, description="null detaches, its routing's agent too: calls are declined, dialling still works"
    )
    inbound_routing: RoutingSent | None = None
    inbound_webhook_url: Url | None = None
    call_handling: HandlingSent | None = Field(
        default=None,
        description="For this number alone, in place of its agent's: keys not given stay. null: back to the agent's",
    )


class NumberWanted(BaseModel):
    """What a number should be like."""

    country: str | None = Field(default=None, pattern=r"^[A-Za-z]{2}$", description="ISO 3166 alpha-2; default US")
    area_code: str | None = Field(default=None, pattern=r"^[0-9]{1,6}$")
    contains: str | None = Field(default=None, pattern=r"^[0-9A-Za-z*+]{1,16}$", description="Digits or letters")
    locality: str | None = Field(default=None, max_length=100)
    region: str | None = Field(default=None, max_length=100, description="State or province, e.g. CA")
    type: Literal["local", "toll_free", "mobile", "national"] = "local"


SAID = ("phone_number", "country", "area_code", "contains")
"""One of these must be said: nobody buys just any number."""


class PurchaseSent(NumberWanted, Sent):
    """The number to buy, or what it should be like: then the first that fits is bought."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in SAID]
        }
    )

    phone_number: Number | None = None
    credential_id: Id | None = None
    friendly_name: str | None = Field(default=None, max_length=255)
    agent_id: Id | None = None
    inbound_routing: RoutingSent | None = None


class FallbackShown(Shown):
    agent_id: str


class RoutingShown(Shown):
    """Who takes the number's calls. ``agent_id`` null: the number's own agent."""

    agent_id: str | None = None
    fallback: FallbackShown | None = None
    voicemail_message: str | None = None


class SyncShown(Shown):
    """What the carrier made of our configuring it."""

    ok: bool
    message: str
    at: Moment | None = None


class NumberShown(Shown):
    """A number in service. ``webhook_url`` is where the carrier posts its calls, for those who configure by hand."""

    id: str
    phone_number: str
    agent_id: str | None
    status: str
    friendly_name: str | None
    provider: str
    credential_id: str
    inbound_trunk_id: str | None = None
    outbound_trunk_id: str | None = None
    dispatch_rule_id: str | None = None
    inbound_routing: RoutingShown
    inbound_webhook_url: str | None
    call_handling: dict[str, str | None] = Field(
        description="What was set for this number alone; its agent's setting holds for the rest"
    )
    provider_sync: SyncShown | None
    webhook_url: str
    country: str | None
    type: str
    purchased: bool
    created_at: Moment
    updated_at: Moment


class CapabilitiesShown(Shown):
    voice: bool
    sms: bool
    mms: bool


class OfferShown(Shown):
    """A number on offer. Prices are null where the carrier's search does not tell."""

    phone_number: str
    friendly_name: str
    country: str
    region: str | None
    locality: str | None
    type: str | None
    capabilities: CapabilitiesShown
    monthly_cost: float | None
    currency: str | None
    provider: str
    credential_id: str


class OffersShown(Shown):
    """Numbers on offer at one carrier account."""

    items: list[OfferShown]
    provider: str
    credential_id: str


def shown(service: Service, row: LineRow) -> NumberShown:
    """The row as this face shows it."""
    return NumberShown(
        id=row.public_id,
        phone_number=row.number,
        agent_id=public_agent(row),
        status=row.status,
        friendly_name=row.friendly_name,
        provider=row.provider,
        credential_id=public_id("credential", row.credential_id),
        inbound_routing=RoutingShown.model_validate(row.routing),
        inbound_webhook_url=row.inbound_webhook_url,
        call_handling=row.call_handling,
        provider_sync=SyncShown.model_validate(row.sync) if row.sync else None,
        webhook_url=sync.webhook_url(service, row),
        country=row.country,
        type=row.type,
        purchased=row.bought,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def public_agent(row: LineRow) -> str | None:
    """The agent's id as shown."""
    return public_id("agent", row.agent_id) if row.agent_id is not None else None
