"""Agents (Inkbox: identities): where calls go, how they are taken, and what becomes of incoming ones. Their signing
keys, and the handlers that every service has by name.

Contact rules too: whom an agent may call and be called by. Every key reads them, admins change them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select

from anycarrier.agent import AgentSettings, RawAgent, misfits_of_raw_audio
from anycarrier.errors import AnycarrierError, InvalidSipAddress, UnknownVoice
from anycarrier.numbers import e164
from anycarrier.sip import SipAddress
from anycarrier.speech import SpeakingStyle
from anycarrier_server.domain.access import Caller, agent_of, need_admin, need_scope
from anycarrier_server.domain.agent_overrides import CALL_HANDLING, CallHandling
from anycarrier_server.domain.request_data import complaints
from anycarrier_server.domain.resources import Resources
from anycarrier_server.refusals import Blocked, Invalid, Unknown
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.models import Agent, ContactRule, SigningKey
from anycarrier_server.store.rules import Verdict

ACTIONS = ("auto_accept", "auto_reject", "webhook", "hosted_agent", "forward")
MODES = ("blacklist", "whitelist")


async def create_agent(
    resources: Resources,
    caller: Caller,
    *,
    name: str,
    handle: str | None = None,
    description: str | None = None,
    websocket_url: str | None = None,
    handler: str | None = None,
    settings: Mapping[str, Any] | None = None,
    **action: Any,
) -> Agent:
    """A new agent. ``settings`` are those of :class:`AgentSettings`; ``action`` any of ``CALL_HANDLING``.

    ``Taken`` when the handle is; ``UrlRefused`` and ``Invalid`` as for :func:`change_agent`.
    """
    need_admin(caller, "creating an agent")
    fields: dict[str, Any] = {
        "description": description,
        "websocket_url": websocket_url,
        "handler": handler,
        "settings": dict(settings or {}),
        **action,
    }
    fields = one_target(fields)
    await check_fields(resources, fields, None)
    await _check_voice(resources, caller, fields["settings"], {})
    agent = await resources.store.agents.create(caller.workspace_id, name=name, handle=handle, **fields)
    resources.engines.agent_changed(agent)
    return agent


async def get_agent(store: Store, caller: Caller, agent_id: str | UUID | None) -> Agent:
    """The agent by id; None is the caller's own."""
    return await agent_of(store, caller, agent_id)


async def agent_by_handle(store: Store, caller: Caller, handle: str) -> Agent:
    """The agent with this handle; a leading ``@`` is dropped."""
    agent = await store.agents.by_handle(caller.workspace_id, handle)
    if agent is None:
        raise Unknown("agent")
    need_scope(caller, agent.id)
    return agent


async def list_agents(store: Store, caller: Caller) -> list[Agent]:
    """All agents, oldest first; an agent's key sees itself."""
    agents = await store.agents.list(caller.workspace_id)
    return [agent for agent in agents if caller.may_act_for(agent.id)]


async def change_agent(resources: Resources, caller: Caller, agent: Agent, **fields: Any) -> Agent:
    """Set fields of the agent; ``settings`` are merged key by key, a key set to None goes back to its default.

    Filter modes are an admin's. ``Invalid`` for an action without what it needs, or settings out of range;
    ``UrlRefused`` for addresses we do not connect to; ``Taken`` for the handle.
    """
    need_scope(caller, agent.id)
    for side in ("inbound_filter_mode", "outbound_filter_mode"):
        if side in fields and fields[side] != getattr(agent, side):
            need_admin(caller, "changing a filter mode")
            if fields[side] not in MODES:
                raise Invalid.field(side, f"must be one of {', '.join(MODES)}", type="enum")
    if "settings" in fields:
        merged = {**agent.settings, **fields["settings"]}
        fields["settings"] = {name: value for name, value in merged.items() if value is not None}
    fields = one_target(fields)
    await check_fields(resources, fields, agent)
    await _check_voice(resources, caller, fields.get("settings", {}), agent.settings)
    if not fields:
        return agent
    changed = await resources.store.agents.change(agent.id, **fields)
    resources.engines.agent_changed(changed)
    return changed


