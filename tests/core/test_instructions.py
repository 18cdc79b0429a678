"""Carriers that ask by webhook what to do with a call of ours, facts kept with a call, and where a ticket travels."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from anycarrier import (
    Call,
    CallEvent,
    CallStatus,
    Direction,
    EndReason,
    Exchange,
    MemoryNumberRegistry,
    Policy,
    StreamTarget,
    WebhookReply,
    WebhookRequest,
    hookimpl,
    plugins,
)
from anycarrier.callbook import MemoryCallBook, MemoryOnce
from anycarrier.calls import LONGEST_FACT, MOST_FACTS, STREAM_FACT, Price, advance
from anycarrier.errors import ConfigurationError, PluginError, TicketRefused
from anycarrier.events import InstructionsFor, InstructionsRequested
from anycarrier.provider import Provider, TicketPlace
from anycarrier.tickets import find_ticket
from core.conftest import CALLER, OURS, R1, echo
from fake_carriers import FakeCredential, InlineProvider, MemoryTransport, TrunkProvider

T = "a-ticket_"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class AskingProvider(InlineProvider):
    """Takes nothing but URLs when it dials or transfers, and asks for instructions there."""

    name = "asking"
    log: ClassVar[list[tuple[Any, ...]]] = []

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        message = request.json()
        if message.get("event") != "asks":
            return super().parse_webhook(request)
        seen = Call(
            id=message["id"], provider=self.name, direction=Direction.OUTBOUND, from_="", to="",
            status=CallStatus.ANSWERED, facts=message.get("facts", {}),
        )  # fmt: skip
        return InstructionsRequested(
            call=seen, call_id=message["id"], reference=request.query().get("ref", ""), purpose=message["purpose"],
            event_id=message.get("event_id", ""), raw=message,
        )  # fmt: skip

    async def instruct(self, event: InstructionsRequested, call: Call, stream: StreamTarget | None) -> WebhookReply:
        self.log.append(("instruct", event.purpose, call.reference))
        return WebhookReply(body=stream.model_dump_json().encode() if stream is not None else b"nothing to connect")


class QueryProvider(AskingProvider):
    name = "query"
    ticket_place = TicketPlace.QUERY


class HeaderProvider(AskingProvider):
    name = "header"
    ticket_place = TicketPlace.HEADER


class Carriers:
    @hookimpl
    def anycarrier_providers(self) -> list[type[Provider]]:
        return [AskingProvider, QueryProvider, HeaderProvider, TrunkProvider]


@pytest.fixture
def carriers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    plugins.register(Carriers(), "carriers")
    AskingProvider.log.clear()
    TrunkProvider.log.clear()
    AskingProvider.dial_error = None
    yield
    plugins.reset()


def process(book: MemoryCallBook, once: MemoryOnce, registry: MemoryNumberRegistry) -> Exchange:
    """One of several that share a call book, a once store and a secret."""
    credentials = {
        "main": FakeCredential(provider="asking"),
        "query": FakeCredential(provider="query"),
        "header": FakeCredential(provider="header"),
        "trunk": FakeCredential(provider="trunk"),
        "trunk-2": FakeCredential(provider="trunk"),
    }
    return Exchange(
        registry=registry, credentials=credentials, public_url="https://voice.example.com", secret="x" * 32,
        agents=echo, policy=Policy(allow=["US"]), calls=book, once=once, settle=0.2,
    )  # fmt: skip


@pytest.fixture
async def two(carriers: None) -> AsyncIterator[tuple[Exchange, Exchange]]:
    book, once, registry = MemoryCallBook(), MemoryOnce(), MemoryNumberRegistry()
    made = process(book, once, registry), process(book, once, registry)
    await made[0].assign(OURS, agent_id="a", credential_id="main", configure=False)
    yield made
    for each in made:
        await each.stop()


async def asks(exchange: Exchange, call: Call, purpose: str = "answered", **message: Any) -> bytes:
    """The carrier's question, and the body of the reply."""
    url = f"https://voice.example.com/asking/main?ref={call.reference}"
    body = {"event": "asks", "id": call.id or "out-1", "purpose": purpose, "event_id": "e-1", **message}
    request = WebhookRequest("POST", url, {"x-signed": "yes"}, json.dumps(body).encode())
    reply = await exchange.handle_webhook("asking", "main", request)
    assert reply.status == 200
    return reply.body


def dialled_with() -> StreamTarget:
    [(_, request)] = [entry for entry in AskingProvider.log if entry[0] == "dial"]
    stream: StreamTarget = request.stream
    return stream


