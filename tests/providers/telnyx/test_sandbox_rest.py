"""The Telnyx sandbox's account: logins, refusals, applications, numbers and orders, by the vendor's own SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import telnyx

from anycarrier.testing.sandbox_numbers import GONE_NUMBER, PENDING_NUMBER
from anycarrier_telnyx.sandbox import TelnyxSandbox
from openapi import Spec
from telnyx_platform import OURS, Line, codes, open_line


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with open_line() as line:
        yield line


@pytest.mark.parametrize(
    ("secret", "status", "code"),
    [
        ("Bearer KEYwrong", 401, "10009"),
        ("Bearer", 401, "10009"),
        ("Basic KEYsandbox", 401, "10009"),
        ("Bearer KEYsuspended", 403, "20013"),
        ("Bearer KEYbroke", 403, "20012"),
        ("Bearer KEYthrottled", 429, "10011"),
    ],
)
async def test_a_magic_secret_is_refused_as_the_carrier_would(
    line: Line, secret: str, status: int, code: str
) -> None:
    response = await line.http.get("/balance", headers={"authorization": secret})
    assert (response.status_code, codes(response)) == (status, [code])
    if status == 429:
        assert response.headers["x-ratelimit-reset"] == "2" and "retry-after" not in response.headers


async def test_two_api_keys_do_not_see_each_others_numbers(line: Line) -> None:
    other = await line.http.get("/phone_numbers", headers={"authorization": "Bearer KEYother"})
    mine = await line.http.get("/phone_numbers")
    assert other.json()["data"] == []
    assert [number["phone_number"] for number in mine.json()["data"]] == [OURS]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {("10004", "/connection_id"), ("10004", "/to"), ("10004", "/from")}),
        ({"nonsense": 1}, {("10015", "/nonsense")}),
        ({"to": "4155550100"}, {("10016", "/to")}),
        ({"from": "anonymous"}, {("10016", "/from")}),
        ({"connection_id": "1"}, {("10015", "/connection_id")}),
        ({"timeout_secs": 4}, {("90028", "/timeout_secs")}),
        ({"timeout_secs": "30"}, {("10015", "/timeout_secs")}),
        ({"time_limit_secs": 14401}, {("90029", "/time_limit_secs")}),
        ({"client_state": "not base64!"}, {("90017", "/client_state")}),
        ({"stream_track": "inbound"}, {("10032", "/stream_track")}),
        ({"stream_bidirectional_sampling_rate": 44100}, {("10032", "/stream_bidirectional_sampling_rate")}),
        ({"stream_url": "https://example.com"}, {("10015", "/stream_url")}),
        ({"stream_url": "ws://media.example.com/x"}, {("10015", "/stream_url")}),
        ({"stream_bidirectional_codec": "OPUS"}, {("10038", "/stream_bidirectional_codec")}),
        ({"transcription": True}, {("10038", "/transcription")}),
        ({"custom_headers": [{"name": "X-A"}]}, {("10004", "/custom_headers/0/value")}),
    ],
)
async def test_a_dial_that_breaks_the_documented_rules_gets_the_carriers_error_list(
    line: Line, body: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    good = {"connection_id": line.connection, "to": "+12125550111", "from": OURS}
    response = await line.http.post("/calls", json={**good, **body} if body else {})
    assert {(e["code"], e["source"]["pointer"]) for e in response.json()["errors"]} == expected
    assert 400 <= response.status_code < 500
    assert line.sandbox.far_ends == {}


@pytest.mark.parametrize("body", [b"{", b"[1]", b"to=1"])
async def test_a_body_that_is_no_json_object_gets_the_other_error_shape(line: Line, body: bytes) -> None:
    response = await line.http.post("/calls", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json() == {"errors": {"detail": "Bad Request"}}


async def test_unknown_paths_methods_and_query_names_are_refused(line: Line) -> None:
    assert codes(await line.http.get("/nothing")) == ["10005"]
    assert codes(await line.http.delete("/balance")) == ["10030"]
    odd = await line.http.get("/available_phone_numbers", params={"filter[area]": "415"})
    assert odd.json()["errors"][0]["source"] == {"parameter": "filter[area]"}
    long = await line.http.get("/phone_numbers", params={"page[size]": "251"})
    assert codes(long) == ["10033"]


async def test_a_connection_without_voice_profile_cannot_dial_out(line: Line) -> None:
    made = await line.client.call_control_applications.create(
        application_name="Inbound only", webhook_event_url="https://voice.example.com/hook"
    )
    assert made.data is not None and made.data.webhook_api_version == "1"
    with pytest.raises(telnyx.PermissionDeniedError) as refused:
        await line.client.calls.dial(connection_id=made.data.id or "", to="+12125550111", from_=OURS)
    assert refused.value.body["errors"][0]["code"] == "10010"  # type: ignore[index]


async def test_every_answer_about_the_account_keeps_to_the_carriers_document() -> None:
    spec = Spec.load("telnyx_v2.trimmed.json")
    async with open_line(spec) as line:
        client = line.client
        await client.balance.retrieve()
        await client.call_control_applications.list()
        await client.call_control_applications.retrieve(line.connection)
        await client.call_control_applications.update(
            line.connection, application_name="Voice 2", webhook_event_url=line.platform.url
        )
        search = await client.available_phone_numbers.list(
            filter={"country_code": "US", "national_destination_code": "415", "features": ["voice", "sms"], "limit": 2}
        )
        assert len(search.data or []) == 2
        number = (search.data or [])[0].phone_number or ""
        assert number.startswith("+1415555")
        order = await client.number_orders.create(
            phone_numbers=[{"phone_number": number}], connection_id=line.connection
        )
        assert order.data is not None and order.data.status == "pending"
        complete = await line.platform.event("number_order.complete")
        assert complete["phone_numbers"][0]["status"] == "success"
        fetched = await client.number_orders.retrieve(order.data.id or "")
        assert fetched.data is not None and fetched.data.status == "success"
        owned = (await client.phone_numbers.list(filter={"phone_number": number})).data[0]
        assert (owned.connection_id, len(owned.id)) == (line.connection, 19)
        await client.phone_numbers.retrieve(owned.id)
        voice = await client.phone_numbers.voice.retrieve(owned.id)
        assert voice.data is not None and voice.data.connection_id == line.connection
        await client.phone_numbers.voice.update(owned.id, tech_prefix_enabled=True)
        await client.phone_numbers.update(owned.id, tags=["blue"])
        tagged = await client.phone_numbers.list(filter={"tag": "blue"})
        assert [row.phone_number for row in tagged.data] == [number]
        nowhere = await client.phone_numbers.update(owned.id, connection_id="")
        assert nowhere.data is not None and nowhere.data.connection_id == nowhere.data.connection_name == ""
        await client.phone_numbers.delete(owned.id)
        assert (await client.phone_numbers.list(filter={"phone_number": number})).data == []
        await client.recordings.list()
        await client.connections.list_active_calls(line.connection)
        extra = await client.call_control_applications.create(application_name="X", webhook_event_url="https://a.example")
        assert extra.data is not None
        await client.call_control_applications.delete(extra.data.id or "")


async def test_the_filters_of_a_search_narrow_it(line: Line) -> None:
    async def found(**filter: Any) -> list[str]:
        answer = await line.client.available_phone_numbers.list(filter=filter)  # type: ignore[arg-type]
        return [row.phone_number or "" for row in answer.data or []]

    assert all(number.startswith("+1212") for number in await found(national_destination_code="212"))
    assert all(number.endswith("42") for number in await found(phone_number={"ends_with": "42"}))
    assert all("5550177" in number for number in await found(phone_number={"contains": "5550177"}))
    assert all(number[2:5] in ("416",) for number in await found(country_code="CA", locality="Toronto"))
    assert all(number[2:5] == "617" for number in await found(administrative_area="MA"))
    assert all(number[2] == "8" for number in await found(phone_number_type="toll_free"))
    assert await found(national_destination_code="212", phone_number={"starts_with": "9"}) == []
    assert await found(features=["fax"]) == []
    repeated = await line.http.get("/available_phone_numbers?filter[features][]=voice&filter[features][]=sms")
    assert repeated.json()["data"] and "metadata" in repeated.json()


async def test_a_number_must_be_found_before_it_is_ordered_and_may_be_gone(line: Line) -> None:
    async def order(number: str) -> httpx.Response:
        return await line.http.post("/number_orders", json={"phone_numbers": [{"phone_number": number}]})

    assert codes(await order(GONE_NUMBER)) == ["85000"]
    await line.client.available_phone_numbers.list(filter={"phone_number": {"contains": "500555"}})
    assert codes(await order(GONE_NUMBER)) == ["85001"]
    assert (await order(PENDING_NUMBER)).json()["data"]["status"] == "pending"


async def test_the_pending_numbers_order_stays_pending_for_as_long_as_told(line: Line) -> None:
    line.sandbox.pending_for = 0.5
    await line.client.available_phone_numbers.list(filter={"phone_number": {"contains": "500555"}})
    order = await line.client.number_orders.create(
        phone_numbers=[{"phone_number": PENDING_NUMBER}], connection_id=line.connection
    )
    assert order.data is not None
    assert (await line.client.phone_numbers.list(filter={"phone_number": PENDING_NUMBER})).data == []
    await line.platform.event("number_order.complete")
    fetched = await line.client.number_orders.retrieve(order.data.id or "")
    assert fetched.data is not None and fetched.data.status == "success"
    assert len((await line.client.phone_numbers.list(filter={"phone_number": PENDING_NUMBER})).data) == 1


async def test_an_application_with_numbers_on_it_cannot_be_deleted(line: Line) -> None:
    response = await line.http.delete(f"/call_control_applications/{line.connection}")
    assert codes(response) == ["10021"]


async def test_the_credential_it_gives_points_back_to_it(line: Line) -> None:
    credential = line.sandbox.credential()
    assert credential.model_dump()["base_url"] == line.sandbox.base_url
    other = line.sandbox.credential(api_key="KEYother")
    assert other.model_dump()["public_key"] != credential.model_dump()["public_key"]


async def test_it_can_be_mounted_below_a_path(line: Line) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with TelnyxSandbox(base_url="http://carrier.example/sandbox/telnyx") as sandbox:
        app = Starlette(routes=[Mount("/sandbox/telnyx", sandbox.app)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=sandbox.base_url) as http:
            response = await http.get("/balance", headers={"authorization": "Bearer KEYsandbox"})
        assert response.json()["data"]["currency"] == "USD"
        assert sandbox.requests[0].path == "/balance"
