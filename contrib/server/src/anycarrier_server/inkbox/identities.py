"""``/identities``: what the phone needs of an agent identity, and its signing key. Mail, vault, tunnels and iMessage
are not here.

``POST /identities/{handle}/phone_number`` is an addition of ours, for numbers that people bring along; ``DELETE`` there
means release, as it does today (it once meant unlink).

A signing key's text is shown when the key is made and never again; asking again replaces it. The organization's own
address is old: an identity's key acts on its identity there, and an admin's is told where to go.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from anycarrier.errors import AnycarrierError
from anycarrier_server.domain import manage_agents
from anycarrier_server.domain.access import agent_of, need_admin
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.inkbox import provisioning
from anycarrier_server.inkbox.api_keys import organization
from anycarrier_server.inkbox.error_details import ContractRefusal
from anycarrier_server.inkbox.fields import API, Handle, Id, Mode, Moment, Sent, Shown, Uuid
from anycarrier_server.inkbox.phone_numbers import NumberShown, number_shown
from anycarrier_server.inkbox.provisioning import Wanted
from anycarrier_server.refusals import Invalid, Unknown
from anycarrier_server.store import Store
from anycarrier_server.store.models import Agent, LineRow

IDENTITIES = f"{API}/identities"
IDENTITY = IDENTITIES + "/{handle}"

Name = Field(default=None, min_length=1, max_length=255)
About = Field(default=None, max_length=2000)


class IdentitySent(Sent):
    """A new identity. What is said of mailboxes, tunnels, vaults and iMessage is ignored."""

    agent_handle: Handle
    display_name: str | None = Name
    description: str | None = About
    phone_number: Wanted | None = None


class IdentityChange(Sent):
    """What to change; null clears the first two."""

    display_name: str | None = Name
    description: str | None = About
    phone_filter_mode: Mode = "blacklist"
    imessage_filter_mode: Mode = "blacklist"
    phone_inbound_filter_mode: Mode = "blacklist"
    phone_outbound_filter_mode: Mode = "blacklist"


class NumberLink(Sent):
    """Which number."""

    phone_number_id: Id


class IdentityShown(Shown):
    """An identity with its number."""

    id: Uuid
    organization_id: str
    agent_handle: str
    display_name: str | None
    description: str | None
    email_address: str | None = None
    phone_filter_mode: str
    phone_inbound_filter_mode: str
    phone_outbound_filter_mode: str
    mail_filter_mode: str = "blacklist"
    imessage_filter_mode: str
    imessage_enabled: bool = False
    signing_key_configured: bool
    signing_key_created_at: Moment | None
    phone_number: NumberShown | None
    mailbox: dict[str, Any] | None = None
    imessage_number: dict[str, Any] | None = None
    tunnel: dict[str, Any] | None = None
    created_at: Moment
    updated_at: Moment


def identity_shown(agent: Agent, line: LineRow | None, key_made_at: datetime | None) -> IdentityShown:
    """The agent as this face shows it."""
    return IdentityShown(
        id=agent.id,
        organization_id=organization(agent.workspace_id),
        agent_handle=agent.handle,
        display_name=agent.name,
        description=agent.description,
        phone_filter_mode=agent.inbound_filter_mode,
        phone_inbound_filter_mode=agent.inbound_filter_mode,
        phone_outbound_filter_mode=agent.outbound_filter_mode,
        imessage_filter_mode=agent.inbound_filter_mode,
        signing_key_configured=key_made_at is not None,
        signing_key_created_at=key_made_at,
        phone_number=number_shown(line, agent) if line is not None else None,
        created_at=agent.created_at,
        updated_at=agent.updated_at,
    )


async def whole_identity(store: Store, agent: Agent) -> IdentityShown:
    """One identity, its number and key looked up."""
    line = await line_of(store, agent)
    key = await store.webhooks.signing_key_row(agent.workspace_id, agent.id)
    return identity_shown(agent, line, key.created_at if key is not None else None)


async def line_of(store: Store, agent: Agent) -> LineRow | None:
    """The identity's number."""
    lines = await store.lines.list(agent.workspace_id, agent_id=agent.id)
    return lines[0] if lines else None


