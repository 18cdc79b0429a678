"""The far ends of ``./dev bench sip``, each a process of its own: ``sip_ends.py NAME PORT CALLS [AGENT_PORT]``.

``handler`` is an exchange that takes calls and whose agent is a function that says what it hears; ``relay`` one whose
agent is at the other end of a WebSocket (``agent``, as fast as Python is), and ``relay-srtp`` the same with SRTP.
Without SIP and without a session: ``streams``, our RTP alone, and ``by-hand``, the way one writes RTP with asyncio: a
protocol object and a task for each call. ``baresip`` is a foreign stack that says what it hears, and ``baresip-relay``
the same stack relaying to that agent, as an engineer would write it.

Prints ``ready``; ends with its standard input.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from serving import HOST, commands, uvloop_or_none

OURS = "+14155550100"
LOAD = 22000
REMEMBERED = 5.0
"""Seconds that an ended call is known, in place of ten minutes: sooner than that, a leak looks the same."""


# --- anycarrier -------------------------------------------------------------------------------------------------------


async def exchange(port: int, agents: Any, srtp: str = "off") -> Any:
    """An exchange with a trunk on this port, from anybody on loopback."""
    from anycarrier import Exchange, MemoryNumberRegistry, Policy
    from anycarrier.callbook import MemoryCallBook
    from anycarrier_sip import listener
    from anycarrier_sip.credential import SipCredential
    from anycarrier_sip.settings import SipSettings

    listener.REMEMBERED = REMEMBERED
    made = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"trunk": SipCredential(host=HOST, registers=False, numbers=(OURS,), srtp=srtp)},
        public_url="https://voice.example.com",
        secret="b" * 32,
        agents=agents,
        policy=Policy(allow=("+1",)),
        calls=MemoryCallBook(keep=100),
        carrier_settings=[
            SipSettings(listen=(f"udp:{HOST}:{port}",), rtp_ports=(10000, 19999), srtp_without_tls=srtp != "off")
        ],
    )
    await made.start()
    await made.assign(OURS, agent_id="bench", credential_id="trunk")
    return made


async def echo(session: Any) -> None:
    from anycarrier import AudioReceived

    async for event in session:
        if isinstance(event, AudioReceived):
            await session.send_audio(event.payload)


async def handler(port: int, calls: int, agent_port: int) -> Any:
    return await exchange(port, {"bench": echo})


def relaying(srtp: str) -> Any:
    async def relay(port: int, calls: int, agent_port: int) -> Any:
        from anycarrier.agent.agents import Agents

        agents = Agents()
        agents.add("bench", websocket_url=f"ws://{HOST}:{agent_port}/agent")
        return await exchange(port, agents, srtp)

    return relay


async def streams(port: int, calls: int, agent_port: int) -> Any:
    """Ports from ``port`` on; the load's from :data:`LOAD` on."""
    from anycarrier_sip.media import RtpStream
    from anycarrier_sip.pacer import Pacer, PortRange
    from anycarrier_sip.sdp import Negotiated

    pacer, kept = Pacer(), []
    for number in range(calls):
        ports = PortRange(port + 2 * number, port + 2 * number + 1)
        stream = RtpStream(pacer=pacer, ports=ports, bind_host=HOST, advertised_host=HOST, call_id=str(number))
        far = LOAD + 2 * number
        stream.connect(Negotiated("PCMU", 0, (HOST, far), (HOST, far + 1)))

        def back(frame: Any, stream: RtpStream = stream) -> None:
            if type(frame) is bytes:
                stream.write(frame)

        kept.append(asyncio.ensure_future(stream.push_to(back)))
    return kept


# --- others -----------------------------------------------------------------------------------------------------------


class ByHand(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.address: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.task = asyncio.ensure_future(self.pace())

    def datagram_received(self, packet: bytes, address: Any) -> None:
        _, kind, _, _, _ = struct.unpack_from("!BBHII", packet)
        if kind & 127 == 0:
            self.address = address
            self.waiting.append(packet[12:])

    async def pace(self) -> None:
        loop = asyncio.get_running_loop()
        due, sequence = loop.time(), 0
        while True:
            due += 0.02
            await asyncio.sleep(due - loop.time())
            sequence += 1
            audio = self.waiting.pop(0) if self.waiting else b"\xff" * 160
            if self.address is not None:
                header = struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, 160 * sequence & 0xFFFFFFFF, 1)
                self.transport.sendto(header + audio, self.address)


async def by_hand(port: int, calls: int, agent_port: int) -> Any:
    loop = asyncio.get_running_loop()
    return [
        await loop.create_datagram_endpoint(ByHand, local_addr=(HOST, port + 2 * number)) for number in range(calls)
    ]


