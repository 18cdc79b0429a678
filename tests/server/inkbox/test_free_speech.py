"""Callers who say what they like, to an agent that leaves speech to us: the real SDK reads the transcript."""

from __future__ import annotations

import json

import pytest
from desk import CALLER, Desk

from anycarrier.speech import speech_engine_names
from anycarrier.testing.word_errors import heard_phrase, word_error_rate

pytestmark = pytest.mark.skipif(
    not {"whisper", "hibari"} <= set(speech_engine_names()), reason="needs the engines for free speech"
)

SAID = ("Could you book a zeppelin for Friday afternoon? My name is Emily Carter.", "No, thank you. That is all.")
ANSWER = "It is booked. Can I do anything else for you?"


async def test_free_sentences_reach_the_agents_socket_and_the_clients_transcript(desk: Desk) -> None:
    desk.agent.headers = {}  # speech in both directions is ours by default
    identity = await desk.identity()
    ring = {"to": identity.phone_number.number, "from": CALLER, "say": SAID[0]}
    rung = await desk.ask("POST", "/sandbox/calls", 201, json=ring)
    socket = await desk.agent.started()

    def heard() -> list[str]:
        return [event["text"] for event in desk.agent.of("transcript") if event["is_final"]]

    await desk.agent.until(lambda: len(heard()) == 1, timeout=60)
    await socket.send(json.dumps({"event": "text", "delta": ANSWER, "turn_id": "1", "done": True}))
    far_end = await desk.far_end(await desk.do(desk.inkbox.calls.get, rung["id"]))
    await far_end.wait_heard(1.0)
    await far_end.playback.drained()
    await desk.ask("POST", f"/sandbox/calls/{rung['id']}/say", json={"text": SAID[1]})
    await desk.agent.until(lambda: len(heard()) == 2, timeout=60)
    await socket.send(json.dumps({"event": "stop"}))
    await desk.until(rung["id"], "completed")
    rows = await desk.do(identity.list_transcripts, rung["id"])
    assert [(row.party, row.text) for row in rows] == [
        ("remote", heard()[0]), ("local", ANSWER), ("remote", heard()[1])
    ]  # fmt: skip
    assert heard_phrase("book a zeppelin for friday afternoon", heard()[0])
    assert word_error_rate(zip(SAID, heard(), strict=True)) <= 0.1, heard()
    found = await desk.do(desk.inkbox.phone_numbers.search_transcripts, identity.phone_number.id, q="zeppelin")
    assert [row.text for row in found] == heard()[:1]
