"""A number for an identity: bought on the workspace's carrier account, handed over, given back.

One number per identity. What was bought through us is given back at the carrier; a number somebody brought along is
only let go, and stays in their carrier account.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from anycarrier.errors import AnycarrierError, UnsupportedOperation
from anycarrier.numbers import NumberQuery, NumberType
from anycarrier_server.domain import manage_agents, manage_numbers
from anycarrier_server.domain.access import Caller
from anycarrier_server.domain.resources import Resources
from anycarrier_server.inkbox import incoming_calls
from anycarrier_server.inkbox.error_details import ContractRefusal
from anycarrier_server.inkbox.fields import Id, Mode, Number
from anycarrier_server.inkbox.incoming_calls import Handling
from anycarrier_server.refusals import Invalid, LineHeld
from anycarrier_server.store.models import Agent, LineRow

State = Field(default=None, pattern=r"^[A-Za-z]{2,3}$", description="State or province", examples=["NY"])
AreaCode = Field(default=None, pattern=r"^[0-9]{1,6}$")


class Wanted(Handling):
    """Which number, and how its calls are taken. Without ``number``, the first on offer that fits."""

    type: Literal["local", "toll_free"] = "local"
    state: str | None = State
    filter_mode: Mode = "blacklist"
    country: str = Field(default="US", pattern="^[A-Z]{2}$")
    area_code: str | None = AreaCode
    number: Number | None = Field(default=None, description="One from available-numbers")
    credential_id: Id | None = Field(default=None, description="Whose carrier account; else the default one")


GIVING = 120.0
"""Seconds after which an identity may be given a number though another giving never said that it was done."""


@asynccontextmanager
async def alone(resources: Resources, agent: Agent) -> AsyncIterator[None]:
    """Only one request at a time, over all processes, gives this identity a number; the others are 409.

    Looking first is not enough: of two who look at once, both would buy.
    """
    key, once = f"number-for:{agent.id}", resources.exchange.switchboard.once
    if not await once.first(key, GIVING):
        raise ContractRefusal(
            409, "identity_is_given_number", "another request is at this identity's number: look again then"
        )
    try:
        yield
    finally:
        await once.forget(key)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The number and the identity as it is now."""

    line: LineRow
    agent: Agent


async def provision(resources: Resources, caller: Caller, agent: Agent, wanted: Wanted) -> Provisioned:
    """Buy a number for the identity. Its settings are checked first, since a purchase costs money."""
    async with alone(resources, agent):
        return await _provision(resources, caller, agent, wanted)


async def _provision(resources: Resources, caller: Caller, agent: Agent, wanted: Wanted) -> Provisioned:
    held = await resources.store.lines.list(caller.workspace_id, agent_id=agent.id)
    if held:
        raise LineHeld(str(held[0].id))
    ready = await incoming_calls.apply_to_all(resources, caller, agent, wanted)
    if "filter_mode" in wanted.model_fields_set:
        modes = {"inbound_filter_mode": wanted.filter_mode, "outbound_filter_mode": wanted.filter_mode}
        ready = await manage_agents.change_agent(resources, caller, ready, **modes)
    query = NumberQuery(
        country=wanted.country,
        area_code=wanted.area_code,
        region=wanted.state.upper() if wanted.state is not None else None,
        type=NumberType(wanted.type),
        limit=20,
    )
    try:
        line = await manage_numbers.purchase_number(
            resources,
            caller,
            number=wanted.number,
            query=query,
            credential_id=wanted.credential_id,
            agent_id=agent.id,
            one_per_agent=True,
        )
    except UnsupportedOperation as unsupported:
        await incoming_calls.put_back_handling(resources.store, caller, agent, ready)
        raise Invalid.field("type", f"the carrier does not sell such numbers: {unsupported.detail}") from None
    except AnycarrierError:
        await incoming_calls.put_back_handling(resources.store, caller, agent, ready)
        raise
    return Provisioned(line, ready)


async def hand_over(resources: Resources, caller: Caller, agent: Agent, line_id: str) -> Provisioned:
    """Give the identity a number of the workspace that nobody has."""
    line = await manage_numbers.get_number(resources.store, caller, line_id)
    if line.agent_id == agent.id:
        return Provisioned(line, agent)
    if line.agent_id is not None:
        raise ContractRefusal(409, "number_has_identity", "that number is another identity's: release it there first")
    async with alone(resources, agent):
        held = await resources.store.lines.list(caller.workspace_id, agent_id=agent.id)
        if held:
            raise LineHeld(str(held[0].id))
        line = await manage_numbers.change_number(resources, caller, line.id, agent_id=agent.id)
        return Provisioned(line, await incoming_calls.apply_to_all(resources, caller, agent))


async def let_go(resources: Resources, caller: Caller, line: LineRow) -> None:
    """Take the number from its identity: bought ones back to the carrier, brought ones stay with us, unassigned."""
    if line.bought:
        await manage_numbers.release_number(resources, caller, line.id, at_carrier=True)
    else:
        await manage_numbers.change_number(resources, caller, line.id, agent_id=None)
