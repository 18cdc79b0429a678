"""An agent that thinks with a chat model: it speaks while the model writes, and remembers only what was heard.

    model = ChatModel("llama", base_url="http://127.0.0.1:8000/v1")
    agents.add("desk", handler=ChatAgent(model, transfer_to={"sales": "+14155550102"}), settings={"system_prompt": ...})
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from anycarrier.agent.call import AgentCall
from anycarrier.agent.chat import ChatModel, ToolCall
from anycarrier.errors import AnycarrierError, ModelFailed, StreamNotOpen

log = logging.getLogger("anycarrier")

ROUNDS = 5
"""Times a model may use tools before it has to wait for the caller again."""

HANDING_OVER = 10.0
"""Seconds a carrier may take to end our stream once it has taken the caller from us."""

Tool = Callable[..., Awaitable[Any]]
"""A tool of yours: called with the call and the model's arguments as keywords; what it returns is told to the model."""


class ChatAgent:
    """``tools``: name -> (your function, its description as the endpoint wants it: ``description``, ``parameters``).

    ``end_call`` is always there; ``transfer_call`` with the places of ``transfer_to``, name -> number: a model may
    choose among those, never dial. Both happen only once what was said before them was heard to its end. ``apology``
    is said when the model fails; when it fails twice in a row, so does the call.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        tools: Mapping[str, tuple[Tool, Mapping[str, Any]]] | None = None,
        transfer_to: Mapping[str, str] | None = None,
        apology: str = "I am sorry, something went wrong here. Could you say that again?",
    ) -> None:
        self._model = model
        self._tools = dict(tools or {})
        self._transfer_to = dict(transfer_to or {})
        self._apology = apology

    async def __call__(self, call: AgentCall) -> None:
        history: list[dict[str, Any]] = []
        if prompt := call.system_prompt:
            history.append({"role": "system", "content": prompt})
        failed = False
        async for turn in call.turns():
            if len(history) < 2 and (greeted := call.greeted) is not None and greeted.text:
                history.append({"role": "assistant", "content": greeted.text})
            history.append({"role": "user", "content": turn.text})
            try:
                await self._answer(call, history)
                failed = False
            except ModelFailed as failure:
                log.error("agent %s: %s", call.session.agent_id, failure)
                if failed:
                    raise
                failed = True
                await call.say(self._apology)

    async def _answer(self, call: AgentCall, history: list[dict[str, Any]]) -> None:
        for _ in range(ROUNDS):
            wanted: list[ToolCall] = []

            async def words(wanted: list[ToolCall] = wanted) -> AsyncIterator[str]:
                async with aclosing(self._model.stream(history, self._described())) as reply:
                    async for part in reply:
                        if isinstance(part, ToolCall):
                            wanted.append(part)
                        else:
                            yield part

            said = await call.say(words())
            if said.interrupted or not wanted:
                # What was not heard was not said: the model must not build on it, and no tool acts on it.
                if said.text:
                    history.append({"role": "assistant", "content": said.text})
                return
            history.append({"role": "assistant", "content": said.text or None, "tool_calls": _as_sent(wanted)})
            for tool in wanted:
                result = await self._use(call, tool)
                history.append({"role": "tool", "tool_call_id": tool.id, "content": json.dumps(result, default=str)})

    async def _use(self, call: AgentCall, tool: ToolCall) -> Any:
        """What came of it, for the model to read; only the end of the call is raised."""
        try:
            if tool.name == "end_call":
                await call.hang_up()
                raise StreamNotOpen("the agent has ended the call")
            if tool.name == "transfer_call":
                place = str(tool.arguments.get("destination", ""))
                if place not in self._transfer_to:
                    return {"error": f"there is no {place!r}; choose one of {sorted(self._transfer_to)}"}
                await call.transfer(self._transfer_to[place])
                await asyncio.wait_for(call.session.wait_stopped(), HANDING_OVER)
                raise StreamNotOpen("the caller was handed over")
            if tool.name not in self._tools:
                return {"error": f"there is no tool {tool.name!r}"}
            return await self._tools[tool.name][0](call, **tool.arguments)
        except StreamNotOpen:
            raise
        except (AnycarrierError, TypeError, ValueError) as problem:
            log.warning("agent %s: tool %s: %s", call.session.agent_id, tool.name, problem)
            return {"error": str(problem)}

    def _described(self) -> list[Mapping[str, Any]]:
        described: dict[str, Mapping[str, Any]] = {
            "end_call": {"description": "Hang up, after you have said goodbye.", "parameters": _parameters({})}
        }
        if self._transfer_to:
            places = {"destination": {"type": "string", "enum": sorted(self._transfer_to)}}
            described["transfer_call"] = {"description": "Hand the caller over.", "parameters": _parameters(places)}
        described |= {name: description for name, (_, description) in self._tools.items()}
        return [{"type": "function", "function": {"name": name, **about}} for name, about in described.items()]


def _parameters(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _as_sent(wanted: list[ToolCall]) -> list[dict[str, Any]]:
    return [
        {"id": t.id, "type": "function", "function": {"name": t.name, "arguments": json.dumps(t.arguments)}}
        for t in wanted
    ]
