"""What listens in on a call without taking part: a recorder. It hears all audio of both sides and changes none.

:class:`Tap` is the protocol, ``MediaSession.tap`` sets it; :class:`GuardedTap` keeps its failures from the call.
"""

from __future__ import annotations

import logging
from typing import Protocol

log = logging.getLogger("anycarrier")


class Tap(Protocol):
    """Listens in on a session: a recorder. It gets all audio of both sides, whichever handler has the call."""

    def caller(self, payload: bytes) -> None:
        """Audio from the caller, just arrived."""
        ...

    def agent(self, payload: bytes, starts_in: float) -> None:
        """Audio sent to the caller, to be heard in ``starts_in`` seconds."""
        ...

    def cut(self) -> None:
        """What was not heard yet never will be."""
        ...


class GuardedTap:
    """A tap must not cost the call its audio: one that raises is told no more, and the log says so."""

    def __init__(self, tap: Tap) -> None:
        self.tap: Tap | None = tap

    def caller(self, payload: bytes) -> None:
        if self.tap is not None:
            try:
                self.tap.caller(payload)
            except Exception:  # noqa: BLE001 whatever it is, the call goes on
                self._give_up()

    def agent(self, payload: bytes, starts_in: float) -> None:
        if self.tap is not None:
            try:
                self.tap.agent(payload, starts_in)
            except Exception:  # noqa: BLE001 likewise
                self._give_up()

    def cut(self) -> None:
        if self.tap is not None:
            try:
                self.tap.cut()
            except Exception:  # noqa: BLE001 likewise
                self._give_up()

    def _give_up(self) -> None:
        log.exception("%s failed and hears no more of its call", type(self.tap).__name__)
        self.tap = None
