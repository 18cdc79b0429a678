"""Agents: what answers a call. An agent is a WebSocket server, a Python function in this process, or raw audio."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anycarrier.agent.adapter import (
        START_TIMEOUT,
        call_back,
        factory_agent,
        require_callable,
        result_of,
        try_transfer,
        with_options,
    )
    from anycarrier.agent.agent import (
        Agent,
        AgentFunction,
        CallSetup,
        RawAgent,
        RawFunction,
        agent_function,
        raw_agent,
        speech_needs,
    )
    from anycarrier.agent.agent_call import AgentCall
    from anycarrier.agent.agent_socket import Guard
    from anycarrier.agent.agent_turn import Said
    from anycarrier.agent.agents import Agents
    from anycarrier.agent.analysis import Analysis, Analyzer, FinishedCall, analyze_call
    from anycarrier.agent.chat import ChatAgent, ChatAnalyzer, ChatModel
    from anycarrier.agent.concurrent_work import first_done
    from anycarrier.agent.conversation import CallerTurn
    from anycarrier.agent.engine_choice import ENGINE_SETTINGS, EngineChoice
    from anycarrier.agent.settings import AgentSettings, misfits_of_raw_audio
    from anycarrier.agent.shared_engines import Engines
    from anycarrier.agent.spoken_items import SpokenItems, Truncation
    from anycarrier.agent.transcript import MemoryTranscript, Segment, Transcript

# Imported on first use, so that reading the protocol or one setting does not import everything else.
_LAZY = {
    "Agent": "agent",
    "AgentCall": "agent_call",
    "AgentFunction": "agent",
    "AgentSettings": "settings",
    "Agents": "agents",
    "Analysis": "analysis",
    "Analyzer": "analysis",
    "CallSetup": "agent",
    "CallerTurn": "conversation",
    "ChatAgent": "chat",
    "ChatAnalyzer": "chat",
    "ChatModel": "chat",
    "ENGINE_SETTINGS": "engine_choice",
    "EngineChoice": "engine_choice",
    "Engines": "shared_engines",
    "FinishedCall": "analysis",
    "Guard": "agent_socket",
    "MemoryTranscript": "transcript",
    "RawAgent": "agent",
    "RawFunction": "agent",
    "START_TIMEOUT": "adapter",
    "Said": "agent_turn",
    "Segment": "transcript",
    "SpokenItems": "spoken_items",
    "Transcript": "transcript",
    "Truncation": "spoken_items",
    "agent_function": "agent",
    "analyze_call": "analysis",
    "call_back": "adapter",
    "factory_agent": "adapter",
    "first_done": "concurrent_work",
    "misfits_of_raw_audio": "settings",
    "raw_agent": "agent",
    "require_callable": "adapter",
    "result_of": "adapter",
    "speech_needs": "agent",
    "try_transfer": "adapter",
    "with_options": "adapter",
}


def __getattr__(name: str) -> Any:
    try:
        module = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module 'anycarrier.agent' has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(f"anycarrier.agent.{module}"), name)
    return value


__all__ = [
    "ENGINE_SETTINGS",
    "START_TIMEOUT",
    "Agent",
    "AgentCall",
    "AgentFunction",
    "AgentSettings",
    "Agents",
    "Analysis",
    "Analyzer",
    "CallSetup",
    "CallerTurn",
    "ChatAgent",
    "ChatAnalyzer",
    "ChatModel",
    "EngineChoice",
    "Engines",
    "FinishedCall",
    "Guard",
    "MemoryTranscript",
    "RawAgent",
    "RawFunction",
    "Said",
    "Segment",
    "SpokenItems",
    "Transcript",
    "Truncation",
    "agent_function",
    "analyze_call",
    "call_back",
    "factory_agent",
    "first_done",
    "misfits_of_raw_audio",
    "raw_agent",
    "require_callable",
    "result_of",
    "speech_needs",
    "try_transfer",
    "with_options",
]
