"""Trunks and softphones through the real exchange, against a far end that is typed by hand."""

import asyncio
import re
from functools import partial
from typing import Any

import pytest

from anycarrier import CallStatus, EndReason, WebhookRequest
from anycarrier.credentials import MemoryCredentials
from anycarrier.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DestinationNotAllowed,
    RequestRejected,
    SignatureInvalid,
)
from anycarrier_sip.credential import SipCredential
from scripted_sip_peer import OURS, THEIRS, Heard, House, Leg, Peer, sdp
from scripted_sip_peer import play as play_scene
from sip_wire import md5

play = partial(play_scene, standing=True)
"""With its registration or its OPTIONS going on: they are what these tests are about."""
CHALLENGE = 'WWW-Authenticate: Digest realm="pbx", nonce="n1", algorithm=MD5'
EXTENSION: dict[str, Any] = {"registers": True, "username": "201", "password": "secret"}
SOFTPHONES: dict[str, Any] = {
    "preset": "softphones", "host": None, "port": None, "registers": None,
    "users": [{"name": "alice", "password": "swordfish", "number": THEIRS}],
}  # fmt: skip


def proves(request: Heard, user: str, password: str, realm: str = "pbx") -> bool:
    """Whether the request answers the challenge, by RFC 2617 as it is written there."""
    fields = dict(re.findall(r'(\w+)="?([^",]*)"?', request["Authorization"].removeprefix("Digest ")))
    ours, theirs = md5(f"{user}:{realm}:{password}"), md5(f"{request.method}:{fields['uri']}")
    return fields["username"] == user and fields["response"] == md5(f"{ours}:{fields['nonce']}:{theirs}")


async def registered(peer: Peer) -> Heard:
    """Let the endpoint register: its second REGISTER, answered."""
    peer.respond(await peer.next("REGISTER"), "401 Unauthorized", headers=(CHALLENGE,))
    register = await peer.next("REGISTER")
    assert proves(register, "201", "secret")
    peer.respond(register, "200 OK", headers=(f"Contact: {register['Contact']};expires=120",))
    return register


# --- a trunk that registers ---------------------------------------------------------------------------------------


def test_a_trunk_registers_and_calls_come_to_its_contact() -> None:
    async def scene(house: House) -> None:
        register = await registered(house.peer)
        assert (register["To"], register["Expires"]) == ("<sip:201@127.0.0.1>", "300")
        leg = Leg(house.peer, "call-1@peer", OURS, THEIRS, target=register.contact)
        leg.invite()
        await leg.answered()
        assert str(house.listener.standing.status) == f"registered at udp:127.0.0.1:{house.peer.port}"
        leg.request("BYE")
        await house.peer.next("200 BYE")
        [call] = [event.call for event in house.events if hasattr(event, "call")][:1]
        assert (call.from_, call.to) == (THEIRS, OURS)
        await house.exchange.stop()
        gone = await house.peer.next("REGISTER")
        assert (gone["Expires"], gone["Contact"]) == ("0", register["Contact"])

    play(scene, credential=EXTENSION)


def test_a_registration_is_refreshed_and_outlives_a_restart_of_the_registrar() -> None:
    async def scene(house: House) -> None:
        first = await registered(house.peer)
        again = await house.peer.next("REGISTER", within=120)
        assert (again["Call-ID"], again["Contact"]) == (first["Call-ID"], first["Contact"])
        house.peer.respond(again, "503 Service Unavailable")
        await registered(house.peer)
        assert house.listener.standing.status.state in ("down", "up")
        await asyncio.sleep(1)
        assert house.listener.standing.status.state == "up"

    play(scene, credential=EXTENSION)


def test_checking_a_credential_tells_a_wrong_password() -> None:
    async def scene(house: House) -> None:
        await registered(house.peer)
        checking = asyncio.create_task(house.provider.check_credential())
        for _ in range(2):
            query = await house.peer.next("REGISTER")
            assert "contact" not in dict(query.headers), "it changes no binding"
            house.peer.respond(query, "401 Unauthorized", headers=(CHALLENGE,))
        with pytest.raises(AuthenticationFailed, match="the registrar refused the password of user '201'") as refused:
            await checking
        assert "secret" not in str(refused.value)

    play(scene, credential=EXTENSION)


def test_a_credential_without_a_line_is_checked_over_the_sockets_that_are_open() -> None:
    """The operator's port is taken: by us. And a check before there are any closes what it opened."""

    async def scene(house: House) -> None:
        board = house.exchange.switchboard
        assert isinstance(board.credentials, MemoryCredentials)
        first = board.credentials.by_id["trunk"]
        board.credentials.by_id["second"] = first.model_copy(update={"username": "202"})
        await registered(house.peer)
        second = await board.provider("second")
        checking = asyncio.create_task(second.check_credential())
        query = await house.peer.next("REGISTER")
        assert query["To"] == "<sip:202@127.0.0.1>"
        _, port = house.listener.endpoint.addresses["udp"]
        assert f"127.0.0.1:{port};" in query["Via"], "from another port, which no peer knows"
        house.peer.respond(query, "200 OK")
        assert await checking == "202@127.0.0.1"

    play(scene, credential=EXTENSION)


