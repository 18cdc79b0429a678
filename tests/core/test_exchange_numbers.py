"""Numbers of an exchange: searched, bought, assigned to an agent, taken out of service."""

from __future__ import annotations

from typing import Any

import pytest

from anycarrier import (
    Exchange,
    Line,
    NumberQuery,
    PendingOrder,
    SyncResult,
)
from anycarrier.errors import (
    AuthenticationFailed,
    InvalidNumber,
    NotFound,
    NumberAlreadyAssigned,
    NumberNotAssigned,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownAgent,
    UnknownCredential,
    UnsupportedOperation,
)
from anycarrier.provider import Capability
from core.conftest import OURS, echo, logged
from fake_carriers import CommandProvider, FakeCredential, InlineProvider

ANOTHER = "+14155550102"

# --- assigned and taken out of service --------------------------------------------------------------------------------


async def test_assigning_configures_the_carrier_and_registers_the_line(exchange: Exchange) -> None:
    url = "https://voice.example.com/inline/main"
    line = await exchange.assign(OURS, agent_id="a", credential_id="main")
    sync = SyncResult(ok=True, message="set", changed=("url",), webhook_url=url)
    assert line == Line(number=OURS, agent_id="a", credential_id="main", provider="inline", sync=sync)
    assert await exchange.switchboard.registry.lines() == [line] and logged("configure") == [("configure", OURS, url)]


async def test_a_number_that_the_carrier_does_not_configure_is_not_registered(exchange: Exchange) -> None:
    with pytest.raises(NotFound, match="does not hold") as refused:
        await exchange.assign("+14155550100", agent_id="a", credential_id="main")
    assert (refused.value.provider, refused.value.operation) == ("inline", "configure_number")
    assert await exchange.switchboard.registry.lines() == []


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("configure", [True, False])
async def test_a_carrier_is_told_only_if_asked_for_and_only_if_it_can_be(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, able: bool, configure: bool
) -> None:
    routing = {Capability.CONFIGURE_NUMBER, Capability.UNCONFIGURE_NUMBER}
    can = InlineProvider.capabilities | routing if able else InlineProvider.capabilities - routing
    monkeypatch.setattr(InlineProvider, "capabilities", can)
    line = await exchange.assign(OURS, agent_id="a", credential_id="main", configure=configure)
    assert (line.sync is not None) is (able and configure)
    assert [entry[0] for entry in InlineProvider.log] == ["configure"] * (able and configure)
    await exchange.unassign(OURS, configure=configure)
    assert [entry[0] for entry in InlineProvider.log] == ["configure", "unconfigure"] * (able and configure)
    assert await exchange.switchboard.registry.lines() == []


async def test_nothing_is_asked_for_what_cannot_be_assigned(exchange: Exchange) -> None:
    exchange.switchboard.agents = {"a": echo}
    for number, agent, error in (("4155550101", "a", InvalidNumber), (OURS, "nobody", UnknownAgent)):
        with pytest.raises(error):
            await exchange.assign(number, agent_id=agent, credential_id="main")
    for act in (exchange.unassign("4155550101"), exchange.release_number("4155550101", credential_id="main"),
                exchange.buy_number("4155550101", credential_id="main")):  # fmt: skip
        with pytest.raises(InvalidNumber):
            await act
    assert InlineProvider.log == [] and await exchange.switchboard.registry.lines() == []


async def test_a_number_of_another_credential_is_not_taken_over(exchange: Exchange) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    with pytest.raises(NumberAlreadyAssigned, match="'main'") as refused:
        await exchange.assign(OURS, agent_id="a", credential_id="other")
    assert OURS not in str(refused.value) and CommandProvider.log == []
    await exchange.unassign(OURS)
    await exchange.assign(OURS, agent_id="a", credential_id="other")


async def test_unassigning_has_the_carrier_send_the_calls_here_no_more(exchange: Exchange) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.unassign(OURS)
    assert InlineProvider.log[-1] == ("unconfigure", OURS, "https://voice.example.com/inline/main")
    assert await exchange.switchboard.registry.lines() == []


async def test_unassigning_without_configuring_is_between_us_and_the_registry(exchange: Exchange) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.unassign(OURS, configure=False)
    assert [entry[0] for entry in InlineProvider.log] == ["configure"]
    assert await exchange.switchboard.registry.lines() == []


@pytest.mark.parametrize("failure", [ProviderUnavailable, RateLimited])
async def test_a_carrier_that_cannot_be_reached_leaves_the_line_in_service(
    exchange: Exchange, failure: type[ProviderError]
) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    InlineProvider.unconfigure_error = failure("inline", "unconfigure_number", "not now")
    with pytest.raises(failure):
        await exchange.unassign(OURS)
    assert [line.number for line in await exchange.switchboard.registry.lines()] == [OURS]
    InlineProvider.unconfigure_error = None
    await exchange.unassign(OURS)
    assert await exchange.switchboard.registry.lines() == []


@pytest.mark.parametrize("failure", [AuthenticationFailed, PermissionDenied, NotFound])
async def test_a_carrier_that_has_us_no_longer_does_not_hold_a_line_in_service(
    exchange: Exchange, failure: type[ProviderError], caplog: pytest.LogCaptureFixture
) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    InlineProvider.unconfigure_error = failure("inline", "unconfigure_number", "who are you?")
    await exchange.unassign(OURS)
    assert await exchange.switchboard.registry.lines() == []
    assert "may still send the calls" in caplog.text and "who are you?" in caplog.text and OURS not in caplog.text


