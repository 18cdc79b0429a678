"""Carriers with sockets of their own: their listeners open, are tried again, and close; what they are given."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from pydantic import SecretStr

from anycarrier import (
    Call,
    CallProgress,
    CallStatus,
    Direction,
    EndReason,
    Exchange,
    IncomingCall,
    MemoryNumberRegistry,
    WebhookReply,
)
from anycarrier.credentials import MemoryCredentials
from anycarrier.errors import (
    ConfigurationError,
    ProviderError,
    ProviderUnavailable,
    StoreUnavailable,
    UnknownCredential,
    UnknownProvider,
)
from anycarrier.events import DigitReported
from anycarrier.listener import Desk, Figure, Health
from anycarrier.listeners import RETRY, START_TIMEOUT, STOP_TIMEOUT, TELL_AGAIN, TOLD_TIMEOUT, SharedValues
from core.conftest import CALLER, OURS, echo
from fake_carriers import FakeCredential, TrunkListener, TrunkProvider


class Socket:
    """Something shared, which says how often it was made and closed."""

    def __init__(self, takes: float) -> None:
        self.closed = 0
        self.takes = takes

    async def aclose(self) -> None:
        await asyncio.sleep(self.takes)
        self.closed += 1


class Maker:
    """Makes sockets, one at a time; ``failures`` are raised first."""

    def __init__(self, *failures: Exception, closing_takes: float = 0) -> None:
        self.closing_takes = closing_takes
        self.made: list[Socket] = []
        self.failures = list(failures)
        self.making = 0

    async def __call__(self) -> Socket:
        self.making += 1
        assert self.making == 1, "two make the same value at once"
        try:
            await asyncio.sleep(0)
            assert all(each.closed for each in self.made), "the last one is still open"
            if self.failures:
                raise self.failures.pop(0)
            self.made.append(Socket(self.closing_takes))
            return self.made[-1]
        finally:
            self.making -= 1


# --- what listeners share --------------------------------------------------------------------------------------------


async def test_one_value_for_all_closed_when_the_last_user_leaves() -> None:
    shared, make = SharedValues(), Maker()
    async with shared.hold("socket", make) as first:
        async with shared.hold("socket", make) as second, shared.hold("another", Maker()) as other:
            assert first is second and other is not first
        assert not first.closed
    assert first.closed == 1 and make.made == [first]


async def test_two_openers_at_once_make_one() -> None:
    shared, make, leave = SharedValues(), Maker(), asyncio.Event()

    async def use() -> Socket:
        async with shared.hold("socket", make) as mine:
            await leave.wait()
            assert not mine.closed
            return mine

    users = [asyncio.ensure_future(use()) for _ in range(5)]
    await asyncio.sleep(0.1)
    leave.set()
    assert len(set(await asyncio.gather(*users))) == 1
    assert [each.closed for each in make.made] == [1]


async def test_a_failed_make_is_retried_by_the_next() -> None:
    shared, make = SharedValues(), Maker(OSError("taken"))

    async def use() -> Socket:
        async with shared.hold("socket", make) as mine:
            await asyncio.sleep(0.01)
            return mine

    failed, opened, same = await asyncio.gather(use(), use(), use(), return_exceptions=True)
    assert isinstance(failed, OSError) and opened is same and isinstance(opened, Socket)


async def test_a_value_is_made_anew_only_once_the_last_one_is_closed() -> None:
    shared, make = SharedValues(), Maker()
    for _ in range(3):
        async with shared.hold("socket", make) as mine:
            assert not mine.closed  # and the maker saw the one before closed

    async def use() -> None:
        async with shared.hold("socket", make):
            await asyncio.sleep(0)

    await asyncio.gather(*(use() for _ in range(9)))
    assert all(each.closed == 1 for each in make.made)


async def test_whoever_enters_while_the_last_user_leaves_gets_an_open_value() -> None:
    shared, make, leave = SharedValues(), Maker(), asyncio.Event()

    async def use() -> None:
        async with shared.hold("socket", make):
            await leave.wait()

    user = asyncio.ensure_future(use())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leave.set()
    for _ in range(4):  # at each step of its leaving
        await asyncio.sleep(0)
        async with shared.hold("socket", make) as mine:
            await asyncio.sleep(0)
            assert not mine.closed
    await user


async def test_whoever_enters_while_a_value_closes_shares_the_next_one() -> None:
    shared, make = SharedValues(), Maker(closing_takes=1.0)

    async def use(seconds: float) -> Socket:
        async with shared.hold("socket", make) as mine:
            await asyncio.sleep(seconds)
            return mine

    first = asyncio.ensure_future(use(0.5))
    await asyncio.sleep(1.0)  # it is closing
    second = asyncio.ensure_future(use(5.0))
    await asyncio.sleep(2.0)
    assert await use(0.1) is await second is not await first
    assert [each.closed for each in make.made] == [1, 1]


async def test_a_maker_that_is_cancelled_leaves_the_making_to_the_next() -> None:
    shared, make, never = SharedValues(), Maker(), asyncio.Event()

    async def stuck() -> Socket:
        await never.wait()
        raise AssertionError

    async def use(how: Any) -> Socket:
        async with shared.hold("socket", how) as mine:
            return mine

    first, second = asyncio.ensure_future(use(stuck)), asyncio.ensure_future(use(make))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).closed == 1 and first.cancelled()


# --- settings of the operator ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrunkSettings:
    listen: str = "udp:127.0.0.1:0"


@dataclass(frozen=True)
class OtherSettings:
    listen: str = "tcp:127.0.0.1:0"


def an_exchange(*settings: object) -> Exchange:
    return Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"one": FakeCredential(provider="trunk"), "two": FakeCredential(provider="trunk")},
        public_url="https://voice.example.com",
        secret="x" * 32,
        carrier_settings=settings,
    )


async def desks(exchange: Exchange) -> list[Desk]:
    await exchange.start()
    return [entry[1].desk for entry in TrunkProvider.log if entry[0] == "listener"]


async def test_a_listener_gets_the_operators_settings_of_its_type_else_the_defaults(fake_plugins: None) -> None:
    exchange = an_exchange(TrunkSettings("udp:192.0.2.1:5060"))
    one, two = await desks(exchange)
    assert one.settings(TrunkSettings) == two.settings(TrunkSettings) == TrunkSettings("udp:192.0.2.1:5060")
    assert one.settings(OtherSettings) == OtherSettings()
    await exchange.stop()


def test_two_settings_of_one_type_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two TrunkSettings"):
        an_exchange(TrunkSettings(), TrunkSettings())


async def test_listeners_of_one_exchange_share_and_of_another_do_not(fake_plugins: None) -> None:
    exchange, make = an_exchange(), Maker()
    one, two = await desks(exchange)
    TrunkProvider.log.clear()
    elsewhere, other = an_exchange(), Maker()
    far, _ = await desks(elsewhere)
    async with one.shared("key", make) as mine, two.shared("key", make) as yours, far.shared("key", other) as theirs:
        assert mine is yours and theirs is not mine
    await exchange.stop()
    await elsewhere.stop()


async def test_a_provider_that_listens_has_its_desk_before_it_does(fake_plugins: None) -> None:
    """So that a login can be checked on the sockets that are there."""
    exchange, make = an_exchange(TrunkSettings("udp:192.0.2.1:5060")), Maker()
    provider = await exchange.switchboard.provider("one")
    assert provider.desk is not None and provider.desk.credential_id == "one"
    assert provider.desk.settings(TrunkSettings).listen == "udp:192.0.2.1:5060"
    one, two = await desks(exchange)
    async with provider.desk.shared("key", make) as mine, two.shared("key", make) as theirs:
        assert mine is theirs and one is provider.desk
    await exchange.stop()


async def test_a_provider_that_has_no_listener_or_no_exchange_has_no_desk(exchange: Exchange) -> None:
    assert (await exchange.switchboard.provider("main")).desk is None
    assert TrunkProvider(FakeCredential(provider="trunk")).desk is None


# --- opening, again, and closing -------------------------------------------------------------------------------------

TAKEN = OSError(errno.EADDRINUSE, "error while attempting to bind on address ('127.0.0.1', 5060): in use")


class Trunk:
    """Stands in for the listener of each provider that is made; ``failures`` are what its starts raise, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures: dict[str, list[Exception]] = {}
        self.hold: asyncio.Event | None = None
        self.stopping: asyncio.Event | None = None
        self.stop_failure: Exception | None = None
        self.did: list[tuple[str, str, TrunkProvider]] = []
        self.desks: dict[TrunkProvider, Desk] = {}
        trunk = self

        class Listening:
            def __init__(self, provider: TrunkProvider, desk: Desk) -> None:
                self.provider, self.desk = provider, desk

            async def start(self) -> None:
                if trunk.hold is not None:
                    await trunk.hold.wait()
                if failures := trunk.failures.get(self.desk.credential_id):
                    trunk.did.append(("failed", self.desk.credential_id, self.provider))
                    raise failures.pop(0)
                trunk.did.append(("opened", self.desk.credential_id, self.provider))

            async def stop(self) -> None:
                if trunk.stopping is not None:
                    await trunk.stopping.wait()
                trunk.did.append(("closed", self.desk.credential_id, self.provider))
                if trunk.stop_failure is not None:
                    raise trunk.stop_failure

        def listen(provider: TrunkProvider, desk: Desk) -> Listening:
            self.desks[provider] = desk
            return Listening(provider, desk)

        monkeypatch.setattr(TrunkProvider, "listen", listen)

    def happened(self, credential_id: str) -> list[str]:
        return [what for what, whose, _ in self.did if whose == credential_id]


