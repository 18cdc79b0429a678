"""Open calls whose carrier and call book follow a script, in time that is exact to the second: for the call watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest

from anycarrier import (
    Call,
    CallEvent,
    CallProgress,
    CallStatus,
    Direction,
    EndReason,
    Exchange,
    MemoryNumberRegistry,
    Provider,
    call_watch,
    hookimpl,
    plugins,
)
from anycarrier.call_phases import Phase
from anycarrier.callbook import MemoryCallBook
from anycarrier.calls import TransferStatus
from anycarrier.errors import NotFound, ProviderUnavailable
from fake_carriers import CommandProvider, FakeCredential
from virtual_time import ExactLoop, virtually

T0 = datetime(2026, 1, 1, tzinfo=UTC)
"""The date and time at 0 of the loop's clock."""

DOWN = ProviderUnavailable("scripted", "anything", "down", status=503)
GONE = NotFound("scripted", "anything", "no such call", status=404)
HTTP = httpx.AsyncClient()
ME, DEAD = "this process", "a dead process"
R, UNNAMED = "ca11" * 8, "dea1" * 8
"""References of calls."""


def referred(name: str) -> str:
    """The reference of the call that a test calls ``name``; it begins with the letters in hexadecimal."""
    return name.encode().hex().ljust(32, "0")



Step = tuple[float, str]


class Scripted(CommandProvider):
    """Says of a call what a test lets it say, and notes when it was asked.

    ``stands`` and ``takes`` are its answers to ``fetch_call`` and ``hang_up``: an exception is raised, a function is
    called (and awaited) for the answer. Where ``takes`` is true, a call that was hung up has ended.
    """

    name = "scripted"
    log: ClassVar[list[tuple[float, str, str]]] = []
    stands: ClassVar[Any] = CallStatus.INITIATED
    takes: ClassVar[Any] = True

    async def fetch_call(self, call_id: str) -> Call:
        status = await self._answer("ask", call_id, "stands")
        return Call(id=call_id, provider=self.name, direction=Direction.INBOUND, from_="", to="", status=status)

    async def hang_up(self, call_id: str) -> None:
        if await self._answer("hang up", call_id, "takes"):
            Scripted.stands = CallStatus.ENDED

    async def _answer(self, what: str, call_id: str, script: str) -> Any:
        Scripted.log.append((asyncio.get_running_loop().time(), what, call_id))
        answer = getattr(Scripted, script)
        if callable(answer):
            answer = answer()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer


class Mute(CommandProvider):
    """Cannot be asked how a call stands."""

    name = "mute"

    async def hang_up(self, call_id: str) -> None:
        Scripted.log.append((asyncio.get_running_loop().time(), "hang up", call_id))


class Carriers:
    @hookimpl
    def anycarrier_providers(self) -> list[type[Provider]]:
        return [Scripted, Mute]


