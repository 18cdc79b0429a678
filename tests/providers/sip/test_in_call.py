"""What far ends do during a call: hold, move, refresh, cross, press keys, transfer, fall silent."""

from __future__ import annotations

import asyncio
import re

import pytest

from anycarrier import Call, CallStatus, DigitPressed, EndReason, HoldChanged, MediaSession
from anycarrier.errors import RequestRejected
from anycarrier.events import TransferProgress
from scripted_sip_peer import OPENED, OURS, THEIRS, Heard, House, Leg, play, sdp

SEEN: list[object] = []


async def notes(session: MediaSession) -> None:
    """An agent that stays, and writes down what is no sound."""
    SEEN.clear()
    async for event in session:
        SEEN.append(event)


# --- offers and answers ---------------------------------------------------------------------------------------------


def test_hold_resume_and_moved_media() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.rung()
        [stream] = OPENED
        leg.invite(body=sdp(5000, direction="sendonly", version=2))
        ok = await leg.answered()
        assert "a=recvonly" in ok.body and int(ok.body.split("m=audio ")[1].split()[0]) == 40000
        leg.invite(body=sdp(5002, version=3))
        ok = await leg.answered()
        assert "a=sendrecv" in ok.body
        assert [terms.remote[1] for terms in stream.agreed] == [house.peer.media_port, 5000, 5002]
        assert stream.holds == [True, False]
        assert [event.held for event in SEEN if isinstance(event, HoldChanged)] == [True, False]
        assert len(house.listener.calls) == 1

    play(scene, agent=notes)


def test_a_body_that_does_not_fit_is_488_and_the_call_goes_on() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.rung()
        leg.invite(body=sdp(5000, payloads="18"))
        await house.peer.next("488 INVITE")
        leg.request("ACK", cseq=leg.cseq)
        leg.invite(body="not a description")
        await house.peer.next("488 INVITE")
        leg.invite()
        await leg.answered()
        assert len(OPENED[0].agreed) == 2

    play(scene)


def test_an_offer_in_our_answer_is_answered_in_the_ack() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite(body="")
        ok = await leg.answered(ack=False)
        assert "m=audio 40000" in ok.body and not OPENED[0].agreed
        leg.request("ACK", cseq=leg.cseq, body=sdp(5000))
        call = await house.exchange.wait_for(next(iter(house.listener.calls)), CallStatus.ANSWERED)
        assert OPENED[0].agreed[0].remote[1] == 5000
        leg.invite(body="")
        ok = await leg.answered(ack=False)
        leg.request("UPDATE", body=sdp(5006))  # our offer is open
        await house.peer.next("491 UPDATE")
        leg.request("ACK", cseq=leg.cseq - 1, body=sdp(5004))
        await asyncio.sleep(0.1)
        assert OPENED[0].agreed[1].remote[1] == 5004
        leg.invite(body="")
        await leg.answered(body="nothing")  # no answer: the far end cannot be talked to
        await house.peer.next("BYE")
        assert (await house.over(call)).reason is EndReason.MEDIA_ERROR

    play(scene)


def test_update_may_move_media_too() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.dialled()
        leg.request("UPDATE", body=sdp(5008))
        ok = await house.peer.next("200 UPDATE")
        assert "m=audio 40000" in ok.body and ok["Content-Type"] == "application/sdp"
        assert OPENED[0].agreed[-1].remote[1] == 5008
        leg.request("UPDATE")
        ok = await house.peer.next("200 UPDATE")
        assert not ok.body

    play(scene)


def test_the_far_ends_contact_is_followed_and_its_route_kept() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial()
        route = f"Record-Route: <sip:127.0.0.1:{house.peer.port};lr;n=2>, <sip:127.0.0.1:{house.peer.port};lr;n=1>"
        house.peer.respond(invite, "200 OK", headers=(route,), body=sdp(5000))
        ack = await house.peer.next("ACK")
        assert [re.findall(r"n=\d", value) for value in ack.all("Route")] == [["n=1"], ["n=2"]]
        call = await dialling
        leg = Leg.of(invite, house.peer)
        leg.request("UPDATE", headers=())
        await house.peer.next("200 UPDATE")
        await house.exchange.hang_up(call)
        bye = await house.peer.next("BYE")
        assert bye.start == f"BYE sip:them@127.0.0.1:{house.peer.port} SIP/2.0" and len(bye.all("Route")) == 2
        assert bye.cseq == invite.cseq + 1
        house.peer.respond(bye, "200 OK")

    play(scene)