@pytest.fixture
def trunk(fake_plugins: None, monkeypatch: pytest.MonkeyPatch) -> Trunk:
    return Trunk(monkeypatch)


@pytest.fixture
async def two(trunk: Trunk) -> AsyncIterator[Exchange]:
    exchange = an_exchange()
    yield exchange
    await exchange.stop()


async def test_a_listener_that_does_not_open_stops_no_other_and_is_tried_again(
    trunk: Trunk, two: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    trunk.failures["one"] = [TAKEN, TAKEN, TAKEN, ProviderUnavailable("trunk", "listen", "no registrar")]
    await two.start()
    assert trunk.happened("two") == ["opened"] and trunk.happened("one") == ["failed"]
    assert two.listeners.is_open("two") and not two.listeners.is_open("one")
    await asyncio.sleep(RETRY[0] * 1.1)
    assert trunk.happened("one") == ["failed", "failed"]
    await asyncio.sleep(RETRY[0] * 15)
    assert trunk.happened("one") == ["failed"] * 4 + ["opened"] and two.listeners.is_open("one")
    told = [record.message for record in caplog.records if "credential one" in record.message]
    assert len(told) == 2, "each reason is told once, not at each try"
    assert "127.0.0.1', 5060" in told[0] and "stop it, or set another address" in told[0]
    await asyncio.sleep(RETRY[1] * 2)
    assert trunk.happened("one").count("opened") == 1
    await two.stop()
    assert trunk.happened("one")[-1] == trunk.happened("two")[-1] == "closed"


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (TAKEN, ConfigurationError, "cannot open its sockets for credential 'one'.*5060.*Another process has the"),
        (OSError(errno.EACCES, "udp:0.0.0.0:53: denied"), ConfigurationError, "udp:0.0.0.0:53.*from 1024 on"),
        (OSError("no such name"), ConfigurationError, "no such name. Check the addresses"),
        (ConfigurationError("no certificate"), ConfigurationError, "^no certificate$"),
        (KeyError("password=hunter2"), ProviderError, "trunk failed listen: KeyError"),
    ],
)
async def test_whoever_starts_a_listener_hears_what_keeps_it_closed(
    trunk: Trunk, two: Exchange, failure: Exception, kind: type[Exception], words: str
) -> None:
    trunk.failures["one"] = [failure]
    with pytest.raises(kind, match=words) as told:
        await two.start_listener("one")
    assert type(told.value) is kind and "hunter2" not in str(told.value)
    assert not two.listeners.is_open("one")
    await two.start_listener("one")
    assert two.listeners.is_open("one")
    await asyncio.sleep(RETRY[1])
    assert trunk.happened("one") == ["failed", "opened"], "what was opened is not opened again"


