"""``/phone/numbers``: numbers are provisioned, routed and released. How incoming calls are taken is the identity's
setting, unless it was set for this number alone.

``/phone/numbers/{id}/search`` searches transcripts. What the carrier has on offer is at ``/phone/available-numbers``,
an addition of ours: the contract itself picks a number for you.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from anycarrier.errors import UnsupportedOperation
from anycarrier.numbers import NumberQuery, NumberType
from anycarrier_server.domain import manage_agents, manage_numbers, recordings_and_transcripts
from anycarrier_server.domain.access import need_admin
from anycarrier_server.domain.agent_overrides import call_handling
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.inkbox import incoming_calls, provisioning
from anycarrier_server.inkbox.call_views import TranscriptShown, segment_shown
from anycarrier_server.inkbox.error_details import ContractRefusal
from anycarrier_server.inkbox.fields import PHONE, Given, Handle, Id, Mode, Moment, Shown, Uuid
from anycarrier_server.inkbox.incoming_calls import Handling
from anycarrier_server.inkbox.provisioning import AreaCode, State, Wanted
from anycarrier_server.refusals import Invalid
from anycarrier_server.store.models import Agent, LineRow

STATUS = {"active": "active", "inactive": "paused", "released": "released"}


class FilterNotice(Shown):
    """What a change of the filter mode made pointless."""

    new_filter_mode: str
    redundant_rule_action: str
    redundant_rule_count: int


class NumberShown(Shown):
    """A number in service. ``filter_mode`` is never null."""

    id: Uuid
    number: str
    type: str
    status: str
    incoming_call_action: str
    client_websocket_url: str | None
    incoming_call_webhook_url: str | None
    forwarding_target_type: str | None
    forwarding_phone_number: str | None
    forwarding_sip_uri: str | None
    filter_mode: str
    inbound_filter_mode: str
    outbound_filter_mode: str
    filter_mode_change_notice: FilterNotice | None = None
    sms_status: str = "assignment_failed"
    sms_error_code: str | None = "sms_not_offered"
    sms_error_detail: str | None = "this service carries calls only"
    sms_ready_at: Moment | None = None
    state: str | None
    country: str
    agent_identity_id: Uuid | None
    provider: str
    provider_number_id: str | None
    sync: dict[str, Any] | None
    created_at: Moment
    updated_at: Moment


def number_shown(line: LineRow, agent: Agent | None, notice: FilterNotice | None = None) -> NumberShown:
    """The line and its identity as one object."""
    handling = call_handling(agent, line)
    # An agent for whom nobody has said takes its calls; a number of nobody's does not.
    action = (handling.incoming_call_action or "auto_accept") if agent is not None else "auto_reject"
    inbound = agent.inbound_filter_mode if agent is not None else "blacklist"
    return NumberShown(
        id=line.id,
        number=line.number,
        type=line.type,
        status=STATUS.get(line.status, "paused"),
        incoming_call_action=action,
        client_websocket_url=handling.websocket_url,
        incoming_call_webhook_url=handling.incoming_call_webhook_url,
        forwarding_target_type=handling.forwarding_target_type,
        forwarding_phone_number=handling.forwarding_phone_number,
        forwarding_sip_uri=handling.forwarding_sip_uri,
        filter_mode=inbound,
        inbound_filter_mode=inbound,
        outbound_filter_mode=agent.outbound_filter_mode if agent is not None else "blacklist",
        filter_mode_change_notice=notice,
        state=line.state,
        country=line.country or "US",
        agent_identity_id=line.agent_id,
        provider=line.provider,
        provider_number_id=line.carrier_number_id,
        sync=line.sync,
        created_at=line.created_at,
        updated_at=line.updated_at,
    )


NUMBERS = f"{PHONE}/numbers"
NUMBER = NUMBERS + "/{number_id}"


class NumberSent(Wanted):
    """A number for an identity."""

    agent_handle: Handle


class NumberChange(Handling):
    """What to change; absent keys keep their value, null clears."""

    filter_mode: Mode = "blacklist"


class TranscriptSearch(Given):
    """What was said."""

    q: str = Field(min_length=1, max_length=500)
    party: Literal["local", "remote"] | None = None
    limit: int = Field(default=50, ge=1, le=200)


class OffersAsked(Given):
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


async def provision_number(asked: Asked[NumberSent, None]) -> NumberShown:
    """Buy a number for an identity that has none."""
    agent = await manage_agents.agent_by_handle(asked.store, asked.caller, asked.body.agent_handle)
    made = await provisioning.provision(asked.resources, asked.caller, agent, asked.body)
    return number_shown(made.line, made.agent)


async def list_numbers(asked: Asked[None, None]) -> list[NumberShown]:
    """All numbers; an identity's own key sees its own."""
    of = {agent.id: agent for agent in await manage_agents.list_agents(asked.store, asked.caller)}
    lines = await manage_numbers.list_numbers(asked.store, asked.caller)
    return [number_shown(line, of.get(line.agent_id) if line.agent_id else None) for line in lines]


