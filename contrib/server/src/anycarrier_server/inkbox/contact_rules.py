"""Contact rules, by identity and (the older way) by number: the same rules, behind two doors.

Both doors share one address for the list of all, and parse different keys of it: each rule has both. An identity
without a number has the nil uuid there, since the older clients insist on one.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from anycarrier_server.domain import manage_agents, manage_numbers
from anycarrier_server.domain.access import agent_of
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.error_details import ContractRefusal
from anycarrier_server.inkbox.fields import PHONE, Id, Moment, Number, Sent, Shown, Slice, Uuid
from anycarrier_server.inkbox.identities import IDENTITY as IDENTITY
from anycarrier_server.inkbox.identities import identity_in_path, line_of
from anycarrier_server.refusals import Invalid
from anycarrier_server.store.models import Agent, ContactRule

NO_NUMBER = UUID(int=0)

Says = Literal["allow", "block"]
Side = Literal["inbound", "outbound", "both"]


class RuleSent(Sent):
    """Whom to let through or not. Without ``direction``, both ways."""

    action: Says
    match_type: Literal["exact_number"] = "exact_number"
    match_target: Number
    direction: Side = "both"


class RuleChange(Sent):
    """What to change. ``apply_to`` changes ``action`` on one side of a rule for both, which splits it."""

    action: Says | None = None
    direction: Side | None = None
    apply_to: Literal["inbound", "outbound"] | None = None
    status: Literal["active", "paused"] | None = None


class RulesAsked(Slice):
    """Which rules. A ``direction`` also finds rules for both."""

    action: Says | None = None
    match_type: Literal["exact_number"] | None = None
    direction: Side | None = None


class AllRulesAsked(RulesAsked):
    """Whose rules."""

    agent_identity_id: Id | None = None
    phone_number_id: Id | None = None


class RuleShown(Shown):
    """A rule. ``direction`` and ``status`` are never null."""

    id: Uuid
    agent_identity_id: Uuid
    phone_number_id: Uuid
    action: str
    match_type: str
    match_target: str
    direction: str
    status: str
    contact: None = None
    created_at: Moment
    updated_at: Moment


def rule_shown(rule: ContactRule, number_id: UUID | None) -> RuleShown:
    """The rule as both generations read it."""
    return RuleShown(
        id=rule.id,
        agent_identity_id=rule.agent_id,
        phone_number_id=number_id or NO_NUMBER,
        action=rule.action,
        match_type=rule.match_type,
        match_target=rule.match_target,
        direction=rule.direction,
        status=rule.status,
        created_at=rule.created_at,
        updated_at=rule.updated_at,
    )


async def _agent_and_number(asked: Asked[Any, Any]) -> tuple[Agent, UUID | None]:
    """The identity in the path, or that of the number in the path; and its number's id."""
    if "handle" in asked.path:
        agent = await identity_in_path(asked)
        line = await line_of(asked.store, agent)
        return agent, line.id if line is not None else None
    found = await manage_numbers.get_number(asked.store, asked.caller, asked.path["number_id"])
    owner = await asked.store.agents.get(found.workspace_id, found.agent_id)
    if owner is None:
        raise ContractRefusal(409, "number_has_no_identity", "the number is nobody's: give it an identity first")
    return owner, found.id


async def list_rules(asked: Asked[None, RulesAsked]) -> list[RuleShown]:
    """Rules, newest first."""
    agent, number_id = await _agent_and_number(asked)
    found = await asked.store.rules.list(asked.caller.workspace_id, agent_id=agent.id, **asked.query.model_dump())
    return [rule_shown(rule, number_id) for rule in found]


async def list_all_rules(asked: Asked[None, AllRulesAsked]) -> list[RuleShown]:
    """The whole organization's rules, newest first."""
    resources, query = asked.resources, asked.query
    agent_id: UUID | None = None
    if query.agent_identity_id is not None:
        agent_id = (await agent_of(resources.store, asked.caller, query.agent_identity_id)).id
    if query.phone_number_id is not None:
        line = await manage_numbers.get_number(resources.store, asked.caller, query.phone_number_id)
        if line.agent_id is None or agent_id not in (None, line.agent_id):
            return []
        agent_id = line.agent_id
    which = query.model_dump(exclude={"agent_identity_id", "phone_number_id"})
    found = await resources.store.rules.list(asked.caller.workspace_id, agent_id=agent_id, **which)
    lines = {line.agent_id: line.id for line in reversed(await resources.store.lines.list(asked.caller.workspace_id))}
    return [rule_shown(rule, lines.get(rule.agent_id)) for rule in found]


async def create_rule(asked: Asked[RuleSent, None]) -> RuleShown:
    """A rule. One for the other side of the same number is extended; what is covered already is 409."""
    agent, number_id = await _agent_and_number(asked)
    body = asked.body
    rule = await manage_agents.create_rule(
        asked.store,
        asked.caller,
        agent,
        action=body.action,
        match_target=body.match_target,
        match_type=body.match_type,
        direction=body.direction,
    )
    return rule_shown(rule, number_id)


async def get_rule(asked: Asked[None, None]) -> RuleShown:
    """One rule."""
    agent, number_id = await _agent_and_number(asked)
    return rule_shown(
        await manage_agents.get_rule(asked.store, asked.caller, agent, asked.path["rule_id"]), number_id
    )


async def change_rule(asked: Asked[RuleChange, None]) -> RuleShown:
    """Change a rule; of one that was split, the half that changed."""
    agent, number_id = await _agent_and_number(asked)
    rule = await manage_agents.get_rule(asked.store, asked.caller, agent, asked.path["rule_id"])
    if asked.body.apply_to is not None and asked.body.direction is not None:
        raise Invalid.field("apply_to", "does not go with direction")
    changed = await manage_agents.change_rule(
        asked.store, asked.caller, rule, **asked.body.model_dump(exclude_none=True)
    )
    return rule_shown(changed, number_id)


async def delete_rule(asked: Asked[None, None]) -> None:
    """Delete a rule."""
    agent, _ = await _agent_and_number(asked)
    rule = await manage_agents.get_rule(asked.store, asked.caller, agent, asked.path["rule_id"])
    await manage_agents.delete_rule(asked.store, asked.caller, rule)


def _endpoints(root: str) -> list[Endpoint]:
    one = root + "/{rule_id}"
    return [
        Endpoint("GET", root, list_rules, "List contact rules", query=RulesAsked, answer=list[RuleShown],
                 refusals=(403, 404, 409)),
        Endpoint("POST", root, create_rule, "Allow or block a number", RuleSent, answer=RuleShown, status=201,
                 refusals=(403, 404, 409, 413)),
        Endpoint("GET", one, get_rule, "Look at a contact rule", answer=RuleShown, refusals=(403, 404, 409)),
        Endpoint("PATCH", one, change_rule, "Change a contact rule", RuleChange, answer=RuleShown,
                 refusals=(403, 404, 409, 413)),
        Endpoint("DELETE", one, delete_rule, "Delete a contact rule", status=204, refusals=(403, 404, 409)),
    ]  # fmt: skip


ENDPOINTS = [
    *_endpoints(f"{IDENTITY}/phone-contact-rules"),
    *_endpoints(f"{PHONE}/numbers/{{number_id}}/contact-rules"),
    Endpoint("GET", f"{PHONE}/contact-rules", list_all_rules, "List all contact rules", query=AllRulesAsked,
             answer=list[RuleShown], refusals=(403, 404), admin=True),
]  # fmt: skip
