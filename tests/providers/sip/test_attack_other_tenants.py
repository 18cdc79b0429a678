"""Another tenant's peer knows a call's Call-ID and tags, as a carrier that several share does: it changes nothing."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from anycarrier_sip.credential import SipCredential
from scripted_sip_peer import OURS, Heard, House, Leg, Peer, play, sdp

THEIR_NUMBER = "+14155550102"


class Neighbour(Peer):
    """A peer of another credential, at an address of its own."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer.loop)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.3", 0))
        self.socket.setblocking(False)
        self.us, self.port, self.media_port = peer.us, self.socket.getsockname()[1], 9

    def send(self, text: str) -> None:
        self.socket.sendto(text.encode().replace(b"UDP 127.0.0.1", b"UDP 127.0.0.3"), self.us)

    async def answers(self) -> list[Heard]:
        await asyncio.sleep(0.5)
        found = []
        try:
            while True:
                found.append(Heard.read(self.socket.recv(65536).decode()))
        except BlockingIOError:
            self.socket.close()
            return found


async def neighbour_of(house: House) -> Neighbour:
    """With a credential of his own, on the same sockets."""
    credentials: Any = house.exchange.switchboard.credentials
    given: dict[str, Any] = {"host": None, "registers": False, "peers": ("127.0.0.3",), "numbers": (THEIR_NUMBER,)}
    credentials.by_id["neighbour"] = SipCredential(**given)
    await house.exchange.assign(THEIR_NUMBER, agent_id="desk", credential_id="neighbour")
    await house.exchange.start_listener("neighbour")
    return Neighbour(house.peer)


@pytest.mark.parametrize("method", ["BYE", "INVITE", "UPDATE", "INFO", "NOTIFY", "PRACK", "REFER", "OPTIONS", "ACK"])
def test_nothing_inside_a_call_comes_from_another_tenants_peer(method: str) -> None:
    async def scene(house: House) -> None:
        neighbour = await neighbour_of(house)
        call, leg = await house.rung()
        terms, told = house.listener.calls[call.id].terms, len(house.events)
        body, kind = ("Signal=5", "application/dtmf-relay") if method == "INFO" else (sdp(9), "application/sdp")
        forged = replace(leg, peer=neighbour, cseq=50)
        forged.request(method, body=body, kind=kind, headers=("Event: refer", "RAck: 1 1 INVITE"))
        assert [heard.status for heard in await neighbour.answers()] == ([] if method == "ACK" else [481])
        assert (house.listener.calls[call.id].terms, len(house.events)) == (terms, told)
        leg.request("BYE")
        await house.peer.next("200 BYE")

    play(scene)


def test_a_call_that_rings_is_not_cancelled_by_another_tenants_peer() -> None:
    async def scene(house: House) -> None:
        neighbour = await neighbour_of(house)
        leg = house.peer.invite()
        forged = replace(leg, peer=neighbour)
        forged.cancel()
        assert {heard.status for heard in await neighbour.answers()} == {481}
        await leg.answered()
        leg.request("BYE")
        await house.peer.next("200 BYE")

    play(scene)


def test_a_call_is_not_replaced_by_another_tenants_peer() -> None:
    """Nor is it by an INVITE to the number of the tenant whose call it is."""

    async def scene(house: House) -> None:
        neighbour = await neighbour_of(house)
        call, leg = await house.rung()
        for number, status in ((THEIR_NUMBER, 481), (OURS, 404)):
            thief = Neighbour(house.peer)
            theft = Leg(thief, f"theft-of-{number}", number, "+12125550199")
            theft.invite(headers=(f"Replaces: {leg.call_id};to-tag={leg.remote_tag};from-tag={leg.local_tag}",))
            assert [heard.status for heard in await thief.answers() if heard.status != 100] == [status]
        assert house.listener.calls[call.id].dialog.call_id == leg.call_id
        neighbour.socket.close()
        leg.request("BYE")
        await house.peer.next("200 BYE")

    play(scene)


def test_a_call_to_another_tenants_number_is_nobodys() -> None:
    async def scene(house: House) -> None:
        neighbour = await neighbour_of(house)
        Leg(neighbour, "misled", OURS, "+12125550199").invite()
        assert [heard.status for heard in await neighbour.answers() if heard.status != 100] == [404]
        assert not house.listener.calls

    play(scene)