def test_a_taken_address_is_named_as_asyncio_names_it(fake_plugins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bind_twice() -> None:
        async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]

            class Binds:
                async def start(self) -> None:
                    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", port)

            monkeypatch.setattr(TrunkProvider, "listen", lambda provider, desk: Binds())
            exchange = an_exchange()
            with pytest.raises(ConfigurationError, match=f"127.0.0.1.*{port}.*Another process has the address"):
                await exchange.start_listener("one")
            await exchange.stop()

    asyncio.run(bind_twice())


async def test_a_closed_listener_is_not_tried_again(trunk: Trunk, two: Exchange) -> None:
    trunk.failures["one"] = [TAKEN] * 9
    await two.start()
    await two.close_listener("one")
    await two.close_listener("two")
    await two.close_listener("two")
    await two.close_listener("nobody")
    await asyncio.sleep(RETRY[1])
    assert trunk.happened("one") == ["failed"] and trunk.happened("two") == ["opened", "closed"]
    assert not two.listeners.credentials()
    await two.start_listener("two")
    assert trunk.happened("two") == ["opened", "closed", "opened"]


async def test_starting_it_by_hand_adds_no_second_row_of_tries(trunk: Trunk, two: Exchange) -> None:
    trunk.failures["one"] = [TAKEN] * 99
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            await two.start_listener("one")
    await asyncio.sleep(RETRY[0] * (4 + 8 + 1))
    assert trunk.happened("one") == ["failed"] * 5


