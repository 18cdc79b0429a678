"""Keys: who is asking, what an identity's own key may not do, and the spellings old clients use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from desk import ADMIN, CALLEE, Desk
from inkbox import InkboxAPIError

from anycarrier_server.inkbox import FACE


async def status_of(desk: Desk, work: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """The status of a refusal."""
    with pytest.raises(InkboxAPIError) as caught:
        await desk.do(work, *args, **kwargs)
    return caught.value.status_code


async def test_whoami_tells_an_admin_key_from_an_identitys(any_desk: Desk) -> None:
    desk = any_desk
    admin = await desk.do(desk.inkbox.whoami)
    assert (admin.auth_type, admin.auth_subtype) == ("api_key", "api_key.admin_scoped")
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    own = await desk.do((await desk.agent_key(identity)).whoami)
    assert own.auth_subtype == "api_key.agent_scoped.claimed"
    assert own.organization_id == admin.organization_id and own.key_id != admin.key_id


async def test_an_admin_key_makes_keys_of_identities_only_and_they_end_with_the_identity(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    assert await status_of(desk, desk.inkbox.api_keys.create, label="mighty") == 403
    made = await desk.do(
        desk.inkbox.api_keys.create, label="its own", description="for the bot", scoped_identity_id=identity.id
    )
    record = made.record
    assert (record.status, record.scoped_identity_id, record.label) == ("active", identity.id, "its own")
    assert made.api_key.startswith("ApiKey_") and made.api_key.endswith(record.last4)
    assert record.id == "ApiKey_" + made.api_key.split("_")[1]
    own = desk.client(made.api_key)
    assert await status_of(desk, own.api_keys.create, label="more", scoped_identity_id=identity.id) == 403
    assert await status_of(desk, desk.inkbox.api_keys.create, label="x", scoped_identity_id=uuid4()) == 404
    await desk.do(identity.delete)
    assert await status_of(desk, own.whoami) == 401
    listed = await desk.ask("GET", "/api/v1/api-keys")
    assert [one["status"] for one in listed if one["id"] == record.id] == ["revoked"]


async def test_a_revoked_key_is_401_at_once(any_desk: Desk) -> None:
    desk = any_desk
    identity = await desk.do(desk.inkbox.create_identity, "support-bot")
    made = await desk.do(desk.inkbox.api_keys.create, label="its own", scoped_identity_id=identity.id)
    own = desk.client(made.api_key)
    await desk.do(own.whoami)
    await desk.ask("DELETE", f"/api/v1/api-keys/{made.record.id}", 204)
    assert await status_of(desk, own.whoami) == 401
    mine = await desk.ask("GET", "/api/whoami")
    refusal = await desk.ask("DELETE", f"/api/v1/api-keys/{mine['key_id']}", 409)
    assert refusal["detail"]["error"] == "own_key"


async def test_no_operation_answers_without_a_good_key(any_desk: Desk) -> None:
    bad = [{}, {"X-API-Key": ""}, {"X-API-Key": ADMIN + "x"}, {"Authorization": "Basic eDp5"}]
    async with httpx.AsyncClient(base_url=any_desk.url, trust_env=False) as http:
        for endpoint in FACE.endpoints:
            path = endpoint.path.replace("{", "").replace("}", "")
            for headers in bad:
                response = await http.request(endpoint.method, path, headers=headers)
                assert response.status_code == 401, (endpoint.method, path, headers)
                assert isinstance(response.json()["detail"], str)


async def test_the_old_header_and_both_slashes_work_without_a_redirect(any_desk: Desk) -> None:
    async with httpx.AsyncClient(base_url=any_desk.url, trust_env=False) as http:
        for header in ("X-API-Key", "X-Service-Token"):
            for path in ("/api/whoami", "/api/whoami/", "/api/v1/identities", "/api/v1/identities/"):
                response = await http.get(path, headers={header: ADMIN})
                assert response.status_code == 200, (header, path)


async def test_an_identitys_key_sees_and_changes_itself_only(any_desk: Desk) -> None:
    desk = any_desk
    mine = await desk.identity()
    other = await desk.do(desk.inkbox.create_identity, "other-bot")
    own = await desk.agent_key(mine)
    assert [one.agent_handle for one in await desk.do(own.list_identities)] == ["support-bot"]
    assert [one.id for one in await desk.do(own.phone_numbers.list)] == [mine.phone_number.id]
    assert (await desk.do(own.calls.list)) == []
    assert (await desk.do(own.incoming_call_action.get)).agent_identity_id == mine.id
    changed = await desk.do(own.incoming_call_action.set, incoming_call_action="auto_reject")
    assert changed.incoming_call_action == "auto_reject"
    call = await desk.do(own.calls.place, to_number=CALLEE, from_number=mine.phone_number.number)
    assert call.rate_limit.calls_used == 1
    for work, arguments in (
        (own.get_identity, {"agent_handle": "other-bot"}),
        (own.calls.list, {"agent_identity_id": other.id}),
        (own.incoming_call_action.get, {"agent_identity_id": other.id}),
        (own.incoming_call_action.set, {"agent_identity_id": other.id, "incoming_call_action": "auto_reject"}),
        (own.phone_numbers.update, {"phone_number_id": mine.phone_number.id, "filter_mode": "whitelist"}),
        (own.phone_numbers.update, {"phone_number_id": mine.phone_number.id, "filter_mode": "blacklist"}),
        (own.phone_identity_contact_rules.create, {"agent_handle": "support-bot", "action": "block",
                                                   "match_target": CALLEE}),
        (own.phone_identity_contact_rules.list_all, {}),
        (own.phone_numbers.release, {"phone_number_id": mine.phone_number.id}),
        (own.create_identity, {"agent_handle": "third-bot"}),
    ):  # fmt: skip
        assert await status_of(desk, work, **arguments) == 403, work
    assert await desk.do(own.phone_identity_contact_rules.list, "support-bot") == []


async def test_nonsense_is_answered_in_the_contracts_shape(any_desk: Desk) -> None:
    desk = any_desk
    path = "/api/v1/phone/place-call"
    for request, status in (
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422),
        ({"content": b"", "headers": {"Content-Type": "application/json"}}, 422),
        ({"content": b"a=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 422),
        ({"json": []}, 422),
        ({"json": {"to_number": 12125550142}}, 422),
        ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 422),
        ({"json": {"to_number": CALLEE, "reason": "x" * 2_000_000}}, 413),
    ):
        answer = await desk.ask("POST", path, status, **request)
        assert set(answer) == {"detail"}, answer
    gone = await desk.ask("GET", "/api/v1/nothing/here", 404)
    assert set(gone) == {"detail"}
    wrong = await desk.http.request("PUT", path)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
