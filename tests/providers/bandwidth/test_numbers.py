"""Numbers: what a search is asked, orders that take their time or fail, and what sends a number's calls to us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from anycarrier import NumberQuery, OwnedNumber, PendingOrder
from anycarrier.errors import (
    ConfigurationError,
    NotFound,
    NumberUnavailable,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RequestRejected,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.numbers import NumberFeature, NumberType
from anycarrier.testing.replay import logged_in
from anycarrier.testing.sandbox_numbers import GONE_NUMBER, PENDING_NUMBER
from anycarrier_bandwidth import BandwidthProvider
from anycarrier_bandwidth.sandbox import BandwidthSandbox
from shared_documents import shared_path


@pytest.fixture
def over(kit: Any) -> Callable[..., BandwidthProvider]:
    """A provider, logged in, whose carrier gives one answer; requests are kept in ``sent``."""

    def make(answer: httpx.Response, **fields: Any) -> BandwidthProvider:
        sent: list[httpx.Request] = []

        def carrier(request: httpx.Request) -> httpx.Response:
            sent.append(request)
            return answer

        made = BandwidthProvider(kit.credential(**fields), httpx.AsyncClient(transport=httpx.MockTransport(carrier)))
        made.log_in = logged_in  # type: ignore[method-assign]
        made.sent = sent  # type: ignore[attr-defined]
        return made

    return make


def xml(text: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, text=text, headers={"content-type": "application/xml"})


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ({"area_code": "415"}, {"areaCode": "415"}),
        ({"region": "NC"}, {"state": "NC"}),
        ({"region": "NC", "locality": "RALEIGH"}, {"state": "NC", "city": "RALEIGH"}),
        ({"contains": "NEWCARS"}, {"localVanity": "NEWCARS"}),
        ({"contains": "4155550123"}, {"areaCode": "415", "localVanity": "5550123"}),
        ({"country": "CA", "region": "ON"}, {"state": "ON"}),
        ({"type": NumberType.TOLL_FREE}, {"tollFreeWildCardPattern": "8**"}),
        ({"type": NumberType.TOLL_FREE, "area_code": "833"}, {"tollFreeWildCardPattern": "833"}),
        ({"type": NumberType.TOLL_FREE, "contains": "NEWCARS"}, {"tollFreeVanity": "NEWCARS"}),
        ({"extra": {"zip": "27606"}}, {"zip": "27606"}),
    ],
)
async def test_a_search_asks_what_was_asked(over: Any, query: dict[str, Any], asked: dict[str, str]) -> None:
    provider = over(httpx.Response(200, json={"phoneNumbers": [], "resultCount": 0}))
    assert await provider.search_numbers(NumberQuery(limit=3, page=2, **query)) == []
    [request] = provider.sent
    assert dict(request.url.params) == {"quantity": "6", "LCA": "false", **asked}
    assert (request.url.host, request.headers["accept"]) == ("api.bandwidth.com", "application/json")


@pytest.mark.parametrize(
    "query",
    [
        {"country": "DE"},
        {"country": "CA"},
        {"locality": "RALEIGH"},
        {"contains": "555"},
        {"contains": "555*123"},
        {"contains": "12345678"},
        {"type": NumberType.MOBILE},
        {"type": NumberType.NATIONAL},
        {"features": (NumberFeature.VOICE, NumberFeature.SMS)},
        {"type": NumberType.TOLL_FREE, "region": "NC"},
        {"type": NumberType.TOLL_FREE, "area_code": "833", "contains": "NEWCARS"},
        {"limit": 250, "page": 21},
    ],
)
async def test_what_a_search_cannot_be_asked_is_refused(over: Any, query: dict[str, Any]) -> None:
    provider = over(httpx.Response(200, json={"phoneNumbers": []}))
    with pytest.raises(UnsupportedOperation):
        await provider.search_numbers(NumberQuery(**query))
    assert provider.sent == []


async def test_a_search_reads_json_and_xml_and_turns_pages(over: Any) -> None:
    six = "".join(f"<TelephoneNumber>415555010{n}</TelephoneNumber>" for n in range(6))
    told = xml(f"<SearchResult><TelephoneNumberList>{six}</TelephoneNumberList></SearchResult>")
    found = await over(told).search_numbers(NumberQuery(area_code="415", limit=2, page=2))
    assert [offer.number for offer in found] == ["+14155550102", "+14155550103"]
    json = httpx.Response(200, json={"phoneNumbers": ["+14155550104"], "resultCount": 1})
    [offer] = await over(json).search_numbers(NumberQuery(area_code="415"))
    assert (offer.number, offer.provider, offer.raw) == ("+14155550104", "bandwidth", {"phoneNumber": "+14155550104"})


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><TelephoneNumbersResponse><a>&a;</a></TelephoneNumbersResponse>'


@pytest.mark.parametrize(
    "body",
    [
        ENTITIES.encode(),
        ('<?xml version="1.0" encoding="UTF-16"?>' + ENTITIES).encode("utf-16"),
        b'<!DOCTYPE x SYSTEM "http://169.254.169.254/"><x/>',
        b"<x>" + b" " * 2_000_000 + b"</x>",
        b"<x>" * 100_000,
        b"<TelephoneNumbersResponse",
        b"<r><TelephoneNumber><FullNumber>not a number</FullNumber></TelephoneNumber></r>",
        b"",
    ],
)
async def test_xml_with_entities_too_large_or_broken_is_an_unreadable_answer(over: Any, body: bytes) -> None:
    told = httpx.Response(200, content=body, headers={"content-type": "application/xml"})
    if not body:
        assert await over(told).list_numbers() == []
        return
    with pytest.raises(UnreadableResponse):
        await over(told).list_numbers()


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [("doc_order_400_5016", RequestRejected, "5016"), ("doc_tns_400_15511", RequestRejected, "15511")],
)
async def test_recorded_errors_in_xml_have_their_code(
    over: Any, name: str, kind: type[ProviderError], code: str
) -> None:
    body = shared_path("recordings", "bandwidth", "errors", f"{name}.xml").read_text()
    with pytest.raises(kind) as refused:
        await over(xml(body, 400)).buy_number("+14155550123")
    assert (refused.value.code, refused.value.status) == (code, 400) and refused.value.message


@pytest.mark.parametrize(
    ("code", "kind"), [("5005", NumberUnavailable), ("5018", NumberUnavailable), ("5012", PermissionDenied)]
)
async def test_a_refusal_of_an_order_is_told_by_its_code(over: Any, code: str, kind: type[ProviderError]) -> None:
    body = f"<OrderResponse><Error><Code>{code}</Code><Description>no</Description></Error></OrderResponse>"
    with pytest.raises(kind):
        await over(xml(body, 400)).buy_number("+14155550123")


async def test_an_order_is_bought_and_given_back(sandbox: BandwidthSandbox, provider: BandwidthProvider) -> None:
    [offer] = await provider.search_numbers(NumberQuery(area_code="212", limit=1))
    bought = await provider.buy_number(offer.number, extra={"CustomerOrderId": "A & B"})
    assert isinstance(bought, OwnedNumber) and (bought.number, bought.status) == (offer.number, "Inservice")
    sent = next(r.body for r in sandbox.requests if r.path.endswith("/orders"))
    assert f"<TelephoneNumber>{offer.number[2:]}</TelephoneNumber>" in sent and "A &amp; B" in sent
    assert [number.number for number in await provider.list_numbers(offer.number)] == [offer.number]
    await provider.release_number(offer.number)
    assert await provider.list_numbers(offer.number) == []
    with pytest.raises(NotFound):
        await provider.release_number(offer.number)


async def test_an_order_that_takes_its_time_is_pending_until_it_is_not(
    sandbox: BandwidthSandbox, provider: BandwidthProvider
) -> None:
    sandbox.pending_for = 0.3
    order = await provider.buy_number(PENDING_NUMBER, timeout=0.05)
    assert isinstance(order, PendingOrder) and (order.number, order.raw["SiteId"]) == (PENDING_NUMBER, "7001")
    while isinstance(found := await provider.fetch_order(order.id), PendingOrder):
        assert found.number == PENDING_NUMBER
    assert found.number == PENDING_NUMBER


async def test_a_complete_order_whose_number_is_not_in_service_yet_is_pending(
    sandbox: BandwidthSandbox, provider: BandwidthProvider
) -> None:
    """InAccount is not Inservice: calls would fail."""
    order = await provider.buy_number("+12125550123", timeout=5)
    sandbox.account.numbers["+12125550123"].status = "InAccount"
    [order_id] = sandbox.account.orders
    assert isinstance(order, OwnedNumber) and isinstance(await provider.fetch_order(order_id), PendingOrder)


async def test_an_order_that_fails_says_why(provider: BandwidthProvider) -> None:
    with pytest.raises(NumberUnavailable) as gone:
        await provider.buy_number(GONE_NUMBER)
    assert gone.value.code == "5005" and GONE_NUMBER not in str(gone.value)


async def test_an_order_needs_the_sub_account(over: Any) -> None:
    provider = over(xml("<x/>"), site_id=None)
    with pytest.raises(ConfigurationError, match="site_id"):
        await provider.buy_number("+14155550123")
    assert provider.sent == []


async def test_a_list_is_read_page_by_page(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycarrier_bandwidth.numbers.PAGE", 3)
    held = {f"+141555501{n:02}" for n in range(7)} | {"+14155550100"}
    for number in held:
        sandbox.add_number(number)
    assert {number.number for number in await provider.list_numbers()} == held
    assert [r.query["page"] for r in sandbox.requests if r.path.endswith("/tns")] == [["1"], ["2"], ["3"]]


async def test_configuring_writes_url_login_package_and_activation_once(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any
) -> None:
    planned = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK, dry_run=True)
    assert planned.ok and not sandbox.account.numbers[kit.OURS].services
    done = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert done.ok and done.changed == planned.changed == (
        "CallInitiatedCallbackUrl", "CallStatusCallbackUrl", "CallInitiatedMethod", "CallStatusMethod", "UserId",
        "voiceConfigurationPackageId", "INBOUND", "OUTBOUND_NATIONAL",
    )  # fmt: skip
    [application] = sandbox.account.applications.values()
    assert application.fields["CallInitiatedCallbackUrl"] == application.fields["CallStatusCallbackUrl"] == kit.HOOK
    assert application.fields["AppName"] == "Sandbox", "what is not ours stays"
    assert (application.login.user, application.login.password) == ("anycarrier", "sandbox-callback-password")
    assert sandbox.account.numbers[kit.OURS].services == {"INBOUND", "OUTBOUND_NATIONAL"}
    before = len(sandbox.requests)
    assert (await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)).changed == ()
    assert {r.method for r in sandbox.requests[before:]} == {"GET"}
    assert not (await provider.configure_number("+14155550177", webhook_url=kit.HOOK)).ok


async def test_unconfiguring_deactivates_what_points_to_us_and_nothing_else(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any
) -> None:
    await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert (await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK + "x")).changed == ()
    assert (await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK)).changed == ("INBOUND",)
    assert sandbox.account.numbers[kit.OURS].services == {"OUTBOUND_NATIONAL"}
    assert (await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK)).changed == ()
    assert not (await provider.unconfigure_number("+14155550177", webhook_url=kit.HOOK)).ok


async def test_an_older_account_moves_the_number_into_a_location_that_leads_to_us(
    sandbox: BandwidthSandbox, http: httpx.AsyncClient, kit: Any
) -> None:
    provider = BandwidthProvider(sandbox.credential(vcp_id="", site_id="8001", peer_id="9002"), http)  # type: ignore[arg-type]
    done = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert done.changed[-2:] == ("HttpVoiceV2AppId", "PeerId")
    assert sandbox.account.peers[("8001", "9002")] == provider.credential.application_id
    assert (sandbox.account.numbers[kit.OURS].site, sandbox.account.numbers[kit.OURS].peer) == ("8001", "9002")
    assert (await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)).changed == ()
    far_end = await sandbox.ring(kit.OURS, kit.THEIRS)
    await far_end.hang_up()
    undone = await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK)
    assert not undone.ok and "location" in undone.message


async def test_an_activation_that_fails_is_no_success(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anycarrier_bandwidth.sandbox import applications

    async def fails(rest: Any, made: Any, action: str, services: set[str]) -> None:
        made.status = "FAILED"

    monkeypatch.setattr(applications, "_done", fails)
    with pytest.raises(RequestRejected, match="FAILED"):
        await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)


async def test_what_is_down_while_an_order_is_watched_does_not_lose_it(over: Any) -> None:
    provider = over(xml("<OrderResponse><Order><id>o-1</id></Order></OrderResponse>", 201))
    sent, first = provider.sent, True

    def carrier(request: httpx.Request) -> httpx.Response:
        nonlocal first
        sent.append(request)
        if first:
            first = False
            return xml("<OrderResponse><Order><id>o-1</id></Order></OrderResponse>", 201)
        return httpx.Response(503, text="down")

    provider._http = httpx.AsyncClient(transport=httpx.MockTransport(carrier))
    order = await provider.buy_number("+14155550123", timeout=0.01)
    assert isinstance(order, PendingOrder) and order.id == "o-1"
    with pytest.raises(ProviderUnavailable):
        await provider.fetch_order("o-1")
