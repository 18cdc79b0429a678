"""What a conversation does when a machine answers: hang up, leave a message after the greeting, or continue, by the
settings.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anycarrier.agent.settings import fill
from anycarrier.calls import EndReason
from anycarrier.events import MachineDetected

if TYPE_CHECKING:
    from anycarrier.agent.conversation import Conversation

GREETING = 40.0
"""Seconds to wait for the end of a greeting, where the carrier does not report it."""


class Voicemail:
    """Voicemail handling of one call. Once a machine is detected, it and the agent no longer hear each other."""

    def __init__(self, conversation: Conversation) -> None:
        self.machine = False
        self._conversation = conversation
        self._timer: asyncio.TimerHandle | None = None
        self._left = False
        self._work: asyncio.Future[None] | None = None

    def detected(self, event: MachineDetected) -> None:
        """The carrier reported who answered. It may report twice, the second time at the end of the greeting."""
        c = self._conversation
        c.note("answered_by", who=event.answered_by, greeting_ended=event.greeting_ended)
        who = event.answered_by
        machine = who in ("machine", "fax") or (self.machine and event.greeting_ended)
        if not machine or not c.settings.voicemail_detection or c.settings.on_voicemail == "ignore":
            return
        first, self.machine = not self.machine, True
        message = self.message
        if who == "fax" or c.settings.on_voicemail == "hang_up" or not message:
            c.end(EndReason.VOICEMAIL)
            return
        self._work = asyncio.ensure_future(self._take_over(message, first, event.greeting_ended))

    @property
    def message(self) -> str:
        """The message to leave, with its placeholders filled in."""
        c = self._conversation
        return fill(c.settings.voicemail_message, c.variables)[0].strip()

    async def _take_over(self, message: str, first: bool, greeting_ended: bool) -> None:
        speaker = self._conversation.speaker
        if first:
            speaker.muted = True
            self._conversation.session.stream.stop_relaying()
            await speaker.cut()
        if greeting_ended:
            self._leave(message)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GREETING, self._leave, message)

    def _leave(self, message: str) -> None:
        if self._left:
            return
        self._left = True
        if self._timer is not None:
            self._timer.cancel()
        c = self._conversation
        if c.session.ended:
            return
        turn = c.speaker.begin(interruptible=False, privileged=True)
        c.speaker.add(turn, message, complete=True)
        turn.over.add_done_callback(lambda _: c.end_when_heard(EndReason.VOICEMAIL))
