"""Playing ``rest/`` cassettes: what is not on one is told apart from what is, part by part."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import yaml

from anycarrier.testing.replay import CassetteTransport, NotOnCassette

URL = "https://api.brook.example/v1"


def interaction(method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
    request = {"method": method, "uri": URL + path, "body": json.dumps(body) if body else "", "headers": {}}
    return {"request": request, "response": {"status": {"code": 200, "message": "OK"}, "headers": {},
                                             "body": {"string": "{}"}}}  # fmt: skip


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    path = tmp_path / "dial.yaml"
    kept = [
        interaction("GET", "/account"),
        interaction("POST", "/calls", {"from": "+14155550100", "to": "+14155550123"}),
    ]
    path.write_text(yaml.safe_dump({"version": 1, "interactions": kept}))
    return path


def send(transport: CassetteTransport, method: str, path: str, body: Mapping[str, object] | None = None) -> int:
    async def sent() -> int:
        async with httpx.AsyncClient(transport=transport) as http:
            return (await http.request(method, URL + path, json=body)).status_code

    return asyncio.run(sent())


def test_the_nearest_request_is_named_with_what_differs_and_no_value(cassette: Path) -> None:
    transport = CassetteTransport([cassette])
    with pytest.raises(NotOnCassette) as caught:
        send(transport, "POST", "/calls", {"from": "+14155550100", "to": "+14155550123", "digits": "4711"})
    assert str(caught.value) == (
        "POST /v1/calls is not on dial.yaml. The nearest there, POST /v1/calls, differs: "
        "the body has digits, which the cassette does not have"
    )


def test_a_request_sent_more_often_than_recorded_is_said_to_be_that(cassette: Path) -> None:
    transport = CassetteTransport([cassette])
    assert send(transport, "GET", "/account") == 200
    with pytest.raises(NotOnCassette, match=r"GET /v1/account is not on dial.yaml once more: it was sent 2 times"):
        send(transport, "GET", "/account")


def test_without_a_cassette_the_error_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(NotOnCassette, match=r"there is none for this operation\. Add rest/answer\.yaml$"):
        send(CassetteTransport([tmp_path / "answer.yaml"]), "GET", "/account")


def test_what_was_not_played_is_listed(cassette: Path) -> None:
    transport = CassetteTransport([cassette])
    assert transport.unplayed() == ["dial.yaml: GET /v1/account", "dial.yaml: POST /v1/calls"]
    send(transport, "POST", "/calls", {"from": "a", "to": "b"})
    assert transport.unplayed() == ["dial.yaml: GET /v1/account"]
    send(transport, "GET", "/account")
    assert transport.unplayed() == []
