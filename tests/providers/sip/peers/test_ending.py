"""How a process ends: told to, it unregisters and hangs up; killed, it leaves nothing behind that stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from kamailio import Kamailio, kamailio
from peer_process import HOST, running
from sip_house import OURS
from softphone import Softphone, softphone


@contextlib.asynccontextmanager
async def our_process(folder: Path, pbx: Kamailio) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of ours that is registered at the PBX."""
    credential = {"port": pbx.port, "registers": True, "username": "201", "password": "pw-201"}
    script = str(Path(__file__).with_name("house_process.py"))
    log = folder / "ours.log"
    async with running(sys.executable, script, json.dumps(credential), log=log, input=True) as process:
        assert process.stdout is not None
        assert int(await process.stdout.readline()), log.read_text()
        yield process


def telephone(pbx: Kamailio) -> dict[str, str]:
    return {"domain": f"{HOST}:{pbx.port}", "account": "transport=udp>;regint=60;auth_user=202;auth_pass=pw-202"}


async def test_told_to_end_it_hangs_up_and_is_no_longer_registered(tmp_path: Path) -> None:
    async with kamailio(tmp_path) as pbx, softphone(tmp_path, "202", **telephone(pbx)) as phone:
        async with our_process(tmp_path, pbx) as process:
            await rung(phone, pbx)
            process.terminate()
            assert "reset by peer" in (await phone.event("CALL_CLOSED"))["param"]
            assert await process.wait() == 0
        assert "\nBYE sip:" in phone.trace
        await phone.dial(f"sip:{OURS}@{HOST}:{pbx.port}")
        assert "404" in (await phone.event("CALL_CLOSED"))["param"]


async def test_killed_and_started_again_it_takes_calls_and_knows_nothing_of_the_old_one(tmp_path: Path) -> None:
    async with kamailio(tmp_path) as pbx, softphone(tmp_path, "202", **telephone(pbx)) as phone:
        async with our_process(tmp_path, pbx) as process:
            await rung(phone, pbx)
            process.kill()
            await process.wait()
        async with our_process(tmp_path, pbx):
            await phone.do("hangup")  # its BYE goes to nobody, or to who has no such call
            await phone.event("CALL_CLOSED")
            await rung(phone, pbx)
            await phone.do("hangup")
            await phone.event("CALL_CLOSED")


async def rung(phone: Softphone, pbx: Kamailio) -> None:
    """The telephone talks to us."""
    await phone.dial(f"sip:{OURS}@{HOST}:{pbx.port}")
    await phone.event("CALL_ESTABLISHED")
