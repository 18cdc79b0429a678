"""``/v1/agents``: where calls go, and how an agent behaves on the line (all of :class:`AgentSettings`).

The models are made from ``AgentSettings``, so a setting added there is served here at once.
"""

from __future__ import annotations

import json
from copy import copy
from dataclasses import asdict
from typing import Any, get_args, get_origin

from pydantic import ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from anycarrier.agent import AgentSettings
from anycarrier_server.domain import manage_agents, speech_engines
from anycarrier_server.domain.agent_overrides import CALL_HANDLING, call_handling, settings_in, unused_in
from anycarrier_server.domain.agent_runtime import settings_of
from anycarrier_server.domain.resources import Resources
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.shapes import (
    HandlingSent,
    HandlingShown,
    Listing,
    LlmSent,
    Moment,
    Name,
    Slice,
    TranscriberSent,
    TtsSent,
    cut,
)
from anycarrier_server.store.models import Agent

OWN = ("name", "description", "handler", *CALL_HANDLING)
"""What an agent is beside its settings."""

SILENCE = 10.0
"""Seconds of silence that end a new agent's calls where it says nothing of it, as the contract has it.

Not of one with a WebSocket, nor of raw audio: it may listen by itself, and then it knows better when nobody is there.
"""

WHEN_NEW = {"silence_timeout_seconds": f"left out: {SILENCE:g}, or never with a websocket_url or a raw audio handler"}
"""Settings that start otherwise here than in the library."""


class AgentBody(HandlingSent):
    """A WebSocket or a handler, and its settings. ``tts``, ``transcriber`` and ``llm`` are other spellings of these."""

    model_config = ConfigDict(extra="allow")

    description: str | None = Field(default=None, max_length=2000)
    handler: str | None = Field(default=None, max_length=200, description="Or a Python handler configured here")
    tts: TtsSent | None = None
    transcriber: TranscriberSent | None = None
    llm: LlmSent | None = None


class AgentKnown(HandlingShown):
    """An agent. ``ignored`` names what the request held and this service has no use for; only then is it filled.

    ``warnings`` say why its calls are, or may be, declined: a speech engine that is absent, not configured or broken.
    """

    id: str
    name: str
    handle: str
    description: str | None
    handler: str | None
    effective_system_prompt: str
    llm_id: str | None = None
    ignored: list[str]
    warnings: list[str]
    created_at: Moment
    updated_at: Moment


def _wire(annotation: Any) -> Any:
    """A setting's type as JSON has it: lists for tuples, objects for mappings."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return list[inner[0]]  # type: ignore[valid-type]
    if origin is not None and inner and isinstance(origin, type) and issubclass(dict, origin):
        return dict[inner[0], inner[1]]  # type: ignore[valid-type]
    return annotation


def _settable(field: FieldInfo, more: str = "") -> tuple[Any, FieldInfo]:
    """Not given: left alone. Null: back to the default, which the description tells."""
    asked = copy(field)
    standard = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(standard, tuple):
        standard = list(standard)
    told = f"default {json.dumps(standard)}" if standard not in (None, "", [], {}) else ""
    asked.description = "; ".join(filter(None, [field.description, told, more])) or None
    asked.default, asked.default_factory = None, None
    return _wire(field.annotation) | None, asked


SETTINGS = AgentSettings.model_fields
_settings: Any = {name: _settable(field) for name, field in SETTINGS.items()}
_new: Any = {name: _settable(field, WHEN_NEW.get(name, "")) for name, field in SETTINGS.items()}
_known: Any = {name: (_wire(field.annotation), ...) for name, field in SETTINGS.items()}

AgentSent: type[AgentBody] = create_model("AgentSent", __base__=AgentBody, name=(Name, ...), **_new)
AgentChange: type[AgentBody] = create_model("AgentChange", __base__=AgentBody, name=(Name, None), **_settings)
AgentShown: type[AgentKnown] = create_model("AgentShown", __base__=AgentKnown, **_known)


async def agent_shown(resources: Resources, agent: Agent, ignored: list[str] | None = None) -> AgentKnown:
    """The row as this face shows it, settings at their defaults included."""
    settings = settings_of(agent)
    return AgentShown(
        **settings.model_dump(mode="json"),
        effective_system_prompt=settings.system_prompt,
        id=agent.public_id,
        name=agent.name,
        handle=agent.handle,
        description=agent.description,
        **asdict(call_handling(agent)),
        handler=agent.handler,
        ignored=ignored or [],
        warnings=await speech_engines.warnings(resources, agent),
        created_at=agent.created_at,
        updated_at=agent.updated_at,
    )


def _unused(body: AgentBody) -> list[str]:
    return [*(body.model_extra or {}), *unused_in(body.model_dump(exclude_unset=True))]


async def create_agent(asked: Asked[AgentBody, None]) -> AgentKnown:
    """A new agent; only ``name`` is needed."""
    own, settings, ignored = await _fields(asked, None)
    own_speech = own.get("websocket_url") is not None or manage_agents.is_raw_audio(asked.resources, own.get)
    if "silence_timeout_seconds" not in asked.body.model_fields_set and not own_speech:
        settings["silence_timeout_seconds"] = SILENCE
    agent = await manage_agents.create_agent(asked.resources, asked.caller, settings=settings, **own)
    return await agent_shown(asked.resources, agent, ignored)


async def list_agents(asked: Asked[None, Slice]) -> Listing[AgentKnown]:
    """The workspace's agents, oldest first."""
    rows = await manage_agents.list_agents(asked.store, asked.caller)
    items = [await agent_shown(asked.resources, row) for row in cut(rows, asked.query)]
    return Listing(items=items, total=len(rows), limit=asked.query.limit, offset=asked.query.offset)


