"""Contact rules: whom an agent may call and be called by.

A blacklist lets everybody through but those blocked; a whitelist nobody but those allowed. A rule is for one side
(inbound, outbound) or both; a number has at most one rule per side, whatever its action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from anycarrier_server.refusals import DuplicateRule, NotThatSide
from anycarrier_server.store.columns import utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Agent, ContactRule
from anycarrier_server.store.statements import Statement, table_of

TABLE = table_of(ContactRule)
ON_NUMBER = Statement(
    select(TABLE).where(
        TABLE.c.agent_id == bindparam("agent_id"),
        TABLE.c.match_target == bindparam("number"),
        TABLE.c.status == word("active"),
    ),
    into=[ContactRule],
)

ACTIVE = "active"
BOTH = "both"
SIDES = ("inbound", "outbound")


@dataclass(frozen=True, slots=True)
class Verdict:
    """May the call be? ``rule_id`` is the rule that decided, None for the list's default."""

    allowed: bool
    reason: str
    rule_id: UUID | None = None


class Rules:
    """The contact rules of every agent."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def decide(self, agent: Agent, direction: str, number: str) -> Verdict:
        """Whether ``agent`` and ``number`` may be on a call, seen from ``direction``."""
        rules: list[ContactRule] = await self._db.rows(ON_NUMBER, agent_id=agent.id, number=number)
        return verdict(agent, direction, next((rule for rule in rules if rule.direction in (direction, BOTH)), None))

    async def create(
        self, agent: Agent, *, action: str, match_target: str, direction: str = BOTH, match_type: str = "exact_number"
    ) -> ContactRule:
        """A rule; :class:`DuplicateRule` when a side asked for has one already that says otherwise, or all do.

        When the number has the same rule on the other side only, that one is extended to both and returned. A paused
        rule is not extended, the new side would be without effect: it keeps its side, and the other gets its own.
        """
        async with self._db.write() as session:
            await self._lock(session, agent.id)
            known = await self._of_number(session, agent.id, match_target)
            wanted = set(_sides(direction))
            if taken := [rule for rule in known if wanted & set(_sides(rule.direction))]:
                # All sides asked for are covered, or one is by a rule that says the contrary.
                covered = {side for rule in taken for side in _sides(rule.direction)}
                if wanted <= covered or any(rule.action != action or rule.status != ACTIVE for rule in taken):
                    raise DuplicateRule(taken[0].id)
            same = next((rule for rule in known if rule.action == action and rule.status == ACTIVE), None)
            if same is not None:
                same.direction, same.updated_at = BOTH, utc_now()
                return same
            rule = ContactRule(
                workspace_id=agent.workspace_id,
                agent_id=agent.id,
                action=action,
                match_type=match_type,
                match_target=match_target,
                direction=direction,
            )
            session.add(rule)
        return rule

    async def get(self, agent_id: UUID, rule_id: UUID | None) -> ContactRule | None:
        """The agent's rule, None when there is none."""
        if rule_id is None:
            return None
        async with self._db.read() as session:
            rule = await session.get(ContactRule, rule_id)
        return rule if rule is not None and rule.agent_id == agent_id else None

    async def list(
        self,
        workspace_id: UUID,
        *,
        agent_id: UUID | None = None,
        action: str | None = None,
        match_type: str | None = None,
        direction: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> Sequence[ContactRule]:
        """Rules, newest first. ``direction`` matches rules that cover that side too."""
        query = select(ContactRule).where(ContactRule.workspace_id == workspace_id)
        if agent_id is not None:
            query = query.where(ContactRule.agent_id == agent_id)
        if action is not None:
            query = query.where(ContactRule.action == action)
        if match_type is not None:
            query = query.where(ContactRule.match_type == match_type)
        if direction is not None:
            query = query.where(ContactRule.direction.in_((direction, BOTH)))
        query = query.order_by(ContactRule.created_at.desc(), ContactRule.id).limit(limit).offset(offset)
        async with self._db.read() as session:
            return (await session.scalars(query)).all()

    async def redundant(self, agent_id: UUID, mode: str, direction: str | None = None) -> tuple[str, int]:
        """Which action a filter mode makes pointless, and how many active rules have it."""
        action = "block" if mode == "whitelist" else "allow"
        query = select(func.count()).where(
            ContactRule.agent_id == agent_id, ContactRule.action == action, ContactRule.status == "active"
        )
        if direction is not None:
            query = query.where(ContactRule.direction.in_((direction, BOTH)))
        async with self._db.read() as session:
            return action, await session.scalar(query) or 0

    async def change(
        self,
        rule: ContactRule,
        *,
        action: str | None = None,
        direction: str | None = None,
        status: str | None = None,
        apply_to: str | None = None,
    ) -> ContactRule | None:
        """Change a rule; :class:`DuplicateRule` when another holds the side it would move to. None: it is gone.

        ``apply_to`` (with ``action``) changes one side of a rule for both: it is split, and the changed half returned.
        :class:`NotThatSide` when the rule says nothing of that side.
        """
        async with self._db.write() as session:
            await self._lock(session, rule.agent_id)
            row = (await session.scalars(select(ContactRule).where(ContactRule.id == rule.id))).one_or_none()
            if row is None:
                return None
            if apply_to is not None and apply_to not in _sides(row.direction):
                raise NotThatSide(row.direction)
            if apply_to is not None and action is not None and row.direction == BOTH and action != row.action:
                row.direction = "outbound" if apply_to == "inbound" else "inbound"
                row.updated_at = utc_now()
                await session.flush()
                half = ContactRule(
                    workspace_id=row.workspace_id,
                    agent_id=row.agent_id,
                    action=action,
                    match_type=row.match_type,
                    match_target=row.match_target,
                    direction=apply_to,
                    status=status or row.status,
                )
                session.add(half)
                return half
            if direction is not None and direction != row.direction:
                others = await self._of_number(session, row.agent_id, row.match_target)
                for other in others:
                    if other.id != row.id and set(_sides(direction)) & set(_sides(other.direction)):
                        raise DuplicateRule(other.id)
            fields: dict[str, Any] = {"action": action, "direction": direction, "status": status}
            for name, value in fields.items():
                if value is not None:
                    setattr(row, name, value)
            row.updated_at = utc_now()
        return row

    async def delete(self, rule: ContactRule) -> None:
        """Delete a rule; again is no error."""
        async with self._db.write() as session:
            await session.execute(delete(ContactRule).where(ContactRule.id == rule.id))

    async def _of_number(self, session: AsyncSession, agent_id: UUID, number: str) -> Sequence[ContactRule]:
        query = select(ContactRule).where(ContactRule.agent_id == agent_id, ContactRule.match_target == number)
        return (await session.scalars(query.order_by(ContactRule.created_at))).all()

    async def _lock(self, session: AsyncSession, agent_id: UUID) -> None:
        """One change of an agent's rules at a time, or two could fill one side."""
        await session.execute(select(Agent.id).where(Agent.id == agent_id).with_for_update())


def _sides(direction: str) -> tuple[str, ...]:
    return SIDES if direction == BOTH else (direction,)


def verdict(agent: Agent, direction: str, rule: ContactRule | None) -> Verdict:
    """What the agent's mode makes of ``rule``, the active one that names the number for this direction."""
    mode = agent.inbound_filter_mode if direction == "inbound" else agent.outbound_filter_mode
    if mode == "whitelist":
        if rule is not None and rule.action == "allow":
            return Verdict(True, "allowed by a contact rule", rule.id)
        return Verdict(False, f"not on the {direction} whitelist", rule.id if rule is not None else None)
    if rule is not None and rule.action == "block":
        return Verdict(False, "blocked by a contact rule", rule.id)
    return Verdict(True, "not blocked", rule.id if rule is not None else None)
