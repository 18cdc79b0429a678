"""Debian's baresip as a softphone, told what to do over its control port.

Its ways: the port after ``sip_listen`` is its TLS port; stdin must not be read (no module ``stdio``); it hears through
``sndfile``, which writes what comes and what goes to WAV files once a call is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peer_process import HOST, free_ports, require, running
from sound import Sound, tone, write_wav

MODULES = "/usr/lib/baresip/modules"


@dataclass
class Softphone:
    user: str
    port: int
    folder: Path
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    events: list[dict[str, Any]] = field(default_factory=list)
    """What it told and nobody asked for yet, oldest first."""
    replies: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"sip:{self.user}@{HOST}:{self.port}"

    async def do(self, command: str, parameters: str = "") -> str:
        """Give one of its commands, as its menu has them; what it says to that."""
        text = json.dumps({"command": command, "params": parameters, "token": "t"})
        self.writer.write(f"{len(text)}:{text},".encode())
        async with asyncio.timeout(30):
            reply = await self.replies.get()
        return str(reply.get("data", ""))

    async def press(self, digits: str) -> None:
        await self.do("sndcode", digits)

    async def dial(self, uri: str) -> None:
        await self.do("dial", uri)

    async def event(self, kind: str, timeout: float = 30) -> dict[str, Any]:
        """The next event of that type, CALL_ESTABLISHED for one."""
        async with asyncio.timeout(timeout):
            while True:
                for event in self.events:
                    if event["type"] == kind:
                        self.events.remove(event)
                        return event
                self.told.clear()
                await self.told.wait()

    async def _listen(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = await self.reader.readuntil(b":")
                message = json.loads(await self.reader.readexactly(int(length[:-1])))
                await self.reader.readexactly(1)
                if message.get("event"):
                    self.events.append(message)
                    self.told.set()
                else:
                    self.replies.put_nowait(message)

    @property
    def trace(self) -> str:
        """All SIP that it sent and received."""
        return (self.folder / "log").read_text(errors="replace")

    def heard(self) -> Sound:
        """What it heard in its newest call; nothing until that is over and written."""
        return self._recorded("dec")

    def said(self) -> Sound:
        return self._recorded("enc")

    def _recorded(self, way: str) -> Sound:
        files = sorted(self.folder.glob(f"dump-*-{way}.wav"), key=lambda path: path.stat().st_mtime)
        try:
            return Sound.of(files[-1])
        except (IndexError, EOFError, wave.Error):  # not there yet, or not whole
            return Sound.of(b"")


@contextlib.asynccontextmanager
async def softphone(
    folder: Path,
    user: str = "soft",
    *,
    account: str = "",
    domain: str | None = None,
    config: str = "",
    frequency: float = 440,
    answers: str = "manual",
) -> AsyncIterator[Softphone]:
    """A telephone that is ready to call; ``domain`` is where it registers, if ``account`` says regint=60 or so.

    It says a sine tone of ``frequency`` as soon as a call is answered.
    """
    program = require("baresip", "baresip-core")
    folder = folder / user
    folder.mkdir(parents=True)
    port, control = free_ports(2), free_ports()
    write_wav(folder / "say.wav", tone(frequency, 60))
    settings = f"""
        poll_method epoll
        sip_listen {HOST}:{port}
        net_interface {HOST}
        audio_source aufile,{folder}/say.wav
        audio_player aubridge,nowhere
        audio_alert aubridge,nowhere
        ausrc_srate 8000
        auplay_srate 8000
        snd_path {folder}
        ctrl_tcp_listen {HOST}:{control}
        call_max_calls 8
        module_path {MODULES}
        module g711.so
        module aufile.so
        module aubridge.so
        module sndfile.so
        module srtp.so
        module_tmp uuid.so
        module_tmp account.so
        module_app menu.so
        module_app ctrl_tcp.so
        {config}
    """
    (folder / "config").write_text(re.sub(r"(?m)^\s+", "", settings))
    parameters = account or "transport=udp>;regint=0"
    (folder / "accounts").write_text(
        f"<sip:{user}@{domain or f'{HOST}:{port}'};{parameters};audio_codecs=PCMU,PCMA;answermode={answers}\n"
    )
    async with running(program, "-f", str(folder), "-s", log=folder / "log"):
        async with asyncio.timeout(30):
            while True:
                try:
                    reader, writer = await asyncio.open_connection(HOST, control)
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        phone = Softphone(user, port, folder, reader, writer)
        listening = asyncio.create_task(phone._listen())
        try:
            yield phone
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            writer.close()
