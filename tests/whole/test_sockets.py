"""Media sockets that strangers open, and frames no carrier should send."""

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from anycarrier import AudioReceived, CallStatus, EndReason, MediaSession, UnknownEvent
from whole.conftest import House, until


async def refusal(url: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, proxy=None):
            pass
    return int(refused.value.response.status_code)


async def test_a_socket_without_a_good_ticket_starts_nothing(house: House) -> None:
    house.skip_where_it_listens("WebSocket that a ticket could open")
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    origin, _, ticket = far_end.stream_url.rpartition("/")
    other = house.exchange.switchboard.tickets.issue(
        provider=house.provider.name, credential_id="main", reference="nobody", call_id="x", agent_id="a", ttl=60
    )
    assert await refusal(far_end.stream_url) == 403, "used"
    assert await refusal(f"{origin}/{ticket[:-4]}AAAA") == 403, "forged"
    assert await refusal(f"{origin}/{other}") == 403, "of no call"
    assert await refusal(f"{origin}/") == 401, "none"
    assert await refusal(origin) == 401, "none"
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
    assert await refusal(stray.url) == 403, "its call is over"
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
    await far_end.inject(json.dumps({"event": "novelty", "type": "novelty", "value": 1}))
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
