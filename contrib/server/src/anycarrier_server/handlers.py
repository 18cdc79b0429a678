"""Agents that every service has, by name: for trying things out, and for agents that only speak and listen."""

from __future__ import annotations

from collections.abc import Mapping

from anycarrier.agent import AgentCall, AgentFunction


async def listen(call: AgentCall) -> None:
    """Says its first message, then listens until somebody hangs up; what is said is in the transcript."""
    async for _ in call.turns():
        pass


listen.needs = ("listen",)  # type: ignore[attr-defined]


async def repeat(call: AgentCall) -> None:
    """Says back what it understood."""
    async for turn in call.turns():
        await call.say(f"You said: {turn.text}")


BUILT_IN: Mapping[str, AgentFunction] = {"listen": listen, "repeat": repeat}
