"""Numbers: found and bought at the carrier, registered with us, routed, given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from anycarrier import plugins
from anycarrier.errors import NotFound, NumberUnavailable
from anycarrier.numbers import AvailableNumber, NumberQuery, NumberType, OwnedNumber, PendingOrder, country_of, e164
from anycarrier.provider import Capability
from anycarrier_server.auth import Caller
from anycarrier_server.domain import agents, credentials, sync
from anycarrier_server.domain.call_control import cancel_scheduled
from anycarrier_server.domain.callers import agent_of, need_admin, need_scope
from anycarrier_server.domain.inbound_routing import call_handling, merged
from anycarrier_server.domain.orders import finish_order
from anycarrier_server.refusals import CallsLive, LineHeld, NoStock, ProviderMismatch, Taken, Unknown
from anycarrier_server.store import CallFilter, parse_id, public_id
from anycarrier_server.store.models import Agent, CredentialRow, LineRow

if TYPE_CHECKING:
    from anycarrier_server.service import Service

LIVE = ("initiated", "in_progress")
TRIES = 5
"""Numbers on offer that are tried when others are quicker."""


@dataclass(frozen=True, slots=True)
class Found:
    """Numbers on offer at a credential's carrier."""

    items: Sequence[AvailableNumber]
    credential: CredentialRow


async def search(
    service: Service, caller: Caller, query: NumberQuery, *, credential_id: str | UUID | None = None
) -> Found:
    """Ask the carrier. ``UnsupportedOperation`` for filters it has not; ``CredentialRequired`` see ``choose``."""
    credential = await credentials.choose(service, caller, credential_id)
    provider = await service.exchange.switchboard.provider(credential.public_id)
    return Found(await provider.search_numbers(query), credential)


async def register(
    service: Service,
    caller: Caller,
    *,
    number: str,
    provider: str | None = None,
    credential_id: str | UUID | None = None,
    agent_id: str | UUID | None = None,
    friendly_name: str | None = None,
    routing: Mapping[str, Any] | None = None,
    inbound_webhook_url: str | None = None,
) -> LineRow:
    """Take a number of the client's own carrier account into service: the carrier is really configured.

    ``status`` is "active", or "inactive" with the reason in ``sync``; registering an inactive one again tries again.
    ``Taken`` when it is in service already, here or anywhere; ``UnknownProvider`` lists the carriers installed.
    """
    need_admin(caller, "registering a number")
    number = e164(number)
    if provider is not None:
        plugins.get_provider(provider)  # a name nobody knows is another mistake than the wrong credential
    agent = await agent_of(service.store, caller, agent_id) if agent_id is not None else None
    credential = await credentials.choose(service, caller, credential_id, provider)
    if provider is not None and provider != credential.provider:
        raise ProviderMismatch(provider, credential.provider)
    await service.exchange.switchboard.provider(credential.public_id)  # incomplete: say so before anything is kept
    if inbound_webhook_url is not None:
        await service.url_guard.webhook(inbound_webhook_url)
    held = await service.store.lines.by_number(number)
    if held is not None and (held.status == "active" or held.credential_id == credential.id):
        if held.status == "active" or held.workspace_id != caller.workspace_id:
            raise Taken("number", number)
    if service.sandboxes is not None:
        await service.sandboxes.give(credential, number)
    fields: dict[str, Any] = {
        "agent_id": agent.id if agent else None,
        "friendly_name": friendly_name,
        "routing": await merged(service, caller, {}, routing or {}),
        "inbound_webhook_url": inbound_webhook_url,
    }
    if held is not None and held.credential_id == credential.id:
        line = await service.store.lines.change(held.id, **fields)
    else:
        line = await service.store.lines.create(
            credential, number, status="inactive", country=country_of(number), **fields
        )
    try:
        return await sync.put_in_service(service, line)
    except Taken:
        await service.store.lines.release(line.id)
        raise Taken("number", number) from None


async def purchase(
    service: Service,
    caller: Caller,
    *,
    number: str | None = None,
    query: NumberQuery | None = None,
    credential_id: str | UUID | None = None,
    agent_id: str | UUID | None = None,
    friendly_name: str | None = None,
    routing: Mapping[str, Any] | None = None,
    one_per_agent: bool = False,
) -> LineRow:
    """Buy a number (or the first that fits ``query``) on the client's carrier account and register it.

    ``NoStock`` when nothing fits; ``NumberUnavailable`` when somebody was quicker. An order the carrier has not
    finished gives an inactive line that goes into service by itself.
    """
    need_admin(caller, "buying a number")
    agent = await agent_of(service.store, caller, agent_id) if agent_id is not None else None
    if agent is not None and one_per_agent:
        if held := await service.store.lines.list(caller.workspace_id, agent_id=agent.id):
            raise LineHeld(held[0].public_id)
    credential = await credentials.choose(service, caller, credential_id)
    wanted = await merged(service, caller, {}, routing or {})
    provider = await service.exchange.switchboard.provider(credential.public_id)
    if number is not None and (await service.store.lines.by_number(e164(number))) is not None:
        raise Taken("number", number)
    bought: OwnedNumber | PendingOrder | None = None
    kind = query.type if query is not None else None
    offers = (
        [(number, kind)]
        if number is not None
        else [
            (offer.number, offer.type or kind) for offer in await provider.search_numbers(query or NumberQuery(limit=5))
        ]
    )
    tried = 0
    for offer, offered_as in offers:
        if number is None and await service.store.lines.by_number(offer) is not None:
            continue  # in service here, whatever the carrier says: bought again it could not be registered
        try:
            bought = await provider.buy_number(offer)
            kind = offered_as
            break
        except NumberUnavailable:
            if number is not None or (tried := tried + 1) == TRIES:
                raise
    if bought is None:
        raise NoStock
    owned = bought if isinstance(bought, OwnedNumber) else None
    line = await service.store.lines.create(
        credential,
        bought.number,
        status="inactive",
        bought=True,
        agent_id=agent.id if agent else None,
        friendly_name=friendly_name,
        routing=wanted,
        country=country_of(bought.number),
        state=query.region if query is not None else None,
        type=((owned.type if owned is not None else None) or kind or NumberType.LOCAL).value,
        carrier_number_id=owned.id if owned is not None else None,
    )
    if isinstance(bought, PendingOrder):
        return await finish_order(service, line, bought)
    return await sync.put_in_service(service, line)


