"""Transfers between real telephones: blind ones that are answered, busy and refused, and an attended one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from foreign_stack import ForeignPhone, foreign_phone
from sip_house import OURS, House, open_house, until
from softphone import Softphone, softphone

from anycarrier import Call, CallStatus, EndReason, TransferProgress


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[tuple[House, Softphone, Call, Softphone]]:
    """A telephone talks to us, another one is there."""
    async with (
        softphone(folder, "anna") as anna,
        softphone(folder, "ben", frequency=700) as ben,
        open_house({"port": anna.port}) as house,
    ):
        await anna.dial(house.line)
        await house.live()
        await until(lambda: len(house.heard[0].pcm) > 1600)
        yield house, anna, await house.only_call(), ben


async def transferred(house: House, call: Call) -> str:
    """What became of the transfer, as the carrier's side told it."""

    def told() -> list[TransferProgress]:
        return [event for event, _ in house.events if isinstance(event, TransferProgress)]

    await until(lambda: bool(told()))
    assert told()[-1].call_id == call.id
    return told()[-1].status


async def test_answered(tmp_path: Path) -> None:
    async with talking(tmp_path) as (house, anna, call, ben):
        await house.exchange.transfer(call, ben.address)
        await ben.event("CALL_INCOMING")
        await ben.do("accept")
        assert await transferred(house, call) == "answered"
        assert (await house.over(call)).reason is EndReason.TRANSFERRED
        await ben.event("CALL_ESTABLISHED")
        await asyncio.sleep(1)
        await ben.do("hangup")
        await until(lambda: ben.heard().seconds > 0.5)
        assert ben.heard().loud().share(440) > 0.9
        assert "Refer-To:" in anna.trace
        assert "Referred-By:" in anna.trace


async def test_busy_and_the_call_goes_on(tmp_path: Path) -> None:
    async with talking(tmp_path) as (house, anna, call, ben):
        await house.exchange.transfer(call, ben.address)
        await ben.event("CALL_INCOMING")
        await ben.do("hangup")
        assert await transferred(house, call) == "busy"
        heard = len(house.heard[0].pcm)
        await until(lambda: len(house.heard[0].pcm) > heard + 8000)
        assert (await house.exchange.fetch_call(call)).status is CallStatus.ANSWERED
        await anna.do("hangup")
        assert (await house.over(call)).reason is EndReason.USER_HANGUP


async def test_refused_and_the_call_goes_on(tmp_path: Path) -> None:
    async with foreign_phone(tmp_path, transfers="reject") as phone, open_house({"port": phone.port}) as house:
        await phone.do("dial", to=house.line)
        await house.live()
        await until(lambda: len(house.heard[0].pcm) > 1600)
        call = await house.only_call()
        await house.exchange.transfer(call, "sip:nobody@127.0.0.1:9")
        assert await transferred(house, call) == "failed"
        heard = len(house.heard[0].pcm)
        await until(lambda: len(house.heard[0].pcm) > heard + 8000)
        await house.exchange.hang_up(call)
        assert (await house.over(call)).reason is EndReason.API_STOP


async def test_attended(tmp_path: Path) -> None:
    async with (
        foreign_phone(tmp_path, "anna", transfers="auto") as anna,
        foreign_phone(tmp_path, "ben", frequency=700) as ben,
        open_house({"port": anna.port}) as house,
    ):
        await anna.do("dial", to=house.line)
        await house.live()
        first = await house.only_call()
        second = await house.exchange.dial(from_=OURS, to=ben.address)
        await ben.event("incoming")
        await ben.do("answer", call=0)
        await house.live(2)
        await until(lambda: all(len(heard.pcm) > 8000 for heard in house.heard))
        await house.exchange.transfer(first, replaces=second)
        await ben.event("incoming")  # it has the right call already, and asks its user all the same
        await ben.do("answer", call=1)
        assert await transferred(house, first) == "answered"
        assert (await house.over(first)).reason is EndReason.TRANSFERRED
        assert (await house.over(second)).ended
        await connected(anna, ben)
        assert "Replaces:" in ben.trace


async def connected(anna: ForeignPhone, ben: ForeignPhone) -> None:
    """They hear each other now, each in its second call."""
    await anna.event("transferred")
    for phone, frequency in ((anna, 700), (ben, 440)):
        file = phone.folder / "heard-1.pcm"
        await until(lambda file=file: file.exists() and file.stat().st_size > 24000)
        assert phone.heard(1).loud().between(0.2, 1.2).share(frequency) > 0.9


async def test_p3_a_telephone_that_transfers_us_is_refused(tmp_path: Path) -> None:
    async with talking(tmp_path) as (house, anna, call, ben):
        await anna.do("transfer", "sip:+19005550100@127.0.0.1:9")
        await until(lambda: "SIP/2.0 603" in anna.trace)
        await asyncio.sleep(0.3)
        assert not [event for event, _ in house.events if isinstance(event, TransferProgress)]
        assert {told.id for event, _ in house.events if (told := getattr(event, "call", None)) is not None} == {call.id}
        assert "INVITE sip:+1900" not in anna.trace + ben.trace
