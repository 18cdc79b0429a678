"""Calls we make: forks, challenges, other targets, taking back, and what is raised or told of those that fail."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anycarrier import CallStatus, DialRequest, EndReason, StreamTarget
from anycarrier.errors import (
    AuthenticationFailed,
    CallElsewhere,
    ConfigurationError,
    DestinationNotAllowed,
    NumberRejected,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    UnsupportedOperation,
)
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.invitation import MOST_FORKS, MOST_PRACKS
from anycarrier_sip.provider import SipProvider
from anycarrier_sip.resolver import Target
from scripted_sip_peer import OPENED, OURS, THEIRS, Heard, House, Leg, Peer, play, sdp

NO_LOGIN = SipCredential(host="pbx.example.com", registers=False)
LOGIN = {"username": "201", "password": "open sesame"}


def credentials(request: Heard, name: str = "Authorization") -> dict[str, str]:
    return dict(re.findall(r'(\w+)="?([^",]*)"?', request[name]))


# --- the request --------------------------------------------------------------------------------------------------


def test_the_invite() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial(headers={"X-Order": "17"}, caller_id="+14155550188")
        assert invite["From"].startswith("<sip:+14155550188@127.0.0.1>;tag=")
        assert invite["X-Order"] == "17" and invite["Max-Forwards"] == "70"
        assert (invite["Session-Expires"], invite["Min-SE"]) == ("1800", "90")
        assert re.fullmatch(r"<sip:[0-9a-f]{16}@127\.0\.0\.1:\d+>", invite["Contact"])
        assert "m=audio 40000 RTP/AVP 0 8 101" in invite.body and invite["Content-Type"] == "application/sdp"
        assert not invite.all("User-Agent") and "rport" in invite["Via"]
        house.peer.respond(invite, "486 Busy Here")
        assert (await dialling).ended

    play(scene)


def test_a_sip_address_is_rung_as_it_is() -> None:
    async def scene(house: House) -> None:
        to = f"sip:alice@127.0.0.1:{house.peer.port}"
        invite, dialling = await house.dial(to=to)
        assert invite.start == f"INVITE {to} SIP/2.0"
        house.peer.respond(invite, "486 Busy Here")
        await dialling
        with pytest.raises(DestinationNotAllowed):
            await house.exchange.dial(from_=OURS, to="sip:alice@192.0.2.1")

    play(scene)


def test_what_cannot_be_asked() -> None:
    async def scene(house: House) -> None:
        with pytest.raises(UnsupportedOperation):
            await house.exchange.dial(from_=OURS, to=THEIRS, record=True)
        with pytest.raises(UnsupportedOperation):
            await house.exchange.dial(from_=OURS, to=THEIRS, extra={"a": 1})
        assert not house.peer.count("INVITE")

    play(scene)


# --- who answers --------------------------------------------------------------------------------------------------


def test_a_phone_that_lost_the_race_is_hung_up_once_and_a_hundred_of_them_not_at_all() -> None:
    """What we say to each goes where it names: it must not make a flood of one INVITE."""

    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        for number in range(100):
            for _ in range(3):
                house.peer.respond(invite, "200 OK", tag=f"phone-{number}", body=sdp(5000))
        await dialling
        await asyncio.sleep(0.4)  # before the first repeat
        byes = [heard.tag("To") for heard in house.peer.heard if heard.what == "BYE"]
        assert sorted(byes) == sorted(f"phone-{number}" for number in range(1, MOST_FORKS))
        for heard in house.peer.heard[:]:
            if heard.what == "BYE":
                house.peer.respond(heard, "200 OK")

    play(scene)


def test_so_many_numbered_answers_are_acknowledged() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        for number in range(100):
            headers = ("Require: 100rel", f"RSeq: {number + 1}")
            house.peer.respond(invite, "183 Session Progress", headers=headers)
            await asyncio.sleep(0.01)
        await dialling
        assert len({heard["RAck"] for heard in house.peer.heard if heard.what == "PRACK"}) == MOST_PRACKS
        house.peer.respond(invite, "486 Busy Here")

    play(scene)


def test_forked_phones_each_have_a_dialog_and_the_second_answer_is_hung_up() -> None:
    async def scene(house: House) -> None:
        peer = house.peer
        invite, dialling = await house.dial()
        peer.respond(invite, "180 Ringing", tag="one")
        peer.respond(invite, "183 Session Progress", tag="two")
        call = await dialling
        early = Leg.of(invite, peer, "two")
        early.request("UPDATE")  # inside the second's early dialog
        await peer.next("200 UPDATE")
        Leg.of(invite, peer, "three").request("UPDATE")
        await peer.next("481 UPDATE")
        peer.respond(invite, "200 OK", tag="two", body=sdp(5000))
        ack = await peer.next("ACK")
        assert ack.tag("To") == "two"
        peer.respond(invite, "200 OK", tag="one", body=sdp(5002))
        bye = await peer.next("BYE")
        assert bye.tag("To") == "one" and peer.heard[-2].what == "ACK" and peer.heard[-2].tag("To") == "one"
        peer.respond(bye, "200 OK")
        await asyncio.sleep(1)
        assert [terms.remote[1] for terms in OPENED[0].agreed] == [5000]
        assert house.listener.known(call.id).status is CallStatus.ANSWERED

    play(scene)


def test_provisional_answers_that_must_arrive_are_acknowledged_in_order() -> None:
    async def scene(house: House) -> None:
        peer = house.peer
        invite, dialling = await house.dial()

        def ring(number: int, body: str = "") -> None:
            peer.respond(invite, "183 Session Progress", headers=("Require: 100rel", f"RSeq: {number}"), body=body)

        ring(7, sdp(5000))
        prack = await peer.next("PRACK")
        assert prack["RAck"] == f"7 {invite.cseq} INVITE" and prack.cseq == invite.cseq + 1
        peer.respond(prack, "200 OK")
        ring(7)
        ring(9)
        ring(8)
        prack = await peer.next("PRACK")
        assert prack["RAck"].startswith("8 ")
        peer.respond(prack, "200 OK")
        await asyncio.sleep(1)
        assert peer.count("PRACK") == 2 and not OPENED[0].agreed  # early media reaches nobody
        await dialling
        peer.respond(invite, "200 OK")  # the answer came with the 183
        await peer.next("ACK")
        await asyncio.sleep(0.1)
        assert OPENED[0].agreed[0].remote[1] == 5000

    play(scene)


def test_an_answer_that_does_not_fit_is_hung_up() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, "200 OK", body=sdp(0))
        await house.peer.next("ACK")
        await house.peer.next("BYE")
        call = await dialling
        assert (await house.over(call)).reason is EndReason.MEDIA_ERROR

    play(scene)


# --- challenges ---------------------------------------------------------------------------------------------------


def challenge(nonce: str, more: str = "") -> str:
    return f'WWW-Authenticate: Digest realm="pbx", nonce="{nonce}", qop="auth", algorithm=MD5{more}'


def proves(request: Heard, method: str, password: str = "open sesame") -> bool:
    given = credentials(request)

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    ours, theirs = md5(f"201:pbx:{password}"), md5(f"{method}:{given['uri']}")
    return given["response"] == md5(f"{ours}:{given['nonce']}:{given['nc']}:{given['cnonce']}:auth:{theirs}")


def test_challenges_are_answered_on_invite_bye_and_refer() -> None:
    async def scene(house: House) -> None:
        peer = house.peer
        first, dialling = await house.dial()
        peer.respond(first, "401 Unauthorized", headers=(challenge("n1"),))
        await peer.next("ACK")
        second = await peer.next("INVITE")
        assert proves(second, "INVITE") and second.cseq == first.cseq + 1
        assert second["Call-ID"] == first["Call-ID"] and second.tag("From") == first.tag("From")
        assert second["Via"] != first["Via"]
        peer.respond(second, "200 OK", body=sdp(5000))
        await peer.next("ACK")
        call = await dialling
        asking = asyncio.create_task(house.exchange.transfer(call, "+14155550177"))
        refer = await peer.next("REFER")
        peer.respond(refer, "401 Unauthorized", headers=(challenge("n2"),))
        refer = await peer.next("REFER")
        assert proves(refer, "REFER")
        peer.respond(refer, "603 Decline")
        with pytest.raises(Exception, match="603"):
            await asking
        await house.exchange.hang_up(call)
        bye = await peer.next("BYE")
        peer.respond(bye, "401 Unauthorized", headers=(challenge("n3"),))
        again = await peer.next("BYE")
        assert proves(again, "BYE") and again.cseq == bye.cseq + 1
        peer.respond(again, "200 OK")
        await asyncio.sleep(0.1)
        assert not house.listener.endpoint.dialogs

    play(scene, credential=LOGIN)


def test_a_refused_password_is_answered_once_and_named() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, "401 Unauthorized", headers=(challenge("n1"),))
        invite = await house.peer.next("INVITE")
        house.peer.respond(invite, "401 Unauthorized", headers=(challenge("n2"),))
        with pytest.raises(AuthenticationFailed) as failed:
            await dialling
        assert "refused the password of user 201" in str(failed.value) and "Check username" in str(failed.value)
        assert "sesame" not in str(failed.value)
        over = await house.over()
        assert (over.reason, over.sip_code) == (EndReason.PROVIDER_AUTH_FAILED, 401)
        await asyncio.sleep(1)
        assert house.peer.count("INVITE") == 2

    play(scene, credential=LOGIN)


def test_a_stale_nonce_is_answered_once_more() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, "401 Unauthorized", headers=(challenge("n1"),))
        invite = await house.peer.next("INVITE")
        house.peer.respond(invite, "401 Unauthorized", headers=(challenge("n2", ", stale=true"),))
        invite = await house.peer.next("INVITE")
        assert credentials(invite)["nonce"] == "n2" and len(invite.all("Authorization")) == 1
        house.peer.respond(invite, "401 Unauthorized", headers=(challenge("n3", ", stale=true"),))
        with pytest.raises(AuthenticationFailed):
            await dialling

    play(scene, credential=LOGIN)


def test_a_longer_session_is_asked_for_after_422() -> None:
    async def scene(house: House) -> None:
        first, dialling = await house.dial()
        house.peer.respond(first, "422 Session Interval Too Small", headers=("Min-SE: 3600",))
        second = await house.peer.next("INVITE")
        assert (second["Session-Expires"], second["Min-SE"]) == ("3600", "3600")
        assert second["Call-ID"] == first["Call-ID"] and second.cseq == first.cseq + 1
        house.peer.respond(second, "422 Session Interval Too Small", headers=("Min-SE: 3600",))
        call = await dialling
        assert (await house.over(call)).reason is EndReason.PROVIDER_UNAVAILABLE
        assert house.peer.count("INVITE") == 2

    play(scene)


# --- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "headers", "error", "reason"),
    [
        ("403 Forbidden", (), PermissionDenied, EndReason.PROVIDER_PERMISSION_DENIED),
        ("404 Not Found", (), NumberRejected, EndReason.INVALID_NUMBER),
        ("484 Address Incomplete", (), NumberRejected, EndReason.INVALID_NUMBER),
        ("302 Moved Temporarily", ("Contact: <sip:+19005550100@127.0.0.1>",), NumberRejected, EndReason.INVALID_NUMBER),
        ("407 Proxy Authentication Required", (), AuthenticationFailed, EndReason.PROVIDER_AUTH_FAILED),
        ("429 Too Many", ("Retry-After: 7",), RateLimited, EndReason.PROVIDER_RATE_LIMITED),
        ("503 Busy", ("Retry-After: 7 (later)",), RateLimited, EndReason.PROVIDER_RATE_LIMITED),
    ],
)
def test_what_dial_raises_at_once(
    answer: str, headers: tuple[str, ...], error: type[Exception], reason: EndReason
) -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, answer, headers=headers)
        with pytest.raises(error) as raised:
            await dialling
        over = await house.over()
        assert (over.reason, over.sip_code) == (reason, int(answer[:3]))
        if isinstance(raised.value, RateLimited):
            assert raised.value.retry_after == 7
        await asyncio.sleep(1)
        assert house.peer.count("INVITE") == 1  # a 302 is not followed

    play(scene)


@pytest.mark.parametrize(
    ("answer", "headers", "reason"),
    [
        ("486 Busy Here", (), EndReason.BUSY),
        ("603 Decline", (), EndReason.REJECTED),
        ("607 Unwanted", (), EndReason.MARKED_AS_SPAM),
        ("480 Temporarily Unavailable", (), EndReason.UNREACHABLE),
        ("480 Temporarily Unavailable", ("Reason: Q.850;cause=17",), EndReason.BUSY),
        ("500 Oh", ("Reason: Q.850;cause=1;text=\"Unallocated\"",), EndReason.INVALID_NUMBER),
        ("500 Oh", (), EndReason.PROVIDER_UNAVAILABLE),
        ("499 Odd", (), EndReason.PROVIDER_UNAVAILABLE),
    ],
)  # fmt: skip
def test_what_is_told_of_a_call_that_was_not_answered(answer: str, headers: tuple[str, ...], reason: EndReason) -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, "100 Trying")
        call = await dialling
        house.peer.respond(invite, answer, headers=headers)
        over = await house.over(call)
        assert (over.reason, over.sip_code) == (reason, int(answer[:3]))
        assert over.carrier_status is not None and over.carrier_status.startswith(answer[4:])
        fetched = await house.provider.fetch_call(call.id)
        assert (fetched.reason, fetched.sip_code, fetched.ended) == (reason, int(answer[:3]), True)

    play(scene)


def test_480_after_ringing_is_no_answer() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, "183 Session Progress")
        call = await dialling
        house.peer.respond(invite, "480 Temporarily Unavailable")
        assert (await house.over(call)).reason is EndReason.NO_ANSWER

    play(scene)


def test_dial_returns_within_two_seconds_and_nobody_there_ends_the_call() -> None:
    async def scene(house: House) -> None:
        began = house.peer.loop.time()
        invite, dialling = await house.dial(timeout=60)
        call = await dialling
        assert 1.9 < house.peer.loop.time() - began < 2.2 and call.status is CallStatus.INITIATED
        over = await house.over(call)
        assert (over.reason, over.sip_code) == (EndReason.PROVIDER_UNAVAILABLE, None)
        assert 31 < house.peer.loop.time() - began < 34 and invite.method

    play(scene)


def test_nowhere_to_go() -> None:
    async def scene(house: House) -> None:
        async def nowhere(*_: Any) -> list[Target]:
            return [Target("tcp", "127.0.0.1", 9), Target("tcp", "127.0.0.1", 9)]

        house.listener.endpoint.targets = nowhere
        with pytest.raises(ProviderUnavailable) as failed:
            await house.exchange.dial(from_=OURS, to=THEIRS)
        assert not failed.value.sent
        assert (await house.over()).reason is EndReason.PROVIDER_UNAVAILABLE

    play(scene)


# --- other targets ------------------------------------------------------------------------------------------------


async def with_two(house: House) -> Peer:
    """A second target behind the first."""
    second = await Peer.open()
    second.us = house.peer.us

    async def targets(*_: Any) -> list[Target]:
        return [Target("udp", "127.0.0.1", house.peer.port), Target("udp", "127.0.0.1", second.port)]

    house.listener.endpoint.targets = targets
    return second


def test_the_next_target_after_503() -> None:
    async def scene(house: House) -> None:
        second = await with_two(house)
        first, dialling = await house.dial()
        house.peer.respond(first, "503 Service Unavailable")
        again = await second.next("INVITE")
        assert again["Call-ID"] == first["Call-ID"] and again.cseq > first.cseq
        second.respond(again, "486 Busy Here")
        assert (await dialling).reason is EndReason.BUSY
        second.close()

    play(scene)


@pytest.mark.parametrize("answer", ["486 Busy Here", "404 Not Found", "500 Oh"])
def test_not_after_another_refusal(answer: str) -> None:
    async def scene(house: House) -> None:
        second = await with_two(house)
        first, dialling = await house.dial()
        house.peer.respond(first, answer)
        await asyncio.wait({dialling})
        await asyncio.sleep(10)
        assert not second.heard or not second.count("INVITE")
        dialling.exception()
        second.close()

    play(scene)


def test_not_once_a_phone_may_ring() -> None:
    async def scene(house: House) -> None:
        second = await with_two(house)
        first, dialling = await house.dial()
        house.peer.respond(first, "180 Ringing")
        call = await dialling
        house.peer.respond(first, "503 Service Unavailable")
        assert (await house.over(call)).reason is EndReason.PROVIDER_UNAVAILABLE
        await asyncio.sleep(5)
        assert not second.count("INVITE")
        second.close()

    play(scene)


def test_not_after_a_trying_either() -> None:
    async def scene(house: House) -> None:
        second = await with_two(house)
        first, dialling = await house.dial(timeout=40)
        house.peer.respond(first, "100 Trying")
        await dialling
        await asyncio.sleep(38)
        assert not second.count("INVITE")
        second.close()

    play(scene)


def test_the_next_target_after_silence_and_a_late_answer_is_hung_up() -> None:
    async def scene(house: House) -> None:
        second = await with_two(house)
        first, dialling = await house.dial()
        again = await second.next("INVITE", within=5)
        second.respond(again, "200 OK", tag="second", body=sdp(5000))
        await second.next("ACK")
        call = await dialling
        house.peer.respond(first, "200 OK", tag="late", body=sdp(5002))
        ack = await house.peer.next("ACK")
        bye = await house.peer.next("BYE")
        assert ack.tag("To") == bye.tag("To") == "late"
        house.peer.respond(bye, "200 OK")
        assert house.listener.known(call.id).status is CallStatus.ANSWERED
        second.close()

    play(scene)


def test_a_target_that_wakes_late_is_cancelled() -> None:
    async def scene(house: House) -> None:
        second = await with_two(house)
        first, _ = await house.dial()
        again = await second.next("INVITE", within=5)
        second.respond(again, "180 Ringing", tag="second")
        house.peer.respond(first, "180 Ringing", tag="late")
        cancel = await house.peer.next("CANCEL")
        assert cancel["Via"] == first["Via"]
        second.close()

    play(scene)


# --- taking back --------------------------------------------------------------------------------------------------


def test_cancel_waits_for_a_first_answer() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        call = await dialling
        await house.exchange.hang_up(call)
        await asyncio.sleep(1)
        assert not house.peer.count("CANCEL")
        house.peer.respond(invite, "180 Ringing")
        cancel = await house.peer.next("CANCEL")
        house.peer.respond(cancel, "200 OK")
        house.peer.respond(invite, "487 Request Terminated")
        over = await house.over(call)
        assert (over.reason, over.sip_code) == (EndReason.CANCELED, 487)

    play(scene)


def test_an_answer_that_crosses_the_cancel_is_hung_up() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, "180 Ringing")
        call = await dialling
        await house.exchange.hang_up(call)
        await house.peer.next("CANCEL")
        house.peer.respond(invite, "200 OK", body=sdp(5000))
        await house.peer.next("ACK")
        bye = await house.peer.next("BYE")
        house.peer.respond(bye, "200 OK")
        over = await house.over(call)
        assert (over.reason, over.sip_code) == (EndReason.CANCELED, None)
        assert not OPENED[0].agreed

    play(scene)


@pytest.mark.parametrize(
    ("rings", "reason"), [("180 Ringing", EndReason.NO_ANSWER), ("100 Trying", EndReason.UNREACHABLE)]
)
def test_the_ring_time(rings: str, reason: EndReason) -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial(timeout=12)
        house.peer.respond(invite, rings)
        call = await dialling
        cancel = await house.peer.next("CANCEL", within=13)
        house.peer.respond(cancel, "200 OK")
        house.peer.respond(invite, "487 Request Terminated")
        assert (await house.over(call)).reason is reason

    play(scene)


def test_a_challenge_that_crosses_the_cancel_is_not_answered() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        house.peer.respond(invite, "100 Trying")
        call = await dialling
        await house.exchange.hang_up(call)
        await house.peer.next("CANCEL")
        house.peer.respond(invite, "401 Unauthorized", headers=(challenge("n1"),))
        assert (await house.over(call)).reason is EndReason.CANCELED
        await asyncio.sleep(1)
        assert house.peer.count("INVITE") == 1

    play(scene, credential=LOGIN)


def test_taken_back_before_anything_was_sent() -> None:
    async def scene(house: House) -> None:
        found = asyncio.Event()
        resolve = house.listener.endpoint.targets

        async def slow(*asked: Any) -> list[Target]:
            await found.wait()
            return await resolve(*asked)

        house.listener.endpoint.targets = slow
        dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=THEIRS))
        call = await dialling
        await house.exchange.hang_up(call)
        assert (await house.over(call)).reason is EndReason.CANCELED
        found.set()
        await asyncio.sleep(5)
        assert not house.peer.count("INVITE") and not house.listener.endpoint.dialogs and not OPENED

    play(scene)


def test_the_time_limit() -> None:
    async def scene(house: House) -> None:
        call, _ = await house.dialled(time_limit=10)
        bye = await house.peer.next("BYE", within=14)
        house.peer.respond(bye, "200 OK")
        assert (await house.over(call)).reason is EndReason.MAX_DURATION

    play(scene)


# --- what is known of calls -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    "ask",
    [
        lambda provider: provider.fetch_call("sip_1"),
        lambda provider: provider.hang_up("sip_1"),
        lambda provider: provider.transfer("sip_1", "+12125550123"),
        lambda provider: provider.send_digits("sip_1", "1"),
    ],
    ids=["fetch_call", "hang_up", "transfer", "send_digits"],
)
async def test_a_process_whose_sockets_are_not_open_has_no_call(ask: Callable[[SipProvider], Awaitable[Any]]) -> None:
    """Else the calls of a process that was killed are not written off by one that has only just heard of its line."""
    with pytest.raises(CallElsewhere):
        await ask(SipProvider(NO_LOGIN))



def test_calls_that_this_process_does_not_have() -> None:
    async def scene(house: House) -> None:
        with pytest.raises(CallElsewhere):
            await house.provider.hang_up("sip_unknown")
        with pytest.raises(CallElsewhere):
            await house.provider.transfer("sip_unknown", THEIRS)
        with pytest.raises(CallElsewhere):
            await house.provider.fetch_call("sip_unknown")
        call, leg = await house.dialled()
        leg.request("BYE")
        await house.over(call)
        await house.provider.hang_up(call.id)  # over already: success
        assert (await house.provider.fetch_call(call.id)).ended
        await asyncio.sleep(601)
        with pytest.raises(CallElsewhere):
            await house.provider.fetch_call(call.id)

    play(scene)


async def test_without_a_listener() -> None:
    stream = StreamTarget(url="wss://voice.example.com/media/t")
    with pytest.raises(ConfigurationError, match="start the exchange"):
        await SipProvider(NO_LOGIN).dial(DialRequest(from_=OURS, to=THEIRS, stream=stream, status_url=""))


def test_a_name_that_breaks_lines_is_refused_before_anything_is_sent() -> None:
    async def scene(house: House) -> None:
        with pytest.raises(Exception, match="X-A"):
            await house.exchange.dial(from_=OURS, to=THEIRS, headers={"X-A": "a\r\nX-B: c"})
        call, _ = await house.dialled()
        with pytest.raises(Exception, match="X-A"):
            await house.exchange.transfer(call, THEIRS, headers={"X-A": "a\nb"})
        assert not house.peer.count("REFER")

    play(scene)