# --- a static trunk -----------------------------------------------------------------------------------------------


def test_a_static_peer_is_asked_and_its_answer_is_shown() -> None:
    async def scene(house: House) -> None:
        house.peer.respond(await house.peer.next("OPTIONS"), "200 OK")
        await asyncio.sleep(1)
        assert str(house.listener.standing.status) == f"answers at udp:127.0.0.1:{house.peer.port}"
        assert house.peer.count("REGISTER") == 0
        leg = house.peer.invite()
        await leg.answered()

    play(scene)


def test_two_credentials_cannot_have_the_same_peers() -> None:
    async def scene(house: House) -> None:
        credentials = house.exchange.switchboard.credentials.by_id  # type: ignore[attr-defined]
        twin = {"host": "127.0.0.1", "port": house.peer.port, "registers": False}
        credentials["twin"] = SipCredential(**twin)
        with pytest.raises(ConfigurationError, match=r"calls from 127\.0\.0\.1/32 belong to another credential"):
            await house.exchange.start_listener("twin")
        await house.exchange.close_listener("twin")
        credentials["twin"] = SipCredential(**twin, contact_user="desk7")
        await house.exchange.start_listener("twin")
        leg = house.peer.invite()
        await leg.answered()
        leg.request("BYE")
        stranger = Leg(house.peer, "call-2@peer", OURS, THEIRS, target=f"sip:desk7@127.0.0.1:{house.peer.us[1]}")
        stranger.invite()
        await house.peer.next("404 INVITE")  # to the twin, which has no line
        assert len(house.listener.calls) == 0

    play(scene)


# --- P1-P11 -------------------------------------------------------------------------------------------------------


async def stranger(house: House, address: str = "127.0.0.9") -> Peer:
    """A far end at another address."""
    loop = asyncio.get_running_loop()
    peer = Peer(loop)
    peer.transport, _ = await loop.create_datagram_endpoint(lambda: peer, local_addr=(address, 0))
    peer.port = peer.transport.get_extra_info("sockname")[1]
    peer.media, peer.media_port = peer.transport, 40000
    peer.us = house.peer.us
    return peer


def test_p2_softphones_are_off_unless_the_operator_turns_them_on() -> None:
    async def scene(house: House) -> None:
        phone = await stranger(house)
        for method in ("REGISTER", "INVITE", "OPTIONS"):
            Leg(phone, f"{method}@phone", OURS, THEIRS).request(method)
        await asyncio.sleep(5)
        assert phone.heard == []
        credentials = house.exchange.switchboard.credentials.by_id  # type: ignore[attr-defined]
        credentials["phones"] = SipCredential(preset="softphones", users=SOFTPHONES["users"])
        with pytest.raises(ConfigurationError, match=r"turns them on with SipSettings\(softphones=True\)"):
            await house.exchange.start_listener("phones")
        await house.exchange.close_listener("phones")
        phone.close()

    play(scene)


def test_p3_a_caller_and_a_callee_cause_no_call_of_ours() -> None:
    async def scene(house: House) -> None:
        peer = house.peer
        leg = peer.invite()
        await leg.answered()
        leg.request("REFER", headers=(f"Refer-To: <sip:{THEIRS}@127.0.0.1:{peer.port}>",))
        await peer.next("603 REFER")
        leg.request("BYE")
        dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=THEIRS))
        invite = await peer.next("INVITE")
        peer.respond(invite, "100 Trying")
        call = await dialling
        peer.respond(invite, "302 Moved Temporarily", headers=(f"Contact: <sip:+19005550100@127.0.0.1:{peer.port}>",))
        await peer.next("ACK")
        assert (await house.exchange.wait_for(call)).reason is EndReason.INVALID_NUMBER
        await asyncio.sleep(40)
        assert peer.count("INVITE") == 1, "nobody else is called"

    play(scene)


def test_p4_no_call_or_transfer_to_where_the_policy_says_no() -> None:
    async def scene(house: House) -> None:
        for to in ("+19005550100", "+881612345678", "+442079460000", "sip:x@198.51.100.1", "sip:x@localhost"):
            with pytest.raises(DestinationNotAllowed):
                await house.exchange.dial(from_=OURS, to=to)
        leg = house.peer.invite()
        await leg.answered()
        [call] = [event.call for event in house.events if hasattr(event, "call")][:1]
        for to in ("+19005550100", "sip:x@198.51.100.1", "sip:x@127.0.0.1?Replaces=a", "sip:x@127.0.0.1;maddr=8.8.8.8"):
            with pytest.raises(DestinationNotAllowed):
                await house.exchange.transfer(call, to)
        assert house.peer.count("INVITE") == house.peer.count("REFER") == 0

    play(scene)


def test_p11_nothing_in_sip_is_a_signature() -> None:
    async def scene(house: House) -> None:
        request = WebhookRequest(method="POST", url="https://voice.example.com/webhooks/trunk", headers={}, body=b"{}")
        with pytest.raises(SignatureInvalid):
            house.provider.verify(request)

    play(scene)


