"""P10: whole calls, with passwords, logins and SRTP keys, leave none of them where people and machines read."""

from __future__ import annotations

import asyncio
import base64
import logging
import re

import pytest

from anycarrier import CallStatus
from anycarrier.errors import AnycarrierError
from scripted_sip_peer import OURS, THEIRS, House, Leg, play, sdp

PASSWORD, SECRET_HEADER = "swordfish-of-the-trunk", 'Digest username="eve", response="0123456789abcdef"'
KEY = base64.b64encode(b"their key and their salt: 30 b").decode()
CHALLENGE = 'WWW-Authenticate: Digest realm="pbx", nonce="n1", algorithm=MD5'
SECURE = {"srtp": "offered", "registers": True, "username": "201", "password": PASSWORD}


def secure(port: int) -> str:
    crypto = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
    return sdp(port).replace("RTP/AVP", "RTP/SAVP") + crypto


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_p10_whole_calls_leave_no_secret_in_logs_raw_figures_or_errors(
    level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level)
    told: list[str] = []

    async def scene(house: House) -> None:
        peer = house.peer
        house.exchange.switchboard.observers.append(lambda event, call: told.append(repr((event, call))))
        peer.respond(await peer.next("REGISTER"), "401 Unauthorized", headers=(CHALLENGE,))
        register = await peer.next("REGISTER")
        peer.respond(register, "200 OK", headers=(f"Contact: {register['Contact']};expires=120",))

        async def both_ways(leg: Leg, call_id: str) -> None:
            leg.invite(body=secure(peer.media_port + 2))  # the media moves, with the same keys
            ok = await leg.answered()
            secrets.update(re.findall(r"inline:(\S+)", ok.body))
            for broken in ("Signal=?", "Signal=5"):
                leg.request("INFO", body=broken, kind="application/dtmf-relay")
            asking = asyncio.create_task(house.exchange.transfer(call_id, to="+14155550188"))
            peer.respond(await peer.next("REFER"), "401 Unauthorized", headers=(CHALLENGE.replace("n1", "n2"),))
            refer = await peer.next("REFER")
            secrets.add(re.findall(r'response="(\w+)"', refer.text)[0])
            peer.respond(refer, "403 Forbidden")
            with pytest.raises(AnycarrierError) as refused:
                await asking
            told.append(str(refused.value))

        secrets = {PASSWORD, KEY, SECRET_HEADER, re.findall(r'response="(\w+)"', register.text)[0]}
        leg = Leg(peer, "call-1", OURS, THEIRS, target=register.contact)
        given = (f"Authorization: {SECRET_HEADER}", f"Proxy-Authorization: {SECRET_HEADER}")
        leg.invite(headers=given, body=secure(peer.media_port))
        ok = await leg.answered()
        secrets.update(re.findall(r"inline:(\S+)", ok.body))
        call = await house.exchange.wait_for(next(iter(house.listener.calls)), CallStatus.ANSWERED)
        peer.send(f"INFO x SIP/2.0\r\nVia: x\r\nCSeq: 1 INFO\r\nAuthorization: {SECRET_HEADER}\r\n\r\n{secure(1)}")
        peer.media.sendto(b"\x80\x00" + bytes(200), ("127.0.0.1", int(ok.body.split("m=audio ")[1].split()[0])))
        await both_ways(leg, call.id)
        told.append(repr(house.listener.calls))
        leg.request("BYE", headers=(f"Reason: Q.850;cause=41;text=\"from {THEIRS[1:]}\"",))
        await house.over(call)

        invite, dialling = await house.dial(headers={"X-Case": "42"})
        peer.respond(invite, "401 Unauthorized", headers=(CHALLENGE.replace("n1", "n3"),))
        invite = await peer.next("INVITE")
        secrets.add(re.findall(r'response="(\w+)"', invite.text)[0])
        secrets.update(re.findall(r"inline:(\S+)", invite.body))
        peer.respond(invite, "200 OK", body=secure(peer.media_port))
        await peer.next("ACK")
        dialled = await dialling
        await house.exchange.hang_up(dialled.id)
        peer.respond(await peer.next("BYE"), "200 OK")
        await house.over(dialled)

        refused_invite, dialling = await house.dial()
        peer.respond(refused_invite, "401 Unauthorized", headers=(CHALLENGE.replace("n1", "n4"),))
        peer.respond(await peer.next("INVITE"), "401 Unauthorized", headers=(CHALLENGE.replace("n1", "n5"),))
        with pytest.raises(AnycarrierError) as wrong:
            await dialling
        told.extend((str(wrong.value), repr(wrong.value)))
        told.extend(map(repr, (house.provider, house.provider.credential)))
        told.extend(map(repr, (house.listener.health(), house.listener.figures())))
        told.append(repr(await house.provider.fetch_call(call.id)))
        assert len(secrets) >= 8, "all kinds were seen"
        read = "\n".join(told), "\n".join(f"{one.getMessage()}{one.exc_text or ''}" for one in caplog.records)
        for secret in secrets:
            for text in read:
                assert secret not in text
        for word in ("inline:", "Digest ", "Authorization"):
            for text in read:
                assert word not in text
        # Of numbers, our own and the far end's are what a call is about; logs are read by others.
        for number in (OURS, THEIRS, "+14155550188"):
            assert number not in read[1] and number[1:] not in read[1]

    play(scene, quiet=False, standing=True, credential=SECURE, settings={"srtp_without_tls": True})
