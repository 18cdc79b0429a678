"""From an offered number to a line in service and back, and what a carrier may say to it."""

import contextlib

import httpx
import pytest

from anycarrier import Capability, Credential, NumberQuery, OwnedNumber, PendingOrder
from anycarrier.credentials import MemoryCredentials
from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    NotFound,
    NumberUnavailable,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from anycarrier.plugins import open_provider
from anycarrier.testing.replay import logged_in
from anycarrier.testing.sandbox_numbers import GONE_NUMBER, PENDING_NUMBER
from core.conftest import R1
from whole.conftest import OURS, House


def needs(house: House, capability: Capability) -> None:
    if capability not in house.provider.capabilities:
        pytest.skip(f"capability: {house.provider.name} has no {capability}")


def with_secret(house: House, secret: str) -> Credential:
    held = type(house.sandbox.credential()).model_fields
    field = next(name for name in ("auth_token", "api_key", "password", "api_token", "client_secret") if name in held)
    return house.sandbox.credential(**{field: secret})


async def test_search_honours_what_was_asked(house: House) -> None:
    house.skip_where_it_listens("numbers on offer")
    found = await house.exchange.search_numbers(NumberQuery(area_code="415", limit=3), credential_id="main")
    assert 0 < len(found) <= 3
    for offer in found:
        assert offer.number.startswith("+1415") and offer.country == "US" and offer.provider == house.provider.name
    numbers = {offer.number for offer in found}
    more = await house.exchange.search_numbers(NumberQuery(area_code="415", limit=3, page=2), credential_id="main")
    assert not numbers & {offer.number for offer in more}


async def test_bought_assigned_rung_listed_and_given_back(house: House) -> None:
    needs(house, Capability.BUY_NUMBER)
    [offer] = await house.exchange.search_numbers(NumberQuery(limit=1), credential_id="main")
    bought = await house.exchange.buy_number(offer.number, credential_id="main", agent_id="sales")
    assert isinstance(bought, OwnedNumber) and bought.number == offer.number
    line = await house.exchange.switchboard.registry.lookup(offer.number)
    assert line.agent_id == "sales" and line.sync is not None and line.sync.ok
    far_end = await house.ring(to=offer.number)
    await far_end.wait_for("streaming")
    await far_end.hang_up()
    assert (await house.over(far_end)).agent_id == "sales"
    provider = await house.exchange.switchboard.provider("main")
    [held] = await provider.list_numbers(offer.number)
    assert held.number == offer.number
    await provider.release_number(offer.number)
    assert await provider.list_numbers(offer.number) == []
    with pytest.raises(NotFound):
        await provider.release_number(offer.number)


async def test_configuring_twice_writes_once(house: House) -> None:
    needs(house, Capability.CONFIGURE_NUMBER)
    provider = await house.exchange.switchboard.provider("main")
    url = house.exchange.switchboard.webhook_url(provider.name, "main")
    again = await provider.configure_number(OURS, webhook_url=url)
    assert (again.ok, again.changed) == (True, ())
    planned = await provider.configure_number(OURS, webhook_url=url + "x", dry_run=True)
    assert planned.ok and planned.changed
    assert (await provider.configure_number(OURS, webhook_url=url)).changed == (), "a dry run wrote nothing"


async def test_an_unassigned_number_is_no_more_sent_here_and_can_be_assigned_again(house: House) -> None:
    needs(house, Capability.UNCONFIGURE_NUMBER)
    provider = await house.exchange.switchboard.provider("main")
    url = house.exchange.switchboard.webhook_url(provider.name, "main")
    elsewhere = await provider.unconfigure_number(OURS, webhook_url=url + "x")
    assert (elsewhere.ok, elsewhere.changed) == (True, ()), "it points here, not there"
    await house.exchange.unassign(OURS)
    before = len(house.sandbox.deliveries)
    with contextlib.suppress(LookupError):  # a carrier's way to say that the number leads nowhere
        await (await house.ring()).wait_for("ended")
    assert house.sandbox.deliveries[before:] == [] and not house.sessions
    again = await provider.unconfigure_number(OURS, webhook_url=url)
    assert (again.ok, again.changed) == (True, ())
    assert not (await provider.unconfigure_number("+14155550177", webhook_url=url)).ok, "the account has no such number"
    await house.exchange.assign(OURS, agent_id="sales", credential_id="main")
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    await far_end.hang_up()
    assert (await house.over(far_end)).agent_id == "sales"


