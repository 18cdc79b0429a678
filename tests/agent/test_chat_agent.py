"""The agent with a model, against an endpoint on loopback that speaks the chat completions API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from anycarrier import EndReason
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.chat import ChatAgent, ChatAnalyzer, ChatModel
from anycarrier.errors import ModelFailed
from anycarrier.testing.live_server import serve
from fake_speech import REFERENCE, Desk, Line, told


class Endpoint:
    """Answers each request with the next of ``script``: words, a tool call, a status, or anything to be sent as is."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.broken_off = asyncio.Event()
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("authorization"))
        answer = self.script.pop(0)
        if isinstance(answer, int):
            return JSONResponse({"error": {"message": "overloaded"}}, status_code=answer)
        if not body["stream"]:
            return JSONResponse({"choices": [{"message": {"role": "assistant", "content": answer}}]})
        return StreamingResponse(self.chunks(answer), media_type="text/event-stream")

    async def chunks(self, answer: Any) -> AsyncIterator[str]:
        whole = False
        try:
            for delta in deltas(answer):
                yield f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n" if isinstance(delta, dict) else delta
                await asyncio.sleep(0.01)
            yield "data: [DONE]\n\n"
            whole = True
        finally:
            if not whole:
                self.broken_off.set()


def deltas(answer: Any) -> list[Any]:
    if isinstance(answer, str):
        return [{"role": "assistant", "content": ""}, *({"content": word + " "} for word in answer.split())]
    if isinstance(answer, list):
        return answer
    text, name, arguments = answer
    half = len(arguments) // 2
    return [
        *deltas(text),
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": name, "arguments": arguments[:half]}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]},
    ]


async def have(
    endpoint: Endpoint, desk: Desk, utterances: int, settings: dict[str, Any] | None = None, **options: Any
) -> tuple[Line, Any]:
    async with serve(endpoint.app) as url:
        model = ChatModel("tiny", base_url=f"{url}/v1", api_key="k-1", options={"temperature": 0})
        agent = ChatAgent(model, **options)

        async def caller(line: Line) -> None:
            if "first_message" in (settings or {}):  # a caller who speaks over it would cut it
                await line.until(lambda: bool(desk.engine.spoken) and line.session.heard > 0)
                await line.until(lambda: line.session.remaining == 0)
            for _ in range(utterances):
                before = len(desk.engine.spoken)
                await line.utter()
                await line.until(lambda: line.session.ended or len(desk.engine.spoken) > before)  # noqa: B023
                await line.until(lambda: line.session.ended or line.session.remaining == 0)
                await line.breathe(0.5)
            if not line.session.ended:
                line.end()

        try:
            return await desk.call(agent, caller, {"system_prompt": "Be brief, {{who}}.", **(settings or {})})
        finally:
            await model.aclose()


