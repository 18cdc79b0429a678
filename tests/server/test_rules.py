"""Contact rules by side and by the mode of each side: who may call whom, and which rules cannot stand together."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update
from tenants import Tenant, make_tenant

from anycarrier_server.refusals import DuplicateRule, NotThatSide
from anycarrier_server.store import Store
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Agent, ContactRule
from anycarrier_server.store.rules import verdict

HIM, HER = "+14155550177", "+14155550179"


async def whitelisting(store: Store, agent: Agent) -> Agent:
    return await store.agents.change(agent.id, inbound_filter_mode="whitelist", outbound_filter_mode="whitelist")


async def test_a_blacklist_stops_the_blocked_on_the_side_they_are_blocked(store: Store, tenant: Tenant) -> None:
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="inbound")
    inbound = await store.rules.decide(tenant.agent, "inbound", HIM)
    assert (inbound.allowed, inbound.rule_id) == (False, rule.id)
    assert (await store.rules.decide(tenant.agent, "outbound", HIM)).allowed
    assert (await store.rules.decide(tenant.agent, "inbound", "+14155550178")).allowed


async def test_a_whitelist_lets_only_the_allowed_through(store: Store, tenant: Tenant) -> None:
    agent = await whitelisting(store, tenant.agent)
    await store.rules.create(agent, action="allow", match_target=HIM)
    assert (await store.rules.decide(agent, "outbound", HIM)).allowed
    stranger = await store.rules.decide(agent, "inbound", "+14155550178")
    assert (stranger.allowed, stranger.rule_id) == (False, None)


@pytest.mark.parametrize("listed", ["inbound", "outbound"])
async def test_each_side_is_judged_by_its_own_mode(store: Store, tenant: Tenant, listed: str) -> None:
    modes = {"inbound_filter_mode": "blacklist", "outbound_filter_mode": "blacklist"}
    agent = await store.agents.change(tenant.agent.id, **{**modes, f"{listed}_filter_mode": "whitelist"})
    open_side = "outbound" if listed == "inbound" else "inbound"
    closed = await store.rules.decide(agent, listed, HIM)
    assert (closed.allowed, closed.reason) == (False, f"not on the {listed} whitelist")
    assert (await store.rules.decide(agent, open_side, HIM)).allowed
    allowing = await store.rules.create(agent, action="allow", match_target=HIM, direction=listed)
    assert (await store.rules.decide(agent, listed, HIM)).rule_id == allowing.id
    assert (await store.rules.decide(agent, open_side, HIM)).rule_id is None
    other = "+14155550178"
    await store.rules.create(agent, action="block", match_target=other, direction=open_side)
    assert not (await store.rules.decide(agent, open_side, other)).allowed


async def test_a_rule_is_of_one_agent_only(store: Store, tenant: Tenant) -> None:
    second = await store.agents.create(tenant.workspace.id, name="Second")
    await store.rules.create(second, action="block", match_target=HIM)
    assert (await store.rules.decide(tenant.agent, "inbound", HIM)).allowed
    assert not (await store.rules.decide(second, "inbound", HIM)).allowed


async def test_a_paused_rule_has_no_effect_and_keeps_its_slot(store: Store, tenant: Tenant) -> None:
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM)
    await store.rules.change(rule, status="paused")
    assert (await store.rules.decide(tenant.agent, "inbound", HIM)).allowed
    with pytest.raises(DuplicateRule) as refused:
        await store.rules.create(tenant.agent, action="block", match_target=HIM)
    assert refused.value.existing == rule.id


async def test_the_same_rule_for_the_other_side_extends_the_first(store: Store, tenant: Tenant) -> None:
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="inbound")
    extended = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="outbound")
    assert (extended.id, extended.direction) == (rule.id, "both")


async def test_a_contradicting_rule_for_a_covered_side_is_refused(store: Store, tenant: Tenant) -> None:
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="inbound")
    for direction in ("inbound", "both"):
        with pytest.raises(DuplicateRule) as refused:
            await store.rules.create(tenant.agent, action="allow", match_target=HIM, direction=direction)
        assert refused.value.existing == rule.id
    other_side = await store.rules.create(tenant.agent, action="allow", match_target=HIM, direction="outbound")
    assert other_side.id != rule.id


async def test_changing_one_side_of_a_rule_for_both_splits_it(store: Store, tenant: Tenant) -> None:
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM)
    half = await store.rules.change(rule, action="allow", apply_to="outbound")
    assert (half.action, half.direction) == ("allow", "outbound")
    rest = await store.rules.get(tenant.agent.id, rule.id)
    assert rest is not None
    assert (rest.action, rest.direction) == ("block", "inbound")
    with pytest.raises(DuplicateRule):
        await store.rules.change(rest, direction="both")


async def test_of_many_making_one_rule_one_succeeds(store: Store, tenant: Tenant) -> None:
    results = await asyncio.gather(
        *(store.rules.create(tenant.agent, action="block", match_target=HIM) for _ in range(8)), return_exceptions=True
    )
    made = [r for r in results if isinstance(r, ContactRule)]
    assert len(made) == 1
    assert all(isinstance(r, DuplicateRule) for r in results if not isinstance(r, ContactRule))
    await store.rules.delete(made[0])
    assert list(await store.rules.list(tenant.workspace.id)) == []


async def test_rules_are_listed_by_agent_action_and_side(store: Store, tenant: Tenant) -> None:
    await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="inbound")
    await store.rules.create(tenant.agent, action="allow", match_target="+14155550178")
    listed = store.rules.list
    assert len(await listed(tenant.workspace.id, agent_id=tenant.agent.id)) == 2
    assert len(await listed(tenant.workspace.id, action="allow")) == 1
    assert len(await listed(tenant.workspace.id, direction="outbound")) == 1
    assert await store.rules.redundant(tenant.agent.id, "whitelist") == ("block", 1)


@pytest.mark.parametrize("mode", ["blacklist", "whitelist"])
@pytest.mark.parametrize("action", ["block", "allow", None])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_what_a_mode_makes_of_a_rule(mode: str, action: str | None, direction: str) -> None:
    other = "blacklist" if mode == "whitelist" else "whitelist"
    modes = {"inbound_filter_mode": other, "outbound_filter_mode": other, f"{direction}_filter_mode": mode}
    rule = None if action is None else ContactRule(id=uuid4(), action=action)
    found = verdict(Agent(**modes), direction, rule)
    reason = {
        ("blacklist", "block"): "blocked by a contact rule",
        ("whitelist", "allow"): "allowed by a contact rule",
    }.get((mode, str(action)), "not blocked" if mode == "blacklist" else f"not on the {direction} whitelist")
    allowed = action != "block" if mode == "blacklist" else action == "allow"
    assert (found.allowed, found.reason, found.rule_id) == (allowed, reason, rule.id if rule is not None else None)


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_a_rule_for_both_sides_and_one_for_a_side_each_decide_that_side(
    store: Store, tenant: Tenant, direction: str
) -> None:
    other = "outbound" if direction == "inbound" else "inbound"
    ours = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction=direction)
    theirs = await store.rules.create(tenant.agent, action="allow", match_target=HIM, direction=other)
    both = await store.rules.create(tenant.agent, action="block", match_target=HER)
    assert (await store.rules.decide(tenant.agent, direction, HIM)).rule_id == ours.id
    assert (await store.rules.decide(tenant.agent, other, HIM)).rule_id == theirs.id
    assert (await store.rules.decide(tenant.agent, direction, HER)).rule_id == both.id
    assert (await store.rules.decide(tenant.agent, other, HER)).rule_id == both.id


async def test_a_rule_is_kept_as_it_was_made(store: Store, tenant: Tenant) -> None:
    rule = await store.rules.create(tenant.agent, action="allow", match_target=HIM, direction="outbound")
    kept = await store.rules.get(tenant.agent.id, rule.id)
    assert kept is not None
    assert (kept.workspace_id, kept.agent_id) == (tenant.workspace.id, tenant.agent.id)
    assert (kept.action, kept.match_type, kept.match_target) == ("allow", "exact_number", HIM)
    assert (kept.direction, kept.status) == ("outbound", "active")
    both = await store.rules.create(tenant.agent, action="allow", match_target=HER, match_type="prefix")
    assert (both.direction, both.match_type) == ("both", "prefix")


async def test_another_agents_rule_is_not_there(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM)
    assert await store.rules.get(ben.id, rule.id) is None
    assert await store.rules.get(tenant.agent.id, None) is None
    assert await store.rules.redundant(ben.id, "whitelist") == ("block", 0)
    assert [one.id for one in await store.rules.list(tenant.workspace.id, agent_id=ben.id)] == []
    same = await store.rules.create(ben, action="allow", match_target=HIM)  # the number is free for this agent
    assert same.agent_id == ben.id


@pytest.mark.parametrize("side", ["inbound", "outbound"])
async def test_a_rule_for_both_is_refused_beside_the_contrary_of_one_side_and_extends_the_same(
    store: Store, tenant: Tenant, side: str
) -> None:
    first = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction=side)
    with pytest.raises(DuplicateRule):
        await store.rules.create(tenant.agent, action="allow", match_target=HIM)
    with pytest.raises(DuplicateRule):
        await store.rules.create(tenant.agent, action="block", match_target=HIM, direction=side)
    before = first.updated_at
    wider = await store.rules.create(tenant.agent, action="block", match_target=HIM)
    assert (wider.id, wider.direction) == (first.id, "both") and wider.updated_at > before
    kept = await store.rules.get(tenant.agent.id, first.id)
    assert kept is not None and kept.direction == "both"


async def test_both_sides_held_by_two_rules_leave_no_place_for_a_third(store: Store, tenant: Tenant) -> None:
    inbound = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="inbound")
    await store.rules.create(tenant.agent, action="allow", match_target=HIM, direction="outbound")
    for action in ("block", "allow"):
        with pytest.raises(DuplicateRule) as refused:
            await store.rules.create(tenant.agent, action=action, match_target=HIM)
        assert refused.value.existing == inbound.id
    other = await make_tenant(store, "+12125550101", "other")
    await store.rules.create(other.agent, action="allow", match_target=HIM)


async def test_a_paused_rule_is_not_extended_and_holds_its_side(store: Store, tenant: Tenant) -> None:
    paused = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="inbound")
    await store.rules.change(paused, status="paused")
    with pytest.raises(DuplicateRule):
        await store.rules.create(tenant.agent, action="block", match_target=HIM)
    other = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="outbound")
    assert other.id != paused.id
    assert not (await store.rules.decide(tenant.agent, "outbound", HIM)).allowed
    assert (await store.rules.decide(tenant.agent, "inbound", HIM)).allowed
    assert await store.rules.redundant(tenant.agent.id, "whitelist") == ("block", 1)


async def test_rules_come_newest_first_and_by_each_filter_and_page(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    made = [
        await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="inbound"),
        await store.rules.create(tenant.agent, action="allow", match_target=HER, direction="outbound"),
        await store.rules.create(ben, action="block", match_target=HIM, match_type="prefix"),
    ]
    for age, rule in enumerate(reversed(made)):
        async with store.db.write() as session:
            at = utc_now() - timedelta(minutes=age)
            await session.execute(update(ContactRule).where(ContactRule.id == rule.id).values(created_at=at))
    first, second, third = (rule.id for rule in made)

    async def listed(**asked: Any) -> list[Any]:
        return [rule.id for rule in await store.rules.list(tenant.workspace.id, **asked)]

    assert await listed() == [third, second, first]
    other = await make_tenant(store, "+12125550101", "other")
    assert list(await store.rules.list(other.workspace.id)) == []
    assert await listed(agent_id=tenant.agent.id) == [second, first]
    assert await listed(action="block") == [third, first]
    assert await listed(match_type="prefix") == [third]
    assert await listed(direction="inbound") == [third, first]
    assert await listed(direction="both") == [third]
    assert await listed(limit=2) == [third, second]
    assert await listed(limit=2, offset=1) == [second, first]
    async with store.db.write() as session:
        await session.execute(update(ContactRule).values(created_at=utc_now()))
    assert await listed() == sorted([first, second, third]), "those of one moment in a fixed order"
    for number in range(50):
        await store.rules.create(ben, action="block", match_target=f"+1415555{number:04}")
    assert len(await listed()) == 50, "a page, when nothing is asked"


async def test_a_mode_makes_the_rules_of_the_contrary_action_pointless_by_side(store: Store, tenant: Tenant) -> None:
    create, redundant = store.rules.create, store.rules.redundant
    await create(tenant.agent, action="block", match_target="+14155550101", direction="inbound")
    await create(tenant.agent, action="block", match_target="+14155550102")
    await create(tenant.agent, action="allow", match_target="+14155550103", direction="outbound")
    assert await redundant(tenant.agent.id, "whitelist") == ("block", 2)
    assert await redundant(tenant.agent.id, "whitelist", "outbound") == ("block", 1)
    assert await redundant(tenant.agent.id, "whitelist", "inbound") == ("block", 2)
    assert await redundant(tenant.agent.id, "blacklist") == ("allow", 1)
    assert await redundant(tenant.agent.id, "blacklist", "inbound") == ("allow", 0)


@pytest.mark.parametrize("side", ["inbound", "outbound"])
async def test_one_side_of_a_rule_for_both_is_changed_alone(store: Store, tenant: Tenant, side: str) -> None:
    other = "outbound" if side == "inbound" else "inbound"
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM, match_type="prefix")
    before = rule.updated_at
    same = await store.rules.change(rule, action="block", apply_to=side)  # nothing new: not split
    assert same is not None and (same.id, same.direction) == (rule.id, "both")
    half = await store.rules.change(rule, action="allow", apply_to=side, status="paused")
    assert half is not None and half.id != rule.id
    kept, made = [await store.rules.get(tenant.agent.id, one.id) for one in (rule, half)]
    assert kept is not None and made is not None
    assert (kept.action, kept.direction, kept.status) == ("block", other, "active") and kept.updated_at > before
    assert (made.action, made.direction, made.status) == ("allow", side, "paused")
    assert (made.workspace_id, made.match_type, made.match_target) == (tenant.workspace.id, "prefix", HIM)
    with pytest.raises(NotThatSide, match=other):
        await store.rules.change(kept, action="allow", apply_to=side)
    plain = await store.rules.change(kept, action="allow", apply_to=other)
    assert plain is not None and (plain.id, plain.action, plain.direction) == (rule.id, "allow", other)


async def test_the_half_that_is_split_off_is_paused_as_the_whole_was(store: Store, tenant: Tenant) -> None:
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM)
    await store.rules.change(rule, status="paused")
    half = await store.rules.change(rule, action="allow", apply_to="inbound")
    assert half is not None and half.status == "paused"


async def test_a_rule_moves_to_a_side_that_is_free_and_to_no_other(store: Store, tenant: Tenant) -> None:
    ben = await store.agents.create(tenant.workspace.id, name="Ben")
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="inbound")
    await store.rules.create(tenant.agent, action="allow", match_target=HER, direction="outbound")
    await store.rules.create(ben, action="allow", match_target=HIM, direction="outbound")
    before = rule.updated_at
    moved = await store.rules.change(rule, direction="outbound")
    assert moved is not None and moved.direction == "outbound" and moved.updated_at > before
    wide = await store.rules.change(moved, direction="both", action="allow")
    assert wide is not None and (wide.direction, wide.action) == ("both", "allow")
    narrow = await store.rules.change(wide, direction="inbound")
    assert narrow is not None
    holder = await store.rules.create(tenant.agent, action="block", match_target=HIM, direction="outbound")
    for direction in ("outbound", "both"):
        with pytest.raises(DuplicateRule) as refused:
            await store.rules.change(narrow, direction=direction)
        assert refused.value.existing == holder.id
    same = await store.rules.change(narrow, direction="inbound")
    assert same is not None and (same.direction, same.action, same.status) == ("inbound", "allow", "active")


async def test_deleting_takes_that_rule_only_and_what_is_gone_cannot_be_changed(store: Store, tenant: Tenant) -> None:
    rule = await store.rules.create(tenant.agent, action="block", match_target=HIM)
    other = await store.rules.create(tenant.agent, action="block", match_target=HER)
    await store.rules.delete(rule)
    await store.rules.delete(rule)
    assert [one.id for one in await store.rules.list(tenant.workspace.id)] == [other.id]
    assert await store.rules.change(rule, action="allow") is None
