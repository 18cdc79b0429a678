"""Agents: what answers a call. Its own WebSocket, a Python handler in this process, or raw audio."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linecard.agent.agent import Agent, CallSetup
    from linecard.agent.agents import Agents
    from linecard.agent.analysis import Analyzer
    from linecard.agent.call import AgentCall
    from linecard.agent.chat import ChatModel
    from linecard.agent.chat_agent import ChatAgent
    from linecard.agent.chat_analyzer import ChatAnalyzer
    from linecard.agent.door import CallerTurn, Said
    from linecard.agent.engines import Engines
    from linecard.agent.finished import Analysis, FinishedCall
    from linecard.agent.record import CallRecord, MemoryRecord, Segment
    from linecard.agent.settings import AgentSettings

# Fetched on first use: whoever only reads the protocol, or one setting, does not pay for the rest.
_LAZY = {
    "Agent": "agent",
    "AgentCall": "call",
    "AgentSettings": "settings",
    "Agents": "agents",
    "Analysis": "finished",
    "Analyzer": "analysis",
    "CallRecord": "record",
    "CallSetup": "agent",
    "CallerTurn": "door",
    "ChatAgent": "chat_agent",
    "ChatAnalyzer": "chat_analyzer",
    "ChatModel": "chat",
    "Engines": "engines",
    "FinishedCall": "finished",
    "MemoryRecord": "record",
    "Said": "door",
    "Segment": "record",
}


def __getattr__(name: str) -> Any:
    try:
        module = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module 'linecard.agent' has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(f"linecard.agent.{module}"), name)
    return value


__all__ = [
    "Agent",
    "AgentCall",
    "AgentSettings",
    "Agents",
    "Analysis",
    "Analyzer",
    "CallRecord",
    "CallSetup",
    "CallerTurn",
    "ChatAgent",
    "ChatAnalyzer",
    "ChatModel",
    "Engines",
    "FinishedCall",
    "MemoryRecord",
    "Said",
    "Segment",
]
