"""Numbers: found and bought at the carrier, registered with us, routed, given up.

The carrier is told to send a number's calls here, and what it said is kept, good or bad. A number that the carrier
takes its time to deliver is asked about until the order is done, or the carrier says so itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from anycarrier import plugins
from anycarrier.errors import AnycarrierError, NotFound, NumberUnavailable, ProviderUnavailable, RateLimited
from anycarrier.events import CallEvent, NumberOrderProgress
from anycarrier.numbers import (
    AvailableNumber,
    NumberQuery,
    NumberType,
    OwnedNumber,
    PendingOrder,
    SyncResult,
    country_of,
    e164,
)
from anycarrier.provider import Capability, Provider
from anycarrier_server.domain import carrier_listeners, manage_agents, manage_credentials, manage_numbers
from anycarrier_server.domain.access import Caller, agent_of, need_admin, need_scope
from anycarrier_server.domain.agent_overrides import call_handling, merged
from anycarrier_server.domain.control_call import cancel_scheduled
from anycarrier_server.domain.resources import Resources
from anycarrier_server.refusals import CallsLive, LineHeld, NoStock, ProviderMismatch, Taken, Unknown
from anycarrier_server.store import CallFilter, Store, parse_id, public_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Agent, CredentialRow, LineRow

LIVE = ("initiated", "in_progress")
TRIES = 5
"""Numbers on offer that are tried when others are quicker."""


@dataclass(frozen=True, slots=True)
class Found:
    """Numbers on offer at a credential's carrier."""

    items: Sequence[AvailableNumber]
    credential: CredentialRow


async def search_numbers(
    resources: Resources, caller: Caller, query: NumberQuery, *, credential_id: str | UUID | None = None
) -> Found:
    """Ask the carrier. ``UnsupportedOperation`` for filters it has not; ``CredentialRequired`` see ``choose``."""
    credential = await manage_credentials.choose_credential(resources.store, caller, credential_id)
    provider = await resources.exchange.switchboard.provider(credential.public_id)
    return Found(await provider.search_numbers(query), credential)


