"""What becomes of an incoming call: the order of the questions, which is also what ``route explain`` tells.

Contact rules come first: whom they block, nobody hears of. Then the day's limits, then what the agent (or the
number's own routing) says. Each step leaves a line in the call's log, so that the answer to "why did it not ring?"
is written down.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

from anycarrier.calls import Call, EndReason
from anycarrier.errors import DestinationNotAllowed, InvalidNumber
from anycarrier.events import IncomingCall, RoutingFailure
from anycarrier.routing import Answer, Forward, LeaveRinging, Line, Reject, Route
from anycarrier_server.domain.agent_overrides import (
    WITHOUT_SOCKET,
    CallHandling,
    call_handling,
    call_settings,
    first_agent,
    fitting,
    own_socket,
)
from anycarrier_server.domain.incoming_webhook import ask_agent, ask_number
from anycarrier_server.domain.resources import IncomingAsk, Resources
from anycarrier_server.store import OverLimit, RoutedCall, Snapshot, parse_id
from anycarrier_server.store.models import Agent, CallRow, LineRow

log = logging.getLogger("anycarrier")

SCALAR = (str, int, float, bool, type(None))
"""What a variable may be: something that can be said."""


@dataclass(slots=True)
class Decision:
    """The route and the reason for it, in words for a person."""

    route: Route
    why: str
    notes: dict[str, Any] = field(default_factory=dict)


class StoreRouter:
    """The exchange's router: ``await router(event, line)``."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def __call__(self, event: IncomingCall, line: Line | None) -> Route:
        routed = await self._resources.store.calls.routed(event.reference) if line is not None else None
        if routed is None or routed.line is None or routed.line.status != "active":
            return Reject()
        decision = await self._decide(event.call, routed, routed.line)
        self._resources.store.writer.event(routed.call.id, "call.routed", {"why": decision.why, **decision.notes})
        return decision.route

    async def _decide(self, ringing: Call, routed: RoutedCall, line: LineRow) -> Decision:
        store, call = self._resources.store, routed.call
        agent = routed.agent
        if agent is None or agent.id != first_agent(line):
            agent = await store.agents.get(line.workspace_id, first_agent(line))
        elif agent.deleted_at is not None:
            agent = None
        if agent is None:
            return Decision(Reject(), "the number has no agent")
        verdict = await store.rules.decide(agent, "inbound", call.from_number)
        if not verdict.allowed:
            await store.calls.block(call.id)
            return Decision(Reject(), verdict.reason)
        if self._resources.draining:
            return Decision(Reject(EndReason.BUSY), "this process is shutting down")
        try:
            limits = await store.limits.reserve(line.workspace_id, call.id)
        except OverLimit as over:
            self._resources.metrics.refused(over.limit)
            return Decision(Reject(), str(over))
        self._resources.metrics.let_in(limits)
        decision = await self._by_action(ringing, routed, line, agent, limits)
        if isinstance(decision.route, Answer):
            limit = min(decision.route.time_limit or limits.granted, limits.granted)
            decision.route = replace(decision.route, time_limit=limit)
            await store.limits.needs_less(call.id, had=limits.granted, needs=limit)
        elif isinstance(decision.route, Forward | LeaveRinging):
            # What it has reserved. Once it is handed on, it is not ended by us (call_phases.LIMITED).
            await self._resources.exchange.switchboard.update(
                call.reference, lambda known: known.model_copy(update={"time_limit": limits.granted})
            )
        if isinstance(decision.route, Reject):
            await store.limits.release(call.id)  # what nobody took costs nothing
        return decision

    async def _by_action(
        self, ringing: Call, routed: RoutedCall, line: LineRow, agent: Agent, limits: Snapshot
    ) -> Decision:
        store, call = self._resources.store, routed.call
        handling = call_handling(agent, line)
        match handling.incoming_call_action:
            case "auto_reject":
                whose = "number" if "incoming_call_action" in line.call_handling else "agent"
                return Decision(Reject(), f"the {whose} declines all calls (auto_reject)")
            case "hosted_agent":
                return Decision(Reject(), "hosted_agent is not offered here")
            case "forward":
                return await self._forward(call, line, handling)
            case "webhook":
                said = await ask_agent(self._resources, IncomingAsk(call, line, agent, limits))
                if said.action == "ignore":
                    return Decision(LeaveRinging(), "the agent's webhook said ignore")
                if said.action == "reject":
                    return Decision(Reject(), "the agent's webhook said reject, or failed")
                if said.websocket_url is not None:
                    await store.calls.note(call.id, websocket_url=said.websocket_url)
                    call.websocket_url = said.websocket_url
            case _:
                if line.inbound_webhook_url is not None:
                    answer = await ask_number(self._resources, IncomingAsk(call, line, agent, limits))
                    if answer.get("action") == "reject":
                        return Decision(Reject(), "the number's webhook said reject")
                    told = await self._as_told(call, line, agent, answer)
                    if told.id != agent.id:
                        return await self._answer(ringing, routed, told)
        await self._note_socket(call, agent, line)
        return await self._answer(ringing, routed, agent)

    async def _note_socket(self, call: CallRow, agent: Agent, line: LineRow) -> None:
        """A WebSocket URL of the number's own takes the place of the agent's, unless the webhook named one."""
        url = own_socket(agent, line)
        if url is None or call.websocket_url is not None:
            return
        if url:
            call.websocket_url = url
            await self._resources.store.calls.note(call.id, websocket_url=url)
        else:
            call.options = {**call.options, WITHOUT_SOCKET: True}
            await self._resources.store.calls.note(call.id, options=call.options)

    async def _forward(self, call: CallRow, line: LineRow, handling: CallHandling) -> Decision:
        to = handling.forward_to
        if not to:
            return Decision(Reject(), "forward, but no target is set")
        try:
            self._resources.exchange.switchboard.policy.check_destination(line.number, to)
        except (DestinationNotAllowed, InvalidNumber) as refused:
            return Decision(Reject(), f"the call may not be forwarded there: {refused}")
        kept = {"target_type": handling.forwarding_target_type, "target": to}
        await self._resources.store.calls.note(call.id, options={**call.options, "forwarding": kept})
        return Decision(Forward(to), "the agent forwards its calls")

    async def _as_told(self, call: CallRow, line: LineRow, agent: Agent, answer: dict[str, Any]) -> Agent:
        """What the number's webhook adds to a call it accepts; what makes no sense is passed over."""
        store = self._resources.store
        notes: dict[str, Any] = {}
        if isinstance(variables := answer.get("variables"), dict):
            said = {name: value for name, value in variables.items() if isinstance(value, SCALAR)}
            call.variables = notes["variables"] = said
        if isinstance(metadata := answer.get("metadata"), dict):
            notes["details"] = metadata
        if isinstance(overrides := answer.get("overrides"), dict):
            notes["overrides"] = overrides
            call.options = notes["options"] = {**call.options, "settings": fitting(call_settings(overrides))}
        if notes:
            await store.calls.note(call.id, **notes)
        wanted = answer.get("agent_id")
        if not isinstance(wanted, str):
            return agent
        named = await store.agents.get(line.workspace_id, parse_id("agent", wanted))
        if named is None:
            board = self._resources.exchange.switchboard
            known = await board.calls.get(call.reference)
            if known is not None:
                detail = "the number's webhook named an agent that does not exist; the number's own takes the call"
                await board.routing_failed(known, RoutingFailure.UNKNOWN_AGENT, detail, wanted[:64])
        return named or agent

    async def _answer(self, ringing: Call, routed: RoutedCall, agent: Agent) -> Decision:
        """The agent, or its fallback, must accept before the call is answered."""
        if routed.agent is None or routed.agent.id != agent.id:
            key = await self._resources.store.webhooks.signing_key_row(agent.workspace_id, agent.id)
            routed = replace(routed, agent=agent, signing_key=key)
        route = await self._resources.agents.take_ringing(ringing, routed)
        if isinstance(route, Answer):
            return Decision(route, f"agent {route.agent_id} takes it", {"agent_id": route.agent_id})
        why = route.why if isinstance(route, Reject) else ""
        return Decision(route, f"no agent accepted the call: {why}" if why else "no agent accepted the call")
