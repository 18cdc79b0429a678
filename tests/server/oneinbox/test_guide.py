"""The guide, followed line by line, on every carrier, by curl and by httpx. The caller changes nothing but names."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import guide
import httpx
import pytest
from house import ADMIN, API_KEYS, CALLER, House, open_house

from shared_documents import shared_path


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """As ``anycarrier serve --sandbox`` starts it: nobody says which countries may be called."""
    async with open_house(tmp_path, allow=[]) as opened:
        yield opened


@pytest.fixture(params=["twilio", "telnyx"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["curl", "httpx"])
async def reader(request: pytest.FixtureRequest, house: House, provider: str) -> guide.Reader:
    if request.param == "curl" and shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    values = {"api_key": ADMIN, "your_provider_api_key": API_KEYS[provider]}
    return guide.Reader(house.url, provider, request.param == "curl", values)


def test_these_are_the_guides_own_lines_and_answers_and_all_of_them() -> None:
    text = shared_path("sources", "004_61d6c291302c51d0.txt").read_text()
    assert [line for line in guide.LINES if line not in text] == []
    assert len(re.findall(r"^curl ", text, re.MULTILINE)) == len(guide.LINES)
    assert re.findall(r"^\{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL) == list(guide.ANSWERS)


async def test_the_guides_first_line_is_taken_with_nothing_but_a_token_too(
    reader: guide.Reader, provider: str
) -> None:
    reader.values["your_provider_api_key"] = "a-token-and-nothing-else"
    status, credential = await reader.run(guide.CREDENTIAL)
    assert status == 201
    assert guide.unlike(guide.CREDENTIAL_ANSWER, credential) == []
    assert credential["missing"] == (["account_sid"] if provider == "twilio" else [])


async def test_the_guides_lines_work_as_they_stand(house: House, reader: guide.Reader, provider: str) -> None:
    reader.values["agent_id"] = await house.agent(enable_recording=True)

    # 1. Add your provider integration.
    status, credential = await reader.run(guide.CREDENTIAL)
    assert status == 201
    assert {"name": "My Carrier", "provider": provider}.items() <= credential.items()
    assert guide.unlike(guide.CREDENTIAL_ANSWER, credential) == []
    assert API_KEYS[provider].rpartition(":")[2] not in str(credential)
    reader.values["crd_abc123"] = credential["id"]

    # 2. Register a phone number.
    status, number = await reader.run(guide.REGISTER)
    assert status == 201
    assert guide.unlike(guide.NUMBER_ANSWER, number) == []
    assert (number["phone_number"], number["status"]) == (guide.SERVED_NUMBER, "active")
    assert number["agent_id"] == reader.values["agent_id"]
    assert number["provider_sync"]["ok"], number["provider_sync"]
    reader.values["phone_id"] = number["id"]

    # 3. Make an outbound call.
    status, call = await reader.run(guide.CALL)
    assert status == 201
    assert guide.unlike(guide.CALL_ANSWER, call) == []
    assert call["status"] == "initiated"
    assert (call["to_number"], call["from_number"]) == (guide.CALLED_NUMBER, guide.SERVED_NUMBER)
    reader.values["call_id"] = call["id"]

    # It goes through its states; nothing of the conversation shows before it is over.
    live = await house.until(call["id"], "in_progress")
    assert (live["messages"], live["analysis"], live["recording_url"]) == ([], None, None)
    await house.line.calls(1)
    assert house.line.contexts[0]["variables"]["customer_name"] == "Sama"

    # 4. Read the results.
    status, stopped = await reader.run(guide.STOP)
    assert status == 200
    assert stopped["status"] == "completed"
    await house.recorded(call["id"])
    status, record = await reader.run(guide.FETCH)
    assert status == 200
    assert guide.unlike(guide.RECORD, record) == []
    assert record["status"] == "completed"
    assert record["end_reason"] == "api_stop"
    assert record["duration_seconds"] > 0
    assert record["messages"][:2] == [
        {"role": "agent", "content": "Hi Sama! This is Aria from Acme."},
        {"role": "user", "content": "Oh hi, book me in please."},
    ]
    assert record["analysis"]["outcome"] == "Appointment Booked"
    assert record["analysis"]["summary"]
    assert f"/recordings/{call['id']}.mp3?" in record["recording_url"]
    async with httpx.AsyncClient(trust_env=False) as anybody:
        assert (await anybody.get(record["recording_url"])).headers["content-type"] == "audio/mpeg"

    # Inbound calls: reassigning is all it takes.
    other = await house.agent("Nova")
    reader.values["new_agent_id"] = other
    status, moved = await reader.run(guide.REASSIGN)
    assert (status, moved["agent_id"]) == (200, other)
    await house.sandbox(provider).ring(guide.SERVED_NUMBER, CALLER)
    await house.line.calls(2)
    assert house.line.contexts[1]["agent_id"] == other

    # Search for available numbers, by no credential in particular.
    status, offers = await reader.run(guide.SEARCH)
    assert status == 200
    assert 1 <= len(offers["items"]) <= 10
    assert all(offer["phone_number"].startswith("+1415") for offer in offers["items"])
