"""Dialling: one request to the carrier for each call, and a call book that knows of it whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from anycarrier.call_phases import QUEUED_AT_CARRIER
from anycarrier.call_watch import CallWatch
from anycarrier.calls import Call, DialRequest, Direction, EndReason, MachineDetection, advance
from anycarrier.errors import (
    AnycarrierError,
    AuthenticationFailed,
    ConfigurationError,
    InsufficientFunds,
    NumberRejected,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    StoreUnavailable,
)
from anycarrier.provider import Capability, Provider
from anycarrier.sip import is_sip
from anycarrier.switchboard import Switchboard

CARRIER_GRACE = 3.0
"""Seconds a carrier is to wait beyond our own limit before it ends a call by itself."""

WRITE_AGAIN = 1.0
"""Seconds between tries to write down a dialled call while the call book is unavailable."""


@runtime_checkable
class PreparesDials(Protocol):
    """Agents with settings of their own, which a dial must know: :class:`anycarrier.agent.Agents`."""

    async def prepare_dial(self, agent_id: str, reference: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep ``variables`` for the call of that reference; the arguments of :meth:`Exchange.dial` that the agent's
        settings ask for."""
        ...


class Dialler:
    """Dials calls of one exchange."""

    def __init__(self, switchboard: Switchboard, watch: CallWatch) -> None:
        self._board = switchboard
        self._watch = watch
        self._asked: dict[str, bool] = {}
        """By reference, whether the carrier was asked: calls being dialled, and those of which it is not known whether
        they ring, until they have ended."""

    async def dial(
        self,
        call: Call,
        opened: bool,
        custom: Mapping[str, str],
        variables: Mapping[str, Any],
        time_limit: float | None,
        options: Mapping[str, Any],
    ) -> Call:
        """:meth:`anycarrier.exchange.Exchange.dial` for a call whose numbers and agent are known.

        ``opened``: it is in the call book already, as given.
        """
        if opened:
            _check_never_dialled(call)
        with self._only_once(call.reference):
            board = self._board
            agent = call.agent_id or ""
            board.handler_for(agent)
            board.policy.check_destination(call.from_, call.to)
            in_progress = 0
            if board.policy.max_concurrent is not None:  # counting may be a query: without a limit it is not made
                in_progress = sum(c.credential_id == call.credential_id for c in await board.calls.in_progress())
            board.policy.check_rate(call.credential_id, in_progress)
            provider = await board.provider(call.credential_id)
            if is_sip(call.to) and not provider.dials_sip:
                raise provider.unsupported("dial", "it rings numbers only, no sip: addresses")
            wanted = await self._prepare(agent, call.reference, variables)
            limits = (time_limit, call.time_limit, wanted.pop("time_limit", None), board.time_limit)
            limit = next((each for each in limits if each), None)
            options = {**wanted, **options}
            listen = MachineDetection.OFF
            if not provider.detects_machines:  # then we listen ourselves
                listen = MachineDetection(options.pop("machine_detection", listen))
            as_opened = call
            call = call.model_copy(update={"provider": provider.name, "owner": board.owner, "time_limit": limit})
            timeout = float(options.get("timeout", 30.0))
            # A carrier may queue the dial. What ends the ticket sooner is the end of its call.
            ttl = QUEUED_AT_CARRIER + timeout
            stream = board.stream_target(call, custom, ttl, listen)
            if provider.supports(Capability.INSTRUCT):
                call = call.model_copy(update={"facts": board.keep_stream(call, custom, ttl, listen)})
                stream = board.kept_stream(call) or stream
            request = DialRequest(
                from_=call.from_,
                to=call.to,
                reference=call.reference,
                stream=stream,
                status_url=board.status_url(call),
                # The carrier's limit is for when we are gone: ours ends the call, and tells the agent why.
                time_limit=limit + CARRIER_GRACE if limit and provider.limits_calls else None,
                **options,
            )
            if not opened:
                await board.calls.open(call)
            elif call != as_opened:
                # Before the dial: the watch and a carrier's question, in any process, go by the book.
                call = await board.update(call.reference, _as_dialled(call))
            self._watch.note(call, ring_time=timeout)
            reference = call.reference
            self._asked[reference] = True
            try:
                with board.asking(provider, "dial"):
                    seen = await provider.dial(request)
            except ProviderUnavailable as failed:
                if not failed.sent:  # else a phone may be ringing: the watch waits for the carrier to name it
                    await board.end_locally(call, EndReason.PROVIDER_UNAVAILABLE)
                raise
            except AnycarrierError as refused:
                await board.end_locally(call, _dial_reason(refused))
                raise
            try:
                return await self._dialled(provider, reference, seen)
            except StoreUnavailable:  # nobody else knows the carrier's id: without it the call could not be ended
                board.spawn(self._dialled_later(provider, reference, seen), "write down a dialled call")
                raise

    @contextlib.contextmanager
    def _only_once(self, reference: str) -> Iterator[None]:
        """``ConfigurationError`` for a call that is being dialled, or may ring already."""
        if reference in self._asked:
            raise ConfigurationError(
                "dial: this call is being dialled already, or its carrier did not say whether it rings; wait until it "
                "has ended, and dial a new call"
            )
        if self._forget_ended not in self._board.on_change:  # from the first dial on: most exchanges only take calls
            self._board.on_change.append(self._forget_ended)
        self._asked[reference] = False
        try:
            yield
        finally:
            if not self._asked.get(reference):
                self._asked.pop(reference, None)

    async def _dialled(self, provider: Provider, reference: str, seen: Call) -> Call:
        """Write down what the carrier says of a call it has taken; end it there if it is to end, or has, here."""
        call = await self._board.update(reference, lambda known: advance(known, seen, datetime.now(UTC)))
        self._asked.pop(reference, None)  # from here on the call book says that it was dialled
        if call.intent is not None and not call.ended:  # hung up while the carrier was still being asked
            # Dialled it was, whatever becomes of this; the watch tries again.
            self._board.spawn(provider.hang_up(call.id), "hang up a call that was to end while it was dialled")
        return call

    async def _dialled_later(self, provider: Provider, reference: str, seen: Call) -> None:
        while True:
            await asyncio.sleep(WRITE_AGAIN)
            try:
                call = await self._dialled(provider, reference, seen)
            except StoreUnavailable:
                continue
            if call.ended:  # written off meanwhile
                await provider.hang_up(seen.id)
            return

    def _forget_ended(self, call: Call) -> None:
        if call.ended:
            self._asked.pop(call.reference, None)

    async def _prepare(self, agent_id: str, reference: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        agents: object = self._board.agents
        if isinstance(agents, PreparesDials):
            return dict(await agents.prepare_dial(agent_id, reference, variables))
        if variables:
            raise ConfigurationError(
                "variables are for agents of anycarrier.agent.Agents; "
                "a plain handler finds what it needs by call.reference"
            )
        return {}


def _check_never_dialled(call: Call) -> None:
    if call.id or call.ended or call.direction is not Direction.OUTBOUND:
        raise ConfigurationError(
            "dial(call=...) takes an outbound call of the call book that was never dialled; this one is "
            f"{call.direction}, {call.status}, and {'the carrier has it' if call.id else 'the carrier never had it'}"
        )


def _as_dialled(call: Call) -> Callable[[Call], Call]:
    """The change that writes into the book what the dial of an opened ``call`` has settled."""

    def settled(known: Call) -> Call:
        _check_never_dialled(known)
        facts = {**known.facts, **call.facts}
        change = {"provider": call.provider, "owner": call.owner, "time_limit": call.time_limit, "facts": facts}
        return known.model_copy(update=change)

    return settled


def _dial_reason(refused: AnycarrierError) -> EndReason:
    reasons: tuple[tuple[type[AnycarrierError], EndReason], ...] = (
        (NumberRejected, EndReason.INVALID_NUMBER),
        (PermissionDenied, EndReason.PROVIDER_PERMISSION_DENIED),
        (InsufficientFunds, EndReason.PROVIDER_PERMISSION_DENIED),
        (AuthenticationFailed, EndReason.PROVIDER_AUTH_FAILED),
        (RateLimited, EndReason.PROVIDER_RATE_LIMITED),
        (ProviderError, EndReason.UNKNOWN),
    )
    return next((reason for kind, reason in reasons if isinstance(refused, kind)), EndReason.UNKNOWN)