async def identity_in_path(asked: Asked[Any, Any]) -> Agent:
    """The identity whose handle is in the path."""
    try:
        return await manage_agents.agent_by_handle(asked.store, asked.caller, asked.path["handle"])
    except Unknown:
        raise Unknown("identity") from None


async def create_identity(asked: Asked[IdentitySent, None]) -> IdentityShown:
    """A new identity, with a number when one is asked for. Without the number, there is no identity either."""
    resources, caller, body = asked.resources, asked.caller, asked.body
    handle = body.agent_handle.removeprefix("@")
    agent = await manage_agents.create_agent(
        resources, caller, name=body.display_name or handle, handle=handle, description=body.description
    )
    if body.phone_number is not None:
        try:
            agent = (await provisioning.provision(resources, caller, agent, body.phone_number)).agent
        except AnycarrierError:
            await manage_agents.delete_agent(resources.store, caller, agent)
            raise
    return await whole_identity(resources.store, agent)


async def list_identities(asked: Asked[None, None]) -> list[IdentityShown]:
    """All identities; an identity's own key sees itself."""
    resources, workspace = asked.resources, asked.caller.workspace_id
    lines = {line.agent_id: line for line in reversed(await resources.store.lines.list(workspace))}
    made = await manage_agents.signing_keys_made_at(resources.store, workspace)
    return [
        identity_shown(agent, lines.get(agent.id), made.get(agent.id))
        for agent in await manage_agents.list_agents(resources.store, asked.caller)
    ]


async def get_identity(asked: Asked[None, None]) -> IdentityShown:
    """One identity."""
    return await whole_identity(asked.store, await identity_in_path(asked))


async def change_identity(asked: Asked[IdentityChange, None]) -> IdentityShown:
    """Rename it, describe it, or (admin) set whom its number lets through. Answers with the whole identity."""
    agent = await identity_in_path(asked)
    fields = asked.body.given("description")
    if "display_name" in asked.body.model_fields_set:
        fields["name"] = asked.body.display_name or agent.handle
    if modes := _modes(asked.body):
        need_admin(asked.caller, "setting a filter mode")
    agent = await manage_agents.change_agent(asked.resources, asked.caller, agent, **fields, **modes)
    return await whole_identity(asked.store, agent)


def _modes(body: IdentityChange) -> dict[str, str]:
    """Both sides from the shared spellings, one side from the directional ones; they must agree."""
    shared = body.given("phone_filter_mode", "imessage_filter_mode")
    sides = body.given("phone_inbound_filter_mode", "phone_outbound_filter_mode")
    if len(set(shared.values())) > 1:
        raise Invalid.field("imessage_filter_mode", "differs from phone_filter_mode: both are one setting here")
    if shared and sides:
        raise Invalid.field("phone_filter_mode", "give the mode for both sides, or for each side, not both")
    for mode in shared.values():
        return {"inbound_filter_mode": mode, "outbound_filter_mode": mode}
    return {name.removeprefix("phone_"): mode for name, mode in sides.items()}


async def delete_identity(asked: Asked[None, None]) -> None:
    """Delete it, let go of its number, end its keys."""
    need_admin(asked.caller, "deleting an identity")
    agent = await identity_in_path(asked)
    async with provisioning.alone(asked.resources, agent):
        for line in await asked.store.lines.list(agent.workspace_id, agent_id=agent.id):
            await provisioning.let_go(asked.resources, asked.caller, line)
        await manage_agents.delete_agent(asked.store, asked.caller, agent)


async def assign_number(asked: Asked[NumberLink, None]) -> IdentityShown:
    """Give it a number of the organization that no identity has."""
    agent = await identity_in_path(asked)
    given = await provisioning.hand_over(asked.resources, asked.caller, agent, asked.body.phone_number_id)
    return await whole_identity(asked.store, given.agent)


async def release_number(asked: Asked[None, None]) -> None:
    """Release its number: at the carrier when it was bought through us; a number brought along is only detached."""
    need_admin(asked.caller, "releasing a number")
    line = await line_of(asked.store, await identity_in_path(asked))
    if line is None:
        raise Unknown("number of that identity")
    await provisioning.let_go(asked.resources, asked.caller, line)