async def test_a_listener_is_tried_until_its_credential_goes(trunk: Trunk, two: Exchange) -> None:
    trunk.failures["one"] = [TAKEN] * 99
    await two.start()
    assert isinstance(two.switchboard.credentials, MemoryCredentials)
    await asyncio.sleep(RETRY[1] * 3)
    tried = len(trunk.happened("one"))
    assert tried > 5
    del two.switchboard.credentials.by_id["one"]
    await asyncio.sleep(RETRY[1] * 3)
    assert len(trunk.happened("one")) == tried and two.listeners.credentials() == {"two"}


async def test_the_last_wish_counts(trunk: Trunk, two: Exchange) -> None:
    trunk.hold = asyncio.Event()
    starting = asyncio.ensure_future(two.start_listener("one"))
    await asyncio.sleep(0)
    again = asyncio.ensure_future(two.start_listener("one"))
    closing = asyncio.ensure_future(two.close_listener("one"))
    await asyncio.sleep(0.1)
    trunk.hold.set()
    await asyncio.gather(starting, again, closing)
    assert trunk.happened("one") in (["opened", "closed"], []) and not two.listeners.is_open("one")
    trunk.stopping = asyncio.Event()
    await two.start_listener("one")
    closing = asyncio.ensure_future(two.close_listener("one"))
    await asyncio.sleep(0)
    starting = asyncio.ensure_future(two.start_listener("one"))
    await asyncio.sleep(0.1)
    trunk.stopping.set()
    await asyncio.gather(closing, starting)
    assert two.listeners.is_open("one") and trunk.happened("one")[-2:] in (["closed", "opened"], ["opened"])


