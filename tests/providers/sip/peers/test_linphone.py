"""Linphone logs in to us as a softphone, rings a line and is rung: sound and keys in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linphone import linphone
from peer_process import HOST
from sip_house import OURS, open_house, until

from anycarrier import CallStatus, EndReason

NUMBER = "+12125550120"
CREDENTIAL: dict[str, Any] = {
    "preset": "softphones", "host": None, "registers": None,
    "users": [{"name": "alice", "password": "swordfish", "number": NUMBER}],
}  # fmt: skip


async def test_it_registers_rings_a_line_and_is_rung(tmp_path: Path) -> None:
    async with open_house(CREDENTIAL, settings={"softphones": True}) as house:
        registrar = house.provider.listener.registrar
        assert registrar is not None
        async with linphone(tmp_path, "alice", "swordfish", f"{HOST}:{house.port}") as phone:
            await until(lambda: bool(registrar.registered()["alice"]))
            phone.do(f"call {house.line}")
            await house.live()
            await until(lambda: len(house.heard[0].pcm) > 24000)
            phone.do("5", "#")
            await until(lambda: house.heard[0].digits == "5#")
            phone.do("terminate")
            call = await house.over(await house.only_call())
            assert (call.from_, call.reason) == (NUMBER, EndReason.USER_HANGUP)
            assert house.heard[0].sound.loud().between(0.2, 1).share(440) > 0.9
            await phone.shows("ended")
            assert phone.heard().loud().between(0.3, 1.3).share(600) > 0.9

            call = await house.exchange.dial(from_=OURS, to=NUMBER)
            await house.exchange.wait_for(call, CallStatus.RINGING, 30)
            phone.do("answer")
            await house.live(2)
            await until(lambda: len(house.heard[1].pcm) > 24000)
            await house.exchange.hang_up(call)
            assert (await house.over(call)).reason is EndReason.API_STOP
            assert house.heard[1].sound.loud().between(0.2, 1).share(440) > 0.9
