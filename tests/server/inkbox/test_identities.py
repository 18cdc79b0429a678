"""Identities and their numbers, by the real SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from desk import CALLEE, CALLER, Desk
from inkbox import InkboxAPIError
from inkbox.identities.exceptions import HandleUnavailableError
from inkbox.identities.types import IdentityPhoneNumberCreateOptions

from anycarrier_server.domain.manage_numbers import register_number, webhook_url_of

BROUGHT = "+14155550188"


async def refused(desk: Desk, status: int, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with pytest.raises(InkboxAPIError) as caught:
        await desk.do(work, *args, **kwargs)
    assert caught.value.status_code == status, caught.value
    return caught.value


async def test_an_identity_is_made_with_a_number_described_and_deleted(desk: Desk) -> None:
    number = IdentityPhoneNumberCreateOptions(incoming_call_action="auto_accept", client_websocket_url=desk.agent.url)
    made = await desk.do(
        desk.inkbox.create_identity, "@support-bot", display_name="Support", description=None, phone_number=number
    )
    assert (made.agent_handle, made.display_name, made.description) == ("support-bot", "Support", None)
    held = made.phone_number
    assert (held.status, held.incoming_call_action, held.client_websocket_url) == (
        "active", "auto_accept", desk.agent.url,
    )  # fmt: skip
    assert held.agent_identity_id == made.id and made.mailbox is None
    await desk.do(made.update, display_name=None, description="answers calls", phone_filter_mode="whitelist")
    assert made.display_name == "support-bot" and made.phone_number.filter_mode == "whitelist"
    # What a PATCH answers is all the SDK knows afterwards: the number must be in it.
    call = desk.do(made.place_call, to_number=CALLEE)
    with pytest.raises(InkboxAPIError):
        await call
    again = await desk.do(desk.inkbox.get_identity, "@support-bot")
    assert (again.id, again.description, again.phone_number.id) == (made.id, "answers calls", held.id)
    assert [one.agent_handle for one in await desk.do(desk.inkbox.list_identities)] == ["support-bot"]
    await desk.do(made.delete)
    await refused(desk, 404, desk.inkbox.get_identity, "support-bot")
    await refused(desk, 404, desk.inkbox.phone_numbers.get, held.id)
    given_back = [r for r in desk.sandbox.requests if r.method == "DELETE" and r.status < 300]
    assert given_back, "the number was not given back at the carrier"


async def test_a_handle_is_taken_once(any_desk: Desk) -> None:
    desk = any_desk
    await desk.do(desk.inkbox.create_identity, "support-bot")
    with pytest.raises(HandleUnavailableError) as taken:
        await desk.do(desk.inkbox.create_identity, "@support-bot")
    assert taken.value.blocking_namespace == "identities"


async def test_an_identity_whose_number_cannot_be_had_is_not_made(any_desk: Desk) -> None:
    desk = any_desk
    body = {"agent_handle": "support-bot", "phone_number": {"area_code": "999"}}
    await desk.ask("POST", "/api/v1/identities/", 404, json=body)
    assert await desk.do(desk.inkbox.list_identities) == []


async def test_a_number_is_provisioned_looked_at_and_released(desk: Desk) -> None:
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    numbers = desk.inkbox.phone_numbers
    bought = await desk.do(numbers.provision, agent_handle="support-bot", state="NY")
    assert (bought.type, bought.status, bought.country) == ("local", "active", "US")
    assert (bought.incoming_call_action, bought.agent_identity_id) == ("auto_reject", identity.id)
    assert await desk.do(numbers.get, bought.id) == (await desk.do(numbers.list))[0]
    held = await refused(desk, 409, numbers.provision, agent_handle="support-bot")
    assert held.detail["error"] == "identity_has_number"
    await refused(desk, 404, numbers.provision, agent_handle="nobody")
    await refused(desk, 422, numbers.provision, agent_handle="support-bot", type="satellite")
    await desk.do(numbers.release, bought.id)
    await refused(desk, 404, numbers.get, bought.id)
    await refused(desk, 404, numbers.release, uuid4())
    assert (await desk.do(desk.inkbox.get_identity, "support-bot")).phone_number is None
    again = await desk.do(identity.provision_phone_number)
    assert again.id != bought.id
    await desk.do(identity.release_phone_number)
    assert await desk.do(numbers.list) == []


async def test_of_requests_for_one_identitys_number_at_once_one_buys(desk: Desk) -> None:
    await desk.do(desk.inkbox.create_identity, "support-bot")
    urls = [f"{desk.agent.url}&request={count}" for count in range(5)]
    bodies = [
        {"agent_handle": "support-bot", "incoming_call_action": "auto_accept", "client_websocket_url": url}
        for url in urls
    ]
    answers = await asyncio.gather(*(desk.http.post("/api/v1/phone/numbers", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    won = next(index for index, answer in enumerate(answers) if answer.status_code == 201)
    held = await desk.do(desk.inkbox.phone_numbers.list)
    assert [(one.id, one.client_websocket_url) for one in held] == [(UUID(answers[won].json()["id"]), urls[won])]
    # The loser's claim is gone with its request: what is released can be had again.
    await desk.do(desk.inkbox.phone_numbers.release, held[0].id)
    assert (await desk.do(desk.inkbox.phone_numbers.provision, agent_handle="support-bot")).status == "active"


async def test_a_number_in_service_here_is_not_bought_again_whatever_the_carrier_offers(desk: Desk) -> None:
    first = (await desk.identity()).phone_number.number
    desk.sandbox.inventory.take_back(first)  # as a sandbox that was started anew beside an older database offers it
    await desk.do(desk.inkbox.create_identity, "second-bot")
    second = await desk.do(desk.inkbox.phone_numbers.provision, agent_handle="second-bot")
    assert second.number != first and second.status == "active"


async def test_a_toll_free_number_says_that_it_is_one(desk: Desk) -> None:
    await desk.do(desk.inkbox.create_identity, "support-bot")
    got = await desk.do(desk.inkbox.phone_numbers.provision, agent_handle="support-bot", type="toll_free")
    assert got.number.startswith("+18") and got.type == "toll_free"


async def test_what_is_on_offer_is_a_list_of_ours_and_one_of_it_can_be_had(desk: Desk) -> None:
    await desk.do(desk.inkbox.create_identity, "support-bot")
    offers = await desk.ask("GET", "/api/v1/phone/available-numbers", params={"area_code": "415", "limit": 3})
    assert 1 <= len(offers) <= 3 and all(one["number"].startswith("+1415555") for one in offers)
    wanted = offers[-1]["number"]
    body = {"agent_handle": "support-bot", "number": wanted}
    got = await desk.ask("POST", "/api/v1/phone/numbers", 201, json=body)
    assert (got["number"], got["provider"]) == (wanted, desk.provider)


async def test_how_calls_are_taken_is_one_setting_behind_two_doors(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    await refused(desk, 404, identity.get_incoming_call_action)
    number = await desk.do(identity.provision_phone_number)
    action = await desk.do(identity.get_incoming_call_action)
    assert action.incoming_call_action == "auto_reject"
    hook = f"{desk.receiver.url}/incoming"
    await desk.do(
        desk.inkbox.phone_numbers.update, number.id, incoming_call_action="webhook", incoming_call_webhook_url=hook
    )
    action = await desk.do(identity.get_incoming_call_action)
    assert (action.incoming_call_action, action.incoming_call_webhook_url) == ("webhook", hook)
    await desk.do(
        identity.set_incoming_call_action,
        incoming_call_action="forward",
        forwarding_target_type="phone",
        forwarding_phone_number=CALLER,
    )
    shown = await desk.do(desk.inkbox.phone_numbers.get, number.id)
    assert (shown.incoming_call_action, shown.forwarding_phone_number) == ("forward", CALLER)
    assert shown.incoming_call_webhook_url == hook
    update = desk.inkbox.phone_numbers.update
    await refused(desk, 422, update, number.id, forwarding_target_type=None)
    await refused(desk, 422, update, number.id, incoming_call_action="auto_accept")
    await refused(desk, 422, update, number.id, incoming_call_action="webhook", incoming_call_webhook_url=None)
    await refused(desk, 422, update, number.id, client_websocket_url="http://agent.example.com")
    await refused(desk, 422, update, number.id, filter_mode=None)
    for wrong in ({"forwarding_target_type": "sip"}, {"forwarding_phone_number": "0049 30"}):
        await refused(
            desk, 422, identity.set_incoming_call_action, incoming_call_action="forward", **wrong
        )
    await refused(desk, 422, update, number.id, forwarding_sip_uri="sip:desk@pbx.example.com@other.example")
    sip = "sip:desk@pbx.example.com"
    moved = await desk.do(update, number.id, forwarding_sip_uri=sip)
    assert (moved.incoming_call_action, moved.forwarding_target_type) == ("forward", "sip")
    assert (moved.forwarding_phone_number, moved.forwarding_sip_uri) == (None, sip)
    back = await desk.do(update, number.id, forwarding_phone_number=CALLER)
    assert (back.forwarding_target_type, back.forwarding_phone_number, back.forwarding_sip_uri) == (
        "phone", CALLER, None,
    )  # fmt: skip
    cleared = await desk.do(update, number.id, incoming_call_action="auto_reject", forwarding_target_type=None)
    assert (cleared.forwarding_target_type, cleared.forwarding_phone_number) == (None, None)
    await refused(desk, 422, desk.inkbox.incoming_call_action.get)
    await refused(desk, 422, desk.inkbox.incoming_call_action.set, incoming_call_action="auto_reject")
    await refused(desk, 404, desk.inkbox.incoming_call_action.get, agent_identity_id=uuid4())


async def test_a_filter_mode_that_changes_says_which_rules_it_makes_pointless(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    for target in ("+12125550161", "+12125550162"):
        await desk.do(identity.create_phone_contact_rule, action="block", match_target=target)
    await desk.do(identity.create_phone_contact_rule, action="allow", match_target=CALLER)
    update = desk.inkbox.phone_numbers.update
    turned = await desk.do(update, identity.phone_number.id, filter_mode="whitelist")
    notice = turned.filter_mode_change_notice
    assert (notice.new_filter_mode, notice.redundant_rule_action, notice.redundant_rule_count) == (
        "whitelist", "block", 2,
    )  # fmt: skip
    same = await desk.do(update, identity.phone_number.id, filter_mode="whitelist")
    assert same.filter_mode_change_notice is None
    await desk.do(identity.update, phone_inbound_filter_mode="blacklist")
    sides = (await desk.do(desk.inkbox.phone_numbers.get, identity.phone_number.id))
    assert (sides.inbound_filter_mode, sides.outbound_filter_mode) == ("blacklist", "whitelist")


async def test_a_number_brought_along_that_is_released_stays_in_its_account_and_is_sent_here_no_more(
    desk: Desk,
) -> None:
    caller = await desk.service.authenticate(desk.http.headers)
    line = await register_number(desk.service, caller, number=BROUGHT)
    provider = await desk.service.exchange.switchboard.provider(str(line.credential_id))
    url = webhook_url_of(desk.service, line)
    assert (await provider.configure_number(BROUGHT, webhook_url=url, dry_run=True)).changed == ()
    await desk.do(desk.inkbox.phone_numbers.release, line.id)
    await refused(desk, 404, desk.inkbox.phone_numbers.get, line.id)
    (held,) = await provider.list_numbers(BROUGHT)
    assert held.number == BROUGHT
    assert (await provider.configure_number(BROUGHT, webhook_url=url, dry_run=True)).changed


async def test_one_of_an_identitys_numbers_is_changed_alone(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.identity()
    caller = await desk.service.authenticate(desk.http.headers)
    brought = await register_number(desk.service, caller, number=BROUGHT, agent_id=identity.id)
    await desk.do(
        identity.set_incoming_call_action, incoming_call_action="auto_accept", client_websocket_url=desk.agent.url
    )
    numbers = desk.inkbox.phone_numbers
    own = f"{desk.agent.url}&number=2"
    changed = await desk.do(numbers.update, brought.id, client_websocket_url=own, incoming_call_action="auto_accept")
    assert (changed.client_websocket_url, changed.number) == (own, BROUGHT)
    await desk.do(numbers.update, brought.id, incoming_call_action="auto_reject")
    first = await desk.do(numbers.get, identity.phone_number.id)
    assert (first.incoming_call_action, first.client_websocket_url) == ("auto_accept", desk.agent.url)
    action = await desk.do(identity.get_incoming_call_action)
    assert (action.incoming_call_action, action.client_websocket_url) == ("auto_accept", desk.agent.url)
    placed = await desk.do(desk.inkbox.calls.place, from_number=BROUGHT, to_number=CALLEE)
    assert placed.client_websocket_url == own, "calls from the number use its socket"
    await desk.do(identity.set_incoming_call_action, incoming_call_action="auto_reject")
    assert (await desk.do(numbers.get, identity.phone_number.id)).incoming_call_action == "auto_reject"
    assert (await desk.do(numbers.get, brought.id)).client_websocket_url == own, "what was not given stays"


async def test_a_number_brought_along_is_assigned_and_only_detached(desk: Desk) -> None:
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    await desk.do(desk.inkbox.create_identity, "other-bot")
    caller = await desk.service.authenticate(desk.http.headers)
    await register_number(desk.service, caller, number=BROUGHT)
    (free,) = await desk.do(desk.inkbox.phone_numbers.list)
    assert (free.number, free.agent_identity_id, free.incoming_call_action) == (BROUGHT, None, "auto_reject")
    path = "/api/v1/identities/{}/phone_number"
    given = await desk.ask("POST", path.format("support-bot"), json={"phone_number_id": str(free.id)})
    assert given["phone_number"]["number"] == BROUGHT
    assert given["phone_number"]["incoming_call_action"] == "auto_reject"
    taken = await desk.ask("POST", path.format("other-bot"), 409, json={"phone_number_id": str(free.id)})
    assert taken["detail"]["error"] == "number_has_identity"
    await desk.do(identity.refresh)
    before = len(desk.sandbox.requests)
    await desk.do(identity.release_phone_number)
    assert [r for r in desk.sandbox.requests[before:] if r.method == "DELETE"] == []
    assert (await desk.do(desk.inkbox.phone_numbers.get, free.id)).agent_identity_id is None
    await desk.ask("DELETE", path.format("support-bot"), 404)
    await refused(desk, 409, desk.inkbox.phone_numbers.update, free.id, incoming_call_action="auto_reject")