async def test_a_listener_that_hangs_as_it_opens_holds_nothing_up_for_ever(
    trunk: Trunk, two: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    trunk.hold = asyncio.Event()
    began = asyncio.get_running_loop().time()
    await two.start()
    assert asyncio.get_running_loop().time() - began == pytest.approx(START_TIMEOUT, abs=1)
    assert "credential one is not open" in caplog.text and "trunk failed listen: not open within 30 s" in caplog.text
    trunk.hold = None
    await asyncio.sleep(RETRY[0] * 1.1)
    assert two.listeners.is_open("one") and two.listeners.is_open("two")


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_a_listener_that_does_not_close_stops_no_other(
    trunk: Trunk, two: Exchange, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    await two.start()
    if how == "raises":
        trunk.stop_failure = ValueError("how?")
    else:
        trunk.stopping = asyncio.Event()
    began = asyncio.get_running_loop().time()
    await two.stop()
    assert asyncio.get_running_loop().time() - began < STOP_TIMEOUT + 1
    assert {name for name in ("one", "two") if f"credential {name} failed" in caplog.text} == {"one", "two"}
    assert trunk.happened("two") == (["opened", "closed"] if how == "raises" else ["opened"])


async def test_a_plugin_that_is_missing_is_told_as_the_exchange_starts(trunk: Trunk) -> None:
    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"one": FakeCredential(provider="nobody")},
        public_url="https://voice.example.com",
        secret="x" * 32,
    )
    with pytest.raises(UnknownProvider):
        await exchange.start()
    await exchange.stop()


# --- changed secrets ------------------------------------------------------------------------------------------------


def change_secrets(exchange: Exchange, credential_id: str, key: str = "another") -> None:
    assert isinstance(exchange.switchboard.credentials, MemoryCredentials)
    changed = FakeCredential(provider="trunk", api_key=SecretStr(key))
    exchange.switchboard.credentials.by_id[credential_id] = changed


@pytest.mark.parametrize("noticed", ["provider", "start_listener"])
async def test_changed_secrets_close_the_listener_and_open_one_of_the_new_provider(
    trunk: Trunk, two: Exchange, noticed: str
) -> None:
    await two.start()
    old = await two.switchboard.provider("one")
    change_secrets(two, "one")
    if noticed == "provider":
        assert await two.switchboard.provider("one") is not old
        await asyncio.sleep(0.01)
    else:
        await two.start_listener("one")
    new = await two.switchboard.provider("one")
    mine = [(what, provider) for what, whose, provider in trunk.did if whose == "one"]
    assert mine == [("opened", old), ("closed", old), ("opened", new)]
    assert trunk.happened("two") == ["opened"]