async def test_any_process_gives_the_stream_that_was_made_at_dial_and_its_ticket_works_once(
    two: tuple[Exchange, Exchange],
) -> None:
    here, there = two
    call = await here.dial(from_=OURS, to=CALLER, custom={"order": "7"})
    told: list[CallEvent] = []
    there.switchboard.observers.append(lambda event, of: told.append(event))
    first, again = await asks(there, call), await asks(there, call)
    assert first == again == dialled_with().model_dump_json().encode(), "asked again, it is told the same"
    assert json.loads(first)["custom"] == {"order": "7"}
    assert [type(event) for event in told] == [InstructionsRequested]
    answered = await there.switchboard.calls.get(call.reference)
    assert answered is not None and answered.status is CallStatus.ANSWERED
    ticket = await there.admit(dialled_with().ticket)
    assert (ticket.reference, ticket.call_id) == (call.reference, "")
    with pytest.raises(TicketRefused, match="used before"):
        await here.admit(dialled_with().ticket)


async def test_the_question_may_come_before_the_answer_to_the_dial(two: tuple[Exchange, Exchange]) -> None:
    here, there = two
    opened = await here.switchboard.calls.open(
        Call(
            id="", provider="asking", direction=Direction.OUTBOUND, from_=OURS, to=CALLER, status=CallStatus.QUEUED,
            reference=R1, credential_id="main", agent_id="a", facts={"kept": "before"},
        )
    )  # fmt: skip
    bodies: list[bytes] = []

    async def asked_at_once(self: AskingProvider, request: Any) -> Call:
        self.log.append(("dial", request))
        bodies.append(await asks(there, opened))
        return Call(
            id="out-1", provider="asking", direction=Direction.OUTBOUND, from_=OURS, to=CALLER,
            status=CallStatus.INITIATED, facts={"region": "eu"},
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AskingProvider, "dial", asked_at_once)
        call = await here.dial(call=opened)
    assert bodies == [dialled_with().model_dump_json().encode()]
    assert {**call.facts, STREAM_FACT: ""} == {"kept": "before", STREAM_FACT: "", "region": "eu"}


@pytest.mark.parametrize("why", ["ended", "hung up", "transfer", "unknown"])
async def test_there_is_nothing_to_connect(two: tuple[Exchange, Exchange], why: str) -> None:
    here, there = two
    call = await here.dial(from_=OURS, to=CALLER)
    if why == "ended":
        await here.switchboard.end_locally(call, EndReason.NO_ANSWER)
    elif why == "hung up":
        await here.hang_up(call)
    elif why == "unknown":
        call = call.model_copy(update={"id": "out-9", "reference": "nobody"})
    purpose = InstructionsFor.TRANSFER if why == "transfer" else InstructionsFor.ANSWERED
    assert await asks(there, call, purpose) == b"nothing to connect"
    assert AskingProvider.log[-1] == ("instruct", purpose, "" if why == "unknown" else call.reference)


