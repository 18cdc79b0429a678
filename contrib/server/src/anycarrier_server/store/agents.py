"""Agents (Inkbox: identities): where calls go and how they are taken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.exc import IntegrityError

from anycarrier_server.refusals import InUse, Taken
from anycarrier_server.store.columns import new_id, public_id, utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Agent, ApiKey, LineRow
from anycarrier_server.store.statements import Statement, table_of

TABLE = table_of(Agent)
BY_ID = Statement(select(TABLE).where(TABLE.c.id == bindparam("id")), into=[Agent])

CHANGEABLE = frozenset(
    {
        "handle", "name", "description", "websocket_url", "handler", "settings", "incoming_call_action",
        "incoming_call_webhook_url", "forwarding_target_type", "forwarding_phone_number", "forwarding_sip_uri",
        "inbound_filter_mode", "outbound_filter_mode",
    }
)  # fmt: skip


NAMED = ("synthesizer", "recognizer", "fallback_synthesizer", "fallback_recognizer", "language")
HAS: Mapping[str, Any] = {"first_message": ".", "grammar": ".", "phrases": (".",)}
"""Settings of which only their being there matters for speech, and what stands for them in :class:`SpeechUse`."""


@dataclass(frozen=True, slots=True)
class SpeechUse:
    """``count`` agents of a workspace that use speech alike. ``settings`` are those that decide which engines they
    need; of the first message, the grammar and the phrases they hold only whether the agent has them."""

    count: int
    workspace_id: UUID
    handler: str | None
    socket: bool
    settings: Mapping[str, Any]


def _speech_use(count: int, workspace_id: UUID, handler: str | None, socket: Any, *values: Any) -> SpeechUse:
    named = {name: value for name, value in zip(NAMED, values, strict=False) if value is not None}
    has = {name: HAS[name] for name, there in zip(HAS, values[len(NAMED) :], strict=True) if there}
    return SpeechUse(count, workspace_id, handler, bool(socket), {**named, **has})


def handle_from(name: str) -> str:
    """A handle made from a name: ``"Sales Line"`` -> ``"sales-line"``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "agent"


class Agents:
    """The agents of every workspace. Deleted ones stay for the calls they had, and free their handle."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, workspace_id: UUID, *, name: str, handle: str | None = None, **fields: Any) -> Agent:
        """A new agent; ``Taken`` when the handle is. Without a handle, one is made from the name."""
        if unknown := set(fields) - CHANGEABLE:
            raise ValueError(f"not fields of an agent: {', '.join(sorted(unknown))}")
        id_ = new_id()
        wanted = handle or f"{handle_from(name)}-{id_.hex[:6]}"
        agent = Agent(id=id_, workspace_id=workspace_id, name=name, handle=wanted, **fields)
        try:
            async with self._db.write() as session:
                session.add(agent)
        except IntegrityError:
            raise Taken("handle", wanted) from None
        return agent

    async def get(self, workspace_id: UUID, agent_id: UUID | None) -> Agent | None:
        """The agent; None when unknown, deleted or another workspace's."""
        agent = await self.find(agent_id)
        if agent is None or agent.workspace_id != workspace_id or agent.deleted_at is not None:
            return None
        return agent

    async def find(self, agent_id: UUID | None) -> Agent | None:
        """Any workspace's agent, deleted or not: for our own processes, never for a client."""
        if agent_id is None:
            return None
        found: Agent | None = await self._db.row(BY_ID, id=agent_id)
        return found

    async def by_handle(self, workspace_id: UUID, handle: str) -> Agent | None:
        """The agent with this handle; a leading ``@`` is dropped."""
        async with self._db.read() as session:
            return await session.scalar(
                select(Agent).where(
                    Agent.workspace_id == workspace_id,
                    Agent.handle == handle.removeprefix("@"),
                    Agent.deleted_at.is_(None),
                )
            )

    async def list(self, workspace_id: UUID) -> list[Agent]:
        """All agents, oldest first."""
        async with self._db.read() as session:
            query = select(Agent).where(Agent.workspace_id == workspace_id, Agent.deleted_at.is_(None))
            return list(await session.scalars(query.order_by(Agent.created_at, Agent.id)))

    async def speech(self) -> Sequence[SpeechUse]:
        """What speech the agents of all workspaces use: those alike are counted together."""
        named = [Agent.settings[name].as_string() for name in NAMED]
        has = [func.coalesce(Agent.settings[name].as_string(), "").not_in(("", "[]")) for name in HAS]
        kinds = [Agent.workspace_id, Agent.handler, Agent.websocket_url.is_not(None), *named, *has]
        async with self._db.read() as session:
            found = await session.execute(
                select(func.count(), *kinds).where(Agent.deleted_at.is_(None)).group_by(*kinds)
            )
            return [_speech_use(*row) for row in found]

    async def change(self, agent_id: UUID, **fields: Any) -> Agent:
        """Set fields (``CHANGEABLE``; ``settings`` is replaced whole); ``Taken`` when the new handle is."""
        if unknown := set(fields) - CHANGEABLE:
            raise ValueError(f"not fields of an agent: {', '.join(sorted(unknown))}")
        try:
            async with self._db.write() as session:
                change = update(Agent).where(Agent.id == agent_id).values(**fields, updated_at=utc_now())
                return (await session.scalars(change.returning(Agent))).one()
        except IntegrityError:
            raise Taken("handle", str(fields.get("handle"))) from None

    async def delete(self, agent_id: UUID) -> None:
        """Delete an agent and end its keys; ``InUse`` while lines point to it."""
        async with self._db.write() as session:
            held = select(LineRow.id).where(LineRow.agent_id == agent_id, LineRow.status != word("released"))
            if lines := list(await session.scalars(held)):
                raise InUse("agent", (public_id("line", id_) for id_ in lines))
            now = utc_now()
            await session.execute(update(Agent).where(Agent.id == agent_id).values(deleted_at=now))
            live = (ApiKey.agent_id == agent_id, ApiKey.revoked_at.is_(None))
            await session.execute(update(ApiKey).where(*live).values(revoked_at=now))
