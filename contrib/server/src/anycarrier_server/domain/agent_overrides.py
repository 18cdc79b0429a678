"""What a number, or one call, sets differently from its agent.

A number's own routing is ``{agent_id, fallback: {agent_id} | null, voicemail_message}``, merged when changed; how its
calls are taken is its agent's setting unless something was set for this number alone. One call's settings come in the
words of other contracts, nested by engine; what was asked for and cannot be done is named, and the call goes through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select

from anycarrier.agent import AgentSettings
from anycarrier.speech import get_speech_engine, speech_engine_names
from anycarrier_server.domain.access import Caller, agent_of
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.models import Agent, CallEventRow, CallRow, LineRow


async def merged(store: Store, caller: Caller, held: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``held`` with what ``change`` says: keys not given stay, those of None are cleared.

    Agents are checked (``Unknown``) and written by their public ids.
    """
    routing = dict(held)
    if "agent_id" in change:
        given = change["agent_id"]
        routing["agent_id"] = None if given is None else (await agent_of(store, caller, given)).public_id
    if "fallback" in change:
        fallback = change["fallback"]
        routing["fallback"] = (
            None if fallback is None else {"agent_id": (await agent_of(store, caller, fallback["agent_id"])).public_id}
        )
    if "voicemail_message" in change:
        routing["voicemail_message"] = change["voicemail_message"]
    return routing


def first_agent(line: LineRow) -> UUID | None:
    """Who takes the number's calls: the routing's agent, else the number's own."""
    return parse_id("agent", line.routing.get("agent_id")) or line.agent_id


def fallback_agent(line: LineRow) -> UUID | None:
    """Who takes them when the first cannot."""
    return parse_id("agent", (line.routing.get("fallback") or {}).get("agent_id"))


@dataclass(frozen=True, slots=True)
class CallHandling:
    """How incoming calls are taken. ``incoming_call_action`` None: nobody has said, and the agent takes them."""

    incoming_call_action: str | None = None
    websocket_url: str | None = None
    incoming_call_webhook_url: str | None = None
    forwarding_target_type: str | None = None
    forwarding_phone_number: str | None = None
    forwarding_sip_uri: str | None = None

    @property
    def forward_to(self) -> str | None:
        """Where a forwarded call goes, None while no target is set."""
        return self.forwarding_phone_number if self.forwarding_target_type == "phone" else self.forwarding_sip_uri


WITHOUT_SOCKET = "without_socket"
"""The call option that says: on this number the agent's handler talks, although the agent has a WebSocket."""

CALL_HANDLING = tuple(CallHandling.__dataclass_fields__)


def call_handling(agent: Agent | None, line: LineRow | None = None) -> CallHandling:
    """The agent's setting; with a ``line``, what was set for that number alone takes precedence, null included."""
    own = {name: getattr(agent, name) for name in CALL_HANDLING} if agent is not None else {}
    return CallHandling(**{**own, **(line.call_handling if line is not None else {})})


def own_socket(agent: Agent, line: LineRow) -> str | None:
    """The WebSocket URL that this number's calls use in place of the agent's; empty when they use none although the
    agent has one, None when nothing was set for this number."""
    if "websocket_url" not in line.call_handling:
        return None
    url: str | None = line.call_handling["websocket_url"]
    return url or ("" if agent.websocket_url else None)


GROUPS: Mapping[str, Mapping[str, str]] = {
    "tts": {"voice_id": "voice", "speed": "speed", "provider": "synthesizer"},
    "transcriber": {"language": "language"},
    "llm": {"system_prompt": "system_prompt"},
}
"""Where a setting of ours hides in theirs."""


def settings_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ours that ``given`` holds under other names; nulls say nothing."""
    found = {}
    for group, names in GROUPS.items():
        for theirs in _used(group, given.get(group)):
            if (value := given[group][theirs]) is not None:
                found[names[theirs]] = value
    return found


def call_settings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The same for one call, whose first message stands by itself."""
    message = overrides.get("first_message")
    return settings_in(overrides) | ({"first_message": message} if message is not None else {})


def fitting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Only the settings with valid values, for a client that cannot be told which are wrong."""
    found = {}
    for name, value in settings.items():
        try:
            AgentSettings.model_validate({name: value})
        except ValidationError:
            continue
        found[name] = value
    return found


def unused_in(given: Mapping[str, Any]) -> list[str]:
    """What the groups of ``given`` hold that we have no use for, as ``tts.stability``."""
    return [
        f"{group}.{name}"
        for group in GROUPS
        if isinstance(inner := given.get(group), Mapping)
        for name in sorted(set(inner) - _used(group, inner))
    ]


def _used(group: str, inner: Any) -> set[str]:
    """The names of a group that we have a use for. A provider is one if it is an engine of this machine. A voice is its
    provider's own: another engine has none of that name."""
    if not isinstance(inner, Mapping):
        return set()
    names = set(inner) & set(GROUPS[group])
    if group == "tts" and (provider := inner.get("provider")) is not None and not _speaks_here(provider):
        return names - {"voice_id", "provider"}
    return names


def _speaks_here(provider: Any) -> bool:
    """True for an installed engine that speaks on this machine. One elsewhere may lack the settings that it needs."""
    if provider not in speech_engine_names():
        return False
    kind = get_speech_engine(provider)
    return "speak" in kind.abilities and not kind.remote


MISSING = "variables_missing"
"""The note that a conversation makes of placeholders without a value."""

VOICE = "voice_unknown"
"""And of a voice that its engine did not know."""

RECORDING = "recording_failed"
"""And of a recording that could not be written on."""


async def warnings_of_call(store: Store, call: CallRow) -> list[str]:
    """Sentences, none when all is well: overrides without a use here, and, once answered, placeholders left empty, a
    voice that was not to be had, and a recording that is cut."""
    others = sorted(set(call.overrides) - {*GROUPS, "first_message"})
    found = [f"overrides.{name} has no use here" for name in (*unused_in(call.overrides), *others)]
    if call.answered_at is None:
        return found
    noted = select(CallEventRow.kind, CallEventRow.payload).where(
        CallEventRow.call_id == call.id, CallEventRow.kind.in_((MISSING, VOICE, RECORDING))
    )
    async with store.db.read() as session:
        notes = [(kind, payload) for kind, payload in await session.execute(noted)]
    names = {name for kind, payload in notes if kind == MISSING for name in payload["names"]}
    found += [f"{{{{{name}}}}} has no value on this call: it is left empty" for name in sorted(names)]
    for kind, heard in notes:
        if kind == VOICE:
            found.append(f"{heard['engine']} has no voice {heard['voice']!r}: its own for {heard['instead']!r} spoke")
        if kind == RECORDING:
            found.append(f"the recording was cut after {heard['seconds']:g} s, and the call went on: {heard['why']}")
    return found
