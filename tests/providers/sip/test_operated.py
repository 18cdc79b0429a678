"""What an operator is told of SIP: who is registered, which peers answer, what was refused, how media came through."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from math import inf

import pytest

from anycarrier.listener import Figure, Health, OperatedListener
from anycarrier_sip.figures import JITTER, LOSS, MediaFigures, RtpStats
from providers.sip.test_trunks import EXTENSION, SOFTPHONES, registered
from scripted_sip_peer import OURS, THEIRS, House, Leg
from scripted_sip_peer import play as play_scene

play = partial(play_scene, standing=True)
CALL = RtpStats(*[0] * 11)


def found(house: House) -> dict[str, Health]:
    return {one.subject: one for one in house.exchange.listeners.health("trunk")}


def figures(house: House) -> dict[tuple[str, str], Figure]:
    return {(one.name, " ".join(one.labels.values())): one for one in house.exchange.listeners.figures()}


def test_a_registration_is_told_with_its_registrar_and_its_age() -> None:
    async def scene(house: House) -> None:
        assert isinstance(house.listener, OperatedListener)
        assert found(house)["registration"].ok is None
        await registered(house.peer)
        await asyncio.sleep(60)
        told = found(house)["registration"]
        assert told.ok and told.found.startswith(f"registered at udp:127.0.0.1:{house.peer.port}, for ")
        assert found(house)["sockets"].found.startswith("open at udp:127.0.0.1:")
        assert figures(house)["sip_trunks", "up register"].value == 1

    play(scene, credential=EXTENSION)


def test_a_refused_registration_says_what_to_do_and_not_the_password() -> None:
    async def scene(house: House) -> None:
        house.peer.respond(await house.peer.next("REGISTER"), "403 Forbidden")
        await asyncio.sleep(1)
        told = found(house)["registration"]
        assert told.ok is False and "secret" not in told.found
        assert ("sip_trunks", "up register") not in figures(house)

    play(scene, credential=EXTENSION)


def test_a_static_peer_is_told_by_its_last_options() -> None:
    async def scene(house: House) -> None:
        house.peer.respond(await house.peer.next("OPTIONS"), "200 OK")
        await asyncio.sleep(1)
        assert found(house)["carrier (OPTIONS)"].ok
        [peer] = [one for subject, one in found(house).items() if subject.startswith("peer ")]
        assert (peer.ok, peer.found) == (True, "answered the last OPTIONS")
        await asyncio.sleep(200)
        [peer] = [one for subject, one in found(house).items() if subject.startswith("peer ")]
        assert peer.ok is False and "OPTIONS unanswered" in peer.found
        assert found(house)["carrier (OPTIONS)"].ok is False

    play(scene)


def test_softphones_are_listed_whether_registered_or_not() -> None:
    async def scene(house: House) -> None:
        assert found(house)["phone alice"] == Health("phone alice", None, "not registered")
        assert figures(house)["sip_phones", ""].value == 0

    play(scene, credential=SOFTPHONES, settings={"softphones": True})


def test_a_telephone_with_a_wrong_password_is_told_of_while_it_is_not_heard() -> None:
    async def scene(house: House) -> None:
        assert "wrong passwords" not in found(house)
        for _ in range(3):
            house.listener.endpoint.guard.wrong_answer("203.0.113.9", "alice", house.listener.endpoint.now())
        told = found(house)["wrong passwords"]
        assert told.ok is False and told.found == "not heard for ten minutes, after three: 1 of the addresses"
        await asyncio.sleep(600)
        assert "wrong passwords" not in found(house)

    play(scene, credential=SOFTPHONES, settings={"softphones": True})


def test_a_drained_endpoint_answers_503_with_retry_after_and_keeps_its_calls() -> None:
    async def scene(house: House) -> None:
        _, leg = await house.rung()
        house.exchange.listeners.drain()
        late = Leg(house.peer, "late@peer", OURS, THEIRS)
        late.invite()
        refused = await house.peer.next("503 INVITE")
        assert refused["Retry-After"] == "10"
        assert figures(house)["sip_refused", "refused_invites"].value == 1
        assert not leg.peer.count("BYE")

    play(scene)


def test_loss_and_jitter_are_counted_once_a_call_by_their_bounds() -> None:
    media = MediaFigures()
    for call in (
        CALL,  # nothing came: nobody's loss
        replace(CALL, received=100, jitter=0.0005),
        replace(CALL, received=98, lost=2, jitter=0.012),
        replace(CALL, received=1, lost=9, jitter=0.4),
    ):
        media.call_ended(call)
    loss, jitter = media.figures()
    assert (loss.name, loss.kind, loss.value) == ("sip_rtp_loss", "histogram", pytest.approx(0.92))
    assert [loss.buckets[bound] for bound in LOSS] == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert (jitter.value, jitter.buckets[inf]) == (pytest.approx(0.4125), 3)
    assert [jitter.buckets[bound] for bound in JITTER] == [1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_a_calls_media_is_counted_when_it_is_over() -> None:
    async def scene(house: House) -> None:
        call, leg = await house.rung()
        await asyncio.sleep(2)
        assert figures(house)["sip_rtp_loss", ""].buckets[inf] == 0
        leg.request("BYE")
        await house.over(call)
        assert figures(house)["sip_rtp_loss", ""].buckets[inf] <= 1

    play(scene, quiet=False)
