"""``/v1/phone-numbers``: registering a number is the whole setup; the answer says what the carrier made of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from anycarrier.numbers import AvailableNumber, NumberFeature, NumberQuery, NumberType
from anycarrier_server.domain import manage_numbers
from anycarrier_server.domain.resources import Resources
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.errors import check_trunk
from anycarrier_server.oneinbox.shapes import (
    Given,
    HandlingSent,
    Id,
    Listing,
    Moment,
    Number,
    NumberAsked,
    Sent,
    Shown,
    Slice,
    Text,
    Url,
    YesOrNo,
    cut,
)
from anycarrier_server.refusals import Invalid
from anycarrier_server.store import public_id
from anycarrier_server.store.models import LineRow


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


DESCRIBED_BY = ("phone_number", "country", "area_code", "contains")
"""One of these must be said: nobody buys just any number."""


class PurchaseSent(NumberWanted, Sent):
    """The number to buy, or what it should be like: then the first that fits is bought."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in DESCRIBED_BY]
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


def number_shown(resources: Resources, row: LineRow) -> NumberShown:
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
        webhook_url=manage_numbers.webhook_url_of(resources, row),
        country=row.country,
        type=row.type,
        purchased=row.bought,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def public_agent(row: LineRow) -> str | None:
    """The agent's id as shown."""
    return public_id("agent", row.agent_id) if row.agent_id is not None else None


class SearchAsked(NumberWanted, Given):
    """What to look for."""

    limit: int = Field(default=10, ge=1, le=100)
    credential_id: str | None = None


class NumbersAsked(Slice):
    """Which numbers to list."""

    phone_number: NumberAsked | None = Field(default=None, description="Only this one, in E.164")


class ReleaseAsked(Given):
    """``release=true`` gives the number back to the carrier, for good."""

    release: YesOrNo = False


async def register_number(asked: Asked[RegisterSent, None]) -> NumberShown:
    """Take a number of the carrier account into service; its calls go to the agent from now on.

    The carrier is configured at once. When that fails, ``status`` is ``inactive`` and ``provider_sync`` says why;
    registering it again tries again.
    """
    body = asked.body
    if body.provider_config is not None:
        check_trunk(body.provider, body.provider_config)
    row = await manage_numbers.register_number(
        asked.resources,
        asked.caller,
        number=body.phone_number,
        provider=body.provider,
        credential_id=body.credential_id,
        agent_id=body.agent_id,
        friendly_name=body.friendly_name,
        routing=_as_given(body.inbound_routing),
        inbound_webhook_url=body.inbound_webhook_url,
    )
    return number_shown(asked.resources, row)


async def search_numbers(asked: Asked[None, SearchAsked]) -> OffersShown:
    """What the carrier has on offer. Without ``credential_id``: the default account, or the only one."""
    wanted = asked.query
    query = _query(wanted, wanted.limit)
    found = await manage_numbers.search_numbers(
        asked.resources, asked.caller, query, credential_id=wanted.credential_id
    )
    credential = found.credential
    offers = [_offer(one, credential.public_id) for one in found.items[: wanted.limit]]
    return OffersShown(items=offers, provider=credential.provider, credential_id=credential.public_id)


async def purchase_number(asked: Asked[PurchaseSent, None]) -> NumberShown:
    """Buy a number on the workspace's own carrier account, and register it. This costs money at the carrier."""
    body = asked.body
    if all(getattr(body, name) is None for name in DESCRIBED_BY):
        raise Invalid.field("phone_number", "say which number, or what it should be like: country, area_code, contains")
    row = await manage_numbers.purchase_number(
        asked.resources,
        asked.caller,
        number=body.phone_number,
        query=None if body.phone_number is not None else _query(body, 5),
        credential_id=body.credential_id,
        agent_id=body.agent_id,
        friendly_name=body.friendly_name,
        routing=_as_given(body.inbound_routing),
    )
    return number_shown(asked.resources, row)


async def list_numbers(asked: Asked[None, NumbersAsked]) -> Listing[NumberShown]:
    """The workspace's numbers, oldest first."""
    rows = await manage_numbers.list_numbers(asked.store, asked.caller)
    if (wanted := asked.query.phone_number) is not None:
        rows = [row for row in rows if row.number == wanted]
    items = [number_shown(asked.resources, row) for row in cut(rows, asked.query)]
    return Listing(items=items, total=len(rows), limit=asked.query.limit, offset=asked.query.offset)


