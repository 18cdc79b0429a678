"""Contact rules, by the real SDK: both generations of the same rules, and what they do to calls."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any
from uuid import uuid4

import pytest
from desk import CALLEE, CALLER, Desk
from inkbox import InkboxAPIError
from inkbox.exceptions import DuplicateContactRuleError, RecipientBlockedError


async def test_a_rule_is_made_found_changed_and_deleted_by_identity(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    rules = desk.inkbox.phone_identity_contact_rules
    first = await desk.do(rules.create, "support-bot", action="block", match_target=CALLER)
    assert (first.direction, first.status, first.agent_identity_id) == ("both", "active", identity.id)
    second = await desk.do(rules.create, "@support-bot", action="allow", match_target=CALLEE, direction="inbound")
    assert [rule.id for rule in await desk.do(rules.list, "support-bot")] == [second.id, first.id]
    assert [rule.id for rule in await desk.do(rules.list, "support-bot", action="block")] == [first.id]
    assert [rule.id for rule in await desk.do(rules.list, "support-bot", direction="outbound")] == [first.id]
    assert [rule.id for rule in await desk.do(rules.list, "support-bot", limit=1, offset=1)] == [first.id]
    assert await desk.do(rules.get, "support-bot", second.id) == second
    assert {rule.id for rule in await desk.do(rules.list_all, agent_identity_id=identity.id)} == {first.id, second.id}
    changed = await desk.do(rules.update, "support-bot", second.id, action="block")
    assert (changed.id, changed.action) == (second.id, "block")
    await desk.do(rules.delete, "support-bot", second.id)
    with pytest.raises(InkboxAPIError) as gone:
        await desk.do(rules.get, "support-bot", second.id)
    assert gone.value.status_code == 404
    for target, status in (("12125550100", 422), ("+1", 422), ("", 422)):
        with pytest.raises(InkboxAPIError) as bad:
            await desk.do(rules.create, "support-bot", action="block", match_target=target)
        assert bad.value.status_code == status
    with pytest.raises(InkboxAPIError) as unknown:
        await desk.do(rules.get, "support-bot", uuid4())
    assert unknown.value.status_code == 404


async def test_a_rule_for_the_other_side_extends_and_one_that_is_covered_is_a_duplicate(any_desk: Desk) -> None:
    desk = any_desk
    await desk.do(desk.inkbox.create_identity, "support-bot")
    rules = desk.inkbox.phone_identity_contact_rules
    inbound = await desk.do(rules.create, "support-bot", action="block", match_target=CALLER, direction="inbound")
    extended = await desk.do(rules.create, "support-bot", action="block", match_target=CALLER, direction="outbound")
    assert (extended.id, extended.direction) == (inbound.id, "both")
    for action, direction in (("block", "inbound"), ("block", "both"), ("allow", "outbound")):
        with pytest.raises(DuplicateContactRuleError) as duplicate:
            await desk.do(rules.create, "support-bot", action=action, match_target=CALLER, direction=direction)
        assert duplicate.value.existing_rule_id == inbound.id
    assert len(await desk.do(rules.list, "support-bot")) == 1


async def test_changing_one_side_of_a_rule_for_both_splits_it(any_desk: Desk) -> None:
    desk = any_desk
    await desk.do(desk.inkbox.create_identity, "support-bot")
    rules = desk.inkbox.phone_identity_contact_rules
    both = await desk.do(rules.create, "support-bot", action="block", match_target=CALLER)
    half = await desk.do(rules.update, "support-bot", both.id, action="allow", apply_to="inbound")
    assert (half.action, half.direction) == ("allow", "inbound")
    left = {rule.direction: rule.action for rule in await desk.do(rules.list, "support-bot")}
    assert left == {"inbound": "allow", "outbound": "block"}
    path = f"/api/v1/identities/support-bot/phone-contact-rules/{both.id}"
    for wrong in ({"apply_to": "inbound"}, {"action": "allow", "apply_to": "both"}, {"direction": "sideways"}):
        await desk.ask("PATCH", path, 422, json=wrong)


async def test_a_change_meant_for_a_side_the_rule_is_not_for_changes_nothing(any_desk: Desk) -> None:
    desk = any_desk
    await desk.do(desk.inkbox.create_identity, "support-bot")
    rules = desk.inkbox.phone_identity_contact_rules
    inbound = await desk.do(rules.create, "support-bot", action="block", match_target=CALLER, direction="inbound")
    with pytest.raises(InkboxAPIError) as refused:
        await desk.do(rules.update, "support-bot", inbound.id, action="allow", apply_to="outbound")
    assert refused.value.status_code == 409
    assert (await desk.do(rules.get, "support-bot", inbound.id)).action == "block"
    same_side = await desk.do(rules.update, "support-bot", inbound.id, action="allow", apply_to="inbound")
    assert (same_side.id, same_side.action, same_side.direction) == (inbound.id, "allow", "inbound")


async def test_a_rule_that_is_deleted_while_it_is_changed_is_404(any_desk: Desk) -> None:
    desk = any_desk
    await desk.do(desk.inkbox.create_identity, "support-bot")
    rules = "/api/v1/identities/support-bot/phone-contact-rules"
    seen = set()
    for _ in range(5):
        made = await desk.ask("POST", rules, 201, json={"action": "block", "match_target": CALLER})
        one = f"{rules}/{made['id']}"
        asked = [desk.http.patch(one, json={"status": "paused"}) for _ in range(4)]
        answers = await asyncio.gather(desk.http.delete(one), *asked, desk.http.delete(one))
        seen |= {answer.status_code for answer in answers}
    assert seen <= {200, 204, 404} and 404 in seen


async def test_both_generations_see_the_same_rules(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    numberless = await desk.do(desk.inkbox.create_identity, "numberless-bot")
    number_id = identity.phone_number.id
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old: Any = desk.inkbox.phone_contact_rules
        made = await desk.do(old.create, number_id, action="block", match_target=CALLER)
        assert made.phone_number_id == number_id
        seen = await desk.do(desk.inkbox.phone_identity_contact_rules.list, "support-bot")
        assert [rule.id for rule in seen] == [made.id] and seen[0].agent_identity_id == identity.id
        await desk.do(numberless.create_phone_contact_rule, action="allow", match_target=CALLEE)
        assert len(await desk.do(old.list_all)) == 2
        assert [rule.id for rule in await desk.do(old.list_all, phone_number_id=number_id)] == [made.id]
        with pytest.raises(DuplicateContactRuleError):
            await desk.do(old.create, number_id, action="block", match_target=CALLER)
        changed = await desk.do(old.update, number_id, made.id, action="allow")
        assert (await desk.do(old.get, number_id, made.id)) == changed
        assert [rule.id for rule in await desk.do(old.list, number_id, action="allow")] == [made.id]
        await desk.do(old.delete, number_id, made.id)
        assert await desk.do(old.list, number_id) == []


async def test_a_paused_rule_does_nothing_and_keeps_its_place(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    rule = await desk.do(identity.create_phone_contact_rule, action="block", match_target=CALLEE)
    path = f"/api/v1/phone/numbers/{identity.phone_number.id}/contact-rules/{rule.id}"
    paused = await desk.ask("PATCH", path, json={"status": "paused"})
    assert paused["status"] == "paused"
    await desk.do(identity.place_call, to_number=CALLEE)
    with pytest.raises(DuplicateContactRuleError):
        await desk.do(identity.create_phone_contact_rule, action="block", match_target=CALLEE)
    await desk.ask("PATCH", path, json={"status": "active"})
    with pytest.raises(RecipientBlockedError):
        await desk.do(identity.place_call, to_number=CALLEE)


async def test_a_paused_rule_is_not_extended_to_a_side_that_is_to_be_blocked_now(any_desk: Desk) -> None:
    desk = any_desk
    await desk.do(desk.inkbox.create_identity, "support-bot")
    rules = desk.inkbox.phone_identity_contact_rules
    path = "/api/v1/identities/support-bot/phone-contact-rules"
    paused = await desk.do(rules.create, "support-bot", action="block", match_target=CALLER, direction="inbound")
    await desk.ask("PATCH", f"{path}/{paused.id}", json={"status": "paused"})
    with pytest.raises(DuplicateContactRuleError) as kept:  # both: its side is held by the paused one
        await desk.do(rules.create, "support-bot", action="block", match_target=CALLER)
    assert kept.value.existing_rule_id == paused.id
    other = await desk.do(rules.create, "support-bot", action="block", match_target=CALLER, direction="outbound")
    assert (other.direction, other.status, other.id == paused.id) == ("outbound", "active", False)
    left = {rule.direction: rule.status for rule in await desk.do(rules.list, "support-bot")}
    assert left == {"inbound": "paused", "outbound": "active"}


async def test_a_whitelist_lets_in_and_out_only_whom_it_names(desk: Desk) -> None:
    identity = await desk.identity()
    await desk.do(identity.create_phone_contact_rule, action="allow", match_target=CALLER, direction="inbound")
    await desk.do(identity.create_phone_contact_rule, action="allow", match_target=CALLEE, direction="outbound")
    await desk.do(identity.update, phone_filter_mode="whitelist")
    stranger = await desk.ring(identity, "+12125550166")
    await stranger.wait_for("ended")
    known = await desk.ring(identity, CALLER)
    await known.wait_for("answered")
    assert (await desk.call_of(stranger)).is_blocked and not (await desk.call_of(known)).is_blocked
    await desk.do(identity.place_call, to_number=CALLEE)
    with pytest.raises(RecipientBlockedError) as outside:
        await desk.do(identity.place_call, to_number=CALLER)
    assert outside.value.matched_rule_id is None


async def test_a_whitelist_of_one_side_leaves_the_other_open(desk: Desk) -> None:
    identity = await desk.identity()
    await desk.do(identity.update, phone_inbound_filter_mode="whitelist", phone_outbound_filter_mode="blacklist")
    stranger = await desk.ring(identity, CALLER)
    await stranger.wait_for("ended")
    assert (await desk.call_of(stranger)).is_blocked
    await desk.do(identity.place_call, to_number=CALLER)

    await desk.do(identity.update, phone_inbound_filter_mode="blacklist", phone_outbound_filter_mode="whitelist")
    welcome = await desk.ring(identity, "+12125550166")
    await welcome.wait_for("answered")
    with pytest.raises(RecipientBlockedError) as unlisted:
        await desk.do(identity.place_call, to_number="+12125550166")
    assert "outbound whitelist" in unlisted.value.reason


async def test_a_rule_for_callers_says_nothing_of_whom_we_ring(desk: Desk) -> None:
    identity = await desk.identity()
    await desk.do(identity.create_phone_contact_rule, action="block", match_target=CALLEE, direction="inbound")
    await desk.do(identity.place_call, to_number=CALLEE)
    blocked = await desk.ring(identity, CALLEE)
    await blocked.wait_for("ended")
    assert (await desk.call_of(blocked)).is_blocked