async def test_what_the_model_writes_is_spoken_and_remembered() -> None:
    endpoint, desk = Endpoint("Hello there. How are you?", "Good."), Desk("hi", "fine")
    _, finished = await have(endpoint, desk, 2, {"dynamic_variables": {"who": "model"}, "first_message": "Desk."})
    assert [text for _, text in told(finished)] == ["Desk.", "hi", "Hello there. How are you?", "fine", "Good."]
    assert desk.engine.spoken == ["Desk.", "Hello there.", "How are you?", "Good."]
    assert endpoint.requests[1]["messages"] == [
        {"role": "system", "content": "Be brief, model."},
        {"role": "assistant", "content": "Desk."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello there. How are you?"},
        {"role": "user", "content": "fine"},
    ]
    request = endpoint.requests[0]
    assert (request["model"], request["stream"], request["temperature"]) == ("tiny", True, 0)
    assert endpoint.keys[0] == "Bearer k-1"
    assert [t["function"]["name"] for t in request["tools"]] == ["end_call"]


async def test_history_holds_only_what_was_heard_and_the_request_is_broken_off() -> None:
    endpoint, desk = Endpoint("word. " * 500, "Sorry."), Desk("go on", "stop")

    async with serve(endpoint.app) as url:
        model = ChatModel("tiny", base_url=f"{url}/v1")

        async def caller(line: Line) -> None:
            await line.utter()
            await line.until(lambda: line.session.heard > 0.5)
            await line.utter(0.4)
            await line.until(lambda: len(endpoint.requests) == 2)
            await line.breathe(0.5)
            line.end()

        _, finished = await desk.call(ChatAgent(model), caller)
        await asyncio.wait_for(endpoint.broken_off.wait(), 2)
        await model.aclose()
    heard = told(finished)[1][1]
    remembered = endpoint.requests[1]["messages"]
    assert remembered[1] == {"role": "assistant", "content": heard} and 5 < len(heard.split()) < 40
    assert remembered[-1]["content"] == "stop"


async def test_the_model_may_hang_up_once_its_goodbye_was_heard() -> None:
    endpoint, desk = Endpoint(("Good bye then.", "end_call", "{}")), Desk("bye")
    line, finished = await have(endpoint, desk, 1)
    assert told(finished)[-1] == ("local", "Good bye then.") and line.hang_ups == [EndReason.AGENT_HANGUP]
    assert line.heard() == b"".join(bytes((n,)) * 480 for n in (1, 2, 3))


async def test_the_model_may_hand_over_to_named_places_only() -> None:
    wrong = ("One moment.", "transfer_call", '{"destination": "+19005550100"}')
    right = ("To sales.", "transfer_call", '{"destination": "sales"}')
    endpoint, desk = Endpoint(wrong, right), Desk("sales please")
    line, finished = await have(endpoint, desk, 1, transfer_to={"sales": "+14155550102"})
    assert line.asked == [("transfer", "+14155550102")] and finished.reason is EndReason.TRANSFERRED
    refused = endpoint.requests[1]["messages"][-1]
    assert refused["role"] == "tool" and refused["tool_call_id"] == "c1" and "sales" in refused["content"]
    described = {t["function"]["name"]: t["function"] for t in endpoint.requests[0]["tools"]}
    assert described["transfer_call"]["parameters"]["properties"]["destination"]["enum"] == ["sales"]


async def test_tools_of_ones_own_are_used_and_their_failure_told_to_the_model() -> None:
    used: list[tuple[str, str]] = []

    async def lookup(call: AgentCall, name: str) -> dict[str, str]:
        used.append((call.id, name))
        if name == "Nobody":
            raise ValueError("not in the book")
        return {"number": "42"}

    endpoint = Endpoint(("", "lookup", '{"name": "Sama"}'), ("", "lookup", '{"name": "Nobody"}'), "It is 42.")
    desk = Desk("what is the number")
    tools = {"lookup": (lookup, {"description": "Look up", "parameters": {"type": "object"}})}
    _, finished = await have(endpoint, desk, 1, tools=tools)
    assert used == [(REFERENCE, "Sama"), (REFERENCE, "Nobody")] and told(finished)[-1] == ("local", "It is 42.")
    results = [m["content"] for m in endpoint.requests[2]["messages"] if m["role"] == "tool"]
    assert json.loads(results[0]) == {"number": "42"} and "not in the book" in results[1]


async def test_one_failure_is_apologised_for_and_two_in_a_row_end_the_call() -> None:
    endpoint, desk = Endpoint(503, "I am back."), Desk("hello", "hello again")
    _, finished = await have(endpoint, desk, 2, apology="Sorry.")
    assert [t for p, t in told(finished) if p == "local"] == ["Sorry.", "I am back."]
    with pytest.raises(ModelFailed, match="503"):
        await have(Endpoint(503, 503), Desk("hello", "hello again"), 2, apology="Sorry.")


@pytest.mark.parametrize(
    "answer",
    [
        ["data: nonsense\n\n"],
        ['data: {"error": {"message": "context too long"}}\n\n'],
        ['data: {"choices": 5}\n\n'],
        [{"tool_calls": [{"index": 0, "function": {"arguments": "x" * 1000}}]}] * 70,
        [{"tool_calls": [{"index": number, "function": {"name": "end_call"}}]} for number in range(40)],
    ],
    ids=["no JSON", "an error", "no completion", "arguments without end", "tools without end"],
)
async def test_an_answer_that_is_none_is_an_error_of_the_models(answer: list[Any]) -> None:
    endpoint = Endpoint(answer)
    async with serve(endpoint.app) as url:
        model = ChatModel("tiny", base_url=f"{url}/v1")
        with pytest.raises(ModelFailed):
            async for _ in model.stream([{"role": "user", "content": "hi"}]):
                pass
        await model.aclose()


async def test_the_analysis_of_a_model_is_checked_and_says_whose_it_is() -> None:
    good = json.dumps({"outcome": "Interested", "summary": "Wants a table."})
    desk = Desk("a table", "a table", "a table")
    endpoint = Endpoint(f"Sure: {good}", '{"outcome": "World Peace", "summary": "x"}', "no json")
    async with serve(endpoint.app) as url:
        model = ChatModel("tiny", base_url=f"{url}/v1")
        desk.agents.call_handler.analyzers = [ChatAnalyzer(model)]

        async def agent(call: AgentCall) -> None:
            await call.listen(3)

        async def caller(line: Line) -> None:
            await line.utter()
            await line.until(lambda: line.session.ended)

        found = [(await desk.call(agent, caller))[1].analysis for _ in range(3)]
        await model.aclose()
    assert [(a.outcome, a.source) for a in found if a] == [
        ("Interested", "chat:tiny"),
        (None, "chat:tiny"),
        (None, "heuristic"),
    ]
    assert "Caller: a table" in endpoint.requests[0]["messages"][1]["content"]
