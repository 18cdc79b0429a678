"""Linphone's console telephone, without a display or a sound card: it says a WAV file and records what it hears.

Its ways: on a machine with an address beside loopback it names that one in SDP and sends from loopback all the same, as
telephones behind a NAT do; without a sound card, ``soundcard use files`` must come first.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from peer_process import HOST, free_ports, require, running
from sip_house import until
from sound import Sound, tone, write_wav


@dataclass
class Linphone:
    user: str
    folder: Path
    process: asyncio.subprocess.Process
    said: str = ""
    """All that it printed."""

    def do(self, *commands: str) -> None:
        """Type these lines."""
        assert self.process.stdin is not None
        for command in commands:
            self.process.stdin.write(command.encode() + b"\n")

    async def shows(self, text: str) -> None:
        """Wait until it prints this."""
        await until(lambda: text in self.said)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(4096):
            self.said += data.decode(errors="replace")

    def heard(self) -> Sound:
        """What it heard so far; whole once the call is over."""
        return Sound.of(self.folder / "heard.wav")


@contextlib.asynccontextmanager
async def linphone(folder: Path, user: str, password: str, registrar: str) -> AsyncIterator[Linphone]:
    """One that logs in as ``user`` at ``registrar``, a host and port; it says a tone of 440 Hz."""
    program = require("linphonec", "linphone-cli")
    folder = folder / f"linphone-{user}"
    (folder / ".local/share/linphone").mkdir(parents=True)
    port = free_ports()
    write_wav(folder / "say.wav", tone(440, 60))
    settings = f"""
        [sip]
        sip_port={port}
        sip_tcp_port={port}
        sip_tls_port=0
        bind_address={HOST}
        use_ipv6=0
        default_proxy=0
        [proxy_0]
        reg_proxy=<sip:{registrar};transport=udp>
        reg_identity=sip:{user}@{registrar}
        reg_expires=60
        reg_sendregister=1
        [auth_info_0]
        username={user}
        passwd={password}
        [video]
        automatically_initiate=0
        automatically_accept=0
        [audio_codec_0]
        mime=PCMU
        rate=8000
        channels=1
        enabled=1
        """
    (folder / "linphonerc").write_text(re.sub(r"(?m)^ +", "", settings))
    command = (program, "-c", str(folder / "linphonerc"), "-d", "6", "-l", str(folder / "trace"))
    async with running(*command, log=folder / "log", input=True) as process:
        phone = Linphone(user, folder, process)
        reading = asyncio.create_task(phone._read())
        try:
            await phone.shows("linphonec>")
            phone.do("soundcard use files", f"play {folder}/say.wav", f"record {folder}/heard.wav")
            yield phone
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
