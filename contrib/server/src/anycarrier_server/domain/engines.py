"""Speech engines as a workspace sees them: what is installed, whether it is ready, and settings of its own."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from anycarrier.errors import AnycarrierError, UnknownSpeechEngine
from anycarrier.speech import SpeechEngine, get_speech_engine, speech_engine_names
from anycarrier_server.auth import Caller
from anycarrier_server.domain.callers import need_admin
from anycarrier_server.http.endpoints import complaints
from anycarrier_server.refusals import Invalid, Unknown

if TYPE_CHECKING:
    from anycarrier_server.service import Service

log = logging.getLogger("anycarrier")

VERIFY_WITHIN = 10.0
"""Seconds an engine's cloud has to answer a login."""

SECRET = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class Installed:
    """An engine. ``why_not`` None: it is ready. ``settings`` are the workspace's own, secrets by their last four;
    ``settable`` what it may set; ``by_service``: whoever runs the service has configured it for all."""

    name: str
    abilities: tuple[str, ...]
    remote: bool
    why_not: str | None
    default_for: tuple[str, ...]
    settings: Mapping[str, Any]
    settable: tuple[str, ...]
    by_service: bool


async def every(service: Service, caller: Caller) -> list[Installed]:
    """The engines installed here, and those that somebody has configured although they are not."""
    need_admin(caller, "looking at speech engines")
    rows = {row.name: row for row in await service.store.engines.list(caller.workspace_id)}
    names = sorted({*speech_engine_names(), *service.settings.engines, *rows})
    return [await _look(service, caller, name, rows[name].shown if name in rows else {}) for name in names]


async def change(service: Service, caller: Caller, name: str, change: Mapping[str, Any]) -> Installed:
    """Set some of the workspace's own settings of an engine; None takes one away. Sealed, and used by its agents alone.

    ``UnknownSpeechEngine`` when it is not installed; ``Invalid`` names the setting that is wrong, not there, or not
    for a workspace to set.
    """
    need_admin(caller, "setting up a speech engine")
    kind = get_speech_engine(name)
    fields, secrets, settable = kind.settings_type.model_fields, kind.settings_type.secrets(), _settable(kind)
    for field, value in change.items():
        if field not in fields:
            raise Invalid.field(f"settings.{field}", f"{name} has no such setting (settable: {_listed(settable)})")
        if field not in settable:
            ours = f"ANYCARRIER_ENGINES__{name.upper()}__{field.upper()}"
            raise Invalid.field(f"settings.{field}", f"is set for all workspaces by whoever runs the service: {ours}")
        if field in secrets and value is not None and not (isinstance(value, str) and SECRET.fullmatch(value.strip())):
            raise Invalid.field(f"settings.{field}", "holds a character that no key has, or nothing")
    store = service.store.engines
    row = next((row for row in await store.list(caller.workspace_id) if row.name == name), None)
    merged = {**(store.settings(row) if row is not None else {}), **change}
    own = {field: value.strip() if field in secrets else value for field, value in merged.items() if value is not None}
    shown: Mapping[str, Any] = {}
    if own:
        _check(kind, {**service.settings.engines.get(name, {}), **own})
        shown = (await store.put(caller.workspace_id, name, own, secrets)).shown
    else:  # nothing of its own: it shares the service's engine, and is not given processes of its own
        await store.delete(caller.workspace_id, name)
    service.agents.engines_changed(caller.workspace_id)
    return await _look(service, caller, name, shown)


def _check(kind: type[SpeechEngine], settings: Mapping[str, Any]) -> None:
    try:
        kind.settings_type.model_validate(settings)
    except ValidationError as failure:
        raise Invalid(
            [
                {**one, "loc": ["body", "settings", *one["loc"][1:]], "msg": f"{kind.name}: {one['msg']}"}
                for one in complaints(failure, "settings")
            ]
        ) from None


@dataclass(frozen=True, slots=True)
class Verified:
    """What an engine said to this workspace's settings; ``error`` None when they work."""

    name: str
    error: str | None


async def verify(service: Service, caller: Caller, name: str) -> Verified:
    """Log in with the settings that this workspace's calls use. ``UnknownSpeechEngine`` when it is not installed."""
    need_admin(caller, "checking a speech engine")
    get_speech_engine(name)
    engines = await service.agents.engines_of(caller.workspace_id)
    try:
        async with asyncio.timeout(VERIFY_WITHIN):
            await engines.engine(name).check()
    except AnycarrierError as problem:
        return Verified(name, str(problem))
    except TimeoutError:
        return Verified(name, f"{name} gave no answer within {VERIFY_WITHIN:g} s")
    except Exception as bug:
        log.exception("speech engine %s failed while it was checked", name)
        return Verified(name, f"{name} failed: {type(bug).__name__}")
    return Verified(name, None)


async def remove(service: Service, caller: Caller, name: str) -> None:
    """Forget the workspace's own settings of an engine; those for all workspaces hold again."""
    need_admin(caller, "setting up a speech engine")
    if not await service.store.engines.delete(caller.workspace_id, name):
        raise Unknown("settings of that engine")
    service.agents.engines_changed(caller.workspace_id)


async def _look(service: Service, caller: Caller, name: str, shown: Mapping[str, Any]) -> Installed:
    engines = await service.agents.engines_of(caller.workspace_id)
    by_service = name in service.settings.engines
    try:
        kind = get_speech_engine(name)
    except UnknownSpeechEngine:
        return Installed(name, (), False, engines.problem("speak", name), (), shown, (), by_service)
    abilities = tuple(sorted(kind.abilities))
    why_not = next((why for ability in abilities if (why := engines.problem(ability, name)) is not None), None)
    default_for = tuple(ability for ability in abilities if engines.default(ability) == name)
    return Installed(
        name, abilities, kind.remote, why_not, default_for, shown, tuple(sorted(_settable(kind))), by_service
    )


def _settable(kind: type[SpeechEngine]) -> frozenset[str]:
    return kind.settings_type.secrets() | kind.settings_type.for_workspaces


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none by a workspace"
