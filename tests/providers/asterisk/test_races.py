"""The far end leaves while Asterisk is being asked for something, and Asterisk answers what is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from anycarrier import MediaSession
from whole.conftest import House, listen, open_house

DESK = "+13105550130"


class Line(httpx.AsyncBaseTransport):
    """To the sandbox. A request that ``holds`` waits for ``go``; ``instead``, if it is set, is the list of channels."""

    inner: httpx.AsyncBaseTransport

    def __init__(self, holds: Callable[[httpx.Request], bool] = lambda request: False) -> None:
        self.holds, self.held, self.go, self.done = holds, asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.instead: bytes | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.instead is not None and (request.method, request.url.path) == ("GET", "/ari/channels"):
            return httpx.Response(200, content=self.instead, request=request)
        if self.holds(request):
            self.held.set()
            await self.go.wait()
        response = await self.inner.handle_async_request(request)
        if self.go.is_set():
            self.done.set()
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


async def lead_over(house: House, line: Line) -> None:
    http = (await house.exchange.switchboard.provider("main")).http
    line.inner, http._transport = http._transport, line


async def nothing_is_left(house: House) -> None:
    """At Asterisk: within seconds, though a target may ring for longer."""
    async with asyncio.timeout(20):
        while house.sandbox.channels or house.sandbox.bridges:  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("asked", ["second leg", "externalMedia", "answer", "bridges", "addChannel"])
async def test_what_is_being_made_when_the_far_end_leaves_does_not_stay(asked: str) -> None:
    def holds(request: httpx.Request) -> bool:
        leg = request.url.path.endswith("/channels") and b".leg." in request.content
        return request.method == "POST" and (leg if asked == "second leg" else request.url.path.endswith(f"/{asked}"))

    async def talk(session: MediaSession) -> None:
        if asked == "second leg":
            await session.transfer(DESK)
        await listen(session)

    line = Line(holds)
    async with open_house("asterisk", settle=1.0) as house:
        await lead_over(house, line)
        house.answer_with(talk)
        far_end = await house.ring()
        await asyncio.wait_for(line.held.wait(), 20)
        await far_end.hang_up()
        await house.over(far_end)
        listener = (await house.exchange.switchboard.provider("main")).listener  # type: ignore[attr-defined]
        await listener.ended[far_end.call_id].cleared
        line.go.set()
        await asyncio.wait_for(line.done.wait(), 20)
        await nothing_is_left(house)


@pytest.mark.parametrize("answer", [b"null", b'["x"]', b'{"message": "starting"}', b"[{}]", b"<html>"])
async def test_an_answer_that_is_none_does_not_keep_the_event_socket_closed(answer: bytes) -> None:
    line = Line()
    async with open_house("asterisk", settle=1.0) as house:
        await lead_over(house, line)
        house.answer_with(listen)
        listener = (await house.exchange.switchboard.provider("main")).listener  # type: ignore[attr-defined]
        line.instead = answer
        await listener._socket.close()
        async with asyncio.timeout(20):
            while listener.connected:
                await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)  # it has tried once by now, and more
        line.instead = None
        async with asyncio.timeout(20):
            while not listener.connected:
                await asyncio.sleep(0.02)
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.hang_up()
        await house.over(far_end)