async def test_a_question_that_the_plugin_has_no_answer_to_says_what_to_write(
    two: tuple[Exchange, Exchange], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    call = await two[0].dial(from_=OURS, to=CALLER)
    monkeypatch.setattr(AskingProvider, "instruct", Provider.instruct)
    request = WebhookRequest(
        "POST", f"https://voice.example.com/asking/main?ref={call.reference}", {"x-signed": "yes"},
        json.dumps({"event": "asks", "id": "out-1", "purpose": "answered"}).encode(),
    )  # fmt: skip
    assert (await two[0].handle_webhook("asking", "main", request)).status == 500
    assert "asking does not support instruct: override it" in caplog.text


@pytest.mark.parametrize("broken", [True, False])
async def test_a_ticket_whose_carrier_is_no_longer_usable_is_refused(
    two: tuple[Exchange, Exchange], broken: bool
) -> None:
    await two[0].dial(from_=OURS, to=CALLER)
    ticket = dialled_with().ticket
    plugins.reset()
    if broken:
        plugins.host().broken["asking"] = PluginError("it does not import")
    with pytest.raises(TicketRefused, match="its carrier cannot be used here") as refused:
        await two[0].admit(ticket)
    assert refused.value.status == 403


async def test_custom_values_that_cannot_be_kept_until_they_are_asked_for_ring_nobody(
    two: tuple[Exchange, Exchange],
) -> None:
    with pytest.raises(ConfigurationError, match="custom values of a call on asking are too long"):
        await two[0].dial(from_=OURS, to=CALLER, custom={"long": "x" * LONGEST_FACT})
    assert AskingProvider.log == [] and await two[0].calls_in_progress() == []


async def test_a_provider_reads_the_facts_of_its_own_calls_in_any_process(two: tuple[Exchange, Exchange]) -> None:
    here, there = two
    call = await here.dial(from_=OURS, to=CALLER)
    await asks(here, call, facts={"region": "https://eu.example.com"})
    provider = await there.switchboard.provider("main")
    assert (await provider.facts("out-1"))["region"] == "https://eu.example.com"
    assert await (await there.switchboard.provider("query")).facts("out-1") == {}, "another credential's call"
    assert await provider.facts("out-9") == {}
    assert await AskingProvider(FakeCredential()).facts("out-1") == {}, "without an exchange there are none"


def test_facts_are_few_short_and_the_last_that_was_told(subject: Call) -> None:
    kept = advance(subject, subject.model_copy(update={"facts": {"a": "1", "b": "2"}}), EPOCH)
    assert kept.facts == {"a": "1", "b": "2"}
    later = advance(kept, kept.model_copy(update={"facts": {"b": "3"}}), EPOCH)
    assert later.facts == {"a": "1", "b": "3"}
    assert advance(later, later, EPOCH) is later
    many = {str(n): "x" for n in range(MOST_FACTS)}
    assert advance(later, later.model_copy(update={"facts": many}), EPOCH).facts == many
    for facts in ({**many, "one more": "x"}, {"long": "x" * (LONGEST_FACT + 1)}, {"n" * 65: "x"}):
        with pytest.raises(ValueError, match="facts"):
            Call.model_validate({**subject.model_dump(), "facts": facts})


def test_a_providers_facts_leave_the_exchanges_own_alone(subject: Call) -> None:
    dialled = subject.model_copy(update={"facts": {STREAM_FACT: "kept", "a": "1"}})
    many = {**{str(n): "x" for n in range(MOST_FACTS)}, STREAM_FACT: "another"}
    after = advance(dialled, dialled.model_copy(update={"facts": many}), EPOCH).facts
    assert (after[STREAM_FACT], len(after), "a" in after) == ("kept", MOST_FACTS, False)
    assert advance(dialled, dialled.model_copy(update={"facts": {STREAM_FACT: "another"}}), EPOCH) is dialled


def test_a_price_is_kept_once_it_is_told_and_may_come_after_the_end(subject: Call) -> None:
    ended = advance(subject, subject.model_copy(update={"status": CallStatus.ENDED}), EPOCH)
    price = Price(amount="0.0085", currency="USD")  # type: ignore[arg-type]
    told = advance(ended, ended.model_copy(update={"price": price}), EPOCH)
    assert (ended.price, told.price) == (None, price)
    assert advance(told, told.model_copy(update={"price": None}), EPOCH).price == price
    for wrong in ({"amount": "-1", "currency": "USD"}, {"amount": "1", "currency": "dollars"}):
        with pytest.raises(ValueError):
            Price.model_validate(wrong)


@pytest.mark.parametrize(
    ("credential", "url"),
    [("main", f"/media/{T}"), ("query", f"/media?ticket={T}"), ("header", "/media")],
)
async def test_a_stream_target_has_its_ticket_where_the_carrier_can_carry_it(
    two: tuple[Exchange, Exchange], credential: str, url: str, subject: Call
) -> None:
    board = two[0].switchboard
    provider = (await board.provider(credential)).name
    call = await board.calls.open(subject.model_copy(update={"provider": provider, "credential_id": credential}))
    target = board.stream_target(call, {}, ttl=60)
    assert target.url == f"wss://voice.example.com{url.replace(T, target.ticket)}"
    assert target.ticket not in repr(target) and "ticket" not in target.model_dump()
    place = (await board.provider(credential)).ticket_place
    for elsewhere in set(TicketPlace) - {place}:
        with pytest.raises(TicketRefused, match=f"does not bring it in the {elsewhere}"):
            await two[1].admit(target.ticket, elsewhere)
    assert (await two[1].admit(target.ticket, place)).credential_id == credential, "none of that used it up"


@pytest.mark.parametrize(
    ("path", "query", "authorization", "found"),
    [
        (T, "", "", "path"), (T, "ticket=other", "Bearer other", "path"), ("", f"ticket={T}", "", "query"),
        ("", f"a=1&ticket={T}&ticket=other", "Bearer other", "query"), ("", "ticket=", f"Bearer {T}", "header"),
        ("", "", f"bearer {T}", "header"),
        ("", "", "Basic " + b64encode(f"anycarrier:{T}".encode()).decode(), "header"),
        ("", "", "", ""), ("", "", "Basic not-base64!", ""), ("", "", "Basic " + b64encode(b"no colon").decode(), ""),
        ("", "", f"Digest {T}", ""), ("", "x=1", "", ""),
    ],
)  # fmt: skip
def test_the_ticket_is_found_where_it_may_travel(path: str, query: str, authorization: str, found: str) -> None:
    headers: Mapping[str, str] = {"authorization": authorization} if authorization else {}
    text, place = find_ticket(path, query, headers)
    assert (text, place if text else "") == (T if found else "", found)


async def test_a_listener_cannot_serve_another_credentials_call(two: tuple[Exchange, Exchange], subject: Call) -> None:
    here = two[0]
    board = here.switchboard
    call = await board.calls.open(subject.model_copy(update={"provider": "trunk", "credential_id": "trunk"}))
    await here.start_listener("trunk-2")
    [(_, listener)] = [entry for entry in TrunkProvider.log if entry[0] == "listener"]
    ticket = board.stream_target(call, {}, ttl=60).ticket
    with pytest.raises(TicketRefused, match="another credential"):
        await listener.desk.media(ticket, MemoryTransport())
    with pytest.raises(TicketRefused, match="used before"):
        await here.admit(ticket)


@pytest.fixture
def subject() -> Call:
    return Call(
        id="in-1", provider="asking", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=CallStatus.RINGING,
        reference=R1, credential_id="main", agent_id="a",
    )  # fmt: skip