async def get_number(asked: Asked[None, None]) -> NumberShown:
    """One number."""
    return number_shown(
        asked.resources, await manage_numbers.get_number(asked.store, asked.caller, asked.path["phone_id"])
    )


async def change_number(asked: Asked[NumberChange, None]) -> NumberShown:
    """Move it to another agent (null: to nobody), rename it, or change its routing, which is merged."""
    body = asked.body
    changes: dict[str, Any] = body.model_dump(include=body.model_fields_set - {"inbound_routing", "call_handling"})
    if body.inbound_routing is not None:
        changes["routing"] = _as_given(body.inbound_routing)
    if "call_handling" in body.model_fields_set:
        changes["call_handling"] = _as_given(body.call_handling) if body.call_handling is not None else None
    return number_shown(
        asked.resources,
        await manage_numbers.change_number(asked.resources, asked.caller, asked.path["phone_id"], **changes),
    )


async def sync_number(asked: Asked[None, None]) -> NumberShown:
    """Tell the carrier once more where the number's calls go."""
    return number_shown(
        asked.resources, await manage_numbers.sync_number(asked.resources, asked.caller, asked.path["phone_id"])
    )


async def delete_number(asked: Asked[None, ReleaseAsked]) -> None:
    """Take it out of service. It stays yours at the carrier, unless ``release=true`` gives it back.

    The carrier sends its calls here no more. One that cannot be reached leaves the number in service: try again.
    """
    await manage_numbers.release_number(
        asked.resources, asked.caller, asked.path["phone_id"], at_carrier=asked.query.release
    )


def _as_given(routing: Any) -> dict[str, Any]:
    return {} if routing is None else routing.model_dump(exclude_unset=True)


def _query(wanted: NumberWanted, limit: int) -> NumberQuery:
    return NumberQuery(
        country=(wanted.country or "US").upper(),
        area_code=wanted.area_code,
        contains=wanted.contains,
        locality=wanted.locality,
        region=wanted.region,
        type=NumberType(wanted.type),
        limit=limit,
    )


def _offer(one: AvailableNumber, credential_id: str) -> OfferShown:
    features = one.features
    return OfferShown(
        phone_number=one.number,
        friendly_name=one.number,
        country=one.country,
        region=one.region,
        locality=one.locality,
        type=one.type.value if one.type is not None else None,
        capabilities=CapabilitiesShown(
            voice=NumberFeature.VOICE in features,
            sms=NumberFeature.SMS in features,
            mms=NumberFeature.MMS in features,
        ),
        monthly_cost=float(one.monthly_cost) if one.monthly_cost is not None else None,
        currency=one.currency,
        provider=one.provider,
        credential_id=credential_id,
    )


NUMBERS = "/v1/phone-numbers"
NUMBER = NUMBERS + "/{phone_id}"

ENDPOINTS = [
    Endpoint("POST", NUMBERS, register_number, "Register a number of your carrier account", RegisterSent,
             answer=NumberShown,
             status=201, refusals=(400, 403, 404, 409, 413)),
    Endpoint("GET", NUMBERS, list_numbers, "List numbers", query=NumbersAsked, answer=Listing[NumberShown]),
    Endpoint("GET", NUMBERS + "/search", search_numbers, "Search the carrier's stock", query=SearchAsked,
             answer=OffersShown,
             refusals=(400, 404, 501, 502, 504)),
    Endpoint("POST", NUMBERS + "/purchase", purchase_number, "Buy a number and register it", PurchaseSent,
             answer=NumberShown,
             status=201, refusals=(400, 403, 404, 409, 413, 501, 502, 504)),
    Endpoint("GET", NUMBER, get_number, "Look at a number", answer=NumberShown, refusals=(403, 404)),
    Endpoint("PATCH", NUMBER, change_number, "Change where its calls go", NumberChange, answer=NumberShown,
             refusals=(403, 404, 413)),
    Endpoint("POST", NUMBER + "/sync", sync_number, "Configure the carrier again", answer=NumberShown,
             refusals=(400, 403, 404, 409)),
    Endpoint("DELETE", NUMBER, delete_number, "Take it out of service", query=ReleaseAsked, status=204,
             refusals=(400, 403, 404, 409, 501, 502, 504)),
]  # fmt: skip
