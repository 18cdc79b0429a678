"""Debian's baresip logs in to us as a softphone, rings a line and is rung."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from peer_process import HOST
from sip_house import OURS, open_house, until
from softphone import softphone

from anycarrier import CallStatus, EndReason
from anycarrier.errors import RequestRejected

ALICE, NUMBER = "sip:alice@127.0.0.1", "+12125550120"
CREDENTIAL: dict[str, Any] = {
    "preset": "softphones", "host": None, "registers": None,
    "users": [{"name": "alice", "password": "swordfish", "number": NUMBER}],
}  # fmt: skip


def account(port: int, password: str = "swordfish", transport: str = "udp") -> dict[str, str]:
    login = f"auth_user=alice;auth_pass={password}"
    return {"domain": f"{HOST}:{port}", "account": f"transport={transport}>;{login};regint=60"}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_baresip_registers_rings_a_line_and_is_rung(tmp_path: Path, transport: str) -> None:
    async with open_house(CREDENTIAL, settings={"softphones": True}) as house:
        registrar = house.provider.listener.registrar
        assert registrar is not None
        port = house.provider.listener.endpoint.addresses[transport][1]
        async with softphone(tmp_path, "alice", **account(port, transport=transport)) as phone:
            await until(lambda: bool(registrar.registered()["alice"]))
            assert registrar.registered()["alice"][0].startswith(f"{transport}:{HOST}:")
            await phone.dial(f"sip:{OURS}@{HOST}:{port}")
            await phone.event("CALL_ESTABLISHED")
            call = await house.only_call()
            assert (call.from_, call.to) == (NUMBER, OURS)
            call_flow = [live.flow for live in house.provider.listener.calls.values()]
            await phone.do("hangup")
            assert (await house.over(call)).reason is EndReason.USER_HANGUP
            back = f"sip:{OURS}@{HOST}:{port}"  # where it calls back, and is sent to
            here = f"{back};transport={transport}" if transport == "tcp" else back
            flow = call_flow[0]
            assert str(house.provider.listener.identity(OURS, flow)[0].uri) == back
            assert str(house.provider.listener.uri_of(OURS, flow)) == here
            for to in (NUMBER, ALICE):
                dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=to))
                await phone.event("CALL_INCOMING")
                await phone.do("accept")
                call = await dialling
                await house.exchange.wait_for(call, CallStatus.ANSWERED)
                await house.exchange.hang_up(call)
                assert (await house.over(call)).reason is EndReason.API_STOP


async def test_baresip_with_a_wrong_password_stays_out(tmp_path: Path) -> None:
    async with (
        open_house(CREDENTIAL, settings={"softphones": True}) as house,
        softphone(tmp_path, "alice", **account(house.port, "guess")),
    ):
        await until(lambda: house.provider.listener.endpoint.guard.counters.silenced > 0)
        with pytest.raises(RequestRejected, match="no phone is registered as 'alice'"):
            await house.exchange.dial(from_=OURS, to=NUMBER)
        assert house.provider.listener.endpoint.guard.counters.wrong_answers == 3
