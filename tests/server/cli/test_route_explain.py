"""``route explain`` says what then happens: every call explained here is rung as well, and its route compared."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from anycarrier.errors import AnycarrierError
from anycarrier.events import IncomingCall
from anycarrier.routing import Answer, Forward, LeaveRinging, Line, Reject, Route
from server.cli.town import Run, Served

OURS = "+14155550100"
SOMEBODY = "+12125550123"
OUTCOMES: dict[type[Any], str] = {Answer: "answer", Reject: "reject", Forward: "forward", LeaveRinging: "ring"}


@dataclass
class Desk:
    """A number with its agent, and what the router really said to calls for it."""

    run: Run
    served: Served
    routed: list[Route] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def explained(self, *words: str) -> dict[str, Any]:
        expect = 1 if "--reject" in words else 0
        asked = [word for word in words if word != "--reject"]
        found: dict[str, Any] = (await self.run("route", "explain", OURS, *asked, "--json", expect=expect)).json
        return found

    async def really(self, from_: str = SOMEBODY) -> str:
        """Ring, and say what became of it in the words of explain."""
        self.arrived.clear()
        await self.served.ring(OURS, from_)
        async with asyncio.timeout(30):
            await self.arrived.wait()
        return OUTCOMES[type(self.routed[-1])]


@pytest.fixture(params=["twilio", "telnyx"])
async def desk(request: pytest.FixtureRequest, served: Served, run: Run) -> Desk:
    await run("agents", "add", "Aria", "--handler", "listen")
    await run("numbers", "register", OURS, "--agent", "aria", "--credential", f"{request.param} sandbox")
    made = Desk(run, served)
    route = served.service.exchange.switchboard.router

    async def watched(event: IncomingCall, line: Line | None) -> Route:
        made.routed.append(await route(event, line))
        made.arrived.set()
        return made.routed[-1]

    served.service.exchange.switchboard.router = watched
    return made


async def test_a_call_the_agent_takes(desk: Desk) -> None:
    told = await desk.explained("--from", SOMEBODY)
    assert (told["outcome"], await desk.really()) == ("answer", "answer")
    assert [step["question"] for step in told["steps"]] == [
        "number", "carrier", "agent", "contact rules", "limits", "action", "fallback", "speech", "answer",
    ]  # fmt: skip
    assert [step["decides"] for step in told["steps"]] == [False] * 8 + [True]


async def test_a_caller_who_is_blocked_and_one_who_is_not(desk: Desk) -> None:
    await desk.run("rules", "add", "aria", "block", SOMEBODY)
    told = await desk.explained("--from", SOMEBODY, "--reject")
    assert "blocked by a contact rule" in told["why"] and SOMEBODY not in told["why"]
    assert (told["outcome"], await desk.really()) == ("reject", "reject")
    assert (await desk.explained())["outcome"] == "answer"
    assert await desk.really("+12125550124") == "answer"


async def test_a_whitelist_lets_nobody_pass_but_those_allowed(desk: Desk) -> None:
    await desk.run("agents", "set", "aria", "inbound_filter_mode=whitelist")
    assert "whitelist" in (await desk.explained("--reject"))["why"]
    assert await desk.really("+12125550124") == "reject"
    await desk.run("rules", "add", "aria", "allow", SOMEBODY, "--direction", "inbound")
    assert ((await desk.explained("--from", SOMEBODY))["outcome"], await desk.really()) == ("answer", "answer")


async def test_an_agent_that_declines_all(desk: Desk) -> None:
    await desk.run("agents", "set", "aria", "incoming_call_action=auto_reject")
    assert ((await desk.explained("--reject"))["outcome"], await desk.really()) == ("reject", "reject")


async def test_a_number_without_an_agent(desk: Desk) -> None:
    await desk.run("numbers", "assign", OURS, "none")
    assert "no agent" in (await desk.explained("--reject"))["why"]
    assert await desk.really() == "reject"


@pytest.mark.parametrize(("to", "outcome"), [("+12125550199", "forward"), ("+4930901820", "reject")])
async def test_forwarding_where_the_policy_lets_it(desk: Desk, to: str, outcome: str) -> None:
    action = ("incoming_call_action=forward", "forwarding_target_type=phone", f"forwarding_phone_number={to}")
    await desk.run("agents", "set", "aria", *action)
    told = await desk.explained(*(["--reject"] if outcome == "reject" else []))
    assert (told["outcome"], await desk.really()) == (outcome, outcome)
    assert to not in told["why"], "whole numbers are not told"


async def test_a_day_that_is_used_up(desk: Desk) -> None:
    desk.served.service.store.limits.calls = 0
    assert "used up" in (await desk.explained("--reject"))["why"]
    assert await desk.really() == "reject"


async def test_a_webhook_decides_then_and_not_now(desk: Desk) -> None:
    hook = "http://127.0.0.1:9/secret-path?token=1"
    await desk.run("agents", "set", "aria", "incoming_call_action=webhook", f"incoming_call_webhook_url={hook}")
    told = await desk.explained()
    assert told["outcome"] == "ask" and "127.0.0.1" in told["why"] and "secret" not in told["why"]
    assert await desk.really() == "reject", "nobody answers there"


async def test_who_stands_in_is_told(desk: Desk) -> None:
    ben = (await desk.run("agents", "add", "Ben", "--handler", "listen", "--json")).json
    await desk.run("agents", "set", "aria", f"fallback_agent_id={ben['id']}", "voicemail_message=Leave word")
    steps = {step["question"]: step["found"] for step in (await desk.explained())["steps"]}
    assert steps["fallback"].startswith("Ben (agt_") and "voicemail" in steps


async def test_nothing_is_counted_or_written_by_asking(desk: Desk) -> None:
    before = await desk.served.service.store.limits.snapshot((await _line(desk)).workspace_id)
    await desk.explained("--from", SOMEBODY)
    after = await desk.served.service.store.limits.snapshot((await _line(desk)).workspace_id)
    assert (after.calls_used, before.calls_used) == (0, 0)
    assert (await desk.run("calls", "ls", "--json")).json == []


async def test_a_number_of_nobodys_is_a_no_and_a_table_marks_what_decides(served: Served, run: Run) -> None:
    said = await run("route", "explain", "+14155550199", expect=1)
    assert said.out.startswith("> number  no number of this workspace") and "\nreject: " in said.out


async def test_an_agents_key_explains_its_own_numbers_only(desk: Desk) -> None:
    await desk.run("agents", "add", "Ben", "--handler", "listen")
    ours = (await desk.run("keys", "create", "a", "--agent", "aria")).out.splitlines()[0]
    theirs = (await desk.run("keys", "create", "b", "--agent", "ben")).out.splitlines()[0]
    await desk.run("route", "explain", OURS, "--key", ours)
    assert "may not act" in (await desk.run("route", "explain", OURS, "--key", theirs, expect=1)).err


async def test_an_inactive_number_says_what_the_carrier_said(served: Served, run: Run) -> None:
    await run("agents", "add", "Aria", "--handler", "listen")
    made = await run("numbers", "register", OURS, "--agent", "aria", "--credential", "twilio sandbox", "--json")
    row = await served.service.store.lines.by_number(OURS)
    assert row is not None
    await served.service.store.lines.change(
        row.id, status="inactive", sync={"ok": False, "message": "the carrier slept"}
    )
    assert made.json["status"] == "active"
    assert "not in service: the carrier slept" in (await run("route", "explain", OURS, expect=1)).out


async def _line(desk: Desk) -> Any:
    line = await desk.served.service.store.lines.by_number(OURS)
    if line is None:
        raise AnycarrierError("the number is gone")
    return line
