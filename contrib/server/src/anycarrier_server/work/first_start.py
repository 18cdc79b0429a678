"""What a start makes of the settings: the folders, who may be called, and the first time a workspace and its key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from anycarrier import plugins
from anycarrier.errors import ConfigurationError
from anycarrier.policy import Policy
from anycarrier.provider import TrialPhone
from anycarrier_server.settings_checks import in_words
from anycarrier_server.store import Store
from anycarrier_server.store.models import Workspace

if TYPE_CHECKING:
    from anycarrier_server.settings import Settings

CLAIM = "first start"


def make_folders(settings: Settings) -> None:
    """Make what is missing, for this user alone: what was said on calls is kept there."""
    kept = ((settings.data_dir, "ANYCARRIER_DATA_DIR"), (settings.recordings, "ANYCARRIER_RECORDINGS_DIR"))
    for folder, setting in kept:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise ConfigurationError(
                f"the folder {folder} cannot be made ({problem.strerror}): name another in {setting}"
            ) from problem
    file = settings.database.removeprefix("sqlite:///")
    if file != settings.database and not Path(file).parent.is_dir():
        raise ConfigurationError(f"there is no folder {Path(file).parent} for the database: make it or correct its URL")


def destinations(settings: Settings) -> Policy:
    """Who may be called from here, with refusals that name the settings and who can change them.

    In the sandbox nobody is called, so numbers of every country may be; premium ones stay refused as an account would
    have it.
    """
    everywhere = settings.sandbox and not settings.allow
    return Policy(allow=["*"] if everywhere else settings.allow, deny=settings.deny, advise=_advise)


def _advise(setting: str, entries: Sequence[str]) -> str:
    told = ",".join(entries)
    change = f"take {told} out of ANYCARRIER_DENY" if setting == "deny" else f"add {told} to ANYCARRIER_ALLOW"
    return f"Whoever runs this service can let it through: {change} (`{setting}` in anycarrier.toml)"


def carrier_settings(settings: Settings) -> list[BaseModel]:
    """:func:`operators_settings` for the exchange. In the sandbox, a carrier that real telephones can reach is set up
    for one on this machine."""
    found = operators_settings(settings)
    if settings.sandbox:
        found |= {name: phone.settings for name, phone in trial_phones(settings, found).items()}
    return list(found.values())


def operators_settings(settings: Settings) -> dict[str, BaseModel]:
    """What :attr:`Settings.carriers` says, by carrier, as its plugin reads it.

    Where others than this machine's users have accounts, tenants may name no private host that the operator has not
    listed. ``ConfigurationError`` for a carrier that is not installed or has no such settings, and for wrong ones.
    """
    found: dict[str, BaseModel] = {}
    guarded = _guarded(settings)
    for name in {**guarded, **settings.carriers}:
        kind = plugins.get_provider(name).settings_type
        if kind is None:
            raise ConfigurationError(f"carriers.{name}: this carrier has no settings of its own; leave it out")
        try:
            found[name] = kind.model_validate({**guarded.get(name, {}), **settings.carriers.get(name, {})})
        except ValidationError as wrong:
            told = "; ".join(
                f"{'.'.join(map(str, ('carriers', name, *one['loc'])))}: {in_words(one)}"
                for one in wrong.errors(include_url=False, include_input=False)
            )
            raise ConfigurationError(f"a setting is wrong: {told}. docs/settings.md lists all settings") from None
    return found


def _guarded(settings: Settings) -> dict[str, dict[str, Any]]:
    """What carriers that have ``private_targets`` are told of them by :attr:`Settings.outward_allow`."""
    if settings.is_local:
        return {}
    kinds = {name: plugins.get_provider(name).settings_type for name in plugins.provider_names()}
    guarded = [name for name, kind in kinds.items() if kind is not None and "private_targets" in kind.model_fields]
    return {name: {"private_targets": tuple(settings.outward_allow)} for name in guarded}


def trial_phones(settings: Settings, given: Mapping[str, BaseModel], password: str = "") -> dict[str, TrialPhone]:
    """By carrier, the account of a real telephone on this machine, where the carrier offers one."""
    found: dict[str, TrialPhone] = {}
    for name in plugins.provider_names():
        phone = plugins.get_provider(name).trial_phone(given.get(name), port=settings.port, password=password)
        if phone is not None:
            found[name] = phone
    return found


async def prepare(settings: Settings, store: Store) -> str | None:
    """Make sure there is a workspace and an admin key; the key's text when it was made now and is nobody's yet.

    Of several processes starting together one makes them; the others wait for it.
    """
    while not await store.claims.take(CLAIM, 20):  # noqa: ASYNC110
        await asyncio.sleep(0.1)  # the claim is another process's, and it tells nobody
    try:
        workspace = await store.workspaces.first() or await store.workspaces.create("default")
        fixed = settings.admin_key
        if fixed is not None:
            await store.keys.ensure_admin(workspace.id, fixed.get_secret_value())
            return None
        if any(key.admin and key.revoked_at is None for key in await store.keys.list(workspace.id)):
            return None
        _, secret = await store.keys.create(workspace.id, "first admin key", created_by="first start")
        return secret
    finally:
        await store.claims.drop(CLAIM)


async def workspace_of(store: Store) -> Workspace:
    """The first workspace, which is there after :func:`prepare`."""
    workspace = await store.workspaces.first()
    assert workspace is not None
    return workspace
