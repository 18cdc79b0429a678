"""A phone number as this face shows it: the line, with the settings of the identity it belongs to.

How incoming calls are taken is the identity's, unless it was set for this number alone.
"""

from __future__ import annotations

from typing import Any

from anycarrier_server.domain.inbound_routing import call_handling
from anycarrier_server.inkbox.shapes import Moment, Shown, Uuid
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
