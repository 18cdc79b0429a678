"""The agents of the store as the library runs them: who takes a call, who talks on it, and what is kept meanwhile.
Words and notes are handed to the store's writer, without waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from anycarrier.agent import (
    Agent,
    Agents,
    CallSetup,
    FinishedCall,
    RawAgent,
)
from anycarrier.calls import Call, Direction
from anycarrier.errors import AgentUnreachable, AnycarrierError
from anycarrier.routing import Route
from anycarrier.session import MediaSession
from anycarrier.switchboard import Handler, Report
from anycarrier_server.domain import agent_runtime
from anycarrier_server.domain.agent_overrides import WITHOUT_SOCKET, fallback_agent
from anycarrier_server.domain.agent_runtime import settings_of
from anycarrier_server.domain.resources import Resources
from anycarrier_server.outage import DatabaseUnavailable
from anycarrier_server.refusals import StoreOverloaded
from anycarrier_server.store import RoutedCall, parse_id, public_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Agent as AgentRow
from anycarrier_server.store.models import CallRow, SigningKey
from anycarrier_server.work import finished_calls

log = logging.getLogger("anycarrier")

LONGEST_CONTEXT = 4096
"""Characters of variables that travel in a handshake header, as they are written there; servers refuse long ones."""


class StoreAgents(Agents):
    """One process's agents. Exchange and carriers know them by public id (``agt_...``)."""

    def __init__(self, resources: Resources, report: Report) -> None:
        super().__init__(
            engines=resources.engines.shared,
            lookup=self._lookup,
            set_up=self._read_setup,
            finished=self._finished,
            guard=self._guard,
        )
        self._resources = resources
        self._report = report
        self._settings = resources.settings
        self.talking: set[str] = set()
        """References of calls with a conversation here."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def aclose(self) -> None:
        """Close engines and sockets."""
        await self._resources.engines.aclose()
        await super().aclose()

    async def wait_idle(self, seconds: float) -> None:
        """Wait until no conversation is going on here."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    def __getitem__(self, agent_id: str) -> Handler:
        talk = super().__getitem__(agent_id)

        async def at_work(session: MediaSession) -> None:
            reference = session.call.reference
            self.talking.add(reference)
            self._idle.clear()
            self._resources.spawn(self._take_over(session.call, agent_id), "take over a call")
            try:
                await talk(session)
            finally:
                self.talking.discard(reference)
                if not self.talking:
                    self._idle.set()

        return at_work

    def need_speech(self, agent: Agent, reference: str) -> None:
        """Nothing: the service has refused such a call already, by the engines of the call's workspace."""

    async def take_ringing(self, call: Call, routed: RoutedCall) -> Route:
        """Have the call's agent, or its fallback, accept a ringing call: ``Answer``, or ``Reject`` when nobody does."""
        return await self.take(call, (await self.keep_routed(routed)).id)

    async def keep_routed(self, routed: RoutedCall) -> Agent:
        """Keep this call's agent and setup until the call is over: they are not read again here."""
        assert routed.agent is not None
        agent = self._agent_of(routed.agent, routed.signing_key)
        self.keep(routed.call.reference, agent, await self._setup_of(routed, agent))
        return agent

    # --- what a conversation asks for -------------------------------------------------------------------------------

    async def _lookup(self, agent_id: str) -> Agent | None:
        row = await self._resources.store.agents.find(parse_id("agent", agent_id))
        if row is None or row.deleted_at is not None:
            return None
        return self._agent_of(row, await self._resources.store.webhooks.signing_key_row(row.workspace_id, row.id))

    def _agent_of(self, row: AgentRow, key: SigningKey | None) -> Agent:
        # An agent without a handler and a WebSocket still answers: it says its first message, listens and writes down.
        handler = self._resources.handlers.get(row.handler) if row.handler else agent_runtime.listen
        if handler is None and not row.websocket_url:
            raise AgentUnreachable(row.public_id, "this process", f"no handler {row.handler!r} is configured")
        return Agent(
            row.public_id,
            settings_of(row),
            handler=handler if not isinstance(handler, RawAgent) else None,
            raw=handler if isinstance(handler, RawAgent) else None,
            websocket_url=row.websocket_url,
            signing_key=self._resources.store.webhooks.signing_key_in(key),
        )

    async def setup_for(self, call: Call, agent: Agent) -> CallSetup:
        """As :meth:`Agents.setup_for`; the variable ``now`` says when it was asked for."""
        setup = await super().setup_for(call, agent)
        now = utc_now().isoformat(timespec="seconds").replace("+00:00", "Z")
        return replace(setup, variables={**setup.variables, "now": now})

    async def _read_setup(self, call: Call, agent: Agent) -> CallSetup:
        """For a call that this process has not routed, and for an agent that takes another's place."""
        routed = await self._resources.store.calls.routed(call.reference)
        return await self._setup_of(routed, agent) if routed is not None else CallSetup()

    async def _setup_of(self, routed: RoutedCall, agent: Agent) -> CallSetup:
        row = routed.call
        overrides = self._overrides(routed, agent)
        recorded = overrides.get("enable_recording", agent.settings.enable_recording)
        variables = {
            **row.variables,
            "from_number": row.from_number,
            "to_number": row.to_number,
            "direction": row.direction,
            "call_id": row.public_id,
        }
        return CallSetup(
            variables=variables,
            overrides=overrides,
            websocket_url="" if row.options.get(WITHOUT_SOCKET) else row.websocket_url,
            call_id=str(row.id),
            engines=await self._resources.engines.of(row.workspace_id),
            context=_context(row, agent.id),
            transcript=StoredTranscript(
                self._resources,
                row.id,
                row.workspace_id,
                websocket_url=agent.websocket_url if row.websocket_url is None else row.websocket_url,
            ),
            recording=self._settings.recordings / f"{row.reference}.wav" if recorded else None,
            workspace=str(row.workspace_id),
        )

    def _overrides(self, routed: RoutedCall, agent: Agent) -> dict[str, Any]:
        """What this call changes of its agent's settings: its own, its number's, and the longest it may last."""
        found: dict[str, Any] = {}
        row, line = routed.call, routed.line
        if row.direction == Direction.INBOUND and line is not None:
            if (second := fallback_agent(line)) is not None:
                found["fallback_agent_id"] = public_id("agent", second)
            if line.routing.get("voicemail_message"):
                found["voicemail_message"] = line.routing["voicemail_message"]
        found |= row.options.get("settings") or {}
        limits = (
            found.get("max_duration_seconds", agent.settings.max_duration_seconds),
            self._resources.settings.max_duration_seconds,
            row.time_limit,
        )
        found["max_duration_seconds"] = min(limit for limit in limits if limit is not None)
        return found

    async def _guard(self, url: str) -> tuple[str, int]:
        """The address that was found good: the name could have another one a moment later."""
        try:
            target = await self._resources.url_guard.websocket(url)
        except AnycarrierError as refused:
            raise AgentUnreachable("", "its address", str(refused)) from refused
        return target.address, target.port

    async def _take_over(self, call: Call, agent_id: str) -> None:
        """The call's audio is here, so its post-call work is ours too; and its recording begins."""
        store = self._resources.store
        await store.claims.claim_call(call.reference)
        setup = await self.setup_for(call, await self.find_for(call.reference, agent_id))
        if setup.recording is None or setup.call_id is None or setup.workspace is None:
            return
        call_id = UUID(setup.call_id)
        if not await store.recordings.of_call(call_id):
            await store.recordings.begin(UUID(setup.workspace), call_id, setup.recording.name, format="wav")

    async def _finished(self, finished: FinishedCall) -> None:
        try:
            row = await self._resources.store.calls.find(finished.call.reference)
            if row is not None:
                await finished_calls.keep_conversation(self._resources, row, finished)
        except DatabaseUnavailable as unavailable:
            self._report("what a call leaves behind", unavailable)  # the reconciler files it later