# --- what crosses and what is lost ---------------------------------------------------------------------------------


def test_a_2xx_is_sent_until_its_ack_and_acknowledged_each_time() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await leg.answered(ack=False)
        await asyncio.sleep(4)
        assert house.peer.count("200 INVITE") == 4  # at 0, 0.5, 1.5 and 3.5 s
        leg.request("ACK", cseq=leg.cseq)
        await asyncio.sleep(30)
        assert house.peer.count("200 INVITE") == 4

        call, dialled = await house.dialled()
        before = house.peer.count("ACK")
        invite = [heard for heard in house.peer.heard if heard.what == "INVITE"][-1]
        for after in (1, 40):  # in its transaction, and long after that
            await asyncio.sleep(after)
            house.peer.respond(invite, "200 OK", body=sdp(house.peer.media_port))
        await asyncio.sleep(1)
        assert house.peer.count("ACK") == before + 2
        assert house.listener.known(call.id).status is CallStatus.ANSWERED and dialled.call_id

    play(scene)


def test_a_call_whose_ack_never_comes_is_hung_up() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await leg.answered(ack=False)
        await house.peer.next("BYE", within=33)
        assert (await house.over()).reason is EndReason.MEDIA_ERROR

    play(scene)


def test_hanging_up_waits_for_the_ack() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await leg.answered(ack=False)
        call_id = next(iter(house.listener.calls))
        await house.exchange.wait_for(call_id, CallStatus.ANSWERED)
        await house.exchange.hang_up(call_id)
        await asyncio.sleep(2)
        assert not house.peer.count("BYE")
        leg.request("ACK", cseq=leg.cseq)
        await house.peer.next("BYE")

    play(scene)


def test_a_reinvite_whose_ack_of_before_was_lost_is_taken() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await leg.answered(ack=False)
        leg.invite(body=sdp(5010))
        await leg.answered()
        assert OPENED[0].agreed[-1].remote[1] == 5010
        await asyncio.sleep(40)
        assert house.listener.calls

    play(scene)


def test_a_second_invite_before_the_first_is_answered_is_500() -> None:
    async def agent(session: MediaSession) -> None:
        await asyncio.sleep(100)

    async def ringing(event: object, line: object) -> object:
        await asyncio.sleep(3)
        from anycarrier import Answer

        return Answer("desk")

    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await house.peer.next("100 INVITE")
        tag = house.listener.calls[next(iter(house.listener.calls))].dialog.local_tag
        leg.remote_tag = tag
        leg.invite()
        refused = await house.peer.next("500 INVITE")
        assert 0 <= int(refused["Retry-After"]) <= 10

    play(scene, agent=agent, router=ringing)


def test_an_old_request_is_500_and_a_strangers_tag_481() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.rung()
        leg.request("INFO", cseq=0)
        leg.request("OPTIONS")
        await house.peer.next("200 OPTIONS")
        leg.request("INFO", cseq=leg.cseq - 1)
        await house.peer.next("500 INFO")
        leg.local_tag = "another"
        leg.request("BYE")
        await house.peer.next("481 BYE")
        assert house.listener.calls

    play(scene)


# --- session timers -----------------------------------------------------------------------------------------------


def test_the_session_is_refreshed_at_half_by_update() -> None:
    async def scene(house: House) -> None:
        call, leg = await house.dialled(
            headers=("Session-Expires: 600;refresher=uac", "Require: timer", "Allow: INVITE, UPDATE")
        )
        await asyncio.sleep(299)
        assert not house.peer.count("UPDATE")
        for _ in range(2):
            update = await house.peer.next("UPDATE", within=302)
            assert update["Session-Expires"] == "600;refresher=uac" and update["Min-SE"] == "90"
            assert "timer" in update["Supported"] and "UPDATE" in update["Allow"]
            house.peer.respond(update, "200 OK", headers=("Session-Expires: 600;refresher=uac",))
        assert not house.listener.known(call.id).ended and leg.call_id

    play(scene)