async def get(service: Service, caller: Caller, line_id: str | UUID) -> LineRow:
    """The number's line. An agent's key sees its own."""
    parsed = parse_id("line", line_id)
    line = await service.store.lines.get(caller.workspace_id, parsed)
    if line is None:
        raise Unknown("number", foreign=await service.store.lines.exists(parsed, outside=caller.workspace_id))
    need_scope(caller, line.agent_id, "that number")
    return line


async def every(service: Service, caller: Caller, *, agent_id: UUID | None = None) -> Sequence[LineRow]:
    """The lines held; an agent's key gets its own."""
    return await service.store.lines.list(caller.workspace_id, agent_id=agent_id or caller.agent_id)


async def update(service: Service, caller: Caller, line_id: str | UUID, **changes: Any) -> LineRow:
    """Set any of ``friendly_name``, ``agent_id`` (None detaches), ``routing`` (merged), ``inbound_webhook_url`` and
    ``call_handling`` (merged; None goes back to the agent's). Another agent's setting is not the last one's.

    The carrier need not be told: its webhooks name the number, and we look it up at each ring.
    """
    need_admin(caller, "changing a number")
    line = await get(service, caller, line_id)
    if unknown := set(changes) - {"friendly_name", "agent_id", "routing", "inbound_webhook_url", "call_handling"}:
        raise ValueError(f"not changes of a number: {', '.join(sorted(unknown))}")
    if changes.get("agent_id") is not None:
        changes["agent_id"] = (await agent_of(service.store, caller, changes["agent_id"])).id
    if changes.get("inbound_webhook_url") is not None:
        await service.url_guard.webhook(changes["inbound_webhook_url"])
    wanted = changes.pop("routing", None) or {}
    if changes.get("agent_id", line) is None:
        wanted = {"agent_id": None, **wanted}  # detached: nobody takes its calls, unless it says now who does
    own = {} if changes.get("agent_id", line.agent_id) != line.agent_id else line.call_handling
    if (given := changes.pop("call_handling", {})) or given is None or own != line.call_handling:
        agent = await service.store.agents.get(line.workspace_id, changes.get("agent_id", line.agent_id))
        changes["call_handling"] = {} if given is None else await handled(service, agent, own, given)
    if wanted:
        changes["routing"] = await merged(service, caller, line.routing, wanted)
    return await service.store.lines.change(line.id, **changes) if changes else line


async def handled(
    service: Service, agent: Agent | None, own: Mapping[str, Any], change: Mapping[str, Any]
) -> dict[str, Any]:
    """A number's ``own`` call handling with ``change`` in it; ``Invalid`` or ``UrlRefused`` when that does not hold."""
    fields = agents.one_target(change)
    await agents.check(service, fields, replace(call_handling(agent), **own))
    return {**own, **fields}


async def resync(service: Service, caller: Caller, line_id: str | UUID) -> LineRow:
    """Tell the carrier again where the number's calls go."""
    need_admin(caller, "configuring a number")
    return await sync.put_in_service(service, await get(service, caller, line_id))


async def release(service: Service, caller: Caller, line_id: str | UUID, *, at_carrier: bool = False) -> None:
    """Take the number out of service: the carrier sends its calls here no more. ``at_carrier`` gives it back: final.

    Calls that were to be made from it later are canceled. ``CallsLive`` while a call is on it. A carrier that cannot
    be reached (``ProviderUnavailable``, ``RateLimited``) leaves it in service: try again. One that lets us in no
    longer does not: the calls it still sends are declined.
    """
    need_admin(caller, "releasing a number")
    line = await get(service, caller, line_id)
    which = CallFilter(line_id=line.id, stages=LIVE)
    if live := await service.store.calls.total(caller.workspace_id, which):
        raise CallsLive(live)
    if at_carrier:
        provider = await service.exchange.switchboard.provider(public_id("credential", line.credential_id))
        if not provider.supports(Capability.RELEASE_NUMBER):
            raise provider.unsupported("release_number")
        try:
            await provider.release_number(line.number)
        except NotFound:
            pass  # gone there already, which is what was asked
    else:
        await service.exchange.unroute(line.number, public_id("credential", line.credential_id))
    await service.store.lines.release(line.id)
    later = CallFilter(line_id=line.id, stages=("queued",))
    while calls := (await service.store.calls.page(caller.workspace_id, later)).items:
        for call in calls:
            if not await cancel_scheduled(service, call):
                return  # being dialled this moment: it will find no number to dial from
