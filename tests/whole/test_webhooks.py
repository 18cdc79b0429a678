"""Webhooks that are forged, replayed, doubled or out of order."""

import httpx

from anycarrier import CallStatus, EndReason
from anycarrier.events import IncomingCall
from whole.conftest import House


async def test_a_forged_webhook_is_refused_and_starts_nothing(house: House) -> None:
    house.skip_where_it_listens("webhooks")
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    genuine = house.sandbox.deliveries[0]
    async with httpx.AsyncClient() as client:
        for headers in ({}, dict.fromkeys(genuine.headers, "forged")):
            reply = await client.request(
                genuine.method, genuine.url, content=genuine.body, headers={**headers, "content-type": "text/plain"}
            )
            assert reply.status_code == 403
    assert len(house.sessions) == 1
    await far_end.hang_up()
    await house.over(far_end)


async def test_a_replayed_announcement_mints_no_second_ticket(house: House) -> None:
    house.skip_where_it_listens("webhooks")
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    replay = await house.sandbox.redeliver(0)
    assert b"/media/" not in (replay.reply or b"")
    await far_end.hang_up()
    await house.over(far_end)
    replay = await house.sandbox.redeliver(0)
    assert b"/media/" not in (replay.reply or b"")
    announced = [call for event, call in house.events if isinstance(event, IncomingCall)]
    assert (len(announced), len(house.sessions)) == (1, 1)


async def test_doubled_and_disordered_deliveries_change_nothing(house: House) -> None:
    house.sandbox.quirks |= {"duplicate", "reorder"}
    call, far_end = await house.dial()
    await far_end.wait_for("streaming")
    await far_end.hang_up()
    over = await house.over(call)
    assert (over.status, over.reason) == (CallStatus.ENDED, EndReason.USER_HANGUP)
    assert over.answered_at is not None and len(house.sessions) == 1


async def test_an_inbound_call_survives_doubled_deliveries(house: House) -> None:
    house.sandbox.quirks |= {"duplicate"}
    far_end = await house.ring(said=b"\x41" * 800)
    await far_end.wait_heard(0.1)
    await far_end.hang_up()
    over = await house.over(far_end)
    assert (over.reason, len(house.sessions)) == (EndReason.USER_HANGUP, 1)
