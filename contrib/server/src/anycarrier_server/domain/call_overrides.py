"""What one call changes of its agent's settings, in the words of other contracts: nested by engine. And what was asked
for and cannot be done, although the call goes through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from anycarrier.agent import AgentSettings
from anycarrier.speech import get_speech_engine, speech_engine_names
from anycarrier_server.store import Store
from anycarrier_server.store.models import CallEventRow, CallRow

GROUPS: Mapping[str, Mapping[str, str]] = {
    "tts": {"voice_id": "voice", "speed": "speed"},
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
    """Those that an agent may have: for words of a client whom nobody can tell that they are wrong."""
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
    """The names of a group that we have a use for. A voice is its provider's own: another engine has none of that name,
    and a call whose voice cannot be found is mute."""
    if not isinstance(inner, Mapping):
        return set()
    names = set(inner) & set(GROUPS[group])
    return names - {"voice_id"} if group == "tts" and _elsewhere(inner.get("provider")) else names


def _elsewhere(provider: Any) -> bool:
    """True for an engine that does not speak here by itself."""
    if provider is None:
        return False
    return provider not in speech_engine_names() or get_speech_engine(provider).remote


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