class Book(MemoryCallBook):
    """Fails while ``away``. ``meanwhile`` happens in the moment before a call is marked to be hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.looks: list[float] = []
        self.meanwhile: Callable[[Call], Call] | None = None

    async def get(self, key: str) -> Call | None:
        self.looks.append(asyncio.get_running_loop().time())
        if self.away:
            raise ConnectionRefusedError("no book")
        return self._find(key)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        if self.meanwhile is not None and change.__name__ == "ending":
            between, self.meanwhile = self.meanwhile, None
            await super().update(key, between)
        return await super().update(key, change)


class Desk:
    """An exchange whose calls are written down by the test, its book and its watch."""

    def __init__(self, book: Book | None = None, *, owner: str = ME) -> None:
        self.book = book or Book()
        self.exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={
                "main": FakeCredential(provider="scripted"),
                "second": FakeCredential(provider="scripted"),
                "mute": FakeCredential(provider="mute"),
            },
            public_url="https://voice.example.com",
            secret="x" * 32,
            calls=self.book,
            http=HTTP,
            owner=owner,
            report=lambda what, failure: self.reports.append((what, type(failure).__name__)),
        )
        self.watch = self.exchange.call_watch
        self.told: list[CallEvent] = []
        self.exchange.switchboard.observers.append(lambda event, call: self.told.append(event))
        self.reports: list[tuple[str, str]] = []

    async def open(
        self, status: CallStatus = CallStatus.ANSWERED, *, ring_time: float | None = None, **fields: Any
    ) -> Call:
        facts: dict[str, Any] = {
            "reference": R, "id": fields.get("reference", "leg"), "provider": "scripted", "credential_id": "main",
            "owner": self.exchange.switchboard.owner, "direction": "inbound",
            "from_": "+14155550101", "to": "+12125550102",
            "status": status, "answered_at": T0 if status is CallStatus.ANSWERED else None,
        }  # fmt: skip
        call = await self.book.open(Call.model_validate({**facts, **fields}))
        self.watch.note(call, ring_time=ring_time)
        return call

    async def bring_to(self, phase: Phase, **fields: Any) -> Call:
        """A call that has just come into the phase, and waits there."""
        match phase:
            case Phase.UNCONFIRMED:
                return await self.open(CallStatus.QUEUED, id="", direction="outbound", **fields)
            case Phase.QUEUED:
                Scripted.stands = CallStatus.QUEUED
                return await self.open(CallStatus.QUEUED, direction="outbound", **fields)
            case Phase.DIALLING:
                return await self.open(CallStatus.RINGING, direction="outbound", **fields)
            case Phase.ROUTING | Phase.OFFERED | Phase.LEFT_RINGING:
                call = await self.open(CallStatus.RINGING, **fields)
                if phase is Phase.ROUTING:
                    self.deciding: AbstractContextManager[None] = self.watch.routing(call.reference)
                    self.deciding.__enter__()
                elif phase is Phase.LEFT_RINGING:
                    self.watch.leave_ringing(call.reference)
                return call
            case Phase.ENDING:
                return await self.open(**{"intent": EndReason.API_STOP, **fields})
            case Phase.TRANSFERRED:
                return await self.open(transfer=TransferStatus.REQUESTED, **fields)
            case Phase.ABANDONED:
                call = await self.open(owner=DEAD, **fields)
                assert await self.watch.adopt(call.reference, DEAD)
                return call
        call = await self.open(**fields)
        if phase is Phase.TALKING:
            self.connect(call)
        if phase is Phase.STREAM_ENDED:
            self.watch.stream_ended(call.reference)
        return call

    def connect(self, call: Call) -> None:
        """The call's media socket is here."""
        stream = SimpleNamespace(stop=lambda why: None)
        self.exchange.switchboard.sessions[call.reference] = SimpleNamespace(call=call, stream=stream)  # type: ignore[assignment]
        self.watch.note(call)

    async def change(self, reference: str = R, **fields: Any) -> Call:
        return await self.exchange.switchboard.update(reference, lambda c: c.model_copy(update=fields))

    def phase(self, reference: str = R) -> Phase | None:
        return self.watch._watched[reference].phase

    def stands(self, reference: str = R) -> Call:
        call = self.book._find(reference)
        assert call is not None
        return call

    async def ends(self, at: float, reason: EndReason, reference: str = R) -> None:
        """The call ends at ``at``, no sooner, and everybody is told of it once."""
        await until(at - 0.5)
        assert not self.stands(reference).ended
        await until(at + 0.5)
        call = self.stands(reference)
        assert (call.status, call.reason, call.ended_at) == (CallStatus.ENDED, reason, T0 + timedelta(seconds=at))
        assert not self.watch.watches(reference)
        told = [event for event in self.told if event.reference == reference]
        assert told == [CallProgress(call=call, call_id=call.id, reference=reference)]

    async def close(self) -> None:
        self.exchange.switchboard.sessions.clear()
        await self.exchange.stop()


def exactly(scenario: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario at a desk of its own, from 0 on the clock."""

    async def whole() -> None:
        desk = Desk()
        await scenario(desk)
        await desk.close()

    def now(zone: tzinfo | None = None) -> datetime:
        return datetime.fromtimestamp(T0.timestamp() + asyncio.get_running_loop().time(), zone)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYCARRIER_PLUGINS", "")
        patch.setattr(call_watch, "datetime", SimpleNamespace(now=now))
        plugins.reset()
        plugins.register(Carriers(), "carriers")
        Scripted.log.clear()
        Scripted.stands, Scripted.takes = CallStatus.INITIATED, True
        try:
            virtually(whole(), ExactLoop)
        finally:
            plugins.reset()


async def until(time: float) -> None:
    await asyncio.sleep(time - asyncio.get_running_loop().time())


def done(*, after: float = -1.0, leg: str | None = None) -> list[Step]:
    """What the carrier was asked (about one leg, or any), and when."""
    return [(round(at, 3), what) for at, what, about in Scripted.log if at > after and leg in (None, about)]


def asked(*times: float) -> list[Step]:
    return [(time, "ask") for time in times]


def hung_up(*times: float) -> list[Step]:
    return [(time, "hang up") for time in times]


def both(*times: float) -> list[Step]:
    """Asked how it stands, and hung up."""
    return [step for time in times for step in ((time, "ask"), (time, "hang up"))]


def repeated(begin: float, pauses: tuple[float, float], end: float) -> list[float]:
    """Moments from ``begin`` on, each pause twice as long as the last up to the longest, and ``end`` as the last."""
    moments, (pause, longest) = [begin], pauses
    while moments[-1] + pause < end:
        moments.append(moments[-1] + pause)
        pause = min(2 * pause, longest)
    return [*moments, end]