def test_without_update_by_reinvite_and_glare_waits() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.dialled(headers=("Session-Expires: 180;refresher=uac", "Allow: INVITE"))
        first = await house.peer.next("INVITE", within=91)
        assert "m=audio 40000" in first.body and re.search(r"o=- 1 1 ", first.body)  # unchanged: the same version
        house.peer.respond(first, "491 Request Pending")
        leg.invite(body=sdp(6002))  # right behind it: no offer of ours is open any more
        await leg.answered()
        at = house.peer.loop.time()
        second = await house.peer.next("INVITE", within=5)
        assert 2.1 <= house.peer.loop.time() - at <= 4.1
        assert second.cseq == first.cseq + 1
        house.peer.respond(second, "200 OK", headers=("Session-Expires: 180;refresher=uac",), body=sdp(6000))
        ack = await house.peer.next("ACK")
        assert ack.cseq == second.cseq
        assert OPENED[0].agreed[-1].remote[1] == 6000

    play(scene)


def test_offers_that_cross() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.dialled(headers=("Session-Expires: 180;refresher=uac", "Allow: INVITE"))
        ours = await house.peer.next("INVITE", within=91)
        leg.invite(body=sdp(6002))
        await house.peer.next("491 INVITE")
        leg.request("ACK", cseq=leg.cseq, branch=leg.invites[leg.cseq])
        house.peer.respond(ours, "200 OK", headers=("Session-Expires: 180;refresher=uac",), body=sdp(6000))
        await house.peer.next("ACK")
        leg.invite(body=sdp(6004))
        await leg.answered()
        assert [terms.remote[1] for terms in OPENED[0].agreed][1:] == [6000, 6004]

    play(scene)


def test_a_refresh_that_only_rings_ends_the_call() -> None:
    async def scene(house: House) -> None:
        call, _ = await house.dialled(headers=("Session-Expires: 300;refresher=uac", "Allow: INVITE"))
        ours = await house.peer.next("INVITE", within=151)
        house.peer.respond(ours, "180 Ringing")
        await house.peer.next("CANCEL", within=65)
        await house.peer.next("BYE")
        assert (await house.over(call)).reason is EndReason.MEDIA_ERROR

    play(scene)


def test_an_update_that_is_not_taken_becomes_a_reinvite_and_422_asks_for_longer() -> None:
    async def scene(house: House) -> None:
        await house.dialled(headers=("Session-Expires: 180;refresher=uac", "Allow: UPDATE"))
        update = await house.peer.next("UPDATE", within=91)
        house.peer.respond(update, "501 Not Implemented")
        invite = await house.peer.next("INVITE")
        house.peer.respond(invite, "422 Session Interval Too Small", headers=("Min-SE: 400",))
        invite = await house.peer.next("INVITE")
        assert (invite["Session-Expires"], invite["Min-SE"]) == ("400;refresher=uac", "400")
        house.peer.respond(invite, "200 OK", headers=("Session-Expires: 400;refresher=uac",), body=sdp(6000))
        await house.peer.next("ACK")

    play(scene)


def test_a_session_that_they_do_not_refresh_is_hung_up() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.rung(headers=("Supported: timer", "Session-Expires: 120;refresher=uac"))
        began = house.peer.loop.time()
        leg.request("UPDATE", headers=("Supported: timer", "Session-Expires: 120;refresher=uac"))
        ok = await house.peer.next("200 UPDATE")
        assert ok["Session-Expires"] == "120;refresher=uac"
        await house.peer.next("BYE", within=95)
        assert 87 <= house.peer.loop.time() - began <= 90  # 120 less 32
        assert (await house.over()).reason is EndReason.MEDIA_ERROR

    play(scene)


@pytest.mark.parametrize(
    ("headers", "granted"),
    [
        (("Supported: timer", "Session-Expires: 600"), "600;refresher=uac"),
        (("k: timer", "x: 600;refresher=uas"), "600;refresher=uas"),
        (("Supported: timer",), "1800;refresher=uac"),
        (("Session-Expires: 600",), "600;refresher=uas"),
        ((), ""),
    ],
)
def test_what_a_caller_asks_of_the_session_timer(headers: tuple[str, ...], granted: str) -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite(headers=headers)
        ok = await leg.answered()
        assert ok.get("Session-Expires") == granted
        assert ("timer" in ok.get("Require")) is granted.endswith("uac")

    play(scene)


def test_a_session_too_short_is_422() -> None:
    async def scene(house: House) -> None:
        house.peer.invite(headers=("Supported: timer", "Session-Expires: 60"))
        assert (await house.peer.next("422 INVITE"))["Min-SE"] == "90"
        assert not house.events and not house.listener.calls

    play(scene)


# --- keys, and what is not for us -----------------------------------------------------------------------------------


