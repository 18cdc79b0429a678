"""Callers who say what they like: an agent without a grammar understands them, and the guide's own request reads it."""

from __future__ import annotations

import asyncio
import shutil

import guide
import pytest
from house import ADMIN, CALLER, OURS, House

from anycarrier.speech import speech_engine_names
from anycarrier.testing.word_errors import heard_phrase, word_error_rate

pytestmark = pytest.mark.skipif(
    not {"whisper", "hibari"} <= set(speech_engine_names()), reason="needs the engines for free speech"
)

SAID = "Could you book a zeppelin for Friday afternoon? My name is Emily Carter."
MORE = "And please tell the captain that we are going to be a little late."


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_free_sentences_of_a_caller_are_repeated_and_read_by_the_guides_own_line(
    house: House, provider: str
) -> None:
    body = {"name": "Aria", "handler": "repeat", "first_message": "Hello."}
    agent = await house.ask("POST", "/v1/agents", 201, json=body)
    assert agent["warnings"] == []
    await house.number(provider, agent["id"])
    call = (await house.ask("POST", "/sandbox/calls", 201, json={"to": OURS, "from": CALLER, "say": SAID}))["call_id"]
    await answered(house, call, 1)
    await house.ask("POST", f"/sandbox/calls/{call}/say", json={"text": MORE})
    await answered(house, call, 2)
    await house.ask("POST", f"/sandbox/calls/{call}/hangup")
    await house.until(call, "completed")
    reader = guide.Reader(house.url, provider, shutil.which("curl") is not None, {"api_key": ADMIN, "call_id": call})
    status, record = await reader.run(guide.FETCH)
    assert status == 200
    heard = [one["content"] for one in record["messages"] if one["role"] == "user"]
    assert [(one["role"], one["content"]) for one in record["messages"]] == [
        ("agent", "Hello."), ("user", heard[0]), ("agent", f"You said: {heard[0]}"),
        ("user", heard[1]), ("agent", f"You said: {heard[1]}"),
    ]  # fmt: skip
    assert heard_phrase("book a zeppelin for friday afternoon", heard[0])
    assert word_error_rate(zip((SAID, MORE), heard, strict=True)) <= 0.1, heard
    assert record["latency"]["eou_delay"]["samples"] == 2


async def answered(house: House, call_id: str, count: int) -> None:
    """Wait until the caller has heard ``count`` answers."""
    async with asyncio.timeout(60):
        while True:
            page = await house.ask("GET", "/v1/calls/messages", params={"calls": call_id})
            if sum(one["content"].startswith("You said") for one in page["items"]) >= count:
                return
            await asyncio.sleep(0.1)
