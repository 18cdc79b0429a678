"""A PBX with a login: kamailio as registrar with digest and record-routing proxy, telephones registered there too."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from kamailio import Kamailio, kamailio
from peer_process import HOST
from sip_house import CALLEE, OURS, House, open_house, until
from softphone import softphone

from anycarrier import EndReason
from anycarrier.errors import AuthenticationFailed, NumberRejected


def extension(pbx: Kamailio, **changed: Any) -> dict[str, Any]:
    """Our login there."""
    return {"port": pbx.port, "registers": True, "username": "201", "password": "pw-201", **changed}


def telephone(pbx: Kamailio) -> dict[str, str]:
    """The other one: 202."""
    return {"domain": f"{HOST}:{pbx.port}", "account": "transport=udp>;regint=60;auth_user=202;auth_pass=pw-202"}


async def registered(house: House) -> None:
    standing = house.provider.listener.standing
    await until(lambda: standing is not None and standing.status.state == "up")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_calls_through_it_in_both_directions(
    tmp_path: Path, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        kamailio(tmp_path) as pbx,
        softphone(tmp_path, "202", **telephone(pbx)) as phone,
        open_house(extension(pbx, transport=transport)) as house,
    ):
        await registered(house)
        await phone.dial(f"sip:{OURS}@{HOST}:{pbx.port}")
        await phone.event("CALL_ESTABLISHED")
        await house.live()
        await until(lambda: len(house.heard[0].pcm) > 16000)
        await phone.do("hangup")
        incoming = await house.over(await house.only_call())
        assert (incoming.to, incoming.reason) == (OURS, EndReason.USER_HANGUP)
        assert house.heard[0].sound.loud().share(440) > 0.9

        call = await house.exchange.dial(from_=OURS, to=CALLEE)
        await phone.event("CALL_INCOMING")
        await phone.do("accept")
        await house.live(2)
        await until(lambda: len(house.heard[1].pcm) > 16000)
        await house.exchange.hang_up(call)
        await phone.event("CALL_CLOSED")
        assert (await house.over(call)).reason is EndReason.API_STOP
        assert house.heard[1].sound.loud().share(440) > 0.9
        assert "Record-Route: <sip:127.0.0.1" in phone.trace
        told = caplog.text + repr(house.events) + repr(house.provider.credential)  # P10
        assert "pw-201" not in told
        assert "Digest" not in told


async def test_sha_256_and_nobody_has_the_number(tmp_path: Path) -> None:
    async with kamailio(tmp_path, algorithm="SHA-256") as pbx, open_house(extension(pbx)) as house:
        await registered(house)
        with pytest.raises(NumberRejected):
            await house.exchange.dial(from_=OURS, to="+12125550199")


async def test_it_comes_back_with_nothing_remembered(tmp_path: Path) -> None:
    async with kamailio(tmp_path / "first", min_expires=1, max_expires=3) as pbx:
        opened = open_house(extension(pbx))
        house = await opened.__aenter__()
        try:
            await registered(house)
        except BaseException:
            await opened.__aexit__(None, None, None)
            raise
    try:
        async with (
            kamailio(tmp_path / "second", port=pbx.port, min_expires=1, max_expires=3) as again,
            softphone(tmp_path, "202", **telephone(again)) as phone,
        ):
            for _ in range(40):
                await phone.dial(f"sip:{OURS}@{HOST}:{again.port}")
                try:
                    await phone.event("CALL_ESTABLISHED", timeout=1)
                    break
                except TimeoutError:
                    continue
            await house.live()
            await phone.do("hangup")
    finally:
        await opened.__aexit__(None, None, None)


async def test_a_wrong_password_says_what_to_do(tmp_path: Path) -> None:
    async with kamailio(tmp_path) as pbx, open_house(extension(pbx, password="pw-209")) as house:
        with pytest.raises(AuthenticationFailed) as refused:
            await house.provider.check_credential()
        assert "201" in str(refused.value)
        assert "password" in str(refused.value)
        assert "pw-209" not in str(refused.value)
        await asyncio.sleep(0.5)
        assert house.provider.listener.standing.status.state == "refused"


async def test_a_right_password_is_checked(tmp_path: Path) -> None:
    async with kamailio(tmp_path) as pbx, open_house(extension(pbx)) as house:
        assert "201" in await house.provider.check_credential()
