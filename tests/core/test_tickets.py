"""Tickets: forged, expired, used, respelled ones start nothing."""

import base64

import pytest

from anycarrier.callbook import MemoryOnce
from anycarrier.errors import ConfigurationError, TicketRefused
from anycarrier.tickets import TicketOffice

SECRET = "s" * 32
FACTS = {"provider": "p", "credential_id": "main", "reference": "r1", "call_id": "c1", "agent_id": "front-desk"}


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def office(secret: str = SECRET, clock: Clock | None = None, once: MemoryOnce | None = None) -> TicketOffice:
    return TicketOffice(secret, once or MemoryOnce(), clock=clock or Clock())


async def test_a_ticket_brings_back_what_it_was_issued_for_once() -> None:
    desk = office()
    text = desk.issue(**FACTS, ttl=60)
    ticket = await desk.redeem(text)
    assert (ticket.credential_id, ticket.reference, ticket.call_id, ticket.agent_id) == (
        "main",
        "r1",
        "c1",
        "front-desk",
    )
    with pytest.raises(TicketRefused, match="used before"):
        await desk.redeem(text)


async def test_another_process_with_the_same_secret_and_store_redeems_it_and_no_third_does() -> None:
    once = MemoryOnce()
    text = office(once=once).issue(**FACTS, ttl=60)
    assert (await office(once=once).redeem(text)).reference == "r1"
    with pytest.raises(TicketRefused, match="used before"):
        await office(once=once).redeem(text)


@pytest.mark.parametrize(("after", "good"), [(59.0, True), (59.9, True), (60.0, False), (61.0, False)])
async def test_a_ticket_is_good_until_its_time_and_not_at_it(after: float, good: bool) -> None:
    clock = Clock()
    desk = office(clock=clock)
    text = desk.issue(**FACTS, ttl=60)
    clock.now += after
    if good:
        assert (await desk.redeem(text)).provider == "p"
        return
    with pytest.raises(TicketRefused, match="expired") as refused:
        await desk.redeem(text)
    assert refused.value.status == 403


async def test_a_used_ticket_is_remembered_for_longer_than_it_is_good() -> None:
    kept: list[tuple[str, float]] = []

    class Once(MemoryOnce):
        async def first(self, key: str, ttl: float) -> bool:
            kept.append((key, ttl))
            return await super().first(key, ttl)

    desk = office(once=Once())
    one, two = desk.issue(**FACTS, ttl=60), desk.issue(**FACTS, ttl=60)
    await desk.redeem(one)
    await desk.redeem(two)  # another ticket of the same call is another one
    assert [ttl for _, ttl in kept] == [120.0, 120.0] and all(key.startswith("ticket:") for key, _ in kept)
    assert len({key for key, _ in kept}) == 2


async def test_a_secret_of_bytes_and_the_same_as_text_are_one_secret() -> None:
    text = TicketOffice(SECRET.encode(), MemoryOnce(), clock=Clock()).issue(**FACTS, ttl=60)
    assert (await office().redeem(text)).reference == "r1"


async def test_a_ticket_respelled_with_its_padding_or_another_alphabet_is_refused() -> None:
    lengths = set()
    for filler in range(4):  # every length that base64 pads differently
        text = office().issue(**{**FACTS, "reference": "r" * (20 + filler)}, ttl=60)
        lengths.add(len(text) % 4)
        assert not text.endswith("=") and set(text).isdisjoint("+/=")
        assert (await office().redeem(text)).reference.startswith("rrr")
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        respelled = {base64.urlsafe_b64encode(sealed).decode(), base64.b64encode(sealed).decode(), text + "="} - {text}
        for other in respelled:
            with pytest.raises(TicketRefused, match="not one of ours"):
                await office().redeem(other)
    assert len(lengths) == 3


async def test_a_ticket_of_another_exchange_is_refused() -> None:
    with pytest.raises(TicketRefused, match="not one of ours"):
        await office("t" * 32).redeem(office().issue(**FACTS, ttl=60))


async def test_every_single_character_is_protected() -> None:
    text = office().issue(**FACTS, ttl=60)
    for index in range(len(text)):
        forged = text[:index] + ("A" if text[index] != "A" else "B") + text[index + 1 :]
        with pytest.raises(TicketRefused):
            await office().redeem(forged)


@pytest.mark.parametrize("text", ["x", "ä" * 40, "A" * 5000, "../../etc", "=" * 12, "\x00"])
async def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(TicketRefused):
        await office().redeem(text)


async def test_no_ticket_is_401() -> None:
    with pytest.raises(TicketRefused) as refused:
        await office().redeem("")
    assert refused.value.status == 401


def test_a_ticket_tells_a_reader_of_logs_nothing() -> None:
    text = office().issue(**FACTS, ttl=60)
    plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert not any(value.encode() in plain for value in FACTS.values() if len(value) > 2)


def test_a_short_secret_is_refused_with_a_way_to_make_a_good_one() -> None:
    with pytest.raises(ConfigurationError, match="token_hex"):
        TicketOffice("short", MemoryOnce())