def test_keys_by_info() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.rung()
        for body in ("Signal=5\r\nDuration=160", "Signal= *\r\n", "11", "signal=d"):
            kind = "application/dtmf" if body == "11" else "application/dtmf-relay"
            leg.request("INFO", body=body, kind=kind)
            await house.peer.next("200 INFO")
        leg.request("INFO", body="Signal=x", kind="application/dtmf-relay")
        await house.peer.next("400 INFO")
        leg.request("INFO", body="<media_control/>", kind="application/media_control+xml")
        assert (await house.peer.next("415 INFO"))["Accept"] == "application/dtmf-relay"
        leg.request("INFO")
        await house.peer.next("200 INFO")
        await asyncio.sleep(0.1)
        assert [event.digit for event in SEEN if isinstance(event, DigitPressed)] == ["5", "*", "#", "D"]

    play(scene, agent=notes)


def test_what_a_caller_may_not() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.rung()
        leg.request("REFER", headers=("Refer-To: <sip:+19005550100@127.0.0.1>",))
        await house.peer.next("603 REFER")
        leg.request("NOTIFY", headers=("Event: refer",), body="SIP/2.0 200 OK", kind="message/sipfrag")
        await house.peer.next("481 NOTIFY")
        leg.request("MESSAGE", body="hello", kind="text/plain")
        assert "INVITE" in (await house.peer.next("405 MESSAGE"))["Allow"]
        leg.request("PRACK", headers=("RAck: 1 1 INVITE",))
        await house.peer.next("481 PRACK")
        leg.request("UPDATE", headers=("Require: precondition, x-secret-option",))
        assert (await house.peer.next("420 UPDATE"))["Unsupported"] == "precondition"
        leg.request("OPTIONS")
        ok = await house.peer.next("200 OPTIONS")
        assert ok["Accept"] == "application/sdp" and "REFER" not in ok["Allow"] and ok["Supported"]
        assert not ok.all("Server") and not ok.all("User-Agent")
        outside = Leg(house.peer, "outside@peer", OURS, THEIRS)
        for method, status in (("OPTIONS", 200), ("REFER", 603), ("NOTIFY", 481), ("MESSAGE", 405), ("BYE", 481)):
            outside.request(method)
            await house.peer.next(f"{status} {method}")
        assert house.peer.count("INVITE") == 0

    play(scene)


def test_digits_on_answer() -> None:
    async def scene(house: House) -> None:
        await house.dialled(digits="12w#")
        await asyncio.sleep(0.1)
        assert OPENED[0].keys == ["12w#"]

    play(scene)


def test_digits_by_info_where_nothing_else_was_agreed() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite(body=sdp(5000, payloads="8"))
        await leg.answered()
        call = await house.exchange.wait_for(next(iter(house.listener.calls)), CallStatus.ANSWERED)
        sending = asyncio.create_task(house.exchange.send_digits(call, "4#"))
        for digit in "4#":
            info = await house.peer.next("INFO")
            assert info.body.startswith(f"Signal={digit}\r\n") and info["Content-Type"] == "application/dtmf-relay"
            house.peer.respond(info, "200 OK")
        await sending

    play(scene)


def test_digits_as_tones_where_info_is_not_for_it() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite(body=sdp(5000, payloads="8"))
        await leg.answered()
        call = await house.exchange.wait_for(next(iter(house.listener.calls)), CallStatus.ANSWERED)
        await house.exchange.send_digits(call, "4#")
        assert sum(len(frame) for frame in OPENED[0].written if isinstance(frame, bytes)) > 1000
        assert not house.peer.count("INFO")

    play(scene, credential={"preset": "twilio-elastic", "peers": ("127.0.0.1",)})


# --- transfer -------------------------------------------------------------------------------------------------------


async def referred(house: House, call: Call, **options: object) -> tuple[Heard, asyncio.Task[None]]:
    asking = asyncio.create_task(house.exchange.transfer(call, "+14155550177", **options))  # type: ignore[arg-type]
    return await house.peer.next("REFER"), asking


def notify(leg: Leg, line: str, state: str = "active", id: str = "") -> None:
    headers = (f"Event: refer{id}", f"Subscription-State: {state}")
    leg.request("NOTIFY", headers=headers, body=line, kind="message/sipfrag;version=2.0")


