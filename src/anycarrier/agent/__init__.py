"""Agents: what answers a call. Its own WebSocket, a Python handler in this process, or raw audio."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anycarrier.agent.agent import Agent, CallSetup
    from anycarrier.agent.agents import Agents
    from anycarrier.agent.analysis import Analyzer
    from anycarrier.agent.call import AgentCall
    from anycarrier.agent.chat import ChatModel
    from anycarrier.agent.chat_agent import ChatAgent
    from anycarrier.agent.chat_analyzer import ChatAnalyzer
    from anycarrier.agent.door import CallerTurn, Said
    from anycarrier.agent.engines import Engines
    from anycarrier.agent.finished import Analysis, FinishedCall
    from anycarrier.agent.record import CallRecord, MemoryRecord, Segment
    from anycarrier.agent.settings import AgentSettings

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
        raise AttributeError(f"module 'anycarrier.agent' has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(f"anycarrier.agent.{module}"), name)
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