async def test_a_line_whose_credential_is_gone_is_unassigned_all_the_same(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    del exchange.switchboard.credentials.by_id["main"]  # type: ignore[union-attr]
    await exchange.unassign(OURS)
    assert await exchange.switchboard.registry.lines() == [] and "no credential 'main'" in caplog.text


async def test_unknown_credentials_and_numbers_say_what_to_do(exchange: Exchange) -> None:
    with pytest.raises(UnknownCredential, match="Exchange"):
        await exchange.assign(OURS, agent_id="a", credential_id="nope")
    with pytest.raises(NumberNotAssigned):
        await exchange.unassign(OURS)
    with pytest.raises(UnsupportedOperation, match="no inventory"):
        await exchange.search_numbers(credential_id="trunk")
    assert [n.number for n in await exchange.search_numbers(credential_id="main", area_code="415")]


async def test_a_changed_credential_makes_a_new_provider(exchange: Exchange) -> None:
    before = await exchange.switchboard.provider("main")
    assert await exchange.switchboard.provider("main") is before
    exchange.switchboard.credentials.by_id["main"] = FakeCredential(api_key="rotated")  # type: ignore[union-attr,arg-type]
    assert await exchange.switchboard.provider("main") is not before


async def test_a_search_takes_a_query_or_its_fields(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[NumberQuery] = []

    async def search(self: object, query: NumberQuery) -> list[Any]:
        queries.append(query)
        return []

    monkeypatch.setattr(InlineProvider, "search_numbers", search)
    await exchange.search_numbers(NumberQuery(country="CA"), credential_id="main")
    await exchange.search_numbers(credential_id="main", country="GB", limit=3)
    assert [(query.country, query.limit) for query in queries][1] == ("GB", 3) and queries[0].country == "CA"


async def test_a_bought_number_is_assigned_when_an_agent_was_named(
    exchange: Exchange, asked: dict[str, tuple[Any, ...]]
) -> None:
    exchange.switchboard.agents = {"a": echo}
    with pytest.raises(UnknownAgent):
        await exchange.buy_number(OURS, credential_id="main", agent_id="nobody")
    assert "buy_number" not in asked
    await exchange.buy_number(OURS, credential_id="main")
    assert asked["buy_number"] == (OURS, ("timeout", 30.0)) and await exchange.switchboard.registry.lines() == []
    await exchange.buy_number(OURS, credential_id="main", agent_id="a", timeout=3.0)
    [line] = await exchange.switchboard.registry.lines()
    assert asked["buy_number"] == (OURS, ("timeout", 3.0))
    assert (line.number, line.agent_id, line.credential_id) == (OURS, "a", "main")


async def test_a_number_whose_order_is_pending_is_not_assigned(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = PendingOrder(id="o-1", number=OURS, provider="inline")

    async def buy(self: object, number: str, *, timeout: float) -> PendingOrder:
        return order

    monkeypatch.setattr(InlineProvider, "buy_number", buy)
    exchange.switchboard.agents = echo
    assert await exchange.buy_number(OURS, credential_id="main", agent_id="a") == order
    assert await exchange.switchboard.registry.lines() == []


async def test_orders_and_lists_are_the_carriers(exchange: Exchange, asked: dict[str, tuple[Any, ...]]) -> None:
    order = PendingOrder(id="o-1", number=OURS, provider="inline")
    assert await exchange.fetch_order(order, credential_id="main") == order and asked["fetch_order"] == ("o-1",)
    assert [number.id for number in await exchange.list_numbers("main")] == ["n-1"]


async def test_releasing_a_number_ends_its_line_unless_the_line_is_another_credentials(
    exchange: Exchange, asked: dict[str, tuple[Any, ...]]
) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.assign(ANOTHER, agent_id="a", credential_id="other")
    await exchange.release_number(ANOTHER, credential_id="main")
    assert asked["release_number"] == (ANOTHER,) and len(await exchange.switchboard.registry.lines()) == 2
    await exchange.release_number(OURS, credential_id="main")
    assert [line.number for line in await exchange.switchboard.registry.lines()] == [ANOTHER]
    await exchange.release_number("+14155550103", credential_id="main")
    assert asked["release_number"] == ("+14155550103",), "a number without a line too"


async def test_reassigning_without_configuring_keeps_what_the_carrier_was_told(exchange: Exchange) -> None:
    first = await exchange.assign(OURS, agent_id="a", credential_id="main")
    again = await exchange.assign(OURS, agent_id="b", credential_id="main", configure=False)
    assert first.sync is not None and again.sync == first.sync and again.agent_id == "b"
    assert len(logged("configure")) == 1
    with pytest.raises(NumberAlreadyAssigned, match="main"):
        await exchange.assign(OURS, agent_id="a", credential_id="other", configure=False)


async def test_a_number_the_carrier_will_not_let_go_is_said_without_its_digits(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def keep(self: object, number: str, *, webhook_url: str) -> SyncResult:
        return SyncResult(ok=False, message=f"kept, in spite of {webhook_url}")

    monkeypatch.setattr(InlineProvider, "unconfigure_number", keep)
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.unassign(OURS)
    assert "kept, in spite of https://voice.example.com/inline/main" in caplog.text and OURS not in caplog.text
    assert await exchange.switchboard.registry.lines() == []