async def delete_agent(store: Store, caller: Caller, agent: Agent) -> None:
    """Delete the agent and end its keys; ``InUse`` while numbers point to it."""
    need_admin(caller, "deleting an agent")
    await store.agents.delete(agent.id)


def one_target(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` with one forwarding target at most: the target says its type, one kind clears the other, and a type of
    None clears both. ``Invalid`` for two targets."""
    given = dict(fields)
    phone, sip = given.get("forwarding_phone_number"), given.get("forwarding_sip_uri")
    if phone is not None and sip is not None:
        raise Invalid.field("forwarding_sip_uri", "give one target: a phone number or a SIP URI")
    if "forwarding_target_type" not in given and (phone or sip):
        given["forwarding_target_type"] = "phone" if phone else "sip"
    match given.get("forwarding_target_type", ""):
        case None:
            given |= {"forwarding_phone_number": None, "forwarding_sip_uri": None}
        case "phone":
            given["forwarding_sip_uri"] = None
        case "sip":
            given["forwarding_phone_number"] = None
    return given


async def check_fields(resources: Resources, fields: Mapping[str, Any], held: Agent | CallHandling | None) -> None:
    """``Invalid`` or ``UrlRefused`` when ``fields`` do not go together with what is ``held``."""

    def now(name: str) -> Any:
        return fields[name] if name in fields else getattr(held, name, None)

    if fields.get("settings"):
        try:
            AgentSettings.model_validate(fields["settings"])
        except ValidationError as failure:
            raise Invalid(complaints(failure, "body")) from None
    if fields.get("websocket_url"):
        await resources.url_guard.websocket(fields["websocket_url"])
    if fields.get("incoming_call_webhook_url"):
        await resources.url_guard.webhook(fields["incoming_call_webhook_url"])
    if fields.get("handler") and fields["handler"] not in resources.handlers:
        known = ", ".join(sorted(resources.handlers)) or "none"
        raise Invalid.field("handler", f"no handler of that name is configured here (known: {known})")
    if is_raw_audio(resources, now):
        refuse_misfits(AgentSettings.model_validate(now("settings") or {}))
    if fields.get("forwarding_phone_number"):
        e164(fields["forwarding_phone_number"])
    if not any(name in fields for name in CALL_HANDLING):
        return
    action = now("incoming_call_action")
    if action is not None and action not in ACTIONS:
        raise Invalid.field("incoming_call_action", f"must be one of {', '.join(ACTIONS)}", type="enum")
    if action == "webhook" and not now("incoming_call_webhook_url"):
        raise Invalid.field("incoming_call_webhook_url", "the webhook action needs a webhook URL")
    _check_forwarding(action, now)


def is_raw_audio(resources: Resources, field: Callable[[str], Any]) -> bool:
    """Whether an agent with these fields (its ``handler`` and ``websocket_url``) is a raw audio agent."""
    return isinstance(resources.handlers.get(field("handler") or ""), RawAgent) and not field("websocket_url")


def refuse_misfits(settings: AgentSettings) -> None:
    """``Invalid`` for settings that a raw audio agent cannot have."""
    for name, why in misfits_of_raw_audio(settings).items():
        raise Invalid.field(name, why)


async def _check_voice(
    resources: Resources, caller: Caller, settings: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """A voice that is set, or given to another engine, has to be one; what was there before is not held against it."""
    changed = any(settings.get(name) != before.get(name) for name in ("voice", "synthesizer"))
    if changed and settings.get("voice"):
        refused = await unknown_voice(resources, caller, settings)
        if refused:
            unnamed = "" if settings.get("synthesizer") else ". If another engine has it, name that one in synthesizer"
            raise Invalid.field("voice", ". ".join(f"{one}".rstrip(".") for one in refused) + unnamed)


def _check_forwarding(action: str | None, now: Any) -> None:
    kind, number, sip = now("forwarding_target_type"), now("forwarding_phone_number"), now("forwarding_sip_uri")
    if kind is not None and kind not in ("phone", "sip"):
        raise Invalid.field("forwarding_target_type", "must be phone or sip", type="enum")
    if sip:
        try:
            SipAddress.parse(sip)
        except InvalidSipAddress as wrong:
            raise Invalid.field("forwarding_sip_uri", str(wrong)) from None
    if action != "forward":
        return
    if kind is None or not {"phone": number, "sip": sip}[kind]:
        raise Invalid.field("forwarding_target_type", "forward needs a target: its type, and the number or SIP URI")


async def unknown_voice(resources: Resources, caller: Caller, settings: Mapping[str, Any]) -> list[UnknownVoice]:
    """What the engines of an agent with these settings say against its voice: the one it names, or those it may get.

    Empty when the first has it, and when that cannot be asked: one elsewhere would cost a connection, and a wrong voice
    costs no call.
    """
    deciding = ("voice", "synthesizer", "language")
    given = {name: settings[name] for name in deciding if settings.get(name) is not None}
    refused: list[UnknownVoice] = []
    try:
        asked = AgentSettings.model_validate(given)
        style = SpeakingStyle(voice=asked.voice or "", language=asked.language)
        for engine in (await resources.engines.of(caller.workspace_id)).candidates("speak", asked):
            if engine.remote:
                break
            try:
                await (await engine.synthesizer(style)).aclose()
            except UnknownVoice as failure:
                refused.append(failure)
            else:
                break
    except (AnycarrierError, ValidationError):
        pass
    return refused


async def rotate_signing_key(store: Store, caller: Caller, agent: Agent) -> tuple[str, SigningKey]:
    """A new key for the agent, and its text, shown only here; the old one signs nothing from now on."""
    need_scope(caller, agent.id)
    return await store.webhooks.rotate_signing_key(agent.workspace_id, agent.id)


async def signing_keys_made_at(store: Store, workspace_id: UUID) -> dict[UUID, datetime]:
    """Of every agent that has a key, when it was made."""
    query = select(SigningKey.agent_id, SigningKey.created_at).where(SigningKey.workspace_id == workspace_id)
    async with store.db.read() as session:
        return {agent_id: at for agent_id, at in await session.execute(query) if agent_id is not None}


async def create_rule(
    store: Store,
    caller: Caller,
    agent: Agent,
    *,
    action: str,
    match_target: str,
    match_type: str = "exact_number",
    direction: str | None = None,
) -> ContactRule:
    """Allow or block a number, on one side or (direction None) both. ``DuplicateRule`` names the rule in the way."""
    need_admin(caller, "changing contact rules")
    target = e164(match_target)
    return await store.rules.create(
        agent, action=action, match_target=target, match_type=match_type, direction=direction or "both"
    )


async def get_rule(store: Store, caller: Caller, agent: Agent, rule_id: str | UUID) -> ContactRule:
    """One of the agent's rules."""
    need_scope(caller, agent.id)
    rule = await store.rules.get(agent.id, parse_id("rule", rule_id))
    if rule is None:
        raise Unknown("contact rule")
    return rule


async def change_rule(store: Store, caller: Caller, rule: ContactRule, **fields: Any) -> ContactRule:
    """``action``, ``direction``, ``status``, and with an action ``apply_to``: one side of a rule for both.

    ``NotThatSide`` when the rule says nothing of that side, ``Unknown`` when it is gone by now.
    """
    need_admin(caller, "changing contact rules")
    if fields.get("apply_to") is not None and fields.get("action") is None:
        raise Invalid.field("apply_to", "comes with action only")
    changed = await store.rules.change(rule, **fields)
    if changed is None:
        raise Unknown("contact rule")
    return changed


async def delete_rule(store: Store, caller: Caller, rule: ContactRule) -> None:
    """Delete a rule."""
    need_admin(caller, "changing contact rules")
    await store.rules.delete(rule)


def refuse_blocked(number: str, told: Verdict) -> None:
    """Return when a contact rule lets the number pass, else :class:`Blocked`."""
    if not told.allowed:
        raise Blocked(number, told.reason, told.rule_id)