class EmptySent(Sent):
    """``{}``."""


class SigningKeyShown(Shown):
    """The key's text, this once."""

    signing_key: str
    created_at: Moment


class SigningKeyStatus(Shown):
    """Whether there is a key."""

    configured: bool
    created_at: Moment | None


async def _rotate(asked: Asked[Any, Any], agent: Agent) -> SigningKeyShown:
    text, row = await manage_agents.rotate_signing_key(asked.store, asked.caller, agent)
    return SigningKeyShown(signing_key=text, created_at=row.created_at)


async def _status(asked: Asked[Any, Any], agent: Agent) -> SigningKeyStatus:
    row = await asked.store.webhooks.signing_key_row(agent.workspace_id, agent.id)
    return _key_status(row.created_at if row is not None else None)


def _key_status(made_at: datetime | None) -> SigningKeyStatus:
    return SigningKeyStatus(configured=made_at is not None, created_at=made_at)


async def rotate_signing_key(asked: Asked[EmptySent, None]) -> SigningKeyShown:
    """A new key for the identity."""
    return await _rotate(asked, await identity_in_path(asked))


async def signing_key_status(asked: Asked[None, None]) -> SigningKeyStatus:
    """Whether the identity has one."""
    return await _status(asked, await identity_in_path(asked))


async def rotate_own_signing_key(asked: Asked[EmptySent, None]) -> SigningKeyShown:
    """A new key for the identity whose API key asks."""
    if asked.caller.admin:
        where = "keys belong to identities: POST /identities/{handle}/signing-key"
        raise ContractRefusal(409, "use_identity_signing_key", where)
    return await _rotate(asked, await agent_of(asked.store, asked.caller, None))


async def own_signing_key_status(asked: Asked[None, None]) -> SigningKeyStatus:
    """Whether that identity, or under an admin key any identity, has one."""
    if not asked.caller.admin:
        return await _status(asked, await agent_of(asked.store, asked.caller, None))
    made = await manage_agents.signing_keys_made_at(asked.store, asked.caller.workspace_id)
    return _key_status(max(made.values(), default=None))


ENDPOINTS = [
    Endpoint("POST", IDENTITIES, create_identity, "Make an identity", IdentitySent, answer=IdentityShown, status=201,
             refusals=(403, 404, 409, 413, 501, 502, 503)),
    Endpoint("GET", IDENTITIES, list_identities, "List identities", answer=list[IdentityShown]),
    Endpoint("GET", IDENTITY, get_identity, "Look at an identity", answer=IdentityShown, refusals=(403, 404)),
    Endpoint("PATCH", IDENTITY, change_identity, "Change an identity", IdentityChange, answer=IdentityShown,
             refusals=(403, 404, 409, 413)),
    Endpoint("DELETE", IDENTITY, delete_identity, "Delete an identity and release its number", status=204,
             refusals=(403, 404, 409, 501, 502)),
    Endpoint("POST", f"{IDENTITY}/phone_number", assign_number, "Give an identity a number brought along", NumberLink,
             answer=IdentityShown, refusals=(403, 404, 409, 413)),
    Endpoint("DELETE", f"{IDENTITY}/phone_number", release_number, "Release an identity's number", status=204,
             refusals=(403, 404, 409, 501, 502)),
    Endpoint("POST", f"{IDENTITY}/signing-key", rotate_signing_key, "Make or replace an identity's signing key",
             EmptySent, answer=SigningKeyShown, status=201, refusals=(403, 404, 413)),
    Endpoint("GET", f"{IDENTITY}/signing-key", signing_key_status, "Has it a signing key", answer=SigningKeyStatus,
             refusals=(403, 404)),
    Endpoint("POST", f"{API}/signing-keys", rotate_own_signing_key, "Make or replace one's own signing key", EmptySent,
             answer=SigningKeyShown, status=201, refusals=(404, 409, 413)),
    Endpoint("GET", f"{API}/signing-keys", own_signing_key_status, "Is there a signing key", answer=SigningKeyStatus,
             refusals=(404,)),
]  # fmt: skip
