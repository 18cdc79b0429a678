"""Making calls: everything that is decided before the carrier is asked, in the order in which it is decided; the one
request that makes a telephone ring; and what becomes of the call when the carrier refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, select

from anycarrier.agent import RawAgent
from anycarrier.calls import CallStatus, EndReason, MachineDetection
from anycarrier.errors import AnycarrierError, ProviderError, ProviderUnavailable, StoreUnavailable
from anycarrier.numbers import e164
from anycarrier_server.domain import call_limits, place_call
from anycarrier_server.domain.access import Caller, agent_of, need_scope
from anycarrier_server.domain.agent_overrides import WITHOUT_SOCKET, own_socket
from anycarrier_server.domain.agent_runtime import settings_of
from anycarrier_server.domain.manage_agents import refuse_blocked, refuse_misfits
from anycarrier_server.domain.resources import Resources
from anycarrier_server.domain.speech_engines import refuse_unready
from anycarrier_server.refusals import (
    HostUnknown,
    IdempotencyConflict,
    Invalid,
    NumberInactive,
    NumberNotOwned,
    ShuttingDown,
    Unknown,
)
from anycarrier_server.store import NewCall, OverLimit, RoutedCall, Snapshot, Store, parse_id
from anycarrier_server.store.call_state import as_call
from anycarrier_server.store.columns import new_id, utc_now, word
from anycarrier_server.store.credentials import CredentialIncomplete
from anycarrier_server.store.models import Agent, CallRow, ContactRule, CredentialRow, LineRow, SigningKey
from anycarrier_server.store.new_calls import BY_KEY, IDEMPOTENCY
from anycarrier_server.store.rules import verdict
from anycarrier_server.store.statements import Statement, table_of

FURTHEST = timedelta(days=366)
"""How far ahead a call may be scheduled: beyond that a date is a mistake, and its agent and number will be gone."""

LINE, AGENT, CREDENTIAL = table_of(LineRow), table_of(Agent), table_of(CredentialRow)
KEY, RULE = table_of(SigningKey), table_of(ContactRule)


def _who_talks(agent: Any) -> Select[Any]:
    """The line, who talks on it, the account it is on, and what they have been told about whom they ring."""
    return (
        select(LINE, AGENT, KEY, CREDENTIAL, RULE)
        .join(CREDENTIAL, CREDENTIAL.c.id == LINE.c.credential_id)
        .outerjoin(AGENT, AGENT.c.id == agent)
        .outerjoin(KEY, KEY.c.agent_id == AGENT.c.id)
        .outerjoin(
            RULE,
            and_(
                RULE.c.agent_id == AGENT.c.id,
                RULE.c.match_target == bindparam("to_number"),
                RULE.c.status == word("active"),
                RULE.c.direction != word("inbound"),
            ),
        )
        .where(
            LINE.c.number == bindparam("number"),
            LINE.c.status != word("released"),
            LINE.c.workspace_id == bindparam("workspace_id"),
        )
        .order_by(LINE.c.status, LINE.c.created_at)
        .limit(1)
    )


WHO_TALKS = [LineRow, Agent, SigningKey, CredentialRow, ContactRule]
THE_LINES_OWN = Statement(_who_talks(LINE.c.agent_id), into=WHO_TALKS)
AS_NAMED = Statement(_who_talks(bindparam("agent_id")), into=WHO_TALKS)


@dataclass(frozen=True, slots=True)
class Placed:
    """A call as it was made: ``call`` is the row at that moment (stage ``initiated``, or ``queued`` when scheduled).

    ``repeated``: the Idempotency-Key was seen before and this is that first call as it is now.
    """

    call: CallRow
    limits: Snapshot
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class CallWanted:
    """A call to make. ``settings`` are :class:`AgentSettings` fields for this call only (first_message, on_voicemail
    ...); ``options`` are a face's own, kept in ``row.options``."""

    from_number: str
    to_number: str
    agent_id: str | UUID | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None
    websocket_url: str | None = None
    scheduled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The request's Idempotency-Key, and a hash of its body: the same of both is the same call."""

    key: str
    body_hash: str


