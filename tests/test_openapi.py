"""The OpenAPI check itself: each kind of mistake is caught, and what the document allows passes."""

from __future__ import annotations

import httpx
import pytest

from openapi import Spec

CALL = {
    "type": "object",
    "properties": {"sid": {"$ref": "#/components/schemas/sid"}, "duration": {"type": "string", "nullable": True}},
    "required": ["sid"],
}
DOCUMENT = {
    "openapi": "3.0.1",
    "servers": [{"url": "https://api.example.com/v1"}],
    "paths": {
        "/calls": {
            "parameters": [{"name": "trace", "in": "query", "schema": {"type": "boolean"}}],
            "get": {
                "parameters": [
                    {"name": "limit", "in": "query", "required": True, "schema": {"type": "integer", "maximum": 9}},
                    {"name": "filter", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
                ],
                "responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}},
            },
            "post": {
                "requestBody": {
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "type": "object",
                                "required": ["To"],
                                "properties": {
                                    "To": {"type": "string", "pattern": "^\\+"},
                                    "Timeout": {"type": "integer"},
                                    "Record": {"type": "boolean"},
                                    "Event": {"type": "array", "items": {"type": "string"}},
                                },
                            }
                        }
                    }
                },
                "responses": {
                    "201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/call"}}}}
                },
            },
        },
        "/calls/{sid}": {
            "post": {
                "parameters": [
                    {"name": "sid", "in": "path", "required": True, "schema": {"$ref": "#/components/schemas/sid"}}
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"allOf": [{"$ref": "#/components/schemas/end"}]}}},
                },
                "responses": {"204": {}},
            }
        },
    },
    "components": {
        "schemas": {
            "sid": {"type": "string", "pattern": "^CA[0-9]$"},
            "call": CALL,
            "end": {"type": "object", "properties": {"status": {"enum": ["completed"]}}, "required": ["status"]},
        }
    },
}
ROOT = "https://api.example.com/v1"


def problems(method: str, path: str, *, blank_clears: bool = False, **request: object) -> list[str]:
    spec = Spec(DOCUMENT, blank_clears=blank_clears)
    return spec.request_problems(httpx.Request(method, ROOT + path, **request))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "request_"),
    [
        ("GET", "/calls?limit=3&trace=true&filter[a][b]=c", {}),
        ("POST", "/calls", {"data": {"To": "+1", "Timeout": 5, "Record": True, "Event": ["a", "b"]}}),
        ("POST", "/calls", {"data": {"To": "+1", "Event": "a"}}),
        ("POST", "/calls/CA1", {"json": {"status": "completed"}}),
    ],
)
def test_what_the_document_allows_passes(method, path, request_):
    assert problems(method, path, **request_) == []


@pytest.mark.parametrize(
    ("method", "path", "request_", "said"),
    [
        ("GET", "/call", {}, "no operation"),
        ("DELETE", "/calls", {}, "no operation"),
        ("GET", "/calls", {}, "limit is missing"),
        ("GET", "/calls?limit=ten", {}, "not of type 'integer'"),
        ("GET", "/calls?limit=10", {}, "maximum"),
        ("GET", "/calls?limit=1&limit=2", {}, "given 2 times"),
        ("GET", "/calls?limit=1&colour=red", {}, "colour is unknown"),
        ("GET", "/calls?limit=1&trace=perhaps", {}, "not of type 'boolean'"),
        ("GET", "/calls?limit=1", {"json": {}}, "takes no body"),
        ("POST", "/calls", {"data": {"Timeout": 5}}, "To is missing"),
        ("POST", "/calls", {"data": {"To": "1"}}, "does not match"),
        ("POST", "/calls", {"data": {"To": ""}}, "does not match"),
        ("POST", "/calls", {"data": {"To": "+1", "Timeout": "5.5"}}, "not of type 'integer'"),
        ("POST", "/calls", {"data": {"To": "+1", "colour": "red"}}, "colour is unknown"),
        ("POST", "/calls", {"json": {"To": "+1"}}, "content type"),
        ("POST", "/calls/XX", {"json": {"status": "completed"}}, "does not match"),
        ("POST", "/calls/CA1", {}, "body is missing"),
        ("POST", "/calls/CA1", {"json": {}}, "'status' is a required property"),
        ("POST", "/calls/CA1", {"json": {"status": "eaten"}}, "is not one of"),
        ("POST", "/calls/CA1", {"json": {"status": "completed", "colour": "red"}}, "colour is unknown"),
    ],
)
def test_each_mistake_in_a_request_is_caught(method, path, request_, said):
    (problem,) = problems(method, path, **request_)
    assert said in problem


def test_a_blank_form_value_may_mean_unset():
    assert problems("POST", "/calls", blank_clears=True, data={"To": ""}) == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (201, {"sid": "CA1", "duration": None, "more": 1}, None),
        (400, {"whatever": 1}, None),
        (200, {"sid": "CA1"}, "status 200 is not declared"),
        (201, {}, "'sid' is a required property"),
        (201, {"sid": "XX"}, "does not match"),
        (201, {"sid": "CA1", "duration": 3}, "not of type 'string'"),
        (201, None, "None"),
    ],
)
def test_each_mistake_in_an_answer_is_caught(status, body, said):
    found = Spec(DOCUMENT).response_problems("POST", "/v1/calls", status, body)
    assert (found == []) if said is None else (said in found[0])


def test_an_answer_without_a_body_may_have_none():
    spec = Spec(DOCUMENT)
    assert spec.response_problems("POST", "/v1/calls/CA1", 204, None) == []
    assert "carries no body" in spec.response_problems("POST", "/v1/calls/CA1", 204, {})[0]


async def test_the_transport_fails_the_test_that_sends_or_answers_wrongly():
    spec = Spec(DOCUMENT)
    good = spec.transport(lambda request: httpx.Response(201, json={"sid": "CA1"}))
    bad = spec.transport(lambda request: httpx.Response(201, json={}))
    async with httpx.AsyncClient(transport=good, base_url=ROOT) as http:
        assert (await http.post("/calls", data={"To": "+1"})).json() == {"sid": "CA1"}
        with pytest.raises(AssertionError, match="To is missing"):
            await http.post("/calls", data={"Timeout": "1"})
    async with httpx.AsyncClient(transport=bad, base_url=ROOT) as http:
        with pytest.raises(AssertionError, match="required property"):
            await http.post("/calls", data={"To": "+1"})
    assert spec.seen == {("POST", "/calls")}
