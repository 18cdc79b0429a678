"""What would happen to an incoming call, and why: the router's questions in the router's order, asked without a call.

Nothing is counted, blocked, dialled or sent: where a webhook or an agent's socket decides, that is the answer.
``domain/call_router.py`` is the real thing; a test rings the same calls and compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from anycarrier.errors import DestinationNotAllowed, InvalidNumber
from anycarrier.numbers import e164
from anycarrier.redaction import mask_number
from anycarrier_server.domain import speech_engines
from anycarrier_server.domain.access import Caller, need_scope
from anycarrier_server.domain.agent_overrides import CallHandling, call_handling, fallback_agent, first_agent
from anycarrier_server.domain.agent_runtime import settings_of
from anycarrier_server.domain.manage_numbers import by_sockets, webhook_url_of
from anycarrier_server.domain.resources import Resources
from anycarrier_server.store import Store, parse_id, public_id
from anycarrier_server.store.models import Agent, LineRow

ANSWER, REJECT, FORWARD, ASK = "answer", "reject", "forward", "ask"


@dataclass(frozen=True, slots=True)
class Step:
    """One question and what was found. ``decides``: the call's fate is settled here."""

    question: str
    found: str
    decides: bool = False


@dataclass(slots=True)
class Explained:
    """``outcome``: answer (the agent is connected), reject, forward, or ask (a webhook decides at that moment)."""

    outcome: str = REJECT
    why: str = ""
    line_id: str | None = None
    agent_id: str | None = None
    steps: list[Step] = field(default_factory=list)

    def note(self, question: str, found: str) -> None:
        self.steps.append(Step(question, found))

    def decide(self, question: str, outcome: str, why: str) -> Explained:
        self.steps.append(Step(question, why, decides=True))
        self.outcome, self.why = outcome, why
        return self


async def explain(resources: Resources, caller: Caller, *, to: str, from_: str | None = None) -> Explained:
    """Follow a call to ``to``; ``from_`` None is somebody no contact rule names. ``Forbidden`` for others' agents."""
    store = resources.store
    told = Explained()
    to = e164(to)
    from_ = e164(from_) if from_ is not None else None
    line = await store.lines.by_number(to, caller.workspace_id)
    if line is None:
        return told.decide("number", REJECT, "no number of this workspace: register it, or nothing comes here")
    need_scope(caller, line.agent_id, "that number")
    told.line_id = line.public_id
    credential = await store.credentials.get(caller.workspace_id, line.credential_id)
    if credential is None or credential.status == "incomplete":
        lacks = f"it lacks {', '.join(credential.missing)}" if credential is not None else "it is gone"
        return told.decide("credential", REJECT, f"the carrier's webhooks cannot be checked: {lacks}")
    said = (line.sync or {}).get("message", "never configured")
    if line.status != "active":
        return told.decide("number", REJECT, f"registered, but not in service: {said}")
    told.note("number", f"{line.public_id}, in service on credential {credential.public_id} ({credential.name})")
    where = "" if by_sockets(line.provider) else f" posts its calls to {webhook_url_of(resources, line)}; last said"
    told.note("carrier", f"{line.provider}{where}: {said}")
    return await _by_agent(resources, told, line, from_)


async def _by_agent(resources: Resources, told: Explained, line: LineRow, from_: str | None) -> Explained:
    store = resources.store
    agent = await store.agents.get(line.workspace_id, first_agent(line))
    if agent is None:
        return told.decide("agent", REJECT, "the number has no agent: assign it to one")
    told.agent_id = agent.public_id
    by = "the number's routing" if line.routing.get("agent_id") else "the number itself"
    told.note("agent", f"{agent.name} ({agent.public_id}), named by {by}")
    # Without a caller: a number that nobody has, so that no rule can name it.
    verdict = await store.rules.decide(agent, "inbound", from_ or "")
    who = mask_number(from_) if from_ is not None else "a caller no rule names"
    rule = f", rule {public_id('rule', verdict.rule_id)}" if verdict.rule_id is not None else ""
    found = f"{who}: {verdict.reason}{rule} ({agent.inbound_filter_mode})"
    if not verdict.allowed:
        return told.decide("contact rules", REJECT, found)
    told.note("contact rules", found)
    use = await store.limits.snapshot(line.workspace_id)
    counted = (
        f"{use.calls_used} of {use.calls_limit} calls, {use.minutes_used:.1f} of {use.minutes_limit:g} minutes "
        f"in the last 24 hours, {use.minutes_free:.1f} of them not reserved by calls in progress"
    )
    if use.full:
        return told.decide("limits", REJECT, f"used up: {counted}, until {use.reset_at:%H:%M} UTC")
    told.note("limits", counted)
    return await _by_action(resources, told, line, agent)