async def place(resources: Resources, caller: Caller, wanted: CallWanted, once: Idempotency | None = None) -> Placed:
    """Ring ``to_number`` from a number of ours; the agent (else the number's own) talks once it is answered.

    Returns as soon as the carrier has taken the call. Raises, before anything rings: ``NumberNotOwned``,
    ``NumberInactive``, ``Unknown`` (agent), ``InvalidNumber``, ``DestinationNotAllowed``, ``Blocked``, ``OverLimit``,
    ``NoRoom``, ``CredentialIncomplete``, ``IdempotencyConflict``, ``UrlRefused``, ``SpeechNotReady``, ``ShuttingDown``;
    and the carrier's own refusals (``ProviderError``).
    """
    if resources.draining:
        raise ShuttingDown
    from_number, to_number = e164(wanted.from_number), e164(wanted.to_number)
    line, agent, key, rule = await _who(resources.store, caller, from_number, to_number, wanted.agent_id)
    websocket_url, options, scheduled_at = wanted.websocket_url, wanted.options, wanted.scheduled_at
    if websocket_url is None and agent.id == line.agent_id and (own := own_socket(agent, line)) is not None:
        websocket_url, options = own or None, {**options, **({} if own else {WITHOUT_SOCKET: True})}
    if once is not None:
        known = await _repeat(resources.store, caller, once.key, once.body_hash)
        if known is not None:
            return Placed(known, await resources.store.limits.snapshot(caller.workspace_id), repeated=True)
    if scheduled_at is not None and scheduled_at <= utc_now():
        raise Invalid.field("scheduled_at", "lies in the past")
    for url, check in (
        (wanted.webhook_url, resources.url_guard.webhook),
        (websocket_url, resources.url_guard.websocket),
    ):
        if url is not None:
            try:
                await check(url)
            except HostUnknown:
                pass  # its name may have an address by the time it is used; it is checked again then
    resources.exchange.switchboard.policy.check_destination(from_number, to_number)
    refuse_blocked(to_number, verdict(agent, "outbound", rule))
    socket = bool(websocket_url or agent.websocket_url) and not options.get(WITHOUT_SOCKET)
    if not socket and isinstance(resources.handlers.get(agent.handler or ""), RawAgent):
        refuse_misfits(settings_of(agent, wanted.settings))
    if scheduled_at is None:
        await refuse_unready(resources, agent, socket=socket, overrides=wanted.settings)
    if scheduled_at is not None and scheduled_at > utc_now() + FURTHEST:
        raise Invalid.field("scheduled_at", f"lies more than {FURTHEST.days} days ahead")
    new = NewCall(
        id=new_id(),
        line=line,
        to_number=to_number,
        agent_id=agent.id,
        variables=wanted.variables,
        metadata=wanted.metadata,
        overrides=wanted.overrides,
        options={**options, **({"settings": dict(wanted.settings)} if wanted.settings else {})},
        webhook_url=wanted.webhook_url,
        websocket_url=websocket_url,
        time_limit=min(
            settings_of(agent, wanted.settings).max_duration_seconds, resources.settings.max_duration_seconds
        ),
        scheduled_at=scheduled_at,
        idempotency_key=once.key if once is not None else None,
        body_hash=once.body_hash if once is not None else None,
    )
    if scheduled_at is not None:
        call, fresh = await resources.store.calls.create(new)
        snapshot = await resources.store.limits.snapshot(caller.workspace_id)
        if fresh:
            resources.expect_call(scheduled_at)
        return Placed(call, snapshot, repeated=not fresh)
    return await _now(resources, caller, new, agent, key)


async def _now(resources: Resources, caller: Caller, new: NewCall, agent: Agent, key: SigningKey | None) -> Placed:
    store = resources.store
    try:
        call, fresh, snapshot = await store.placing.place(new)
    except OverLimit as over:
        # The last place may be the very same request's, a moment ago.
        known = (
            await _repeat(resources.store, caller, new.idempotency_key, new.body_hash) if new.idempotency_key else None
        )
        if known is None:
            resources.metrics.refused(over.limit)
            raise
        return Placed(known, over.snapshot, repeated=True)
    if not fresh:
        return Placed(call, await store.limits.snapshot(caller.workspace_id), repeated=True)
    resources.metrics.let_in(snapshot)
    if call_limits.limited(resources):
        try:
            await call_limits.take_room(resources, call)
        except call_limits.NoRoom as full:
            resources.metrics.refused(full.kind)
            await place_call.give_up(resources, call, EndReason.CONCURRENCY_LIMIT)
            await store.limits.release(call.id)
            raise
    return Placed(await place_call.ring(resources, RoutedCall(call, new.line, agent, key)), snapshot)