async def get_number(asked: Asked[None, None]) -> NumberShown:
    """One number."""
    line = await manage_numbers.get_number(asked.store, asked.caller, asked.path["number_id"])
    return number_shown(line, await asked.store.agents.find(line.agent_id))


async def change_number(asked: Asked[NumberChange, None]) -> NumberShown:
    """Set how this number's calls are taken; its identity's other numbers keep the identity's setting.

    The filter mode is the identity's: contact rules go for all its numbers.
    """
    resources, caller, body = asked.resources, asked.caller, asked.body
    line = await manage_numbers.get_number(resources.store, caller, asked.path["number_id"])
    agent = await resources.store.agents.get(line.workspace_id, line.agent_id)
    if agent is None:
        raise ContractRefusal(409, "number_has_no_identity", "the number is nobody's: give it an identity first")
    if "filter_mode" in body.model_fields_set:
        need_admin(caller, "setting a filter mode")
    if fields := incoming_calls.changes(body):
        line = await incoming_calls.apply_to_number(resources, agent, line, fields)
    turned = False
    if "filter_mode" in body.model_fields_set:
        modes = {"inbound_filter_mode": body.filter_mode, "outbound_filter_mode": body.filter_mode}
        turned = (agent.inbound_filter_mode, agent.outbound_filter_mode) != (body.filter_mode, body.filter_mode)
        agent = await manage_agents.change_agent(resources, caller, agent, **modes)
    notice = None
    if turned:
        action, count = await resources.store.rules.redundant(agent.id, body.filter_mode)
        notice = FilterNotice(
            new_filter_mode=body.filter_mode, redundant_rule_action=action, redundant_rule_count=count
        )
    return number_shown(line, agent, notice)


async def release_number(asked: Asked[None, None]) -> None:
    """Take it out of service; one bought through us is given back at the carrier, for good.

    One brought along stays in its account, which sends its calls here no more.
    """
    line = await manage_numbers.get_number(asked.store, asked.caller, asked.path["number_id"])
    await manage_numbers.release_number(asked.resources, asked.caller, line.id, at_carrier=line.bought)


async def search_transcripts(asked: Asked[None, TranscriptSearch]) -> list[TranscriptShown]:
    """What was said on the number's calls, best match first."""
    line = await manage_numbers.get_number(asked.store, asked.caller, asked.path["number_id"])
    found = await recordings_and_transcripts.search_transcripts(
        asked.store, asked.caller, line.id, asked.query.q, party=asked.query.party, limit=asked.query.limit
    )
    return [segment_shown(segment, line.number) for segment in found]


async def search_offers(asked: Asked[None, OffersAsked]) -> list[OfferShown]:
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
        found = await manage_numbers.search_numbers(
            asked.resources, asked.caller, query, credential_id=asks.credential_id
        )
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
    Endpoint("POST", NUMBERS, provision_number, "Buy a number for an identity", NumberSent, answer=NumberShown,
             status=201,
             refusals=(403, 404, 409, 413, 501, 502)),
    Endpoint("GET", NUMBERS, list_numbers, "List numbers", answer=list[NumberShown]),
    Endpoint("GET", NUMBER, get_number, "Look at a number", answer=NumberShown, refusals=(403, 404)),
    Endpoint("PATCH", NUMBER, change_number, "Set how its calls are taken", NumberChange, answer=NumberShown,
             refusals=(403, 404, 409, 413)),
    Endpoint("DELETE", NUMBER, release_number, "Release a number", status=204, refusals=(403, 404, 409, 501, 502)),
    Endpoint("GET", f"{NUMBER}/search", search_transcripts, "Search what was said on its calls", query=TranscriptSearch,
             answer=list[TranscriptShown], refusals=(403, 404)),
    Endpoint("GET", f"{PHONE}/available-numbers", search_offers, "Numbers on offer at the carrier", query=OffersAsked,
             answer=list[OfferShown], refusals=(404, 409, 501, 502)),
]  # fmt: skip
