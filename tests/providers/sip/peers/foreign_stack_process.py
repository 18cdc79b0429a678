"""A telephone of ``baresip-python``, driven by JSON lines: commands come on stdin, what happens goes out on stdout.

It says a sine tone for as long as a call lasts and writes what it hears, linear PCM of 8 kHz, to a file per call.
"""

import asyncio
import json
import logging
import sys
from pathlib import Path

import baresip
from sound import tone


class Phone:
    def __init__(self, settings):
        self.settings = settings
        self.calls = []

    def tell(self, kind, **more):
        print(json.dumps({"type": kind, **more}), flush=True)

    async def run(self):
        runtime = baresip.Runtime()
        port = self.settings["port"]
        await runtime.start(baresip.Config(
            net_interface="127.0.0.1", sip_trace=True, native_log_level="debug", max_concurrent_calls=8,
            extra_config_text=f"sip_listen 127.0.0.1:{port}\nausrc_srate 8000\nauplay_srate 8000\n",
        ))  # fmt: skip
        account = baresip.Account(
            user=self.settings["user"], domain=self.settings["domain"], password=self.settings["password"],
            reg_interval=self.settings["expires"], audio_codecs=tuple(self.settings["codecs"]),
        )  # fmt: skip
        self.agent = await baresip.UserAgent.create(runtime, account, transfer_policy=self.settings["transfers"])
        self.agent.on_incoming(lambda call: self.adopt(call, "incoming"))
        self.agent.on_transfer_call(lambda call: self.adopt(call, "transferred"))
        if self.settings["expires"]:
            await self.agent.register(timeout=30)
        self.tell("ready")
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        while line := await commands.readline():
            command = json.loads(line)
            try:
                await getattr(self, command.pop("do"))(**command)
                self.tell("done")
            except Exception as problem:  # noqa: BLE001 told to who asked
                self.tell("failed", why=repr(problem))
        await runtime.close()

    def adopt(self, call, kind):
        number = len(self.calls)
        self.calls.append(call)
        call.on(lambda event: self.tell(event.event.name, call=number, text=str(event.text or "")))
        call.on_dtmf(lambda digit: self.tell("digit", call=number, digit=digit.digit))
        self.tell(kind, call=number)
        asyncio.get_running_loop().create_task(self.talk(number, call))

    async def talk(self, number, call):
        said, at = tone(self.settings["frequency"], 60), 0
        with Path(f"heard-{number}.pcm").open("wb", buffering=0) as file:  # noqa: ASYNC230 nobody waits here
            while call.state is not baresip.CallState.CLOSED:
                try:
                    at += call.audio.write(said[at : at + 1600])
                    file.write(call.audio.read(65536))
                except (baresip.AudioNotActive, baresip.AudioRestarted, baresip.StaleHandleError):
                    pass
                await asyncio.sleep(0.02)
        self.tell("closed", call=number)

    async def dial(self, to, headers=None):
        self.adopt(await self.agent.dial(to, headers), "outgoing")

    async def answer(self, call):
        await self.calls[call].answer()

    async def reject(self, call):
        await self.calls[call].reject()

    async def hangup(self, call):
        await self.calls[call].hangup()

    async def hold(self, call):
        await self.calls[call].hold()

    async def resume(self, call):
        await self.calls[call].resume()

    async def press(self, call, digits):
        await self.calls[call].send_dtmf(digits)

    async def transfer(self, call, to):
        await self.calls[call].transfer(to)

    async def attended(self, call, other):
        await self.calls[call].attended_transfer(self.calls[other])

    async def unregister(self):
        await self.agent.unregister()


logging.basicConfig(stream=sys.stderr, level=logging.DEBUG)
asyncio.run(Phone(json.loads(sys.argv[1])).run())