async def check_destination(resources: Resources, agent: Agent, from_number: str, to_number: str) -> None:
    """``DestinationNotAllowed`` by the destination policy, :class:`Blocked` by the agent's contact rules."""
    resources.exchange.switchboard.policy.check_destination(from_number, to_number)
    if not to_number.startswith("+"):
        return
    refuse_blocked(to_number, await resources.store.rules.decide(agent, "outbound", to_number))


async def _who(
    store: Store, caller: Caller, from_number: str, to_number: str, agent_id: str | UUID | None
) -> tuple[LineRow, Agent, SigningKey | None, ContactRule | None]:
    """The line, who talks on it, that agent's signing key, and the rule about the number dialled, read together."""
    asked: dict[str, Any] = {"number": from_number, "to_number": to_number, "workspace_id": caller.workspace_id}
    if agent_id is None:
        found = await store.db.row(THE_LINES_OWN, **asked)
    else:
        found = await store.db.row(AS_NAMED, agent_id=parse_id("agent", agent_id), **asked)
    if found is None:
        if agent_id is not None:
            await agent_of(store, caller, agent_id)
        raise NumberNotOwned(from_number)
    line, agent, key, credential, rule = found
    need_scope(caller, line.agent_id, "that number")
    if line.status != "active":
        raise NumberInactive(from_number, (line.sync or {}).get("message", ""))
    if agent_id is None and line.agent_id is None:
        raise Invalid.field("agent_id", "the number has no agent of its own: name one")
    if agent is None or agent.workspace_id != caller.workspace_id or agent.deleted_at is not None:
        raise Unknown("agent")
    need_scope(caller, agent.id)
    if credential.status == "incomplete":
        raise CredentialIncomplete(credential.public_id, credential.missing)
    return line, agent, key, rule


async def _repeat(store: Store, caller: Caller, key: str, body_hash: str | None) -> CallRow | None:
    """The call this key made in the last day; a key used for something else is a conflict."""
    known: CallRow | None = await store.db.row(BY_KEY, of=caller.workspace_id, key=key)
    if known is None or known.created_at < utc_now() - IDEMPOTENCY:
        return None
    if known.body_hash != body_hash:
        raise IdempotencyConflict(known.id)
    return known


async def ring(resources: Resources, routed: RoutedCall) -> CallRow:
    """Ask the carrier once. Returns when it has taken the call; it is not answered yet.

    What the carrier refuses, it has refused before anything rang: the call ends ``failed`` with the reason, its place
    in the day's limit is given back, and the typed error is raised. ``ProviderUnavailable`` leaves the call as it is
    where its outcome is unknown: a phone may be ringing.
    """
    call, agent = routed.call, routed.agent
    assert agent is not None
    try:
        await resources.agents.keep_routed(routed)
        dialled = await resources.exchange.dial(call=as_call(call), **_options(call, agent))
    except AnycarrierError as refused:
        await resources.store.calls.note(call.id, error=error_note(refused))
        if isinstance(refused, ProviderUnavailable) and refused.outcome_unknown:
            raise
        await _never_rang(resources, call)
        raise
    except StoreUnavailable:  # it may have rung; reconciling finds the call
        raise
    except Exception:  # a bug of ours: the carrier's have become ProviderUnavailable
        await _never_rang(resources, call)
        raise
    call.carrier_id = dialled.id
    return call


async def _never_rang(resources: Resources, call: CallRow) -> None:
    await give_up(resources, call, EndReason.UNKNOWN)
    await resources.store.limits.release(call.id)


async def give_up(resources: Resources, call: CallRow, reason: EndReason) -> None:
    """End a call that never got to the carrier. One that is over already stays as it is."""
    known = await resources.store.callbook.get(call.reference)
    if known is not None and known.status is not CallStatus.ENDED:
        await resources.exchange.switchboard.end_locally(known, reason)


def error_note(problem: AnycarrierError) -> dict[str, Any]:
    """What the carrier said, for the call's record: no secrets, numbers masked."""
    note: dict[str, Any] = {"type": type(problem).__name__, "message": str(problem)}
    if isinstance(problem, ProviderError):
        note |= {"code": problem.code, "status": problem.status}
    return note


def _options(call: CallRow, agent: Agent) -> dict[str, Any]:
    settings = settings_of(agent, call.options.get("settings"))
    found: dict[str, Any] = {"machine_detection": MachineDetection.OFF}
    if settings.voicemail_detection:
        waits = settings.on_voicemail == "leave_message"
        found["machine_detection"] = MachineDetection.WAIT_FOR_BEEP if waits else MachineDetection.DETECT
    if call.options.get("timeout") is not None:
        found["timeout"] = call.options["timeout"]
    return found