async def test_a_number_the_account_does_not_hold_is_not_registered(house: House) -> None:
    needs(house, Capability.CONFIGURE_NUMBER)
    with pytest.raises(NotFound):
        await house.exchange.assign("+14155550177", agent_id="a", credential_id="main")
    assert [line.number for line in await house.exchange.switchboard.registry.lines()] == [OURS]


async def test_a_number_somebody_else_was_faster_for_is_unavailable(house: House) -> None:
    needs(house, Capability.BUY_NUMBER)
    with pytest.raises(NumberUnavailable):
        await house.exchange.buy_number(GONE_NUMBER, credential_id="main", agent_id="a")
    assert [line.number for line in await house.exchange.switchboard.registry.lines()] == [OURS]


async def test_an_order_that_takes_its_time_is_pending_and_can_be_asked_about(house: House) -> None:
    needs(house, Capability.FETCH_ORDER)
    house.sandbox.pending_for = 0.5  # type: ignore[attr-defined]
    await house.exchange.search_numbers(
        NumberQuery(area_code="500", contains=PENDING_NUMBER[-7:]), credential_id="main"
    )
    order = await house.exchange.buy_number(PENDING_NUMBER, credential_id="main", agent_id="a", timeout=0.1)
    assert isinstance(order, PendingOrder) and order.number == PENDING_NUMBER
    lines = await house.exchange.switchboard.registry.lines()
    assert [line.number for line in lines] == [OURS], "nothing is half registered"
    provider = await house.exchange.switchboard.provider("main")
    while isinstance(standing := await provider.fetch_order(order.id), PendingOrder):
        pass
    assert standing.number == PENDING_NUMBER


@pytest.mark.parametrize(
    ("secret", "errors"),
    [
        ("wrong-secret", (AuthenticationFailed,)),
        ("suspended-secret", (AuthenticationFailed, PermissionDenied)),
        ("broke-secret", (InsufficientFunds, PermissionDenied)),
        ("throttled-secret", (RateLimited,)),
    ],
)
async def test_bad_logins_are_typed_and_never_quoted(
    house: House, secret: str, errors: tuple[type[ProviderError], ...]
) -> None:
    held = house.exchange.switchboard.credentials
    assert isinstance(held, MemoryCredentials)
    held.by_id["bad"] = with_secret(house, secret)
    with contextlib.suppress(ProviderError):  # where a listener logs in before it opens
        await house.exchange.start_listener("bad")
    provider = await house.exchange.switchboard.provider("bad")
    with pytest.raises(errors) as refused:
        await provider.dial(_request())
    assert secret not in str(refused.value) and house.provider.name in str(refused.value)
    assert refused.value.operation == "dial" and refused.value.next_step


def _request():  # type: ignore[no-untyped-def]
    from anycarrier import DialRequest, StreamTarget

    return DialRequest(
        from_=OURS,
        to="+12125550120",
        stream=StreamTarget(url="wss://voice.example.com/media/x"),
        status_url="https://voice.example.com/p/main",
        reference=R1,
    )


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>gateway</html>"),
        httpx.Response(200, text='{"data": {"half'),
        httpx.Response(200, json=["not", "an", "object"]),
        httpx.Response(200, json={}),
        httpx.Response(502, text="Bad Gateway"),
        httpx.Response(503, json={"errors": {"detail": "odd"}}),
    ],
)
async def test_a_dial_answered_with_nonsense_is_posted_once_and_its_outcome_unknown(
    house: House, answer: httpx.Response
) -> None:
    house.skip_where_it_listens("REST")
    posts: list[httpx.Request] = []

    def carrier(request: httpx.Request) -> httpx.Response:
        posts.append(request)
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier)) as http:
        provider = open_provider(house.sandbox.credential(), http)
        provider.log_in = logged_in  # type: ignore[method-assign]
        with pytest.raises(ProviderUnavailable) as failed:
            await provider.dial(_request())
    assert len(posts) == 1 and failed.value.outcome_unknown
    assert "do not dial again before checking" in str(failed.value)


async def test_a_refusal_we_have_no_word_for_is_still_a_typed_error(house: House) -> None:
    house.skip_where_it_listens("REST")
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda r: httpx.Response(418, text="teapot +14155550123"))
    ) as http:
        provider = open_provider(house.sandbox.credential(), http)
        with pytest.raises(RequestRejected) as refused:
            await provider.dial(_request())
    assert refused.value.status == 418 and "+14155550123" not in str(refused.value)