async def agent(port: int, calls: int, agent_port: int) -> Any:
    from picows import (
        WSFrame,
        WSListener,
        WSMsgType,
        WSTransport,
        WSUpgradeRequest,
        WSUpgradeResponse,
        WSUpgradeResponseWithListener,
        ws_create_server,
    )

    key = b'"payload":"'
    no_speech = {f"x-use-inkbox-{what}": "false" for what in ("text-to-speech", "speech-to-text")}

    class Echo(WSListener):  # type: ignore[misc,unused-ignore]
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            message = frame.get_payload_as_bytes()
            at = message.find(key)
            if at > 0:
                audio = message[at + 11 : message.index(b'"', at + 11)]
                transport.send(WSMsgType.TEXT, b'{"event":"media","media":{"payload":"' + audio + b'"}}')
            elif frame.msg_type is WSMsgType.CLOSE:
                transport.disconnect()

    def accept(request: WSUpgradeRequest) -> Any:
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(no_speech), Echo())

    return await ws_create_server(accept, HOST, port)


async def foreign(port: int, calls: int, talk: Callable[[Any], Awaitable[None]]) -> Any:
    import baresip

    runtime = baresip.Runtime()
    text = f"sip_listen {HOST}:{port}\nausrc_srate 8000\nauplay_srate 8000\n"
    await runtime.start(
        baresip.Config(net_interface=HOST, max_concurrent_calls=None, native_log_level="error", extra_config_text=text)
    )
    account = baresip.Account(user=OURS, domain=f"{HOST}:{port}", password="", reg_interval=0, audio_codecs=("pcmu",))
    ua = await baresip.UserAgent.create(runtime, account)
    tasks = set()

    async def answered(call: Any) -> None:
        await call.answer()
        await talk(call)

    def incoming(call: Any) -> None:
        task = asyncio.ensure_future(answered(call))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    ua.on_incoming(incoming)
    return runtime, ua, tasks


async def heard_by(call: Any) -> AsyncIterator[bytes]:
    """What a call of baresip-python hears, every 20 ms."""
    import baresip

    while call.state is not baresip.CallState.CLOSED:
        try:
            yield call.audio.read(4096)
        except (baresip.AudioNotActive, baresip.AudioRestarted, baresip.StaleHandleError):
            pass
        await asyncio.sleep(0.02)


async def foreign_echo(port: int, calls: int, agent_port: int) -> Any:
    async def talk(call: Any) -> None:
        async for heard in heard_by(call):
            call.audio.write(heard)

    return await foreign(port, calls, talk)


async def foreign_relay(port: int, calls: int, agent_port: int) -> Any:
    """JSON and base64 of PCMU, as the agent has it."""
    from websockets.asyncio.client import ClientConnection, connect

    from anycarrier.audio import pcm16_to_pcmu, pcmu_to_pcm16

    async def speak(agent: ClientConnection, call: Any) -> None:
        async for message in agent:
            call.audio.write(pcmu_to_pcm16(base64.b64decode(json.loads(message)["media"]["payload"])))

    async def talk(call: Any) -> None:
        async with connect(f"ws://{HOST}:{agent_port}/agent", compression=None) as agent:
            speaking = asyncio.ensure_future(speak(agent, call))
            async for heard in heard_by(call):
                if heard:
                    audio = base64.b64encode(pcm16_to_pcmu(heard)).decode()
                    message = {"event": "media", "media": {"payload": audio}}
                    await agent.send(json.dumps(message, separators=(",", ":")))
            speaking.cancel()

    return await foreign(port, calls, talk)


ENDS: dict[str, Any] = {
    "handler": handler,
    "relay": relaying("off"),
    "relay-srtp": relaying("required"),
    "streams": streams,
    "by-hand": by_hand,
    "agent": agent,
    "baresip": foreign_echo,
    "baresip-relay": foreign_relay,
}


async def main(name: str, port: int, calls: int, agent_port: int) -> None:
    kept = await ENDS[name](port, calls, agent_port)
    gc.collect()
    if hasattr(kept, "switchboard"):  # as `anycarrier serve` has it
        from anycarrier_server.runtime import Coalescer, QuietCollector

        def live() -> int:
            return len(kept.switchboard.sessions)

        QuietCollector(live).start()
        Coalescer(live, lambda: False).start()
    print("ready", flush=True)
    async for _ in commands():
        pass
    os._exit(0)


if __name__ == "__main__":
    words = sys.argv[1:]
    loop = None if words[0].startswith("baresip") else uvloop_or_none()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main(words[0], int(words[1]), int(words[2]), int(words[3]) if len(words) > 3 else 0))