def test_a_transfer_that_is_answered() -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        refer, asking = await referred(house, call, headers={"X-Ticket": "a b"})
        assert refer["Refer-To"] == f"<sip:+14155550177@127.0.0.1:{house.peer.port}?X-Ticket=a%20b>"
        assert OURS in refer["Referred-By"] and not refer.all("Diversion")
        house.peer.respond(refer, "202 Accepted")
        await asking
        for line in ("SIP/2.0 100 Trying", "SIP/2.0 180 Ringing"):
            notify(leg, line)
            await house.peer.next("200 NOTIFY")
        assert house.listener.calls
        notify(leg, "SIP/2.0 200 OK\r\n", "terminated;reason=noresource")
        await house.peer.next("200 NOTIFY")
        await house.peer.next("BYE", within=3)  # it does not hang up by itself
        assert (await house.over(call)).reason is EndReason.TRANSFERRED

    play(scene)


@pytest.mark.parametrize(
    ("line", "state", "told"),
    [("SIP/2.0 486 Busy Here", "terminated", "busy"), ("SIP/2.0 487 Gone", "terminated", "canceled"),
     ("SIP/2.0 503 Oh", "active", "failed"), ("SIP/2.0 100 Trying", "terminated;reason=timeout", "failed")],
)  # fmt: skip
def test_a_transfer_that_is_not(line: str, state: str, told: str) -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        refer, asking = await referred(house, call)
        house.peer.respond(refer, "202 Accepted")
        await asking
        notify(leg, line, state)
        await house.peer.next("200 NOTIFY")
        assert await house.exchange.wait_for_transfer(call) is None
        assert [event.status for event in house.events if isinstance(event, TransferProgress)] == [told]
        assert (await house.exchange.fetch_call(call)).status is CallStatus.ANSWERED
        await asyncio.sleep(5)
        assert not house.peer.count("BYE")

    play(scene, agent=notes)


def test_what_became_of_an_earlier_refer_is_not_taken_for_the_later() -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        for _ in range(2):
            refer, asking = await referred(house, call)
            house.peer.respond(refer, "202 Accepted")
            await asking
        notify(leg, "SIP/2.0 486 Busy Here", "terminated", f";id={refer.cseq - 1}")
        await house.peer.next("481 NOTIFY")
        notify(leg, "SIP/2.0 200 OK", "terminated", f";id={refer.cseq}")
        await house.peer.next("200 NOTIFY")
        assert (await house.over(call)).reason is EndReason.TRANSFERRED

    play(scene)


def test_a_refer_that_is_refused_leaves_the_call() -> None:
    async def scene(house: House) -> None:
        call, _ = await house.rung()
        refer, asking = await referred(house, call)
        house.peer.respond(refer, "405 Method Not Allowed")
        with pytest.raises(RequestRejected, match="405 Method Not Allowed"):
            await asking
        assert (await house.exchange.fetch_call(call)).status is CallStatus.ANSWERED

    play(scene, agent=notes)


