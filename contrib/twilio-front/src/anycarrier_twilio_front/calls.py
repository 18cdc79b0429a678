"""One call as the bot knows it: its CallSid and status in Twilio's words, and what it is to run next."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import httpx

from anycarrier import Call, Direction, MachineDetected
from anycarrier_twilio.carrier_side.calls_api import StatusCallback
from anycarrier_twilio.carrier_side.messages import call_form, status_word
from anycarrier_twilio.carrier_side.twiml import Instructions
from anycarrier_twilio_front.callbacks import BotError

if TYPE_CHECKING:
    from anycarrier_twilio_front.document import Document


@dataclass(slots=True)
class Dialled:
    """A ``<Dial>`` under way; ``status`` is Twilio's word for what became of it, as far as the carrier tells."""

    action: Instructions | None
    status: str = "failed"

    def ended(self, *, bridged: bool = False) -> Instructions | None:
        """The action URL with the outcome; None without one."""
        if self.action is None:
            return None
        outcome = {"DialCallStatus": "completed" if bridged else self.status, "DialBridged": str(bridged).lower()}
        return replace(self.action, params={**self.action.params, **outcome})


@dataclass(slots=True)
class Detection:
    """Answering-machine detection that a REST request asked for. ``callback`` is told of it."""

    callback: StatusCallback | None = None
    awaited: bool = True
    """The document waits for it."""
    to_the_end: bool = False
    """A machine's greeting is waited for (``DetectMessageEnd``)."""
    answered_by: str = ""
    """Twilio's word, once it is known."""
    known: asyncio.Event = field(default_factory=asyncio.Event)

    def found(self, event: MachineDetected) -> bool:
        """Note what a carrier says; True if that is the answer, which is given once."""
        machine = event.answered_by == "machine"
        if self.answered_by or (machine and self.to_the_end and not event.greeting_ended):
            return False
        end = "machine_end_beep" if event.beep else "machine_end_other"
        self.answered_by = (end if self.to_the_end else "machine_start") if machine else event.answered_by
        self.known.set()
        return True


class FrontCall:
    """A call of the front's. ``instructions`` are what it runs once its audio is connected; their ``fallback`` is the
    call's, asked wherever one of its documents cannot be had or run."""

    def __init__(
        self, account_sid: str, call: Call, instructions: Instructions, callback: StatusCallback | None = None
    ) -> None:
        self.account_sid = account_sid
        self.call = call
        """The newest snapshot."""
        self.instructions = instructions
        self.callback = callback
        self.document: Document | None = None
        """Their document, where it was fetched already: while the call rang."""
        self.dialled: Dialled | None = None
        self.detection: Detection | None = None
        self.unplaced: list[Call] | None = None
        """Its snapshots so far, of which nothing is told: a carrier may still refuse the call."""
        self.error: BotError | None = None
        """What ended the call, where the bot's document or answers did."""
        self.cookies = httpx.Cookies()
        """Those that the bot has set in this call."""
        self.told: list[str] = []
        """Status words that it has come to, in order."""
        self.posted = 0
        """Status callbacks made."""
        self.redirected = asyncio.Event()
        """Set when ``instructions`` are others than those that run."""
        self.posting: asyncio.Task[None] | None = None
        """The last status callback; the next one is posted after it."""

    @property
    def sid(self) -> str:
        """``CA`` and our reference."""
        return f"CA{self.call.reference}"

    @property
    def direction(self) -> str:
        """``inbound`` or ``outbound-api``."""
        return "inbound" if self.call.direction is Direction.INBOUND else "outbound-api"

    @property
    def status(self) -> str:
        """Twilio's word: ``queued``, ``ringing``, ``in-progress``, ``completed`` ..."""
        return status_word(self.call)

    def form(self) -> dict[str, str]:
        """What every request of Twilio's says of the call."""
        form = call_form(
            account_sid=self.account_sid, call_sid=self.sid, status=self.status, direction=self.direction,
            from_=self.call.from_, to=self.call.to,
        )  # fmt: skip
        if self.detection is not None and self.detection.answered_by:
            form["AnsweredBy"] = self.detection.answered_by
        return form

    def redirect(self, instructions: Instructions) -> None:
        """Leave what runs and run ``instructions``; what is not running yet begins with them."""
        fallback = instructions.fallback or self.instructions.fallback
        self.instructions, self.document = replace(instructions, fallback=fallback), None
        self.redirected.set()
