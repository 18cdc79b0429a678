"""The calls that this process has on its own sockets: ended here when another process asks for it.

Anybody may hang up a call of a webhook carrier, through its API. A call of a listener is in one process, and only that
one can end it. Another one that is asked to hang it up writes the intent into the call book; the holder looks there
every second, once for all its calls, and does it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from anycarrier import plugins
from anycarrier.callbook import SweptCallBook
from anycarrier.calls import Call
from anycarrier.errors import AnycarrierError, CallElsewhere
from anycarrier.provider import Capability
from anycarrier.switchboard import Switchboard

log = logging.getLogger("anycarrier")

EVERY = 1.0
"""Seconds between two looks into the call book, while there are such calls."""


class HeldCalls:
    """Looks after the calls of one process's listeners."""

    def __init__(self, switchboard: Switchboard) -> None:
        self._board = switchboard
        self._held: set[str] = set()
        """References of calls that nobody has asked to end yet, as far as we know."""
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        switchboard.on_change.append(self.note)

    def note(self, call: Call) -> None:
        """The call is like this now."""
        mine = call.owner == self._board.owner and bool(call.id)
        # One that was handed on outlives our side's wish to leave it: another process may stop it yet.
        if not mine or call.ended or (call.intent is not None and not call.handed_on):
            self._held.discard(call.reference)
        elif Capability.LISTEN in plugins.get_provider(call.provider).capabilities:
            self._held.add(call.reference)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(EVERY, self._due)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()

    def _due(self) -> None:
        self._timer = None
        if self._held:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._due)
            self._board.spawn(self._sweep(), "look for calls that another process hangs up")

    async def _sweep(self) -> None:
        try:
            ending = await self._ending([*self._held])
            self._failing = False
        except Exception as problem:  # noqa: BLE001 the call book is not available: the next look may get through
            if not self._failing:
                self._failing = True
                self._board.report("looking for calls that another process hangs up failed, trying again", problem)
            return
        for call in ending:
            if call.reference in self._held:  # else it was told meanwhile, and ended here
                self._board.tell(call)
                if not call.handed_on:
                    self._board.spawn(self._hang_up(call), "hang up a call for another process")

    async def _ending(self, references: Collection[str]) -> list[Call]:
        book = self._board.calls
        if isinstance(book, SweptCallBook):
            return await book.ending(references)
        return [c for c in await book.in_progress() if c.intent is not None and c.reference in self._held]

    async def _hang_up(self, call: Call) -> None:
        provider = await self._board.provider(call.credential_id)
        try:
            with self._board.asking(provider, "hang_up"):
                await provider.hang_up(call.id)
        except CallElsewhere:
            pass  # it is over
        except AnycarrierError as problem:  # the watch tries again
            log.warning("call %s on %s was not hung up yet: %s", call.reference, call.provider, problem)
