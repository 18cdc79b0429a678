"""Contact rules: read by every key, changed by admins."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from anycarrier.numbers import e164
from anycarrier_server.domain.access import Caller, need_admin, need_scope
from anycarrier_server.refusals import Blocked, Invalid, Unknown
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.models import Agent, ContactRule
from anycarrier_server.store.rules import Verdict


async def create_rule(
    store: Store,
    caller: Caller,
    agent: Agent,
    *,
    action: str,
    match_target: str,
    match_type: str = "exact_number",
    direction: str | None = None,
) -> ContactRule:
    """Allow or block a number, on one side or (direction None) both. ``DuplicateRule`` names the rule in the way."""
    need_admin(caller, "changing contact rules")
    target = e164(match_target)
    return await store.rules.create(
        agent, action=action, match_target=target, match_type=match_type, direction=direction or "both"
    )


async def get_rule(store: Store, caller: Caller, agent: Agent, rule_id: str | UUID) -> ContactRule:
    """One of the agent's rules."""
    need_scope(caller, agent.id)
    rule = await store.rules.get(agent.id, parse_id("rule", rule_id))
    if rule is None:
        raise Unknown("contact rule")
    return rule


async def change_rule(store: Store, caller: Caller, rule: ContactRule, **fields: Any) -> ContactRule:
    """``action``, ``direction``, ``status``, and with an action ``apply_to``: one side of a rule for both.

    ``NotThatSide`` when the rule says nothing of that side, ``Unknown`` when it is gone by now.
    """
    need_admin(caller, "changing contact rules")
    if fields.get("apply_to") is not None and fields.get("action") is None:
        raise Invalid.field("apply_to", "comes with action only")
    changed = await store.rules.change(rule, **fields)
    if changed is None:
        raise Unknown("contact rule")
    return changed


async def delete_rule(store: Store, caller: Caller, rule: ContactRule) -> None:
    """Delete a rule."""
    need_admin(caller, "changing contact rules")
    await store.rules.delete(rule)


def refuse_blocked(number: str, told: Verdict) -> None:
    """Return when a contact rule lets the number pass, else :class:`Blocked`."""
    if not told.allowed:
        raise Blocked(number, told.reason, told.rule_id)