async def _by_action(resources: Resources, told: Explained, line: LineRow, agent: Agent) -> Explained:
    handling = call_handling(agent, line)
    if line.call_handling:
        told.note("number's own settings", ", ".join(sorted(line.call_handling)))
    match handling.incoming_call_action:
        case "auto_reject":
            whose = "number" if "incoming_call_action" in line.call_handling else "agent"
            return told.decide("action", REJECT, f"auto_reject: the {whose} declines all calls")
        case "hosted_agent":
            return told.decide("action", REJECT, "hosted_agent is not offered here")
        case "forward":
            return _forward(resources, told, line, handling)
        case "webhook":
            where = _host(handling.incoming_call_webhook_url)
            why = f"webhook: {where} is asked while it rings; no good answer in time declines"
            return told.decide("action", ASK, why)
        case action:
            told.note("action", action or "nothing said: the agent takes its calls")
    if line.inbound_webhook_url is not None:
        where = _host(line.inbound_webhook_url)
        told.note("number's webhook", f"{where} is asked first, and may decline or name another agent")
    second, message = await _stand_ins(resources.store, told, line, agent)
    socket = bool(handling.websocket_url)
    lacks = await speech_engines.lacking(resources, agent, socket=socket)
    if lacks is None:
        unsure = await speech_engines.doubt(resources, agent) if socket else None
        unsure = unsure or await speech_engines.weakness(resources, agent)
        told.note("speech", unsure or "the agent's engines are ready")
        return told.decide("answer", ANSWER, f"{agent.name} is connected, at {_door(agent, handling)}")
    told.note("speech", lacks)
    if second is not None and await speech_engines.lacking(resources, second) is None:
        return told.decide("answer", ANSWER, f"{second.name} stands in for {agent.name}, which lacks a speech engine")
    engines = await resources.engines.of(agent.workspace_id)
    if message and engines.lacks(settings_of(agent), ["speak"]) is None:
        return told.decide("answer", ANSWER, "the voicemail message is spoken: no agent has its speech engine")
    return told.decide("answer", REJECT, f"{agent.name} is not connected: {lacks}")


def _forward(resources: Resources, told: Explained, line: LineRow, handling: CallHandling) -> Explained:
    by_phone, to = handling.forwarding_target_type == "phone", handling.forward_to
    if not to:
        return told.decide("action", REJECT, "forward, but no target is set")
    try:
        resources.exchange.switchboard.policy.check_destination(line.number, to)
    except (DestinationNotAllowed, InvalidNumber) as refused:
        return told.decide("policy", REJECT, f"it would be forwarded, but {refused}")
    return told.decide("action", FORWARD, f"forward: on to {mask_number(to) if by_phone else to}")


async def _stand_ins(store: Store, told: Explained, line: LineRow, agent: Agent) -> tuple[Agent | None, str]:
    """Who stands in when the agent does not accept, and the message when nobody does, in the order of a real call."""
    named = fallback_agent(line) or parse_id("agent", settings_of(agent).fallback_agent_id)
    second = await store.agents.get(line.workspace_id, named)
    if second is not None and second.id == agent.id:
        second = None
    who = f"{second.name} ({second.public_id}) when {agent.name} does not accept" if second is not None else "nobody"
    told.note("fallback", who)
    message: str = line.routing.get("voicemail_message") or settings_of(agent).voicemail_message
    if message:
        told.note("voicemail", "when nobody accepts, the voicemail message is spoken, given a speech engine")
    return second, message


def _door(agent: Agent, handling: CallHandling) -> str:
    return _host(handling.websocket_url) if handling.websocket_url else f"handler {agent.handler or 'listen'}"


def _host(url: str | None) -> str:
    """Where, without what may be secret in a path or query."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "no address"
