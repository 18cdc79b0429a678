"""One call leg, from queued to its terminal status, with status callbacks and answering-machine detection.

A leg runs one step at a time: ringing, then its TwiML. A REST request may end it or give it other TwiML, which
interrupts the running step. The status changes at once; sockets are closed and callbacks sent afterwards.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import beep, fax, greeting
from anycarrier.testing.sandbox import until_interrupted
from anycarrier.testing.sandbox_numbers import HANGS_UP_AFTER, RINGS_FOR, Outcome, outcome_of
from anycarrier_twilio.carrier_side.calls_api import StatusCallback
from anycarrier_twilio.carrier_side.twiml import Instructions
from anycarrier_twilio.sandbox.models import Account, CallOptions, End, RecordingOrder, new_sid
from anycarrier_twilio.sandbox.recordings import Recording
from anycarrier_twilio.sandbox.webhooks import status_params

if TYPE_CHECKING:
    from anycarrier_twilio.sandbox.app import TwilioSandbox
    from anycarrier_twilio.sandbox.media_stream import MediaStream


TERMINAL = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})


class Leg:
    """See the module. ``far_end`` is the telephone at its other end."""

    def __init__(
        self,
        sandbox: TwilioSandbox,
        account: Account,
        *,
        direction: str,
        from_: str,
        to: str,
        options: CallOptions,
        parent: Leg | None = None,
        number_sid: str | None = None,
        sip_headers: Mapping[str, str] | None = None,
    ) -> None:
        """``sip_headers`` came with an inbound call. Those of an outbound one are in ``to``: ``sip:x@y?X-Case=7``."""
        address, _, query = to.partition("?") if to.lower().startswith(("sip:", "sips:")) else (to, "", "")
        self.sandbox = sandbox
        self.account = account
        self.sid = new_sid("CA")
        self.direction = direction
        self.from_ = from_
        self.to = address
        self.sip_headers = dict(sip_headers or {})
        self.options = options
        self.fallback = options.instructions.fallback if options.instructions else None
        """Asked wherever a document of the call cannot be had or run."""
        self.parent = parent
        self.number_sid = number_sid
        self.status = "ringing" if direction == "inbound" else "queued"
        self.created = datetime.now(UTC)
        self.updated = self.created
        self.answered_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.answered_by: str | None = None
        self.sip_code: int | None = None
        self.stream: MediaStream | None = None
        self.bridged: Leg | None = None
        self.recordings: list[Recording] = []
        self.outcome = Outcome.ANSWERS if direction == "inbound" else outcome_of(to)
        self.settled = asyncio.Event()
        """Set once the call was answered or is over."""
        self.gone = asyncio.Event()
        """Set once the call is over."""
        self.far_end = FarEnd(
            self.sid, from_, self.to, press=self._pressed, hang_up=self._put_down, silent="quiet" in sandbox.quirks
        )
        self.far_end.headers = dict(parse_qsl(query))
        self._sequence = 0
        self._limit: asyncio.TimerHandle | None = None
        self._interrupt: asyncio.Future[Instructions | End] = asyncio.get_running_loop().create_future()
        account.calls[self.sid] = self
        sandbox.connect(self.far_end)

    @property
    def over(self) -> bool:
        return self.status in TERMINAL

    @property
    def seconds(self) -> int:
        """Whole seconds from answer, 0 when never answered."""
        if self.answered_at is None:
            return 0
        return max(1, math.ceil(((self.ended_at or datetime.now(UTC)) - self.answered_at).total_seconds()))

    # --- from outside ---------------------------------------------------------------------------------------------

    def answer(self) -> None:
        """The receiver is up; nothing happens when it was before, or the call is over."""
        if self.over or self.answered_at is not None:
            return
        self.status = "in-progress"
        self.answered_at = self.updated = datetime.now(UTC)
        self.far_end.answered()
        self.settled.set()
        self._limit = asyncio.get_running_loop().call_later(self.options.time_limit, self.end, "completed")
        self.tell("answered", "in-progress")
        if self.options.record is not None:
            self.record(self.options.record)

    def end(self, status: str, sip_code: int | None = None) -> None:
        """Over, now; the first word stands."""
        if self.over:
            return
        self.status = status
        self.sip_code = sip_code
        self.ended_at = self.updated = datetime.now(UTC)
        if self._limit is not None:
            self._limit.cancel()
        self.far_end.ended(status)
        self.settled.set()
        self.gone.set()
        if not self._interrupt.done():
            self._interrupt.set_result(End(status, sip_code))

    def redirect(self, instructions: Instructions) -> None:
        """Leave what runs and do this instead."""
        self.updated = datetime.now(UTC)
        self.fallback = instructions.fallback or self.fallback
        if not self._interrupt.done():
            self._interrupt.set_result(instructions)

    def change(self, *, status_callback: StatusCallback | None, time_limit: float | None) -> None:
        """Other options for the rest of the call; None leaves one as it is. A time limit counts from now."""
        if status_callback is not None:
            before = self.options.status_callback or status_callback
            self.options = replace(self.options, status_callback=replace(status_callback, events=before.events))
        if time_limit is not None and self._limit is not None:
            self._limit.cancel()
            self._limit = asyncio.get_running_loop().call_later(time_limit, self.end, "completed")

    def record(self, order: RecordingOrder) -> Recording:
        """Start recording."""
        recording = Recording(self, order)
        self.recordings.append(recording)
        self.account.recordings[recording.sid] = recording
        return recording

    def tell(self, event: str, status: str) -> None:
        """The status callback of an event, when it was asked for."""
        callback = self.options.status_callback
        if callback is not None and event in callback.events:
            params = status_params(self, status, self._sequence)
            self._sequence += 1
            self.sandbox.notify("status", self, callback.url, params, callback.method)

    async def _pressed(self, digit: str) -> None:
        if self.stream is not None:
            self.stream.press(digit)
        elif self.bridged is not None:
            self.bridged.far_end.digits += digit

    async def _put_down(self) -> None:
        if self.answered_at is not None:
            self.end("completed")
        elif self.direction == "inbound":
            # The carrier's word for a caller who gives up: nobody answered. "canceled" is kept for the API.
            self.end("no-answer", 487)
        else:
            self.end("busy", 603)

    # --- its life -------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """The whole life; ends when the call is over and everything was told."""
        if self.direction == "inbound":
            step: Instructions | End | None = self.options.instructions or End("failed")
        else:
            step = await self._until_interrupted(self._ring_out())
        while not isinstance(step, End):
            step = await self._until_interrupted(self._obey(step))
        self.end(step.status, step.sip_code)
        for recording in self.recordings:
            recording.stop()
        self.tell("completed", self.status)

    async def _obey(self, instructions: Instructions | None) -> Instructions | End:
        if instructions is None:  # a dialled party has no program: it talks until somebody hangs up
            await self.gone.wait()
            return End("completed")
        return await self.sandbox.run_twiml(self, instructions)

    async def _until_interrupted(
        self, work: Coroutine[Any, Any, Instructions | End | None]
    ) -> Instructions | End | None:
        result = await until_interrupted(work, self._interrupt)
        if not self._interrupt.done():
            return result
        order = self._interrupt.result()
        if isinstance(order, Instructions):
            self._interrupt = asyncio.get_running_loop().create_future()
            if self.over:  # it ended between the redirect and now
                return End(self.status, self.sip_code)
        return order

    async def _ring_out(self) -> Instructions | End | None:
        pause = self.sandbox.ring_seconds
        self.tell("initiated", "initiated")
        await asyncio.sleep(pause)
        self.status = "ringing"
        self.tell("ringing", "ringing")
        match self.outcome:
            case Outcome.NO_ANSWER:
                await asyncio.sleep(self.options.timeout)
                return End("no-answer", 487)
            case Outcome.RINGS:
                await asyncio.sleep(min(RINGS_FOR, self.options.timeout))
                if self.options.timeout < RINGS_FOR:
                    return End("no-answer", 487)
            case _:
                await asyncio.sleep(pause)
        refusals = {
            Outcome.BUSY: End("busy", 486),
            Outcome.REJECTED: End("busy", 603),
            Outcome.NOT_FOUND: End("failed", 404),
            Outcome.INVALID_NUMBER: End("failed", 404),  # only a <Dial> gets here: the API refuses the next ones
            Outcome.FORBIDDEN: End("failed", 403),
            Outcome.NO_FUNDS: End("failed", 402),
            Outcome.THROTTLED: End("failed", 503),
            Outcome.SERVER_ERROR: End("failed", 500),
            Outcome.TIMEOUT: End("failed", 408),
        }
        if self.outcome in refusals:
            return refusals[self.outcome]
        return await self._picked_up()

    async def _picked_up(self) -> Instructions | End | None:
        self.answer()
        spoken: asyncio.Task[None] | None = None
        if self.outcome is Outcome.HANGS_UP:
            asyncio.get_running_loop().call_later(HANGS_UP_AFTER, self.end, "completed")
        elif self.outcome is Outcome.MACHINE:
            spoken = self.sandbox.start(machine_speaks(self.far_end))
        elif self.outcome is Outcome.FAX:
            spoken = self.sandbox.start(self.far_end.say(fax()))
        for digit in self.options.send_digits:
            await self.sandbox.play_digit(self, digit)
        if self.options.detection and self.options.detection_async:
            self.sandbox.start(detect(self, spoken))
        elif self.options.detection:
            await detect(self, spoken)
        return self.options.instructions


GREETING_WAIT = 10.0
"""Seconds detection waits at most for a greeting, which is spoken into the stream, to end; it lasts 1.4 s."""


async def machine_speaks(far_end: FarEnd) -> None:
    """An answering machine's greeting and beep; then it listens."""
    await far_end.say(greeting() + beep())


async def detect(leg: Leg, spoken: asyncio.Task[None] | None) -> None:
    """Listen, judge, and tell by webhook when that was asked for. ``spoken`` ends with the machine's greeting."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await asyncio.sleep(leg.sandbox.detect_seconds)
    verdict = {Outcome.MACHINE: "machine_start", Outcome.FAX: "fax"}.get(leg.outcome, "human")
    if verdict == "machine_start" and leg.options.detection == "DetectMessageEnd":
        if leg.options.detection_async and spoken is not None:
            await asyncio.wait({spoken}, timeout=GREETING_WAIT)
        else:
            # No stream is open yet to hear it by: the greeting's own length has to do.
            await asyncio.sleep(len(greeting() + beep()) / 8000)
        verdict = "machine_end_beep"
    if leg.over:
        return
    leg.answered_by = verdict
    callback = leg.options.detection_callback
    if leg.options.detection_async and callback is not None:
        params = {
            "CallSid": leg.sid,
            "AccountSid": leg.account.sid,
            "AnsweredBy": verdict,
            "MachineDetectionDuration": str(round((clock() - began) * 1000)),
        }
        leg.sandbox.notify("amd", leg, callback.url, params, callback.method)