async def register_number(
    resources: Resources,
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
    agent = await agent_of(resources.store, caller, agent_id) if agent_id is not None else None
    credential = await manage_credentials.choose_credential(resources.store, caller, credential_id, provider)
    if provider is not None and provider != credential.provider:
        raise ProviderMismatch(provider, credential.provider)
    await resources.exchange.switchboard.provider(credential.public_id)  # incomplete: say so before anything is kept
    if inbound_webhook_url is not None:
        await resources.url_guard.webhook(inbound_webhook_url)
    held = await resources.store.lines.by_number(number)
    if held is not None and (held.status == "active" or held.credential_id == credential.id):
        if held.status == "active" or held.workspace_id != caller.workspace_id:
            raise Taken("number", number)
    if resources.sandboxes is not None:
        await resources.sandboxes.give(credential, number)
    fields: dict[str, Any] = {
        "agent_id": agent.id if agent else None,
        "friendly_name": friendly_name,
        "routing": await merged(resources.store, caller, {}, routing or {}),
        "inbound_webhook_url": inbound_webhook_url,
    }
    if held is not None and held.credential_id == credential.id:
        line = await resources.store.lines.change(held.id, **fields)
    else:
        line = await resources.store.lines.create(
            credential, number, status="inactive", country=country_of(number), **fields
        )
    try:
        return await manage_numbers.put_in_service(resources, line)
    except Taken:
        await resources.store.lines.release(line.id)
        raise Taken("number", number) from None


async def purchase_number(
    resources: Resources,
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
    agent = await agent_of(resources.store, caller, agent_id) if agent_id is not None else None
    if agent is not None and one_per_agent:
        if held := await resources.store.lines.list(caller.workspace_id, agent_id=agent.id):
            raise LineHeld(held[0].public_id)
    credential = await manage_credentials.choose_credential(resources.store, caller, credential_id)
    wanted = await merged(resources.store, caller, {}, routing or {})
    provider = await resources.exchange.switchboard.provider(credential.public_id)
    if number is not None and (await resources.store.lines.by_number(e164(number))) is not None:
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
        if number is None and await resources.store.lines.by_number(offer) is not None:
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
    line = await resources.store.lines.create(
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
        return await finish_order(resources, line, bought)
    return await manage_numbers.put_in_service(resources, line)


async def get_number(store: Store, caller: Caller, line_id: str | UUID) -> LineRow:
    """The number's line. An agent's key sees its own."""
    parsed = parse_id("line", line_id)
    line = await store.lines.get(caller.workspace_id, parsed)
    if line is None:
        raise Unknown("number", foreign=await store.lines.exists(parsed, outside=caller.workspace_id))
    need_scope(caller, line.agent_id, "that number")
    return line


async def list_numbers(store: Store, caller: Caller, *, agent_id: UUID | None = None) -> Sequence[LineRow]:
    """The lines held; an agent's key gets its own."""
    return await store.lines.list(caller.workspace_id, agent_id=agent_id or caller.agent_id)


async def change_number(resources: Resources, caller: Caller, line_id: str | UUID, **changes: Any) -> LineRow:
    """Set any of ``friendly_name``, ``agent_id`` (None detaches), ``routing`` (merged), ``inbound_webhook_url`` and
    ``call_handling`` (merged; None goes back to the agent's). Another agent's setting is not the last one's.

    The carrier need not be told: its webhooks name the number, and we look it up at each ring.
    """
    need_admin(caller, "changing a number")
    line = await get_number(resources.store, caller, line_id)
    if unknown := set(changes) - {"friendly_name", "agent_id", "routing", "inbound_webhook_url", "call_handling"}:
        raise ValueError(f"not changes of a number: {', '.join(sorted(unknown))}")
    if changes.get("agent_id") is not None:
        changes["agent_id"] = (await agent_of(resources.store, caller, changes["agent_id"])).id
    if changes.get("inbound_webhook_url") is not None:
        await resources.url_guard.webhook(changes["inbound_webhook_url"])
    wanted = changes.pop("routing", None) or {}
    if changes.get("agent_id", line) is None:
        wanted = {"agent_id": None, **wanted}  # detached: nobody takes its calls, unless it says now who does
    own = {} if changes.get("agent_id", line.agent_id) != line.agent_id else line.call_handling
    if (given := changes.pop("call_handling", {})) or given is None or own != line.call_handling:
        agent = await resources.store.agents.get(line.workspace_id, changes.get("agent_id", line.agent_id))
        changes["call_handling"] = {} if given is None else await handled(resources, agent, own, given)
    if wanted:
        changes["routing"] = await merged(resources.store, caller, line.routing, wanted)
    return await resources.store.lines.change(line.id, **changes) if changes else line


async def handled(
    resources: Resources, agent: Agent | None, own: Mapping[str, Any], change: Mapping[str, Any]
) -> dict[str, Any]:
    """A number's ``own`` call handling with ``change`` in it; ``Invalid`` or ``UrlRefused`` when that does not hold."""
    fields = manage_agents.one_target(change)
    await manage_agents.check_fields(resources, fields, replace(call_handling(agent), **own))
    return {**own, **fields}


async def sync_number(resources: Resources, caller: Caller, line_id: str | UUID) -> LineRow:
    """Tell the carrier again where the number's calls go."""
    need_admin(caller, "configuring a number")
    return await manage_numbers.put_in_service(resources, await get_number(resources.store, caller, line_id))


async def release_number(
    resources: Resources, caller: Caller, line_id: str | UUID, *, at_carrier: bool = False
) -> None:
    """Take the number out of service: the carrier sends its calls here no more. ``at_carrier`` gives it back: final.

    Calls that were to be made from it later are canceled. ``CallsLive`` while a call is on it. A carrier that cannot
    be reached (``ProviderUnavailable``, ``RateLimited``) leaves it in service: try again. One that lets us in no
    longer does not: the calls it still sends are declined.
    """
    need_admin(caller, "releasing a number")
    line = await get_number(resources.store, caller, line_id)
    which = CallFilter(line_id=line.id, stages=LIVE)
    if live := await resources.store.calls.total(caller.workspace_id, which):
        raise CallsLive(live)
    if at_carrier:
        provider = await resources.exchange.switchboard.provider(public_id("credential", line.credential_id))
        if not provider.supports(Capability.RELEASE_NUMBER):
            raise provider.unsupported("release_number")
        try:
            await provider.release_number(line.number)
        except NotFound:
            pass  # gone there already, which is what was asked
    else:
        await resources.exchange.unroute(line.number, public_id("credential", line.credential_id))
    await resources.store.lines.release(line.id)
    await carrier_listeners.number_gone(resources, public_id("credential", line.credential_id))
    later = CallFilter(line_id=line.id, stages=("queued",))
    while calls := (await resources.store.calls.page(caller.workspace_id, later)).items:
        for call in calls:
            if not await cancel_scheduled(resources, call):
                return  # being dialled this moment: it will find no number to dial from


def webhook_url_of(resources: Resources, line: LineRow) -> str:
    """Where the carrier posts this number's calls, for those who configure it by hand."""
    return resources.exchange.switchboard.webhook_url(line.provider, public_id("credential", line.credential_id))


def by_sockets(provider: str) -> bool:
    """Whether the carrier's calls come to sockets of this service, and not by webhooks."""
    return Capability.LISTEN in plugins.get_provider(provider).capabilities


async def calls_to_sockets(provider: Provider, number: str) -> SyncResult:
    """Whether calls to ``number`` are taken: a credential that names its numbers takes calls to no other."""
    held = set[str]()
    if provider.supports(Capability.LIST_NUMBERS):
        held = {one.number for one in await provider.list_numbers()}
    if not held or number in held:
        return SyncResult(ok=True, message="its calls come to sockets of this service", at=utc_now())
    add = f"anycarrier credentials set NAME numbers={','.join(sorted(held | {number}))}"
    told = f"its calls would be refused, since the credential's numbers do not have it: {add}"
    return SyncResult(ok=False, message=told, at=utc_now())


async def configure_number(resources: Resources, line: LineRow) -> SyncResult:
    """Tell the carrier; never raises for what the carrier says. Idempotent."""
    url = webhook_url_of(resources, line)
    provider = await resources.exchange.switchboard.provider(public_id("credential", line.credential_id))
    if not provider.supports(Capability.CONFIGURE_NUMBER):
        if provider.supports(Capability.LISTEN):
            return await calls_to_sockets(provider, line.number)
        by_hand = f"this carrier has no API for it: let the number's calls be posted to {url} by hand"
        return SyncResult(ok=True, message=by_hand, webhook_url=url, at=utc_now())
    try:
        done = await provider.configure_number(line.number, webhook_url=url)
    except AnycarrierError as refused:
        return SyncResult(ok=False, message=str(refused), webhook_url=url, at=utc_now())
    return done.model_copy(update={"webhook_url": done.webhook_url or url, "at": done.at or utc_now()})


async def put_in_service(resources: Resources, line: LineRow) -> LineRow:
    """Configure, and set the line active or, with the reason in ``sync``, inactive. ``Taken`` when another
    workspace or credential has the number in service meanwhile."""
    result = await configure_number(resources, line)
    line = await resources.store.lines.change(
        line.id, status="active" if result.ok else "inactive", sync=result.model_dump(mode="json")
    )
    if result.ok:
        closed = await carrier_listeners.open_for(resources, public_id("credential", line.credential_id))
        if closed is not None:
            told = result.model_copy(update={"message": f"its calls cannot come in yet: {closed}"})
            line = await resources.store.lines.change(line.id, sync=told.model_dump(mode="json"))
    return line


EVERY = 3.0
"""Seconds until the carrier is asked again, at first."""

SELDOM = 3600.0
"""And at most: an order that waits for papers takes days, so a tenth of its age is waited from half a minute on."""

PATIENCE = 14 * 86400.0
"""Seconds after which nobody asks any more; the carrier's own word still puts the number in service."""


async def finish_order(resources: Resources, line: LineRow, order: PendingOrder) -> LineRow:
    """The line as it waits; it goes into service in the background once the carrier delivers."""
    waiting = SyncResult(ok=False, message=_waiting(order.id), at=utc_now())
    line = await resources.store.lines.change(line.id, sync=waiting.model_dump(mode="json"))
    resources.spawn(_await_order(resources, line, order), "finish a number order")
    return line


def heed_order(resources: Resources, event: CallEvent, call: object) -> None:
    """An observer: when the carrier reports an order as done, put its numbers in service, whoever ordered."""
    if isinstance(event, NumberOrderProgress) and event.status != "pending":
        resources.spawn(_told(resources, event), "finish a number order that the carrier reports")


async def _told(resources: Resources, event: NumberOrderProgress) -> None:
    for number in event.numbers:
        for line in await resources.store.lines.held(number):
            # Only who waits for this very order: the number may be another's elsewhere.
            if line.status == "active" or (line.sync or {}).get("message") != _waiting(event.order_id):
                continue
            if event.status == "completed":
                await manage_numbers.put_in_service(resources, line)
            else:
                await _give_up(resources.store, line, f"the carrier says that order {event.order_id} failed")


async def _await_order(resources: Resources, line: LineRow, order: PendingOrder) -> None:
    provider = await resources.exchange.switchboard.provider(public_id("credential", line.credential_id))
    clock = asyncio.get_running_loop().time
    began = clock()
    why = f"order {order.id} was not finished in {PATIENCE / 86400:.0f} days"
    while (age := clock() - began) < PATIENCE:
        await asyncio.sleep(min(max(EVERY, age / 10), SELDOM))
        try:
            done = await provider.fetch_order(order.id)
        except (ProviderUnavailable, RateLimited):
            continue
        except AnycarrierError as refused:
            why = str(refused)
            break
        held = await resources.store.lines.get(line.workspace_id, line.id)
        if held is not None and held.status == "active":
            return  # the carrier's webhook was quicker
        if isinstance(done, OwnedNumber):
            if held is None:
                # Given up while it waited: it stays in the account, and its calls do not come here.
                await resources.exchange.unroute(done.number, public_id("credential", line.credential_id))
                return
            await resources.store.lines.change(line.id, carrier_number_id=done.id)
            await manage_numbers.put_in_service(resources, line)
            return
    await _give_up(resources.store, line, why)


async def _give_up(store: Store, line: LineRow, why: str) -> None:
    failed = SyncResult(ok=False, message=why, at=utc_now())
    await store.lines.change(line.id, sync=failed.model_dump(mode="json"))


def _waiting(order_id: str) -> str:
    return f"the carrier has not finished order {order_id} yet"
