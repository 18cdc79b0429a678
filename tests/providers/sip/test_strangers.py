"""P8 and acceptance: 2,000 INVITEs a second from a stranger, while a known caller talks."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

from scripted_sip_peer import House, play

FRAMES = 150
EACH = 40  # in 20 ms


def test_p8_known_call_loses_no_frame_while_strangers_flood_us() -> None:
    async def scene(house: House) -> None:
        peer = house.peer
        leg = peer.invite()
        ok = await leg.answered()
        port = int(ok.body.split("m=audio ")[1].split()[0])
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stranger.setblocking(False)
        stranger.bind(("127.0.0.66", 0))
        invite = (
            f"INVITE sip:00441234567@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.66:{stranger.getsockname()[1]};"
            "branch=z9hG4bK{};rport\r\nFrom: <sip:100@127.0.0.1>;tag=1\r\nTo: <sip:00441234567@127.0.0.1>\r\n"
            "Call-ID: {}@scan\r\nCSeq: 1 INVITE\r\nContact: <sip:100@127.0.0.66>\r\nContent-Length: 0\r\n\r\n"
        )
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        counters = house.listener.endpoint.guard.counters
        for number in range(FRAMES):
            header = bytes([0x80, 0]) + number.to_bytes(2) + (160 * number).to_bytes(4) + b"peer"
            peer.media.sendto(header + bytes([number] * 160), ("127.0.0.1", port))
            for one in range(EACH):
                stranger.sendto(invite.format(f"{number}-{one}", f"{number}-{one}").encode(), peer.us)
            await asyncio.sleep(began + (number + 1) * 0.02 - loop.time())
        await asyncio.sleep(0.3)
        heard = b"".join(packet[12:] for packet in peer.rtp)
        assert b"".join(bytes([number] * 160) for number in range(FRAMES)) in heard
        sequence = [int.from_bytes(packet[2:4]) for packet in peer.rtp]
        assert all((after - before) % 65536 == 1 for before, after in pairwise(sequence))
        assert counters.strangers == FRAMES * EACH
        try:
            assert stranger.recv(65536) == b"", "not a byte"
        except BlockingIOError:
            pass
        stranger.close()
        leg.request("BYE")
        await peer.next("200 BYE")

    play(scene, quiet=False)
