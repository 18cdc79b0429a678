"""An offer or answer with a number of 5,000 digits, which int() refuses to read."""

import pytest

from anycarrier import EndReason
from scripted_sip_peer import House, play, sdp

LONG = "9" * 5000
LINES = [f"a=ptime:{LONG}\r\n", f"a=rtcp:{LONG}\r\n", f"a=rtcp:{LONG} IN IP4 127.0.0.1\r\n"]


@pytest.mark.parametrize("line", LINES)
def test_an_offer_with_it_has_its_final_answer_and_takes_no_place(line: str) -> None:
    async def scene(house: House) -> None:
        for number in range(60):
            leg = house.peer.invite(body=sdp(house.peer.media_port) + line, call_id=f"call-{number}")
            ok = await house.peer.next("200 INVITE", within=5)
            leg.remote_tag, leg.target = ok.tag("To"), ok.contact
            leg.request("ACK", cseq=leg.cseq)
            leg.request("BYE")
            await house.peer.next("200 BYE")
        assert not house.listener.endpoint.guard.counters.failures

    play(scene)


@pytest.mark.parametrize("line", LINES)
def test_an_answer_with_it_is_a_call_like_any_other(line: str) -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, "200 OK", body=sdp(house.peer.media_port) + line)
        await house.peer.next("ACK")
        call = await dialling
        await house.exchange.hang_up(call.id)
        await house.peer.next("BYE")
        assert (await house.over(call)).reason is EndReason.API_STOP
        assert not house.listener.endpoint.guard.counters.failures

    play(scene)
