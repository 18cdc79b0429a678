"""The model ends and transfers calls by tools, once all was heard; keys come in; agents by ``openai_agent``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession
from realtime_fake import Conversation, Script, serve_realtime

from anycarrier import EndReason, MediaSession
from anycarrier.agent import Agents, RawAgent
from anycarrier.calls import TransferStatus
from anycarrier.testing.session import open_session
from anycarrier_openai_realtime import end_call, openai_agent, transfer_call
from frameworks.openai.doors import DOORS, Door, sdk
from frameworks.openai.sounds import ANSWER, LOUD, QUIET, SPEECH
from whole.conftest import House, until

DESK = "+13105550130"
ABROAD = "+448715550123"


def speech_then(name: str, **arguments: str) -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.say(SPEECH, call=(name, arguments))

    return script


async def answer(conversation: Conversation) -> None:
    await conversation.say(ANSWER)


def outputs(model: Conversation) -> list[str]:
    """What the tools told the model."""
    items = [event["item"] for event in model.got("conversation.item.create")]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


async def test_the_goodbye_is_heard_before_the_call_ends(house: House, door: Door) -> None:
    async with serve_realtime(on_start=speech_then("end_call")) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
        await far_end.wait_for("ended")
        assert SPEECH in far_end.heard
        model = await realtime.conversation()
        assert outputs(model) == [] and model.got("response.create") == [], "it says nothing more"


async def test_a_caller_who_speaks_into_the_goodbye_is_not_hung_up_on(house: House, door: Door) -> None:
    async with serve_realtime(on_start=speech_then("end_call"), on_response=answer) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        await far_end.wait_heard(1.0)
        await far_end.say(LOUD + QUIET)
        model = await realtime.conversation()
        await until(lambda: bool(outputs(model)))
        assert "spoke" in outputs(model)[0]
        await until(lambda: ANSWER in far_end.heard)
        assert far_end.state != "ended"
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


async def test_a_transfer_is_asked_once_its_announcement_was_heard_and_the_call_lives_on(
    house: House, door: Door
) -> None:
    async with serve_realtime(on_start=speech_then("transfer_call", to=DESK)) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        await house.known(far_end.call_id)
        call = await house.exchange.wait_until(
            far_end.call_id, lambda c: c.transfer is TransferStatus.ANSWERED, 30
        )
        assert SPEECH in far_end.heard
        await until(lambda: not house.exchange.switchboard.sessions)
        assert far_end.state != "ended" and far_end.transferred_to == DESK
        assert not (await house.call_of(far_end)).ended
        await far_end.hang_up()
        assert (await house.over(call)).reason is EndReason.TRANSFERRED


async def test_a_transfer_that_policy_refuses_is_told_to_the_model(house: House, door: Door) -> None:
    async with serve_realtime(on_start=speech_then("transfer_call", to=ABROAD), on_response=answer) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        model = await realtime.conversation()
        await until(lambda: bool(outputs(model)))
        assert "refused" in outputs(model)[0] and ABROAD not in outputs(model)[0]
        await until(lambda: ANSWER in far_end.heard)
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


async def test_a_transfer_that_nobody_takes_leaves_the_caller_with_the_model(door: Door) -> None:
    async with (
        serve_realtime(on_start=speech_then("transfer_call", to=DESK), on_response=answer) as realtime,
        open_session() as (session, far_end),
    ):
        running = asyncio.ensure_future(door(realtime)(session))
        await until(lambda: far_end.control.transfers == [DESK])
        assert far_end.heard == SPEECH
        far_end.fail_transfer()
        model = await realtime.conversation()
        await until(lambda: bool(outputs(model)))
        assert "nobody took the call" in outputs(model)[0]
        await until(lambda: far_end.heard == SPEECH + ANSWER)
        assert far_end.control.hang_ups == []
        await far_end.hang_up()
        await running


async def test_the_call_ends_as_soon_as_the_goodbye_was_heard(door: Door) -> None:
    async def goodbye(conversation: Conversation) -> None:
        await conversation.say(ANSWER, call=("end_call", {}))

    async with serve_realtime(on_start=goodbye) as realtime, open_session() as (session, far_end):
        running = asyncio.ensure_future(door(realtime)(session))
        await far_end.wait_heard(0.9)
        began = asyncio.get_running_loop().time()
        await running
        assert far_end.heard == ANSWER and asyncio.get_running_loop().time() - began < 0.5


async def test_the_goodbye_is_heard_whole_from_a_carrier_that_takes_nothing_for_a_while(door: Door) -> None:
    async def goodbye(conversation: Conversation) -> None:
        await conversation.say(SPEECH, pause=0.05, call=("end_call", {}))

    async with serve_realtime(on_start=goodbye) as realtime, open_session() as (session, far_end):
        line = session.stream.transport
        running = asyncio.ensure_future(door(realtime)(session))
        await far_end.wait_heard(0.1)
        line.paused = True  # type: ignore[attr-defined]
        await asyncio.sleep(5)
        line.paused = False  # type: ignore[attr-defined]
        session.stream.push.resumed()  # type: ignore[union-attr,misc]
        await running
        assert far_end.heard == SPEECH


async def test_what_a_response_says_after_it_has_called_the_tool_is_heard_too(door: Door) -> None:
    async def goodbye(conversation: Conversation) -> None:
        response = await conversation.begin()
        await conversation.call("end_call", {})
        await asyncio.sleep(1)
        await conversation.delta(response, "item_goodbye", SPEECH)
        await conversation.audio_done(response, "item_goodbye")
        await conversation.finish()

    async with serve_realtime(on_start=goodbye) as realtime, open_session() as (session, far_end):
        await door(realtime)(session)
        assert far_end.heard == SPEECH


@pytest.mark.parametrize("arguments", [{}, "not an object"])
async def test_a_transfer_with_arguments_that_make_no_sense_is_refused(door: Door, arguments: Any) -> None:
    async def call(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.call("transfer_call", arguments)
        await conversation.finish()

    async with (
        serve_realtime(on_start=call, on_response=answer) as realtime,
        open_session() as (session, far_end),
    ):
        running = asyncio.ensure_future(door(realtime)(session))
        await until(lambda: far_end.heard == ANSWER)
        [output] = outputs(await realtime.conversation())
        assert "refused" in output and far_end.control.transfers == []
        await far_end.hang_up()
        await running


async def test_tools_that_the_sdk_runs_one_by_one_do_not_wait_for_ever() -> None:
    """With ``async_tool_calls=False`` the end of the response comes after its tool (agents/realtime/session.py)."""

    async def handler(session: MediaSession) -> None:
        from anycarrier_openai_realtime import run_call

        agent: Any = RealtimeAgent(name="Clerk", tools=[end_call])
        runner = RealtimeRunner(agent, config={"async_tool_calls": False})
        await run_call(session, runner, {"url": realtime.url, "api_key": "sk-fake"})

    async with (
        serve_realtime(on_start=speech_then("end_call")) as realtime,
        open_session() as (session, far_end),
    ):
        await handler(session)
        assert far_end.heard == SPEECH


@pytest.mark.parametrize("name", DOORS)
async def test_keys_come_in_one_by_one(house: House, name: str) -> None:
    pressed: list[str] = []
    callbacks: dict[str, Callable[..., object]] = {
        "sdk": lambda realtime, digit: pressed.append(digit) or isinstance(realtime, RealtimeSession) or 1 / 0,
        "raw": pressed.append,
    }
    async with serve_realtime() as realtime:
        house.answer_with(DOORS[name](realtime, on_digit=callbacks[name]))
        far_end = await house.ring()
        await realtime.conversation()
        await far_end.press("19840#")
        await until(lambda: "".join(pressed) == "19840#")
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


async def test_an_interruption_by_the_app_clears_and_truncates_once() -> None:
    """``RealtimeSession.interrupt``: the SDK truncates the audible item itself, and we the later ones."""

    async def talk(conversation: Conversation) -> None:
        await conversation.say(SPEECH, items=3)

    async with serve_realtime(on_start=talk) as realtime, open_session() as (session, far_end):
        handler = sdk(realtime, on_digit=lambda realtime, _: realtime.interrupt())
        running = asyncio.ensure_future(handler(session))
        model = await realtime.conversation()
        await far_end.wait_heard(0.5)
        await far_end.press("1")
        await until(lambda: len(model.truncated) == 3)
        await asyncio.sleep(1)
        ends = list(model.truncated.values())
        assert sorted(ends)[:2] == [0, 0] and abs(max(ends) - len(far_end.heard) / 8) <= 2
        assert len(model.got("conversation.item.truncate")) == 3
        assert len(far_end.cleared) == 1 and model.refused == []
        await far_end.hang_up()
        await running


async def test_the_model_can_be_made_to_speak_first_and_tools_get_the_call() -> None:
    seen: list[object] = []

    def factory(session: MediaSession) -> RealtimeRunner:
        seen.append(session)
        return RealtimeRunner(RealtimeAgent(name="Clerk"))

    async with serve_realtime(on_response=answer) as realtime, open_session() as (session, far_end):
        agent = openai_agent(
            factory,
            {"url": realtime.url, "api_key": "sk-fake"},
            on_start=lambda realtime: realtime.send_message("Greet the caller."),
        )
        running = asyncio.ensure_future(agent(session))
        await until(lambda: far_end.heard == ANSWER)
        assert seen == [session]
        await far_end.hang_up()
        await running


@pytest.mark.parametrize("given", ["handler", "raw", "path"])
async def test_an_agent_is_given_wherever_a_handler_is(
    house: House, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_realtime(on_start=answer) as realtime:

        async def factory(session: MediaSession) -> RealtimeRunner:
            return RealtimeRunner(RealtimeAgent(name="Clerk"))

        agent = openai_agent(factory, {"url": realtime.url, "api_key": "sk-fake"})
        assert isinstance(agent, RawAgent)
        agents = Agents()
        if given == "raw":
            agents.add("front-desk", raw=agent)
        elif given == "handler":
            agents.add("front-desk", handler=agent)
        else:
            monkeypatch.setitem(globals(), "path_agent", agent)
            import sys

            monkeypatch.setitem(sys.modules, "frameworks.openai.test_tools", sys.modules[__name__])
            agents.add("front-desk", handler="frameworks.openai.test_tools:path_agent")
        house.exchange.switchboard.agents = agents
        far_end = await house.ring()
        await until(lambda: ANSWER in far_end.heard)
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


def test_the_tools_say_to_the_model_what_they_do() -> None:
    from anycarrier_openai_realtime import CALL_TOOLS

    told = {tool["name"]: tool for tool in CALL_TOOLS}
    for tool in (end_call, transfer_call):
        assert tool.description == told[tool.name]["description"]
        assert set(tool.params_json_schema["properties"]) == set(told[tool.name]["parameters"]["properties"])