async def test_changed_secrets_that_do_not_open_are_tried_again(
    trunk: Trunk, two: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    await two.start()
    for times in (1, 2):
        trunk.failures["one"] = [TAKEN]
        change_secrets(two, "one", f"new {times}")
        await two.switchboard.provider("one")
        await asyncio.sleep(RETRY[0] * 1.1)
        assert trunk.happened("one") == ["opened", *["closed", "failed", "opened"] * times]
        assert caplog.text.count("credential one is not open") == times, "it had been open: that is news"


async def test_changed_secrets_open_no_listener_that_was_closed(trunk: Trunk, two: Exchange) -> None:
    await two.start()
    await two.close_listener("one")
    change_secrets(two, "one")
    await two.switchboard.provider("one")
    await asyncio.sleep(RETRY[1])
    assert trunk.happened("one") == ["opened", "closed"]


async def test_a_call_of_a_listener_is_answered_by_its_own_provider(
    trunk: Trunk, two: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the secrets change: the new provider does not have the call."""
    answered: list[object] = []

    async def answer(self: object, call: object, stream: object) -> WebhookReply:
        answered.append(self)
        return WebhookReply()

    monkeypatch.setattr(TrunkProvider, "answer", answer)
    two.switchboard.agents = echo
    await two.assign(OURS, agent_id="a", credential_id="one", configure=False)
    await two.start()
    old = await two.switchboard.provider("one")
    change_secrets(two, "one")
    call = Call(
        id="leg-1", provider="trunk", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=CallStatus.RINGING
    )
    assert isinstance(old, TrunkProvider)
    await trunk.desks[old].event(IncomingCall(call=call, call_id="leg-1", event_id="leg-1:ring"))
    assert answered == [old] and await two.switchboard.provider("one") is not old


async def test_what_a_listener_tells_of_a_call_is_handled_in_order_and_again_until_that_succeeds(
    trunk: Trunk, two: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ring takes a while; the store is away twice, then refuses once; another call does not wait for this one."""
    outcomes: list[Any] = [StoreUnavailable("it is away"), StoreUnavailable("it is away"), WebhookReply(status=503)]
    handled: list[tuple[str, float]] = []
    now = asyncio.get_running_loop().time

    async def handle(self: object, provider: object, credential_id: str, event: Any) -> WebhookReply:
        if event.event_id == "ring":
            await asyncio.sleep(5)
        elif event.call_id == "leg-1" and outcomes:
            if isinstance(outcome := outcomes.pop(0), Exception):
                raise outcome
            return outcome
        handled.append((event.event_id, now() - began))
        return WebhookReply()

    monkeypatch.setattr("anycarrier.incoming.WebhookHandler.handle_event", handle)
    await two.start()
    desk, began = trunk.desks[await two.switchboard.provider("one")], now()
    call = Call(
        id="leg-1", provider="trunk", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=CallStatus.RINGING
    )
    ringing = asyncio.ensure_future(desk.event(IncomingCall(call=call, call_id="leg-1", event_id="ring")))
    await asyncio.sleep(1)
    for call_id, event_id in [("leg-1", "first"), ("leg-1", "second"), ("leg-2", "other")]:
        desk.tell(CallProgress(call=call.model_copy(update={"id": call_id}), call_id=call_id, event_id=event_id))
    await ringing
    await asyncio.sleep(1)
    await two.close_listener("one")
    assert now() - began == pytest.approx(6 + TOLD_TIMEOUT, abs=0.1), "it closes, and what was told is tried on"
    await asyncio.sleep(sum(TELL_AGAIN))
    retried = 5 + sum(TELL_AGAIN[:3])
    assert handled == [(one, pytest.approx(at, abs=0.1)) for one, at in
                       [("other", 1), ("ring", 5), ("first", retried), ("second", retried)]]  # fmt: skip
    assert not desk._telling


async def test_a_listener_has_closed_once_its_ends_are_in_the_book(
    trunk: Trunk, two: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two.start()
    desk, handled = trunk.desks[await two.switchboard.provider("one")], []

    async def handle(self: object, provider: object, credential_id: str, event: Any) -> WebhookReply:
        await asyncio.sleep(0.5)
        handled.append(event.event_id)
        return WebhookReply()

    monkeypatch.setattr("anycarrier.incoming.WebhookHandler.handle_event", handle)
    desk.tell(DigitReported(call_id="leg-1", event_id="key", digit="1"))
    await two.stop()
    assert handled == ["key"]


async def test_calls_of_a_credential_that_was_deleted_end_in_the_book_and_no_new_one_comes_in(
    trunk: Trunk, two: Exchange
) -> None:
    two.switchboard.agents = echo
    await two.assign(OURS, agent_id="a", credential_id="one", configure=False)
    await two.start()
    desk = trunk.desks[await two.switchboard.provider("one")]
    ringing = Call(
        id="leg-1", provider="trunk", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=CallStatus.RINGING
    )
    await desk.event(IncomingCall(call=ringing, call_id="leg-1", event_id="leg-1:ring"))
    assert isinstance(two.switchboard.credentials, MemoryCredentials)
    del two.switchboard.credentials.by_id["one"]
    over = ringing.model_copy(update={"status": CallStatus.ENDED, "reason": EndReason.CANCELED})
    await desk.event(CallProgress(call=over, call_id="leg-1", event_id="leg-1:ended"))
    assert (await two.wait_for("leg-1")).reason is EndReason.CANCELED
    with pytest.raises(UnknownCredential):
        await desk.event(IncomingCall(call=ringing, call_id="leg-2", event_id="leg-2:ring"))


# --- what an operator asks of them ----------------------------------------------------------------------------------


class Operated:
    """What :class:`OperatedListener` has beside a listener."""

    drained = 0

    def health(self) -> list[Health]:
        return [Health("registration", True, "registered")]

    def figures(self) -> list[Figure]:
        return [
            Figure("trunk_strangers", "Strangers", 2, "counter"),
            Figure("trunk_peers", "Peers", 1, labels={"state": "up"}),
            Figure("trunk_loss", "Loss", 0.5, "histogram", buckets={0.1: 1, inf: 3}),
        ]

    def drain(self) -> None:
        self.drained += 1


class OperatedTrunkListener(Operated, TrunkListener): ...


async def test_what_a_listener_does_beside_is_reported_if_it_fails_and_cancelled_at_the_end(
    trunk: Trunk, two: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(two.switchboard, "report", lambda what, failure: told.append(f"{what}: {failure}"))
    desk = two.listeners.desk(await two.switchboard.provider("one"), "one")

    async def fails() -> None:
        raise OSError("the cable is out")

    await asyncio.wait([desk.spawn(fails(), "ring the bell")])
    assert told == ["could not ring the bell: the cable is out"]
    waits = desk.spawn(asyncio.sleep(600), "sleep")
    await two.stop()
    assert waits.cancelled()


async def test_health_says_what_a_listener_knows_and_why_one_is_closed(trunk: Trunk, two: Exchange) -> None:
    trunk.failures["two"] = [TAKEN, TAKEN]
    with suppress(ConfigurationError):
        await two.start_listener("two")
    await two.start_listener("one")
    assert two.listeners.health("one") == [Health("listener", True, "open")]
    [closed] = two.listeners.health("two")
    assert (closed.subject, closed.ok) == ("listener", False)
    assert "tried again" in closed.found and "5060" in closed.found
    assert two.listeners.health("nobody") == []
    await two.close_listener("one")
    assert two.listeners.health("one") == []


async def test_figures_of_one_name_and_labels_are_added_up(
    fake_plugins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrunkProvider, "listen", lambda self, desk: OperatedTrunkListener(desk, self))
    exchange = an_exchange()
    await exchange.start()
    assert exchange.listeners.health("one") == [Health("registration", True, "registered")]
    strangers, peers, loss = exchange.listeners.figures()
    assert (strangers.value, strangers.kind) == (4, "counter")
    assert (peers.value, peers.labels) == (2, {"state": "up"})
    assert (loss.value, loss.buckets) == (1.0, {0.1: 2, inf: 6})
    await exchange.stop()
    assert exchange.listeners.figures() == []


async def test_a_drained_exchange_drains_what_opens_later_too(
    fake_plugins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrunkProvider, "listen", lambda self, desk: OperatedTrunkListener(desk, self))
    exchange = an_exchange()
    await exchange.start_listener("one")
    exchange.listeners.drain()
    await exchange.start_listener("two")
    assert [entry[1].drained for entry in TrunkProvider.log if entry[0] == "listener"] == [1, 1]
    await exchange.stop()


async def test_a_listener_that_cannot_be_drained_is_left_alone(trunk: Trunk, two: Exchange) -> None:
    await two.start_listener("one")
    two.listeners.drain()
    assert two.listeners.is_open("one") and two.listeners.figures() == []
