"""One call leg, from queued to disconnected, with its webhooks and answering-machine detection.

A leg runs one step at a time: ringing, then its BXML. A REST request may end it or give it other BXML, which
interrupts the running verb; a media stream goes on beside it. The state changes at once, webhooks are sent afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import beep, fax, greeting
from anycarrier.testing.sandbox import Delivery, until_interrupted
from anycarrier.testing.sandbox_numbers import HANGS_UP_AFTER, RINGS_FOR, Outcome, outcome_of
from anycarrier_bandwidth.sandbox.account import Account, new_id, stamp
from anycarrier_bandwidth.sandbox.recordings import Recording
from anycarrier_bandwidth.sandbox.rest import VOICE
from anycarrier_bandwidth.sandbox.webhooks import Callback, ended, event, webhook

if TYPE_CHECKING:
    from anycarrier_bandwidth.sandbox.app import BandwidthSandbox
    from anycarrier_bandwidth.sandbox.media_stream import MediaStream


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended: the carrier's word, a sentence, and the SIP code where an outbound call was refused."""

    cause: str = "hangup"
    error: str | None = None
    sip_code: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """BXML to run: given, or to be asked for at ``callback`` with ``event``. Its URLs are relative to ``base``."""

    callback: Callback | None = None
    fallback: Callback | None = None
    event: Mapping[str, Any] | None = None
    content: bytes = b""
    base: str = ""


