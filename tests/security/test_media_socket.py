"""S2, S3, S5, S13, S14: a media socket is opened by one ticket, for one call, once, and not before it was looked at."""

from __future__ import annotations

import asyncio
import socket as plain

import pytest
from by_hand import ByHand, new_call, stays_open, ticket_in


@pytest.mark.parametrize(
    ("rest", "status"),
    [("", 401), ("/", 401), ("/anything", 403), ("/" + "A" * 140, 403), ("/stream/1", 403), ("/%00", 403)],
)
async def test_s2_without_a_ticket_there_is_no_media_socket(rest: str, status: int, house: ByHand) -> None:
    assert await house.knock(rest) in (status, 403, 404)


async def test_s2_a_ticket_opens_one_socket_and_none_when_a_letter_is_changed(house: ByHand) -> None:
    call_id = new_call()
    ticket = await house.ticket(call_id)
    middle = len(ticket) // 2
    changed = ticket[:middle] + ("A" if ticket[middle] != "A" else "B") + ticket[middle + 1 :]
    assert await house.knock(f"/{changed}") == 403
    assert await house.knock(f"/{ticket}=") == 403, "another spelling of the same bytes"
    socket = await house.stream(ticket, call_id)
    assert await house.knock(f"/{ticket}") == 403, "it was used"
    assert await stays_open(socket, 0.3)
    await socket.close()


async def test_s3_a_ticket_counts_in_the_path_and_nowhere_else(house: ByHand) -> None:
    call_id = new_call()
    answer = await house.announce(call_id)
    ticket = ticket_in(answer)
    assert f"/media/{ticket}" in answer.text and "?" not in answer.text.partition("/media/")[2].partition('"')[0]
    for rest in (f"?ticket={ticket}", f"?token={ticket}", f"/?ticket={ticket}", f"/x?ticket={ticket}"):
        assert await house.knock(rest) in (401, 403), rest
    assert await house.knock(f"/{ticket}") == 101, "none of that used it up"


async def test_s5_a_ticket_for_one_call_carries_no_other(house: ByHand) -> None:
    ours, theirs = new_call(), new_call()
    ticket, _ = await house.ticket(ours), await house.ticket(theirs)
    stolen = await house.stream(ticket, theirs)
    assert not await stays_open(stolen, 30), "the stream said it is another call's"
    honest_call = new_call()
    honest = await house.stream(await house.ticket(honest_call), honest_call)
    assert await stays_open(honest, 0.5)
    await honest.close()


async def test_s13_many_sockets_from_one_address_are_let_in(house: ByHand) -> None:
    """Carriers share addresses: a cap per address drops real calls."""
    calls = [new_call() for _ in range(24)]
    tickets = [await house.ticket(call) for call in calls]
    sockets = [await house.stream(ticket, call) for ticket, call in zip(tickets, calls, strict=True)]
    assert all(await asyncio.gather(*(stays_open(socket, 0.5) for socket in sockets)))
    for socket in sockets:
        await socket.close()


async def test_s14_the_ticket_is_looked_at_before_the_upgrade_is_accepted(house: ByHand) -> None:
    """On the bytes of the connection: the answer to a bad ticket is 403, and no 101 comes before it."""

    def ask() -> bytes:
        host, _, port = house.origin.removeprefix("http://").rpartition(":")
        with plain.create_connection((host, int(port)), timeout=60) as raw:
            key = "dGhlIHNhbXBsZSBub25jZQ=="
            raw.sendall(
                f"GET /media/{'x' * 60} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            got = b""
            while chunk := raw.recv(4096):
                got += chunk
            return got

    answer = await asyncio.to_thread(ask)
    assert answer.startswith(b"HTTP/1.1 403 ") and b"101" not in answer.split(b"\r\n\r\n")[0]
