"""``/v1/phone-numbers``: registering a number is the whole setup; the answer says what the carrier made of it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from anycarrier.numbers import AvailableNumber, NumberFeature, NumberQuery, NumberType
from anycarrier_server.domain import numbers
from anycarrier_server.domain.refusals import Invalid
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.number_shapes import (
    SAID,
    CapabilitiesShown,
    NumberChange,
    NumberShown,
    NumberWanted,
    OfferShown,
    OffersShown,
    PurchaseSent,
    RegisterSent,
    shown,
)
from anycarrier_server.oneinbox.shapes import Given, Listing, NumberAsked, Slice, YesOrNo, cut
from anycarrier_server.oneinbox.trunks import check_trunk


class Search(NumberWanted, Given):
    """What to look for."""

    limit: int = Field(default=10, ge=1, le=100)
    credential_id: str | None = None


class Which(Slice):
    """Which numbers to list."""

    phone_number: NumberAsked | None = Field(default=None, description="Only this one, in E.164")


class Release(Given):
    """``release=true`` gives the number back to the carrier, for good."""

    release: YesOrNo = False


async def register(asked: Asked[RegisterSent, None]) -> NumberShown:
    """Take a number of the carrier account into service; its calls go to the agent from now on.

    The carrier is configured at once. When that fails, ``status`` is ``inactive`` and ``provider_sync`` says why;
    registering it again tries again.
    """
    body = asked.body
    if body.provider_config is not None:
        check_trunk(body.provider, body.provider_config)
    row = await numbers.register(
        asked.service,
        asked.caller,
        number=body.phone_number,
        provider=body.provider,
        credential_id=body.credential_id,
        agent_id=body.agent_id,
        friendly_name=body.friendly_name,
        routing=_routing(body.inbound_routing),
        inbound_webhook_url=body.inbound_webhook_url,
    )
    return shown(asked.service, row)


async def search(asked: Asked[None, Search]) -> OffersShown:
    """What the carrier has on offer. Without ``credential_id``: the default account, or the only one."""
    wanted = asked.query
    query = _query(wanted, wanted.limit)
    found = await numbers.search(asked.service, asked.caller, query, credential_id=wanted.credential_id)
    credential = found.credential
    offers = [_offer(one, credential.public_id) for one in found.items[: wanted.limit]]
    return OffersShown(items=offers, provider=credential.provider, credential_id=credential.public_id)


async def purchase(asked: Asked[PurchaseSent, None]) -> NumberShown:
    """Buy a number on the workspace's own carrier account, and register it. This costs money at the carrier."""
    body = asked.body
    if all(getattr(body, name) is None for name in SAID):
        raise Invalid.field("phone_number", "say which number, or what it should be like: country, area_code, contains")
    row = await numbers.purchase(
        asked.service,
        asked.caller,
        number=body.phone_number,
        query=None if body.phone_number is not None else _query(body, 5),
        credential_id=body.credential_id,
        agent_id=body.agent_id,
        friendly_name=body.friendly_name,
        routing=_routing(body.inbound_routing),
    )
    return shown(asked.service, row)


async def every(asked: Asked[None, Which]) -> Listing[NumberShown]:
    """The workspace's numbers, oldest first."""
    rows = await numbers.every(asked.service, asked.caller)
    if (wanted := asked.query.phone_number) is not None:
        rows = [row for row in rows if row.number == wanted]
    items = [shown(asked.service, row) for row in cut(rows, asked.query)]
    return Listing(items=items, total=len(rows), limit=asked.query.limit, offset=asked.query.offset)


async def get(asked: Asked[None, None]) -> NumberShown:
    """One number."""
    return shown(asked.service, await numbers.get(asked.service, asked.caller, asked.path["phone_id"]))


async def change(asked: Asked[NumberChange, None]) -> NumberShown:
    """Move it to another agent (null: to nobody), rename it, or change its routing, which is merged."""
    body = asked.body
    changes: dict[str, Any] = body.model_dump(include=body.model_fields_set - {"inbound_routing", "call_handling"})
    if body.inbound_routing is not None:
        changes["routing"] = _routing(body.inbound_routing)
    if "call_handling" in body.model_fields_set:
        changes["call_handling"] = _routing(body.call_handling) if body.call_handling is not None else None
    return shown(
        asked.service, await numbers.update(asked.service, asked.caller, asked.path["phone_id"], **changes)
    )


async def sync(asked: Asked[None, None]) -> NumberShown:
    """Tell the carrier once more where the number's calls go."""
    return shown(asked.service, await numbers.resync(asked.service, asked.caller, asked.path["phone_id"]))


async def delete(asked: Asked[None, Release]) -> None:
    """Take it out of service. It stays yours at the carrier, unless ``release=true`` gives it back.

    The carrier sends its calls here no more. One that cannot be reached leaves the number in service: try again.
    """
    await numbers.release(
        asked.service, asked.caller, asked.path["phone_id"], at_carrier=asked.query.release
    )


def _routing(routing: Any) -> dict[str, Any]:
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


ROOT = "/v1/phone-numbers"
ONE = ROOT + "/{phone_id}"

ENDPOINTS = [
    Endpoint("POST", ROOT, register, "Register a number of your carrier account", RegisterSent, answer=NumberShown,
             status=201, refusals=(400, 403, 404, 409, 413)),
    Endpoint("GET", ROOT, every, "List numbers", query=Which, answer=Listing[NumberShown]),
    Endpoint("GET", ROOT + "/search", search, "Search the carrier's stock", query=Search, answer=OffersShown,
             refusals=(400, 404, 501, 502, 504)),
    Endpoint("POST", ROOT + "/purchase", purchase, "Buy a number and register it", PurchaseSent, answer=NumberShown,
             status=201, refusals=(400, 403, 404, 409, 413, 501, 502, 504)),
    Endpoint("GET", ONE, get, "Look at a number", answer=NumberShown, refusals=(403, 404)),
    Endpoint("PATCH", ONE, change, "Change where its calls go", NumberChange, answer=NumberShown,
             refusals=(403, 404, 413)),
    Endpoint("POST", ONE + "/sync", sync, "Configure the carrier again", answer=NumberShown,
             refusals=(400, 403, 404, 409)),
    Endpoint("DELETE", ONE, delete, "Take it out of service", query=Release, status=204,
             refusals=(400, 403, 404, 409, 501, 502, 504)),
]  # fmt: skip
