"""Media sockets that strangers open, and frames no carrier should send."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from anycarrier import AudioReceived, CallStatus, EndReason, MediaSession, UnknownEvent
from anycarrier.provider import TicketPlace
from whole.conftest import House, until


async def refusal(house: House, ticket: str | None) -> int:
    """The status with which a socket is refused that brings ``ticket``, where the carrier would bring it."""
    url, headers = f"ws{house.base_url.removeprefix('http')}/media", {}
    if ticket is not None and house.provider.ticket_place is TicketPlace.HEADER:
        headers["Authorization"] = f"Bearer {ticket}"
    elif ticket is not None:
        url += f"?ticket={ticket}" if house.provider.ticket_place is TicketPlace.QUERY else f"/{ticket}"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, proxy=None, additional_headers=headers):
            pass
    return int(refused.value.response.status_code)


def ticket_of(house: House, stream_url: str) -> str:
    """The ticket of a stream, in its URL: where it travels in a header, as the password."""
    match house.provider.ticket_place:
        case TicketPlace.HEADER:
            return urlsplit(stream_url).password or ""
        case TicketPlace.QUERY:
            return parse_qs(urlsplit(stream_url).query)["ticket"][0]
    return stream_url.rpartition("/")[2]


async def test_a_socket_without_a_good_ticket_starts_nothing(house: House) -> None:
    house.skip_where_it_listens("WebSocket that a ticket could open")
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    ticket = ticket_of(house, far_end.stream_url)
    other = house.exchange.switchboard.tickets.issue(
        provider=house.provider.name, credential_id="main", reference="nobody", call_id="x", agent_id="a", ttl=60
    )
    assert await refusal(house, ticket) == 403, "used"
    assert await refusal(house, f"{ticket[:-4]}AAAA") == 403, "forged"
    assert await refusal(house, other) == 403, "of no call"
    assert await refusal(house, "") == 401, "none"
    assert await refusal(house, None) == 401, "none"
    assert len(house.sessions) == 1
    await far_end.hang_up()
    await house.over(far_end)


async def test_a_ticket_does_not_carry_another_call(house: House) -> None:
    """The ticket of one call, shown by a socket that then claims to be another call."""
    house.skip_where_it_listens("WebSocket that a ticket could open")
    first = await house.ring()
    await first.wait_for("streaming")
    call = await house.call_of(first)
    stray = house.exchange.switchboard.stream_target(call.model_copy(update={"id": "another-call"}), {}, ttl=60)
    await first.hang_up()
    await house.over(first)
    assert await refusal(house, stray.ticket) == 403, "its call is over"
    assert len(house.sessions) == 1


async def test_nonsense_on_the_socket_becomes_events_and_the_call_goes_on(house: House) -> None:
    seen: list[UnknownEvent] = []

    async def watch(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, UnknownEvent):
                seen.append(event)
            elif isinstance(event, AudioReceived):
                await session.send_audio(event.payload)

    house.answer_with(watch)
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    for nonsense in (
        "not json",
        '{"event":"med',
        "[]",
        '{"event":"media","media":{"payload":"***not base64***"}}',
        "x" * 400_000,
        b"\x00\xff\x00",
    ):
        await far_end.inject(nonsense)
    await far_end.inject(json.dumps({"event": "novelty", "eventType": "novelty", "type": "novelty", "value": 1}))
    await far_end.say(b"\x42" * 800)
    await until(lambda: b"\x42" * 800 in far_end.heard)
    if not house.listens:  # what is no RTP packet is nobody's event
        await until(lambda: len(seen) >= 7)
        kinds = [event.kind for event in seen]
        # Where audio is binary, a frame named media is well-formed, and nobody's.
        assert kinds.count("malformed") + kinds.count("media") == 6 and "novelty" in kinds
        assert next(event for event in seen if event.kind == "novelty").raw["value"] == 1
    await far_end.hang_up()
    call = await house.over(far_end)
    assert (call.status, call.reason) == (CallStatus.ENDED, EndReason.USER_HANGUP)