async def get_agent(asked: Asked[None, None]) -> AgentKnown:
    """One agent."""
    return await agent_shown(
        asked.resources, await manage_agents.get_agent(asked.store, asked.caller, asked.path["agent_id"])
    )


async def change_agent(asked: Asked[AgentBody, None]) -> AgentKnown:
    """Change what is given; a setting given as null goes back to its default."""
    agent = await manage_agents.get_agent(asked.store, asked.caller, asked.path["agent_id"])
    own, settings, ignored = await _fields(asked, agent)
    if settings:
        own["settings"] = settings
    changed = await manage_agents.change_agent(asked.resources, asked.caller, agent, **own)
    return await agent_shown(asked.resources, changed, ignored)


async def delete_agent(asked: Asked[None, None]) -> None:
    """Delete it and end its keys."""
    agent = await manage_agents.get_agent(asked.store, asked.caller, asked.path["agent_id"])
    await manage_agents.delete_agent(asked.store, asked.caller, agent)


async def _fields(
    asked: Asked[AgentBody, None], held: Agent | None
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What the agent is, its settings, and what the request held without a use here."""
    body, ignored = asked.body, _unused(asked.body)
    given = body.model_dump(exclude_unset=True)
    own = {name: given[name] for name in OWN if name in given}
    spelled = settings_in(given)
    known = {**(held.settings if held is not None else {}), **spelled, **given}
    if spelled.get("voice") and await manage_agents.unknown_voice(asked.resources, asked.caller, known):
        # The id of another provider's voice, in a client that was written for it: said, and not refused.
        del spelled["voice"]
        ignored.append("tts.voice_id")
    settings = spelled | {name: given[name] for name in SETTINGS if name in given}
    if settings.get("fallback_agent_id") is not None:
        other = await manage_agents.get_agent(asked.store, asked.caller, settings["fallback_agent_id"])
        settings["fallback_agent_id"] = other.public_id
    said = settings.get("on_voicemail") or (held.settings.get("on_voicemail") if held is not None else None)
    raw = manage_agents.is_raw_audio(asked.resources, lambda name: own.get(name, getattr(held, name, None)))
    if settings.get("voicemail_message") and said is None and not raw:
        # The contract has no setting for it: a client that gives a message wants it left.
        settings["on_voicemail"] = "leave_message"
    kept = {name: value for name, value in settings.items() if value is not None or held is not None}
    return own, kept, ignored


AGENTS = "/v1/agents"
AGENT = AGENTS + "/{agent_id}"

ENDPOINTS = [
    Endpoint(
        "POST",
        AGENTS,
        create_agent,
        "Make an agent",
        AgentSent,
        answer=AgentShown,
        status=201,
        refusals=(403, 404, 413),
    ),
    Endpoint("GET", AGENTS, list_agents, "List agents", query=Slice, answer=Listing[AgentShown]),  # type: ignore[valid-type]
    Endpoint("GET", AGENT, get_agent, "Look at an agent", answer=AgentShown, refusals=(403, 404)),
    Endpoint("PATCH", AGENT, change_agent, "Change an agent", AgentChange, answer=AgentShown, refusals=(403, 404, 413)),
    Endpoint("DELETE", AGENT, delete_agent, "Delete an agent", status=204, refusals=(403, 404, 409)),
]
