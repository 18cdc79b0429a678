"""What the carrier documents, the sandbox plays or names: no documented operation or filter is called unknown."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from anycarrier_telnyx.sandbox import operations
from anycarrier_telnyx.sandbox.app import UNSUPPORTED_COMMANDS
from shared_documents import shared_path
from telnyx_platform import OURS, THEIRS, Line, codes, open_line


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with open_line() as line:
        yield line


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shared_path("specs", "telnyx_v2.trimmed.json").read_text())
    return found


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def documented(document: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Method, path and query parameters of each operation; a path's variables are all called ``{id}``."""

    def names(name: str, schema: dict[str, Any]) -> Iterator[str]:
        schema = resolved(document, schema)
        for one in schema.get("oneOf") or schema.get("anyOf") or ():
            yield from names(name, one)
        if schema.get("type") == "object" and "properties" in schema:
            for key, inner in schema["properties"].items():
                yield from names(f"{name}[{key}]", inner)
        elif "oneOf" not in schema and "anyOf" not in schema:
            yield name

    for path, item in document["paths"].items():
        for method in item.keys() & {"get", "post", "put", "patch", "delete"}:
            named = item.get("parameters", []) + item[method].get("parameters", [])
            parameters = [resolved(document, one) for one in named]
            query = [n for p in parameters if p["in"] == "query" for n in names(p["name"], p["schema"])]
            yield method.upper(), re.sub(r"\{\w+\}", "{id}", path), query


def test_every_documented_operation_is_played_or_named() -> None:
    here = {(one.method, one.path) for one in operations()}
    asked = {(method, path) for method, path, _ in documented(document())}
    assert len(asked) > 60 and asked - here == set()


def test_every_documented_filter_of_a_played_list_is_played_or_named() -> None:
    rules = {(one.method, one.path): one.query or {} for one in operations() if one.handler is not None}
    unknown = {
        f"{path} {name}"
        for method, path, query in documented(document())
        if method == "GET" and (method, path) in rules
        for name in query
        if name.removesuffix("[]") not in rules[method, path]
    }
    assert unknown == set()


def test_no_operation_is_both_played_and_named() -> None:
    played = [(one.method, one.path) for one in operations() if one.handler is not None]
    named = [(one.method, one.path) for one in operations() if one.handler is None]
    assert not set(played) & set(named) and len(set(played + named)) == len(played + named)


async def test_what_is_not_played_says_so_and_is_no_wrong_url(line: Line) -> None:
    call_id = await line.dial()
    for command in UNSUPPORTED_COMMANDS:
        answer = await line.command(call_id, command)
        assert (answer.status_code, codes(answer)) == (422, ["10038"])
        assert f"/actions/{command} is not simulated by this sandbox" in answer.text
    for path in ("/phone_numbers/voice", "/connections", "/webhook_deliveries/1"):
        assert "is not simulated by this sandbox" in (await line.http.get(path)).text
    assert codes(await line.http.get("/phone_numbrs")) == ["10005"]
    assert codes(await line.http.get("/connections", headers={"authorization": "Bearer KEYwrong"})) == ["10009"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"filter[country_iso_alpha2]": "US"}, True),
        ({"filter[country_iso_alpha2][]": "CA"}, False),
        ({"filter[number_type][eq]": "local"}, True),
        ({"filter[number_type][eq]": "mobile"}, False),
        ({"filter[voice.connection_name][contains]": "PLATF"}, True),
        ({"filter[voice.connection_name][ends_with]": "nothing of ours"}, False),
        ({"filter[without_tags]": "true"}, True),
        ({"filter[status]": "active"}, True),
        ({"filter[billing_group_id]": "77"}, False),
    ],
)
async def test_numbers_are_filtered_as_documented(line: Line, query: dict[str, str], found: bool) -> None:
    await line.http.patch(
        f"/call_control_applications/{line.connection}",
        json={"application_name": "A platform", "webhook_event_url": "https://voice.example.com/telnyx"},
    )
    owned = (await line.http.get("/phone_numbers")).json()["data"][0]["id"]
    await line.http.patch(f"/phone_numbers/{owned}", json={"connection_id": line.connection})
    rows = (await line.http.get("/phone_numbers", params=query)).json()["data"]
    assert [row["phone_number"] for row in rows] == ([OURS] if found else [])


async def test_orders_are_filtered_as_documented(line: Line) -> None:
    offer = (await line.http.get("/available_phone_numbers", params={"filter[limit]": 1})).json()["data"][0]
    order = {"phone_numbers": [{"phone_number": offer["phone_number"]}], "customer_reference": "mine"}
    made = (await line.http.post("/number_orders", json=order)).json()["data"]
    for name, value, found in [
        ("status", made["status"], True),
        ("status", "failure", False),
        ("customer_reference", "mine", True),
        ("customer_reference", "theirs", False),
        ("phone_numbers_count", "1", True),
        ("requirements_met", "true", True),
        ("requirements_met", "false", False),
        ("created_at][gt", "2020-01-01T00:00:00Z", True),
        ("created_at][lt", "2020-01-01T00:00:00Z", False),
    ]:
        rows = (await line.http.get("/number_orders", params={f"filter[{name}]": value})).json()["data"]
        assert [row["id"] for row in rows] == ([made["id"]] if found else []), (name, value)


async def test_recordings_are_filtered_by_time(line: Line) -> None:
    call_id = await line.dial()
    await line.platform.event("call.answered")
    await line.command(call_id, "record_start", format="wav", channels="dual")
    await line.command(call_id, "record_stop")
    for how, at, found in (("gte", "2020-01-01", 1), ("lte", "2020-01-01", 0), ("lte", "2999-01-01T00:00:00Z", 1)):
        for name in ("created_at", "start_time", "end_time"):
            query = {f"filter[{name}][{how}]": at}
            assert len((await line.http.get("/recordings", params=query)).json()["data"]) == found, query


# --- the caller id ----------------------------------------------------------------------------------------------------


async def test_a_from_that_the_account_does_not_hold_is_refused_until_it_is_verified(line: Line) -> None:
    stranger = "+16505550199"
    body = {"connection_id": line.connection, "to": THEIRS, "from": stranger}
    refused = await line.http.post("/calls", json=body)
    assert (refused.status_code, codes(refused)) == (403, ["10010"])
    assert "Unverified origination number" in refused.text and not line.sandbox.far_ends
    line.sandbox.verify_number(stranger)
    assert (await line.http.get(f"/verified_numbers/{stranger}")).json()["data"]["phone_number"] == stranger
    assert (await line.http.post("/calls", json=body)).status_code == 200
    assert [row["phone_number"] for row in (await line.http.get("/verified_numbers")).json()["data"]] == [stranger]
    await line.http.delete(f"/verified_numbers/{stranger}")
    assert (await line.http.post("/calls", json=body)).status_code == 403


async def test_a_transfer_shows_a_number_of_the_call_or_of_the_account_and_no_third(line: Line) -> None:
    far_end = await line.sandbox.ring(OURS, "+12125550123")
    await line.command(far_end.call_id, "answer")
    refused = await line.command(far_end.call_id, "transfer", to=THEIRS, **{"from": "+16505550199"})
    assert (refused.status_code, codes(refused)) == (403, ["10010"])
    assert (await line.command(far_end.call_id, "transfer", to=THEIRS, **{"from": "+12125550123"})).status_code == 200