def test_p11_a_static_trunk_challenges_its_callers_when_it_says_so() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        challenge = await house.peer.next("401 INVITE")
        leg.request("ACK", cseq=leg.cseq)
        assert not house.events
        login = authorization(challenge, "INVITE", "201", "secret", f"sip:{OURS}@127.0.0.1:{house.peer.us[1]}")
        leg.invite(headers=(login,))
        await leg.answered()

    play(scene, credential={"challenge": True, "username": "201", "password": "secret"})


# --- softphones ---------------------------------------------------------------------------------------------------


def authorization(challenge: Heard, method: str, user: str, password: str, uri: str) -> str:
    """The answer of RFC 7616 to the challenge for MD5."""
    asked = next(one for one in challenge.all("WWW-Authenticate") if "algorithm=MD5" in one)
    fields = dict(re.findall(r'(\w+)="?([^",]*)"?', asked.removeprefix("Digest ")))
    ours, theirs = md5(f"{user}:{fields['realm']}:{password}"), md5(f"{method}:{uri}")
    answer = md5(f"{ours}:{fields['nonce']}:00000001:c:auth:{theirs}")
    return (
        f'Authorization: Digest username="{user}", realm="{fields["realm"]}", nonce="{fields["nonce"]}", uri="{uri}", '
        f'response="{answer}", algorithm=MD5, qop=auth, nc=00000001, cnonce="c"'
    )


async def alice(house: House) -> Peer:
    """Alice's telephone, registered."""
    phone = await stranger(house)
    leg = Leg(phone, "register@phone", "alice", "alice")
    uri = f"sip:alice@127.0.0.1:{phone.us[1]}"
    leg.request("REGISTER", headers=("Expires: 600",))
    login = authorization(await phone.next("401 REGISTER"), "REGISTER", "alice", "swordfish", uri)
    leg.request("REGISTER", headers=("Expires: 600", login))
    assert (await phone.next("200 REGISTER"))["Contact"] == f"<sip:them@127.0.0.1:{phone.port}>;expires=600"
    return phone


def test_a_softphone_registers_and_rings_a_line() -> None:
    async def scene(house: House) -> None:
        phone = await alice(house)
        leg = phone.invite()
        challenge = await phone.next("401 INVITE")
        login = authorization(challenge, "INVITE", "alice", "swordfish", f"sip:{OURS}@127.0.0.1:{phone.us[1]}")
        leg.invite(headers=(login, "P-Asserted-Identity: <sip:+19995550100@x>"))
        await leg.answered()
        [call] = [event.call for event in house.events if hasattr(event, "call")][:1]
        assert (call.from_, call.to) == (THEIRS, OURS), "the user's number, whatever he claims"
        leg.request("BYE")
        await phone.next("200 BYE")
        other = Leg(phone, "call-9@phone", "+14155550177", THEIRS)
        other.invite()
        login = authorization(await phone.next("401 INVITE"), "INVITE", "alice", "swordfish",
                              f"sip:+14155550177@127.0.0.1:{phone.us[1]}")  # fmt: skip
        other.invite(headers=(login,))
        await phone.next("404 INVITE")
        phone.close()

    play(scene, credential=SOFTPHONES, settings={"softphones": True})


@pytest.mark.parametrize("to", [THEIRS, "sip:alice@127.0.0.1"])
def test_a_softphone_is_rung_by_number_and_by_name(to: str) -> None:
    async def scene(house: House) -> None:
        with pytest.raises(RequestRejected, match="no phone is registered as 'alice'"):
            await house.exchange.dial(from_=OURS, to=to)
        phone = await alice(house)
        dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=to))
        invite = await phone.next("INVITE")
        assert invite.start == f"INVITE sip:them@127.0.0.1:{phone.port} SIP/2.0"
        assert OURS in invite["From"]
        phone.respond(invite, "180 Ringing")
        call = await dialling
        # Its Contact is an address behind its NAT.
        phone.respond(invite, "200 OK", body=sdp(phone.media_port).replace("127.0.0.1", "127.0.0.9"))
        await phone.next("ACK")
        await house.exchange.wait_for(call, CallStatus.ANSWERED)
        await house.exchange.hang_up(call)
        phone.respond(await phone.next("BYE"), "200 OK")
        assert (await house.exchange.wait_for(call)).reason is EndReason.API_STOP
        phone.close()

    play(scene, credential=SOFTPHONES, settings={"softphones": True})


def test_p2_a_softphone_reaches_lines_only() -> None:
    async def scene(house: House) -> None:
        phone = await alice(house)
        for to in ("alice", "+19005550100", "900442079460000", "them"):
            leg = Leg(phone, f"{to}@phone", to, THEIRS)
            leg.invite()
            uri = f"sip:{to}@127.0.0.1:{phone.us[1]}"
            login = authorization(await phone.next("401 INVITE"), "INVITE", "alice", "swordfish", uri)
            leg.invite(headers=(login,))
            await phone.next("404 INVITE")
        assert phone.count("INVITE") == 0
        assert not house.events
        phone.close()

    play(scene, credential=SOFTPHONES, settings={"softphones": True})
