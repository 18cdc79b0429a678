"""A call that is over leaves nothing for the garbage collector, which a service runs seldom while calls are up."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from scripted_sip_peer import House, play

LINGERS = 40.0
"""Seconds: longer than any transaction waits for repeats."""


def test_a_call_and_its_media_are_gone_when_they_are_over() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await leg.answered()
        await asyncio.sleep(0.5)
        left: list[weakref.ref[Any]] = []
        call = next(iter(house.listener.calls.values()))
        session = next(iter(house.exchange.switchboard.sessions.values()))
        for kept in (call, call.media, session, session.stream):
            left.append(weakref.ref(kept))
        del call, session, kept
        leg.request("BYE")
        await house.peer.next("200 BYE")
        await house.over()
        house.events.clear()
        del leg
        await asyncio.sleep(LINGERS)
        assert [one() for one in left] == [None] * 4

    gc.disable()
    try:
        play(scene, quiet=False)
    finally:
        gc.enable()