@dataclass(frozen=True, slots=True)
class Detection:
    """What was asked for with machine detection."""

    mode: str = "async"
    delayed: bool = False
    callback: Callback | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for with a call."""

    answer: Callback | None = None
    answer_fallback: Callback | None = None
    disconnect: Callback | None = None
    timeout: float = 30.0
    callback_timeout: float = 15.0
    detection: Detection | None = None


REFUSALS = {
    Outcome.BUSY: End("busy", "Callee is busy", 486),
    Outcome.REJECTED: End("rejected", "Call was rejected", 603),
    Outcome.NOT_FOUND: End("error", "The called number does not exist", 404),
    Outcome.INVALID_NUMBER: End("error", "The called number is invalid", 404),  # of a <Transfer>: the API refuses these
    Outcome.FORBIDDEN: End("rejected", "The destination is not allowed", 403),
    Outcome.NO_FUNDS: End("rejected", "The account is out of credits", 402),
    Outcome.THROTTLED: End("account-limit", "Account concurrent call limit exceeded"),
    Outcome.SERVER_ERROR: End("error", "Internal error", 500),
    Outcome.TIMEOUT: End("timeout", "Call timed out", 408),
}


class Leg:
    """See the module. ``far_end`` is the telephone at its other end."""

    def __init__(
        self, sandbox: BandwidthSandbox, account: Account, *, direction: str, from_: str, to: str, application: str,
        options: Options, parent: Leg | None = None, tag: str = "", sip_headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.sandbox, self.account, self.application = sandbox, account, application
        self.id = new_id("c")
        self.direction, self.from_, self.to = direction, from_, to
        self.options, self.parent, self.tag = options, parent, tag
        self.sip_headers = dict(sip_headers or {})
        self.state = "initiated" if direction == "inbound" else "queued"
        self.created = self.updated = datetime.now(UTC)
        self.answered_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.cause: str | None = None
        self.error: str | None = None
        self.sip_code: int | None = None
        self.streams: dict[str, MediaStream] = {}
        self.gather: Callback | None = None
        self.recording: Recording | None = None
        self.bridged: Leg | None = None
        self.outcome = Outcome.ANSWERS if direction == "inbound" else outcome_of(to)
        self.settled = asyncio.Event()
        """Set once the call was answered or is over."""
        self.gone = asyncio.Event()
        """Set once the call is over."""
        self.ready = asyncio.Event()
        """Set once the called party of a transfer is to be connected, or is gone."""
        self.far_end = FarEnd(
            self.id, from_, to, press=self._pressed, hang_up=self._put_down, silent="quiet" in sandbox.quirks
        )
        self._interrupt: asyncio.Future[Document | End] = asyncio.get_running_loop().create_future()
        account.calls[self.id] = self
        sandbox.connect(self.far_end)

    @property
    def over(self) -> bool:
        return self.state == "disconnected"

    @property
    def url(self) -> str:
        """The call's resource."""
        return f"{self.sandbox.base_url}{VOICE.format(account=self.account.id)}/{self.id}"

    # --- from outside ---------------------------------------------------------------------------------------------

    def answer(self) -> None:
        """The receiver is up; nothing happens when it was before, or the call is over."""
        if not self.over and self.answered_at is None:
            self.state = "answered"
            self.answered_at = self.updated = datetime.now(UTC)
            self.far_end.answered()
            self.settled.set()

    def end(self, how: End) -> None:
        """Over, now; the first word stands."""
        if self.over:
            return
        self.state, self.cause, self.error, self.sip_code = "disconnected", how.cause, how.error, how.sip_code
        self.ended_at = self.updated = datetime.now(UTC)
        self.far_end.ended(how.cause)
        self.settled.set()
        self.gone.set()
        self.ready.set()
        for stream in self.streams.values():
            stream.stop()
        if not self._interrupt.done():
            self._interrupt.set_result(how)

    def redirect(self, document: Document) -> None:
        """Leave what runs and do this instead; streams, gathering and recording go on."""
        self.updated = datetime.now(UTC)
        if not self._interrupt.done():
            self._interrupt.set_result(document)

    def tell(self, callback: Callback | None, body: Mapping[str, Any]) -> None:
        """A webhook that asks for nothing."""
        if callback is not None:
            self.sandbox.notify(self, webhook(callback, self.id, body, self.options.callback_timeout))

    async def ask(self, callback: Callback, body: Mapping[str, Any]) -> Delivery:
        """A webhook whose reply is BXML."""
        return await self.sandbox.ask(webhook(callback, self.id, body, self.options.callback_timeout))

    async def _pressed(self, digit: str) -> None:
        await asyncio.sleep(self.sandbox.digit_seconds)
        if self.bridged is not None:
            self.bridged.far_end.digits += digit
        else:
            self.tell(self.gather, event(self, "dtmf", digit=digit))

    async def _put_down(self) -> None:
        if self.answered_at is not None:
            self.end(End())
        else:
            self.end(End("cancel") if self.direction == "inbound" else REFUSALS[Outcome.REJECTED])

    # --- its life -------------------------------------------------------------------------------------------------

    async def live(self, first: Document | None = None) -> None:
        """The whole life, until the call is over and everything was told; ``first`` is what an inbound call does."""
        step: Document | End | None = first if first is not None else await self.until_interrupted(self._ring_out())
        while not isinstance(step, End):
            step = await self.until_interrupted(self._obey(step))
        self.end(step)
        if self.recording is not None:
            self.recording.stop()
        await asyncio.gather(*(stream.over.wait() for stream in self.streams.values()))
        kind = "disconnect" if self.parent is None else "transferDisconnect"
        self.tell(self.options.disconnect, {**ended(self, kind), **self.transferred})

    @property
    def transferred(self) -> dict[str, str]:
        """What events of a transfer say of it: ``from`` and ``to`` are those of the call that was transferred."""
        if self.parent is None:
            return {}
        ends = {"from": self.parent.from_, "to": self.parent.to}
        return {**ends, "transferCallerId": self.from_, "transferTo": self.to}

    async def _obey(self, document: Document | None) -> Document | End:
        step = await self.sandbox.run_bxml(self, document) if document is not None else None
        if step is None and self.parent is not None:  # the called party of a transfer, who may now be connected
            self.ready.set()
            await self.gone.wait()
        return step or End()

    async def until_interrupted(self, work: Coroutine[Any, Any, Document | End | None]) -> Document | End | None:
        """What ``work`` comes to, or what interrupted it."""
        result = await until_interrupted(work, self._interrupt)
        if not self._interrupt.done():
            return result
        order = self._interrupt.result()
        if isinstance(order, Document):
            self._interrupt = asyncio.get_running_loop().create_future()
            if self.over:  # it ended between the redirect and now
                return End(self.cause or "hangup", self.error, self.sip_code)
        return order

    async def _ring_out(self) -> Document | End | None:
        pause = self.sandbox.ring_seconds
        await asyncio.sleep(pause)
        self.state = "initiated"
        match self.outcome:
            case Outcome.NO_ANSWER:
                await asyncio.sleep(self.options.timeout)
                return End("timeout", "Call timed out before it was answered", 487)
            case Outcome.RINGS:
                await asyncio.sleep(min(RINGS_FOR, self.options.timeout))
                if self.options.timeout < RINGS_FOR:
                    return End("timeout", "Call timed out before it was answered", 487)
            case _:
                await asyncio.sleep(pause)
        return REFUSALS[self.outcome] if self.outcome in REFUSALS else await self._picked_up()

    async def _picked_up(self) -> Document | None:
        self.answer()
        spoken: asyncio.Task[None] | None = None
        if self.outcome is Outcome.HANGS_UP:
            asyncio.get_running_loop().call_later(HANGS_UP_AFTER, self.end, End())
        elif self.outcome in (Outcome.MACHINE, Outcome.FAX):
            said = greeting() + beep() if self.outcome is Outcome.MACHINE else fax()
            spoken = self.sandbox.start(self.far_end.say(said))
        told = event(self, "answer" if self.parent is None else "transferAnswer")
        if self.options.detection is not None:
            if self.options.detection.mode == "sync":
                told["machineDetectionResult"] = await detect(self, self.options.detection, spoken)
            else:
                self.sandbox.start(self._detected(self.options.detection, spoken))
        if self.options.answer is None:
            return None
        return Document(self.options.answer, self.options.answer_fallback, {**told, **self.transferred})

    async def _detected(self, wanted: Detection, spoken: asyncio.Task[None] | None) -> None:
        verdict = await detect(self, wanted, spoken)
        if not self.over:
            self.tell(wanted.callback, event(self, "machineDetectionComplete", machineDetectionResult=verdict))

    def resource(self) -> dict[str, Any]:
        """The call as REST shows it."""
        return {
            "applicationId": self.application, "accountId": self.account.id, "callId": self.id,
            "parentCallId": self.parent.id if self.parent else None, "to": self.to, "from": self.from_,
            "direction": self.direction, "state": self.state, "enqueuedTime": stamp(self.created),
            "startTime": stamp(self.created), "answerTime": stamp(self.answered_at), "endTime": stamp(self.ended_at),
            "disconnectCause": self.cause, "errorMessage": self.error, "errorId": None,
            "lastUpdate": stamp(self.updated),
        }  # fmt: skip


GREETING_WAIT = 10.0
"""Seconds detection waits at most for a greeting, which is spoken into the stream, to end; it lasts 1.4 s."""


async def detect(leg: Leg, wanted: Detection, spoken: asyncio.Task[None] | None) -> dict[str, str]:
    """Listen and judge. ``spoken`` ends with the machine's greeting; this account is told of its beep."""
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(leg.sandbox.detect_seconds)
    verdict = {Outcome.MACHINE: "answering-machine", Outcome.FAX: "timeout"}.get(leg.outcome, "human")
    if leg.outcome is Outcome.MACHINE and wanted.delayed:
        if wanted.mode == "async" and spoken is not None:
            await asyncio.wait({spoken}, timeout=GREETING_WAIT)
        else:
            # No stream is open yet to hear it by: the greeting's own length has to do.
            await asyncio.sleep(len(greeting() + beep()) / 8000)
        verdict = "tone-detected"
    return {"value": verdict, "duration": f"PT{asyncio.get_running_loop().time() - began:.3f}S"}
