"""Whatever is sent, the contract's code and a body that says what to do: never a 500, never somebody else's things."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from house import ADMIN, OURS, House

from anycarrier_server.oneinbox import FACE

NOBODY = "00000000000000000000000000000000"
STRANGE = ["nonsense", f"call_{NOBODY}", NOBODY, "%00", "..%2f..", "é", "x" * 3000, "{}", "call_" + "9" * 32]


def filled(path: str, value: str) -> str:
    """A path with every parameter set to ``value``."""
    for name in ("credential_id", "phone_id", "call_id", "agent_id", "webhook_id", "delivery_id"):
        path = path.replace(f"{{{name}}}", value)
    return path


WITH_ID = [one for one in FACE.endpoints if "{" in one.path]
WITH_BODY = [one for one in FACE.endpoints if one.body is not None]


def body_for(model: Any) -> dict[str, Any]:
    """The least a request must hold."""
    values = {
        "to_number": "+12125550142",
        "from_number": OURS,
        "phone_number": OURS,
        "digits": "1",
        "events": ["call.ended"],
        "url": "https://example.com",
    }
    return {name: values.get(name, "x") for name, field in model.model_fields.items() if field.is_required()}


@pytest.mark.parametrize("value", STRANGE)
async def test_an_id_that_is_nobodys_is_not_found_wherever_it_stands(house: House, value: str) -> None:
    for one in WITH_ID:
        body = body_for(one.body) if one.body is not None else None
        response = await house.client.request(one.method, filled(one.path, value), json=body)
        # Only what no path may hold is called malformed; a body that is right must not be what decides.
        expected = 422 if value == "%00" else 404
        assert response.status_code == expected, f"{one.method} {one.path}: {response.text}"
        assert response.json()["detail"] and response.json()["code"] in ("not_found", "validation"), response.text


async def test_without_a_good_key_nothing_is_told(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as stranger:
        for one in FACE.endpoints:
            for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {ADMIN}"}):
                response = await stranger.request(one.method, filled(one.path, NOBODY), headers=headers, content=b"{")
                assert response.status_code == 401, f"{one.method} {one.path}"
                assert response.json()["code"] == "unauthorized"
                assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "content",
    [b"{", b'{"name": "x"', b"\xff\xfe", b"null", b"[]", b'"text"', b"3", b"NaN", b"[" * 5000, b'{"name": "\\u0000"}',
     b'{"name": "\\ud800"}', b'{"name": 1e999}'],
)  # fmt: skip
async def test_a_body_that_is_no_object_of_ours_is_422(house: House, content: bytes) -> None:
    for one in WITH_BODY:
        if one.path.count("{"):
            continue
        response = await house.client.request(
            one.method, one.path, content=content, headers={"Content-Type": "application/json"}
        )
        assert response.status_code == 422, f"{one.path} took {content[:20]!r}: {response.text}"
        detail = response.json()["detail"]
        assert all({"loc", "msg", "type"} <= set(complaint) for complaint in detail)


async def test_a_body_of_another_type_or_size_is_refused_by_name(house: House) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        response = await house.client.post("/v1/agents", content=b"name=x", headers={"Content-Type": kind})
        assert response.status_code == 422
        assert "application/json" in response.text
    huge = json.dumps({"name": "x", "system_prompt": "x" * 2_000_000})
    response = await house.client.post("/v1/agents", content=huge, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")

    async def drip() -> Any:
        for _ in range(40):
            yield b"x" * 65536

    response = await house.client.post("/v1/agents", content=drip(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/v1/usage", "GET"), ("PUT", "/v1/calls", "GET, POST"), ("POST", "/v1/calls/cursor", "GET")],
)
async def test_another_method_is_405_and_an_address_that_is_not_404(
    house: House, method: str, path: str, allowed: str
) -> None:
    response = await house.client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert set(allowed.split(", ")) <= set(response.headers["allow"].split(", "))
    assert (await house.ask("GET", "/v1/nowhere", 404))["code"] == "not_found"


async def test_another_workspaces_things_are_as_unknown_as_none(house: House) -> None:
    agent_id = await house.agent()
    number = await house.number("telnyx", agent_id)
    call = await house.call(agent_id, "+15005550101")
    hook = await house.ask(
        "POST", "/v1/webhooks", 201, json={"name": "a", "url": "http://127.0.0.1:9/", "events": ["call.ended"]}
    )
    other = await house.service.store.workspaces.create("other")
    _, secret = await house.service.store.keys.create(other.id, "theirs", style="oi_sk")
    async with httpx.AsyncClient(
        base_url=house.url, headers={"Authorization": f"Bearer {secret}"}, trust_env=False
    ) as them:
        for root in ("agents", "credentials", "phone-numbers", "calls", "webhooks"):
            assert (await them.get(f"/v1/{root}")).json()["total"] == 0
        ids = {
            "agent_id": agent_id, "credential_id": number["credential_id"], "phone_id": number["id"],
            "call_id": call["id"], "webhook_id": hook["id"], "delivery_id": NOBODY,
        }  # fmt: skip
        for one in WITH_ID:
            path = one.path.format(**ids)
            body = body_for(one.body) if one.body is not None else None
            response = await them.request(one.method, path, json=body)
            assert response.status_code == 404, f"{one.method} {path}: {response.text}"
        body = {"agent_id": agent_id, "from_number": OURS, "to_number": "+12125550142"}
        assert (await them.post("/v1/calls", json=body)).status_code == 404
        mine = (await them.post("/v1/agents", json={"name": "mine"})).json()["id"]
        refused = await them.post("/v1/calls", json={**body, "agent_id": mine})
        assert (refused.status_code, refused.json()["code"]) == (403, "from_number_not_owned")


async def test_an_agents_own_key_sees_its_agent_only_and_manages_nothing(house: House) -> None:
    mine, theirs = await house.agent("Mine"), await house.agent("Theirs")
    number = await house.number("telnyx", theirs)
    call = await house.call(theirs, "+15005550101")
    workspace = await house.service.store.workspaces.first()
    agent = await house.service.store.agents.find(_uuid(mine))
    assert workspace is not None and agent is not None
    _, secret = await house.service.store.keys.create(workspace.id, "mine", agent_id=agent.id)
    async with httpx.AsyncClient(
        base_url=house.url, headers={"Authorization": f"Bearer {secret}"}, trust_env=False
    ) as key:
        assert [one["id"] for one in (await key.get("/v1/agents")).json()["items"]] == [mine]
        assert (await key.get("/v1/calls")).json()["total"] == 0
        for path in (f"/v1/agents/{theirs}", f"/v1/phone-numbers/{number['id']}", f"/v1/calls/{call['id']}"):
            assert (await key.get(path)).status_code == 403, path
        assert (await key.post(f"/v1/calls/{call['id']}/stop")).status_code == 403
        body = {"agent_id": mine, "from_number": OURS, "to_number": "+12125550142"}
        assert (await key.post("/v1/calls", json=body)).status_code == 403
        for path, body in (
            ("/v1/agents", {"name": "more"}),
            ("/v1/credentials", {"name": "more", "provider": "telnyx", "api_key": "KEY"}),
            ("/v1/webhooks", {"name": "all", "url": "http://127.0.0.1:9/", "events": ["call.ended"]}),
        ):
            assert (await key.post(path, json=body)).status_code == 403, path
        account = (await house.ask("GET", "/v1/credentials"))["items"][0]
        for root in ("/v1/credentials", "/v1/integrations"):
            for asked in (
                key.get(root),
                key.get(f"{root}/{account['id']}"),
                key.patch(f"{root}/{account['id']}", json={"name": "x"}),
                key.post(f"{root}/{account['id']}/verify"),
                key.delete(f"{root}/{account['id']}"),
            ):
                answer = await asked
                assert answer.status_code == 403 and account["name"] not in answer.json()["detail"]


async def test_no_cache_keeps_an_answer_and_no_browser_takes_it_for_something_else(house: House) -> None:
    made = await house.client.post("/v1/credentials", json={"name": "a", "provider": "telnyx", "api_key": "KEY0123"})
    for answer in (
        made,
        await house.client.get("/v1/calls"),
        await house.client.get("/v1/nowhere"),
        await house.client.get("/api/v1/identities"),
        await house.client.get("/ops/checkup", headers={"Authorization": ""}),
        await house.client.get("/recordings/nothing.wav"),
    ):
        assert answer.headers["cache-control"] == "no-store", answer.url
        assert answer.headers["x-content-type-options"] == "nosniff", answer.url


def _uuid(text: str) -> Any:
    from anycarrier_server.store import parse_id

    return parse_id("agent", text)
