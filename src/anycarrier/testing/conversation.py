"""The conversation a recorder has with a carrier: each operation once, each onto its own cassette."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anycarrier.calls import Call, DialRequest, EndReason
from anycarrier.errors import UnsupportedOperation
from anycarrier.events import IncomingCall
from anycarrier.numbers import NumberQuery, PendingOrder
from anycarrier.provider import Capability, Provider
from anycarrier.testing.cassettes import recorder
from anycarrier.testing.sandbox_numbers import PENDING_NUMBER
from anycarrier.testing.scrub import Scrubber

Act = Callable[[Provider], Awaitable[Any]]


@dataclass
class Studio:
    """Where a recording is made: one provider, one folder, one kind of provenance."""

    provider: Provider
    folder: Path
    provenance: str
    source: str
    scrubber: Scrubber
    only: tuple[str, ...]
    done: list[str] = field(default_factory=list)

    async def take(self, name: str, act: Act) -> Any:
        """Record one operation into ``rest/<name>.yaml``; what the carrier cannot be asked leaves no file."""
        path = self.folder / "rest" / f"{name}.yaml"
        path.unlink(missing_ok=True)
        made = recorder(
            "all", provenance=self.provenance, source=self.source, scrubber=self.scrubber, only=self.only
        )
        try:
            with made.use_cassette(str(path)):
                answer = await act(self.provider)
        except UnsupportedOperation:
            return None
        if path.exists():
            self.done.append(path.name)
        return answer

    def can(self, capability: Capability) -> bool:
        return self.provider.supports(capability)


async def conversation(
    studio: Studio,
    request: DialRequest,
    *,
    spend: bool,
    answered: Callable[[Call], Awaitable[None]],
    incoming: Callable[[], Awaitable[IncomingCall]] | None,
    recorded: Callable[[], Awaitable[str]] | None,
) -> None:
    """Everything worth keeping, in the order a telephone day has it."""
    ours, can = request.from_, studio.can
    found = await studio.take("search_numbers", lambda p: p.search_numbers(NumberQuery(area_code="415", limit=2)))
    if can(Capability.CHECK_CREDENTIAL):
        await studio.take("check_credential", lambda p: p.check_credential())
    if spend and can(Capability.BUY_NUMBER) and found:
        bought = await studio.take("buy_number", lambda p: p.buy_number(found[0].number))
        if can(Capability.FETCH_ORDER):
            pending = bought if isinstance(bought, PendingOrder) else await _pending(studio)
            if pending is not None:
                await studio.take("fetch_order", lambda p: p.fetch_order(pending.id))
        if can(Capability.RELEASE_NUMBER):
            await studio.take("release_number", lambda p: p.release_number(found[0].number))
    if can(Capability.LIST_NUMBERS):
        await studio.take("list_numbers", lambda p: p.list_numbers())
    url = request.status_url.split("?")[0]
    if spend and can(Capability.CONFIGURE_NUMBER):
        await studio.take("configure_number", lambda p: p.configure_number(ours, webhook_url=url))
    call = await studio.take("dial", lambda p: p.dial(request))
    await answered(call)
    if can(Capability.FETCH_CALL):
        await studio.take("fetch_call", lambda p: p.fetch_call(call.id))
    if can(Capability.SEND_DIGITS):
        await studio.take("send_digits", lambda p: p.send_digits(call.id, "12#"))
    if spend and can(Capability.START_RECORDING):
        status_url = request.status_url
        recording = await studio.take("start_recording", lambda p: p.start_recording(call.id, status_url=status_url))
        if can(Capability.STOP_RECORDING):
            await studio.take("stop_recording", lambda p: p.stop_recording(call.id, recording))
        if recorded is not None and can(Capability.FETCH_RECORDING):
            done = await recorded()
            await studio.take("fetch_recording", lambda p: p.fetch_recording(done))
    await studio.take("hang_up", lambda p: p.hang_up(call.id))
    await studio.take("hang_up_ended", lambda p: p.hang_up(call.id))
    if spend and can(Capability.TRANSFER):
        again = await studio.provider.dial(request.model_copy(update={"reference": "fedcba9876543210"}))
        await answered(again)
        await studio.take("transfer", lambda p: p.transfer(again.id, request.to))
        await studio.provider.hang_up(again.id)
    if incoming is not None:
        event = await incoming()
        if can(Capability.FORWARD):
            await studio.take("forward", lambda p: p.forward(event, request.to))
            event = await incoming()
        await studio.take("answer", lambda p: p.answer(event, request.stream))
        await studio.provider.hang_up(event.call_id)
    if incoming is not None and can(Capability.REJECT):
        event = await incoming()
        await studio.take("reject", lambda p: p.reject(event, EndReason.BUSY))
    if spend and can(Capability.UNCONFIGURE_NUMBER):  # last: nobody can ring us after it
        await studio.take("unconfigure_number", lambda p: p.unconfigure_number(ours, webhook_url=url))


async def _pending(studio: Studio) -> PendingOrder | None:
    await studio.provider.search_numbers(NumberQuery(contains=PENDING_NUMBER[2:], limit=1))
    order = await studio.provider.buy_number(PENDING_NUMBER, timeout=0.05)
    return order if isinstance(order, PendingOrder) else None
