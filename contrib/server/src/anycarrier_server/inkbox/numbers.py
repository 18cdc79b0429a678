"""``/phone/numbers``: provisioned, routed, released; and what is said on their calls, searched.

``/phone/numbers/{id}/search`` is a search in transcripts. What the carrier has on offer is asked at
``/phone/available-numbers``, an addition of ours: the contract itself picks a number for you.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anycarrier.errors import UnsupportedOperation
from anycarrier.numbers import NumberQuery, NumberType
from anycarrier_server.domain import agents, numbers, transcripts
from anycarrier_server.domain.callers import need_admin
from anycarrier_server.domain.refusals import Invalid
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.inkbox import call_handling, provisioning
from anycarrier_server.inkbox.call_handling import Handling
from anycarrier_server.inkbox.errors import Said
from anycarrier_server.inkbox.number_shape import FilterNotice, NumberShown, number_shown
from anycarrier_server.inkbox.provisioning import AreaCode, State, Wanted
from anycarrier_server.inkbox.shapes import PHONE, Given, Handle, Id, Mode, Shown
from anycarrier_server.inkbox.transcripts import TranscriptShown, segment_shown

ROOT = f"{PHONE}/numbers"
ONE = ROOT + "/{number_id}"


class NumberSent(Wanted):
    """A number for an identity."""

    agent_handle: Handle


class NumberChange(Handling):
    """What to change; absent keys keep their value, null clears."""

    filter_mode: Mode = "blacklist"


class Words(Given):
    """What was said."""

    q: str = Field(min_length=1, max_length=500)
    party: Literal["local", "remote"] | None = None
    limit: int = Field(default=50, ge=1, le=200)


class OnOffer(Given):
    """Which numbers."""

    country: str = Field(default="US", pattern="^[A-Z]{2}$")
    area_code: str | None = AreaCode
    state: str | None = State
    type: Literal["local", "toll_free"] = "local"
    limit: int = Field(default=20, ge=1, le=200)
    credential_id: Id | None = None


class OfferShown(Shown):
    """A number that could be bought."""

    number: str
    provider: str
    country: str
    type: str | None
    state: str | None
    locality: str | None


async def provision(asked: Asked[NumberSent, None]) -> NumberShown:
    """Buy a number for an identity that has none."""
    agent = await agents.by_handle(asked.service, asked.caller, asked.body.agent_handle)
    made = await provisioning.provision(asked.service, asked.caller, agent, asked.body)
    return number_shown(made.line, made.agent)


async def every(asked: Asked[None, None]) -> list[NumberShown]:
    """All numbers; an identity's own key sees its own."""
    of = {agent.id: agent for agent in await agents.every(asked.service, asked.caller)}
    lines = await numbers.every(asked.service, asked.caller)
    return [number_shown(line, of.get(line.agent_id) if line.agent_id else None) for line in lines]


async def get(asked: Asked[None, None]) -> NumberShown:
    """One number."""
    line = await numbers.get(asked.service, asked.caller, asked.path["number_id"])
    return number_shown(line, await asked.service.store.agents.find(line.agent_id))


async def change(asked: Asked[NumberChange, None]) -> NumberShown:
    """Set how this number's calls are taken; its identity's other numbers keep the identity's setting.

    The filter mode is the identity's: contact rules go for all its numbers.
    """
    service, caller, body = asked.service, asked.caller, asked.body
    line = await numbers.get(service, caller, asked.path["number_id"])
    agent = await service.store.agents.get(line.workspace_id, line.agent_id)
    if agent is None:
        raise Said(409, "number_has_no_identity", "the number is nobody's: give it an identity first")
    if "filter_mode" in body.model_fields_set:
        need_admin(caller, "setting a filter mode")
    if fields := call_handling.changes(body):
        line = await call_handling.apply_to_number(service, agent, line, fields)
    turned = False
    if "filter_mode" in body.model_fields_set:
        modes = {"inbound_filter_mode": body.filter_mode, "outbound_filter_mode": body.filter_mode}
        turned = (agent.inbound_filter_mode, agent.outbound_filter_mode) != (body.filter_mode, body.filter_mode)
        agent = await agents.change(service, caller, agent, **modes)
    notice = None
    if turned:
        action, count = await service.store.rules.redundant(agent.id, body.filter_mode)
        notice = FilterNotice(
            new_filter_mode=body.filter_mode, redundant_rule_action=action, redundant_rule_count=count
        )
    return number_shown(line, agent, notice)


async def release(asked: Asked[None, None]) -> None:
    """Take it out of service; one bought through us is given back at the carrier, for good.

    One brought along stays in its account, which sends its calls here no more.
    """
    line = await numbers.get(asked.service, asked.caller, asked.path["number_id"])
    await numbers.release(asked.service, asked.caller, line.id, at_carrier=line.bought)


async def search(asked: Asked[None, Words]) -> list[TranscriptShown]:
    """What was said on the number's calls, best match first."""
    line = await numbers.get(asked.service, asked.caller, asked.path["number_id"])
    found = await transcripts.search(
        asked.service, asked.caller, line.id, asked.query.q, party=asked.query.party, limit=asked.query.limit
    )
    return [segment_shown(segment, line.number) for segment in found]


async def available(asked: Asked[None, OnOffer]) -> list[OfferShown]:
    """What the carrier has on offer."""
    asks = asked.query
    query = NumberQuery(
        country=asks.country,
        area_code=asks.area_code,
        region=asks.state.upper() if asks.state is not None else None,
        type=NumberType(asks.type),
        limit=asks.limit,
    )
    try:
        found = await numbers.search(asked.service, asked.caller, query, credential_id=asks.credential_id)
    except UnsupportedOperation as unsupported:
        raise Invalid.field("type", str(unsupported), where="query") from None
    return [
        OfferShown(
            number=offer.number,
            provider=offer.provider,
            country=offer.country,
            type=offer.type.value if offer.type is not None else None,
            state=offer.region,
            locality=offer.locality,
        )
        for offer in found.items
    ]


ENDPOINTS: list[Endpoint] = [
    Endpoint("POST", ROOT, provision, "Buy a number for an identity", NumberSent, answer=NumberShown, status=201,
             refusals=(403, 404, 409, 413, 501, 502)),
    Endpoint("GET", ROOT, every, "List numbers", answer=list[NumberShown]),
    Endpoint("GET", ONE, get, "Look at a number", answer=NumberShown, refusals=(403, 404)),
    Endpoint("PATCH", ONE, change, "Set how its calls are taken", NumberChange, answer=NumberShown,
             refusals=(403, 404, 409, 413)),
    Endpoint("DELETE", ONE, release, "Release a number", status=204, refusals=(403, 404, 409, 501, 502)),
    Endpoint("GET", f"{ONE}/search", search, "Search what was said on its calls", query=Words,
             answer=list[TranscriptShown], refusals=(403, 404)),
    Endpoint("GET", f"{PHONE}/available-numbers", available, "Numbers on offer at the carrier", query=OnOffer,
             answer=list[OfferShown], refusals=(404, 409, 501, 502)),
]  # fmt: skip
