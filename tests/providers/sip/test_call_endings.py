"""Calls that end while something is under way: nothing is said too late, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anycarrier import CallStatus, EndReason, LeaveRinging, MediaSession
from anycarrier.errors import ProviderError
from anycarrier_sip.credential import SipCredential
from scripted_sip_peer import OPENED, OURS, THEIRS, House, play


async def stay(session: MediaSession) -> None:
    async for _ in session:
        pass


def remains(listener: Any) -> dict[str, Any]:
    """What a listener and its endpoint keep of calls."""
    endpoint = listener.endpoint
    kept = {
        "calls": listener.calls, "dialogs": endpoint.dialogs, "guard": endpoint.guard._held, "tasks": listener._tasks,
        "streams": [stream for stream in OPENED if not stream.closed],
    }  # fmt: skip
    return {name: what for name, what in kept.items() if what}


def test_a_call_that_is_taken_back_while_its_invite_waits_for_tcp_is_never_rung() -> None:
    async def scene(house: House) -> None:
        listener, connected = house.listener, asyncio.Event()
        flow = listener.endpoint.transport.flow

        async def slow(target: Any) -> Any:
            if target.transport == "tcp":
                await connected.wait()
                raise ConnectionError("refused")
            return await flow(target)

        listener.endpoint.transport.flow = slow
        large = {f"X-Long-{number}": "x" * 300 for number in range(4)}
        call = await house.exchange.dial(from_=OURS, to=THEIRS, headers=large)
        await house.exchange.hang_up(call)
        assert (await house.over(call)).reason is EndReason.CANCELED
        connected.set()
        await asyncio.sleep(60)
        assert not house.peer.count("INVITE") and not remains(listener)

    play(scene)


@pytest.mark.parametrize("state", ["answered", "ringing out", "ringing in", "never acked", "hung up"])
def test_a_listener_that_closes_beside_another_leaves_nothing_behind_and_says_so_to_every_far_end(state: str) -> None:
    async def scene(house: House) -> None:
        other = {"host": "127.0.0.2", "port": 5099, "registers": False, "numbers": ("+14155550102",)}
        house.exchange.switchboard.credentials.by_id["other"] = SipCredential(**other)  # type: ignore[attr-defined]
        await house.exchange.start_listener("other")
        listener, goodbye = house.listener, "BYE"
        if state == "ringing out":
            invite, dialling = await house.dial()
            house.peer.respond(invite, "180 Ringing")
            await dialling
            goodbye = "CANCEL"
        elif state == "ringing in":

            async def ringing(*_: Any) -> LeaveRinging:
                return LeaveRinging()

            house.exchange.switchboard.router = ringing
            house.peer.invite()
            await house.peer.next("180 INVITE")
            goodbye = "603 INVITE"
        else:
            leg = house.peer.invite()
            await leg.answered(ack=state != "never acked")
            call = await house.exchange.wait_for(next(iter(listener.calls)), CallStatus.ANSWERED)
            if state == "hung up":
                await house.exchange.hang_up(call)
        [call] = await house.exchange.calls_in_progress() or [None]
        await house.exchange.close_listener("trunk")
        assert house.peer.count(goodbye) and not remains(listener)
        if call is not None:
            assert (await house.over(call)).reason in (EndReason.API_STOP, EndReason.CANCELED, EndReason.REJECTED)

    play(scene, agent=stay)


@pytest.mark.parametrize(
    ("answer", "reason"), [("481 No Such Call", EndReason.USER_HANGUP), ("202 Accepted", EndReason.TRANSFERRED)]
)
def test_a_far_end_that_hangs_up_before_it_answers_our_refer_went_if_it_then_says_so(
    answer: str, reason: EndReason
) -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        asking = asyncio.create_task(house.exchange.transfer(call, "+14155550177"))
        refer = await house.peer.next("REFER")
        leg.request("BYE")
        await house.peer.next("200 BYE")
        house.peer.respond(refer, answer)
        if answer[0] == "2":
            await asking
        else:
            with pytest.raises(ProviderError):
                await asking
        await asyncio.sleep(1)
        assert (await house.over(call)).reason is reason

    play(scene, agent=stay)


@pytest.mark.parametrize("how", ["returns", "fails"])
def test_a_call_whose_session_is_over_is_hung_up(how: str) -> None:
    async def scene(house: House) -> None:
        async def media(*_: Any) -> None:
            if how == "fails":
                raise KeyError("a bug")

        house.listener.desk.media = media
        await house.peer.invite().answered()
        bye = await house.peer.next("BYE", within=1)
        house.peer.respond(bye, "200 OK")
        assert (await house.over()).reason is EndReason.MEDIA_ERROR

    play(scene)


def test_an_answer_that_fails_for_a_bug_of_ours_is_a_refusal_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(house: House) -> None:
        house.peer.invite()
        refused = await house.peer.next("500 INVITE")
        assert refused.tag("To") and (await house.over()).ended
        await asyncio.sleep(1)
        assert not remains(house.listener)

    def answer(*_: Any) -> Any:
        raise ValueError("a bug")

    monkeypatch.setattr("anycarrier_sip.sdp.answer", answer)
    play(scene)


def test_an_answer_of_theirs_that_we_fail_to_read_for_a_bug_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(house: House) -> None:
        call, _ = await house.dialled()
        bye = await house.peer.next("BYE")
        house.peer.respond(bye, "200 OK")
        assert (await house.over(call)).reason is EndReason.MEDIA_ERROR
        await asyncio.sleep(1)
        assert not remains(house.listener)

    def accept(*_: Any) -> Any:
        raise ValueError("a bug")

    monkeypatch.setattr("anycarrier_sip.sdp.accept", accept)
    play(scene)
