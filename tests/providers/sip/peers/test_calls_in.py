"""A real softphone rings our number: both hear each other, both can press keys, either can hang up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from foreign_stack import foreign_phone
from sip_house import OURS, Agent, House, open_house, until
from softphone import softphone
from sound import Sound, tone

from anycarrier import EndReason, IncomingCall, LeaveRinging, Line, Reject, Route
from anycarrier.agent.recording import Recorder
from anycarrier.audio import pcm16_to_pcmu
from anycarrier.session import MediaSession


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_a_softphone_rings_and_hangs_up(tmp_path: Path, codec: str) -> None:
    account = f"transport=udp>;regint=0;audio_codecs={codec}"
    async with softphone(tmp_path, account=account) as phone, open_house({"port": phone.port}) as house:
        await phone.dial(house.line)
        await phone.event("CALL_ESTABLISHED")
        session = await house.live()
        await until(lambda: len(house.heard[0].pcm) > 16000)
        await phone.press("15*0#")
        await until(lambda: len(house.heard[0].digits) == 5)
        await session.send_digits("93")
        pressed = [(await phone.event("CALL_DTMF_START"))["param"] for _ in range(2)]
        await phone.do("hangup")
        call = await house.over(await house.only_call())
        assert (call.reason, call.to, call.from_) == (EndReason.USER_HANGUP, OURS, "sip:soft@127.0.0.1")
        assert (house.heard[0].digits, pressed) == ("15*0#", ["9", "3"])
        assert house.heard[0].sound.loud().between(0.1, 1).share(440) > 0.9
        assert codec in phone.trace
        await until(lambda: phone.heard().seconds > 1)
        assert phone.heard().loud().between(0.1, 1).share(600) > 0.9


async def test_the_agent_hangs_up_and_the_recording_is_aligned(tmp_path: Path) -> None:
    def two_seconds(house: House) -> Agent:
        async def talk(session: MediaSession) -> None:
            recorder = Recorder(tmp_path / "recording.wav")
            session.tap = recorder
            await asyncio.sleep(0.5)
            await session.send_audio(pcm16_to_pcmu(tone(600, 1)))
            await session.mark("said")
            async for event in session:
                if getattr(event, "name", "") == "said":
                    break
            await asyncio.sleep(0.5)
            recorder.close()

        return talk

    async with softphone(tmp_path) as phone, open_house({"port": phone.port}, agent=two_seconds) as house:
        await phone.dial(house.line)
        await phone.event("CALL_ESTABLISHED")
        await phone.event("CALL_CLOSED")
        call = await house.over(await house.only_call())
        assert call.reason is EndReason.AGENT_HANGUP
        await until(lambda: phone.heard().seconds > 1)
        heard = phone.heard().loud()
        assert heard.share(600) > 0.9
        assert heard.seconds == pytest.approx(1, abs=0.1)
    caller, agent = Sound.both(tmp_path / "recording.wav")
    assert caller.loud().share(440) > 0.9
    assert agent.loud().share(600) > 0.9
    assert agent.loud().seconds == pytest.approx(1, abs=0.1)
    assert caller.seconds == agent.seconds
    assert agent.silence_before() == pytest.approx(0.5, abs=0.2)


async def test_a_newer_stack_rings(tmp_path: Path) -> None:
    async with foreign_phone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        await phone.do("dial", to=house.line)
        await phone.event("CALL_ESTABLISHED")
        await house.live()
        await until(lambda: len(house.heard[0].pcm) > 24000 and phone.heard().seconds > 1.5)
        await phone.do("press", call=0, digits="42")
        await until(lambda: house.heard[0].digits == "42")
        await house.sessions[0].send_digits("7")
        assert (await phone.event("digit"))["digit"] == "7"
        await house.exchange.hang_up(await house.only_call())
        await phone.event("closed")
        assert (await house.over(await house.only_call())).reason is EndReason.API_STOP
        assert house.heard[0].sound.loud().between(0.3, 1.3).share(440) > 0.9
        assert phone.heard().loud().between(0.3, 1.3).share(600) > 0.9


async def test_a_number_that_is_not_ours(tmp_path: Path) -> None:
    async with softphone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        await phone.dial(f"sip:+14155550199@{house.address}")
        assert "404" in (await phone.event("CALL_CLOSED"))["param"]
        assert not house.events


async def test_a_caller_gives_up_while_it_rings(tmp_path: Path) -> None:
    async def nobody_yet(event: IncomingCall, line: Line | None) -> Route:
        return LeaveRinging()

    async with softphone(tmp_path) as phone, open_house({"port": phone.port}, router=nobody_yet) as house:
        await phone.dial(house.line)
        await phone.event("CALL_RINGING")
        await phone.do("hangup")
        assert (await house.over(await house.only_call())).reason is EndReason.CANCELED


async def test_a_caller_is_declined_as_busy(tmp_path: Path) -> None:
    async def busy(event: IncomingCall, line: Line | None) -> Route:
        return Reject(EndReason.BUSY)

    async with softphone(tmp_path) as phone, open_house({"port": phone.port}, router=busy) as house:
        await phone.dial(house.line)
        assert "486" in (await phone.event("CALL_CLOSED"))["param"]
        assert (await house.over(await house.only_call())).reason is EndReason.BUSY