def _context(row: CallRow, agent_id: str) -> dict[str, Any]:
    """More for ``X-Call-Context``: who is meant, and the call's variables where they are short enough."""
    found: dict[str, Any] = {"agent_id": agent_id}
    if row.variables and len(json.dumps(row.variables)) <= LONGEST_CONTEXT:
        found["variables"] = row.variables
    return found


class StoredTranscript:
    """A :class:`anycarrier.agent.transcript.Transcript` over the store.

    If the database is too far behind, words are lost and the call goes on. ``websocket_url`` is where the call's agent
    is, if it has one.
    """

    def __init__(
        self, resources: Resources, call_id: UUID, workspace_id: UUID, *, websocket_url: str | None = None
    ) -> None:
        self._resources = resources
        self._call_id = call_id
        self._workspace_id = workspace_id
        self._websocket_url = websocket_url
        self._lost = 0

    def said(self, party: str, text: str, at_ms: int) -> None:
        writer = self._resources.store.writer
        with self._losing("words"):
            writer.segment(self._call_id, party=party, text=text, ts_ms=at_ms, workspace_id=self._workspace_id)

    def note(self, kind: str, **facts: Any) -> None:
        if kind == "mode":
            self._resources.spawn(self._mode(facts), "note who does speech on a call")
        with self._losing("notes"):
            self._resources.store.writer.event(self._call_id, kind, facts, workspace_id=self._workspace_id)

    async def flush(self) -> None:
        await self._resources.store.writer.flush(call_id=self._call_id)

    @contextmanager
    def _losing(self, what: str) -> Iterator[None]:
        """The call goes on without what cannot be kept; the log says it once for a run of them."""
        try:
            yield
        except StoreOverloaded as behind:
            if not self._lost:
                log.error("%s of call %s are lost: %s", what, public_id("call", self._call_id), behind)
            self._lost += 1
        else:
            self._lost = 0

    async def _mode(self, facts: dict[str, Any]) -> None:
        """Note who does speech, and at which socket: the agent may have another one by the time a client asks."""
        notes = {"use_tts": bool(facts["tts"]), "use_stt": bool(facts["stt"]), "websocket_url": self._websocket_url}
        await self._resources.store.calls.note(self._call_id, **notes)
