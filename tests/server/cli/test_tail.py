"""Following calls: what happens and what is said, as it happens, each once."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from anycarrier_server import sandbox_api
from server.cli.town import CARRIERS, OURS, SOMEBODY, Run, Served, a_number, an_agent, eventually


async def test_tail_follows_a_call_to_its_end(served: Served, run: Run) -> None:
    await an_agent(run)
    number = await a_number(run)
    call = (await run("calls", "dial", number, SOMEBODY, "--json")).json
    following = asyncio.create_task(run("calls", "tail", call["id"]))
    await served.until(call["id"], "in_progress")
    await served.service.exchange.hang_up((await served.row(call["id"])).reference)
    events = [line.split()[2] for line in (await following).out.splitlines()]
    assert events[0] == "call.created" and events[-1] == "completed"
    assert events.index("call.answered") < events.index("call.ended")
    assert len(events) == len(set(events)), "nothing is told twice"


@pytest.mark.parametrize("provider", CARRIERS)
async def test_what_is_said_is_printed_while_the_call_goes_on(served: Served, run: Run, provider: str) -> None:
    await an_agent(run)
    call = (await run("calls", "dial", await a_number(run, provider), SOMEBODY, "--json")).json["id"]
    await served.until(call, "in_progress")
    for party, text in (("local", "Good morning."), ("remote", "hi there")):
        served.service.store.writer.segment(UUID(call[5:]), party=party, text=text, ts_ms=0)
    await served.service.store.writer.flush()
    shown = await run("calls", "show", call[:13])
    assert "status" in shown.out and "in_progress" in shown.out
    assert "agent: Good morning.\nuser: hi there\n" in shown.out
    assert (await run("calls", "show", call, "--json")).json["messages"][1] == {"role": "user", "content": "hi there"}
    following = asyncio.create_task(run("calls", "tail", call[:13]))
    await asyncio.sleep(0.2)
    async with served.client() as client:
        await client.post(f"/v1/calls/{call}/stop")
    lines = [line.split(maxsplit=2)[2] for line in (await following).out.splitlines()]
    said = [line for line in lines if line.startswith(("agent:", "user:"))]
    assert said == ["agent: Good morning.", "user: hi there"], "each once"
    assert lines.index("user: hi there") < next(at for at, line in enumerate(lines) if line.startswith("call.ended"))
    everything = await run("calls", "tail", call, "--json")
    events = [json.loads(line) for line in everything.out.splitlines()]
    said = [event["details"] for event in events if event["event"] == "message"]
    assert said[0] == {"role": "agent", "content": "Good morning."}


async def test_tail_of_everything_tells_what_is_said_from_then_on(served: Served) -> None:
    from anycarrier_server.cli import tail

    async with served.client() as client:
        agent = await client.post("/v1/agents", {"name": "Aria", "handler": "listen"})
        account = (await client.get("/v1/credentials"))["items"][0]
        line = {"phone_number": OURS["twilio"], "agent_id": agent["id"], "credential_id": account["id"]}
        await client.post("/v1/phone-numbers", {**line, "provider": account["provider"]})
        body = {"agent_id": agent["id"], "from_number": OURS["twilio"], "to_number": SOMEBODY}
        calls = [(await client.post("/v1/calls", body))["id"] for _ in range(2)]

        async def say(call: str, text: str) -> None:
            served.service.store.writer.segment(UUID(call[5:]), party="remote", text=text, ts_ms=0)
            await served.service.store.writer.flush()

        await say(calls[0], "before")
        words = tail.Words(client)
        assert [one["details"]["content"] for one in await words.new(calls)] == ["before"]
        await say(calls[1], "after")
        assert [(one["call_id"], one["details"]["content"]) for one in await words.new(calls)] == [(calls[1], "after")]
        assert await words.new(calls) == []
        assert await words.new([]) == []
        for call in calls:
            await client.post(f"/v1/calls/{call}/stop")


async def test_tail_of_everything_tells_of_calls_that_come(served: Served, run: Run) -> None:
    from anycarrier_server.cli import tail

    await an_agent(run)
    number = await a_number(run)
    told: list[str] = []

    class Enough(Exception): ...

    def printed(event: Any, *, as_json: bool) -> None:
        told.append(event["event"])
        if event["event"] == "completed":
            raise Enough

    async with served.client() as client:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tail, "_print", printed)
            patch.setattr(tail, "EVERY", 0.02)
            following = asyncio.create_task(tail.follow_all(client))
            await asyncio.sleep(0)
            call = (await run("calls", "dial", number, SOMEBODY, "--json")).json
            await served.until(call["id"], "in_progress")
            await eventually(lambda: _told(told, "in_progress"))
            await run("calls", "stop", call["id"])
            async with asyncio.timeout(30):
                with pytest.raises(Enough):
                    await following
    assert told[-2:] == ["in_progress", "completed"]


async def _told(told: list[str], event: str) -> bool:
    return event in told




@pytest.mark.parametrize("provider", CARRIERS)
async def test_somebody_calls_speaks_presses_keys_and_hangs_up(
    served: Served, run: Run, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sound(service: object, text: str) -> bytes:
        return b"\x20" * 160

    monkeypatch.setattr(sandbox_api, "spoken", sound)
    await an_agent(run)
    number = await a_number(run, provider)
    made = (await run("sandbox", "call", number, "--say", "hello", "--barge-in", "--json")).json
    call, short = made["call_id"], made["call_id"][:13]
    assert (made["from"], made["to"]) == ("+12125550142", number)
    await served.until(call, "in_progress")
    assert (await run("sandbox", "say", short, "hello again", "--barge-in")).out == f"{call} answered\n"
    await run("sandbox", "press", short, "4#")
    assert served.service.sandboxes is not None
    far_end = served.service.sandboxes.far_end(provider, made["provider_call_id"])
    assert far_end is not None and [what for _, what in far_end.log if "presses" in what] == ["presses 4", "presses #"]
    assert "answered" in (await run("sandbox", "show", short)).out
    assert (await run("sandbox", "hangup", short)).out == f"{call} ended\n"
    await served.until(call, "completed")
    assert "the call is over" in (await run("sandbox", "say", short, "hello?", expect=1)).err
    assert "serve --sandbox" in (await run("sandbox", "show", call, "--direct", expect=2)).err