@pytest.mark.parametrize(
    "contact",
    ["sip:+19005550100@127.0.0.1", "sip:19005550100@127.0.0.1;user=phone", "sip:x@127.0.0.1;rn=+19005550100",
     "sip:x@127.0.0.1?Route=%3Csip%3A+19005550100%40x%3E", "tel:+19005550100"],
)  # fmt: skip
def test_nobody_is_sent_to_what_a_strangers_contact_makes_dear(contact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(house: House) -> None:
        first, _ = await house.rung(call_id="one")
        monkeypatch.setattr(type(house.peer), "contact", f"<{contact}>")
        await house.peer.invite(call_id="two", from_="+12125550103").answered()
        second = next(reversed(house.listener.calls))
        await house.exchange.wait_for(second, CallStatus.ANSWERED)
        with pytest.raises(RequestRejected, match="names an address"):
            await house.exchange.transfer(first.id, replaces=second)
        assert not house.peer.count("REFER")

    play(scene)


def test_who_leaves_after_the_refer_was_transferred() -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        refer, asking = await referred(house, call)
        house.peer.respond(refer, "202 Accepted")
        await asking
        leg.request("BYE")
        await house.peer.next("200 BYE")
        assert (await house.over(call)).reason is EndReason.TRANSFERRED

    play(scene)


def test_a_transfer_of_which_nothing_is_heard_failed() -> None:
    async def scene(house: House) -> None:
        call, _ = await house.rung()
        refer, asking = await referred(house, call)
        house.peer.respond(refer, "202 Accepted")
        await asking
        assert await house.exchange.wait_for_transfer(call, timeout=200) is None

    play(scene, agent=notes)


def test_an_attended_transfer_names_the_other_dialog() -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        other, other_leg = await house.dialled(to="+12125550199")
        asking = asyncio.create_task(house.exchange.transfer(call, replaces=other))
        refer = await house.peer.next("REFER")
        found = re.search(r"\?Replaces=([^>]+)>", refer["Refer-To"])
        assert found and refer["Call-ID"] == leg.call_id
        named = found[1].replace("%3B", ";").replace("%3D", "=").replace("%40", "@")
        assert named == f"{other_leg.call_id};to-tag={other_leg.local_tag};from-tag={other_leg.remote_tag}"
        house.peer.respond(refer, "202 Accepted")
        await asking

    play(scene, agent=notes)


def test_diversion_where_the_carrier_demands_it() -> None:
    async def scene(house: House) -> None:
        call, _ = await house.rung()
        refer, asking = await referred(house, call)
        assert OURS in refer["Diversion"]
        house.peer.respond(refer, "202 Accepted")
        await asking

    play(scene, credential={"preset": "telnyx", "peers": ("127.0.0.1",)})


# --- a call taken over, a call gone dead ----------------------------------------------------------------------------


def test_replaces_takes_a_call_over() -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        named = f"Replaces: {leg.call_id};to-tag={leg.remote_tag};from-tag={leg.local_tag}"
        taking = house.peer.invite(call_id="call-2@peer", headers=(named,), body=sdp(7000), from_="+12125550133")
        await taking.answered()
        bye = await house.peer.next("BYE")
        assert bye["Call-ID"] == leg.call_id
        house.peer.respond(bye, "200 OK")
        assert OPENED[-1].agreed[-1].remote[1] == 7000 and len(OPENED) == 1
        assert list(house.listener.calls) == [call.id]
        leg.request("OPTIONS")
        await house.peer.next("481 OPTIONS")
        taking.request("BYE")
        await house.peer.next("200 BYE")
        assert (await house.over(call)).reason is EndReason.USER_HANGUP

    play(scene, agent=notes)


@pytest.mark.parametrize(
    ("replaces", "status"),
    [("{id};to-tag={to};from-tag={from_};early-only", 486), ("{id};to-tag={to};from-tag=nobody", 481),
     ("nothing", 481), (";;;", 481)],
)  # fmt: skip
def test_replaces_that_names_no_call_of_ours(replaces: str, status: int) -> None:
    async def scene(house: House) -> None:
        _, leg = await house.rung()
        named = replaces.format(id=leg.call_id, to=leg.remote_tag, from_=leg.local_tag)
        house.peer.invite(call_id="call-2@peer", headers=(f"Replaces: {named}",))
        await house.peer.next(f"{status} INVITE")
        assert len(house.listener.calls) == 1

    play(scene)


def test_replaces_with_a_body_that_does_not_fit_changes_nothing() -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        named = f"Replaces: {leg.call_id};to-tag={leg.remote_tag};from-tag={leg.local_tag}"
        house.peer.invite(call_id="call-2@peer", headers=(named,), body=sdp(7000, payloads="18"))
        await house.peer.next("488 INVITE")
        leg.request("BYE")
        await house.peer.next("200 BYE")
        assert (await house.over(call)).reason is EndReason.USER_HANGUP

    play(scene, agent=notes)


def test_a_call_without_sound_is_asked_and_ended_when_nobody_answers() -> None:
    async def scene(house: House) -> None:
        call, _ = await house.rung()
        lost = OPENED[0].on_lost
        assert lost is not None
        lost()
        options = await house.peer.next("OPTIONS")
        house.peer.respond(options, "200 OK")
        await asyncio.sleep(40)
        assert house.listener.calls
        lost()
        await house.peer.next("BYE", within=35)
        assert (await house.over(call)).reason is EndReason.MEDIA_ERROR

    play(scene)


@pytest.mark.parametrize(("reason", "told"), [("Q.850;cause=16", EndReason.USER_HANGUP),
                                              ("Q.850;cause=41", EndReason.MEDIA_ERROR)])  # fmt: skip
def test_their_bye_says_why(reason: str, told: EndReason) -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        leg.request("BYE", headers=(f"Reason: {reason}",))
        await house.peer.next("200 BYE")
        over = await house.over(call)
        assert over.reason is told and over.carrier_status == f"BYE; {reason.replace(';cause=', ' ')}"
        assert over.raw["cause"] == int(reason[-2:])

    play(scene)
