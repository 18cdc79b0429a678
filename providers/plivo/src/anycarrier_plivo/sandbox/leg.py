"""One call, from queued to its end: rings, asks URLs what to do, does it, and tells."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import beep, fax, greeting
from anycarrier.testing.sandbox import Delivery
from anycarrier.testing.sandbox_numbers import HANGS_UP_AFTER, RINGS_FOR, Outcome, outcome_of
from anycarrier_plivo.sandbox import answer_xml
from anycarrier_plivo.sandbox.answer_xml import Element
from anycarrier_plivo.sandbox.media_stream import MediaStream
from anycarrier_plivo.sandbox.recordings import Recording
from anycarrier_plivo.sandbox.signing import webhook

if TYPE_CHECKING:
    from anycarrier_plivo.sandbox.app import Account, PlivoSandbox


@dataclass(frozen=True)
class End:
    """Why a call is over, in Plivo's words; ``cause`` is FreeSWITCH's."""

    status: str
    cause: str
    code: int
    name: str
    source: str = "Plivo"


OUT_OF_XML = End("completed", "NORMAL_CLEARING", 4010, "End Of XML Instructions", "Answer XML")
LIMIT = End("completed", "ALLOTTED_TIMEOUT", 6000, "Scheduled Hangup")
MISSED = End("timeout", "NO_ANSWER", 6010, "Ring Timeout Reached")
ENDS = {
    Outcome.BUSY: End("busy", "USER_BUSY", 3010, "Busy Line", "Carrier"),
    Outcome.REJECTED: End("busy", "CALL_REJECTED", 3110, "Declined", "Carrier"),
    Outcome.NOT_FOUND: End("failed", "NO_ROUTE_DESTINATION", 3120, "User Does Not Exist Anywhere", "Carrier"),
    Outcome.INVALID_NUMBER: End("failed", "INVALID_NUMBER_FORMAT", 2000, "Invalid Destination Address"),
    Outcome.NO_FUNDS: End("failed", "CALL_REJECTED", 1010, "Out Of Credits"),
    Outcome.FORBIDDEN: End("failed", "CALL_REJECTED", 2030, "Destination Country Barred"),
}
URL_CODES = {"answer": 7011, "action": 7012, "transfer": 7013}
XML_CODES = {"answer": 8011, "action": 8012, "transfer": 8013}


def canceled(source: str) -> End:
    return End("cancel", "ORIGINATOR_CANCEL", 1000, "Cancelled", source)


def hung_up(source: str) -> End:
    return End("completed", "NORMAL_CLEARING", 4000, "Normal Hangup", source)


@dataclass
class Options:
    """What POST /Call/, or an application, says about a call: URLs with their methods, and limits."""

    urls: dict[str, tuple[str, str]] = field(default_factory=dict)
    ring_timeout: float = 120.0
    time_limit: float = 14400.0
    digits: str = ""
    machine: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class Leg:
    def __init__(
        self, sandbox: PlivoSandbox, account: Account, direction: str, from_: str, to: str, options: Options
    ) -> None:
        self.sandbox, self.account, self.direction, self.options = sandbox, account, direction, options
        self.id = str(uuid.uuid4())
        self.from_, self.to = from_, to
        self.began: datetime = sandbox.time()
        self.answered_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.live = direction == "inbound"
        self.end_cause: End | None = None
        self.over = asyncio.Event()
        self.stream: MediaStream | None = None
        self.next: tuple[str, str] | None = None  # where a transfer is to be asked for
        self.step: asyncio.Task[None] | None = None
        self.recordings: list[Recording] = []
        self.outcome = Outcome.ANSWERS if direction == "inbound" else outcome_of(f"+{to.lstrip('+')}")
        self.far_end = FarEnd(
            self.id, from_, to, press=self._pressed, hang_up=self._put_down, silent="quiet" in sandbox.quirks,
            buffer_seconds=60.0,
        )  # fmt: skip
        self.far_end.headers = {f"X-PH-{name}": value for name, value in options.headers.items()}
        sandbox.legs[self.id] = self
        sandbox.connect(self.far_end)

    # --- what happens to it -----------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        return self.end_cause.status if self.end_cause else "in-progress" if self.answered_at else "ringing"

    @property
    def seconds(self) -> int:
        if self.answered_at is None:
            return 0
        return max(1, round(((self.ended_at or self.sandbox.time()) - self.answered_at).total_seconds()))

    def answer(self) -> None:
        if self.answered_at is None and self.end_cause is None:
            self.answered_at = self.sandbox.time()
            self.far_end.answered()
            self.sandbox.after(self.options.time_limit, self.end, LIMIT)

    def end(self, cause: End) -> None:
        """Over, now; the first word stands."""
        if self.end_cause is not None:
            return
        self.end_cause, self.ended_at, self.live = cause, self.sandbox.time(), False
        self.over.set()
        self.far_end.ended(cause.name)
        for recording in self.recordings:
            recording.stop()
        if self.stream is not None:
            self.stream.stopped.set()
        if "hangup" in self.options.urls:
            self.tell("Hangup", *self.options.urls["hangup"], self.fields("Hangup"))

    def hang_up_by_api(self) -> None:
        self.end(hung_up("API Request") if self.answered_at else canceled("API Request"))

    def transfer(self, url: str, method: str) -> None:
        """While a stream is open the new instructions wait for its end; anything else is left at once."""
        self.next = (url, method)
        if self.stream is None and self.step is not None:
            self.step.cancel()

    async def _pressed(self, digit: str) -> None:
        if self.stream is not None:
            self.stream.press(digit)

    async def _put_down(self) -> None:
        who = "Caller" if self.direction == "inbound" else "Callee"
        if self.answered_at:
            self.end(hung_up(who))
        else:
            self.end(canceled(who) if self.direction == "inbound" else ENDS[Outcome.BUSY])

    # --- what it tells ----------------------------------------------------------------------------------------------

    def fields(self, event: str, **more: str) -> dict[str, str]:
        """Numbers are without ``+`` in most webhooks, and with it in Ring; times are in the account's zone."""
        fields = {
            "CallUUID": self.id, "Direction": self.direction, "From": self.from_.lstrip("+"), "To": self.to.lstrip("+"),
            "CallStatus": self.status, "Event": event, "ParentAuthID": self.account.id, "BillRate": "0.0055",
            "SessionStart": f"{self.began:%Y-%m-%d %H:%M:%S.%f}", "STIRVerification": "Not Applicable",
            "STIRAttestation": "Not Applicable", "RouteType": "Domestic",
        }  # fmt: skip
        if self.direction == "outbound":
            fields |= dict.fromkeys(("RequestUUID", "ALegUUID", "ALegRequestUUID"), self.id)
        fields |= {f"X-PH-{name}": value for name, value in self.options.headers.items()}
        if event == "Ring":
            fields |= {"From": f"+{fields['From']}", "CallerName": ""}
        if self.end_cause is not None:
            end = self.end_cause
            zone = self.sandbox.zoned
            fields |= {
                "HangupCause": end.cause, "HangupCauseCode": str(end.code), "HangupCauseName": end.name,
                "HangupSource": end.source, "Duration": str(self.seconds),
                "BillDuration": str(-(-self.seconds // 60) * 60),
                "TotalCost": f"{-(-self.seconds // 60) * 0.0055:.5f}", "StartTime": zone(self.began),
                "AnswerTime": zone(self.answered_at), "EndTime": zone(self.ended_at),
            }  # fmt: skip
        return fields | more

    def tell(self, kind: str, url: str, method: str, fields: Mapping[str, str]) -> None:
        self.sandbox.tell(webhook(kind, self.id, method, url, fields), self.account)

    async def ask(self, what: str, url: str, method: str, fields: Mapping[str, str]) -> tuple[Element, ...]:
        """The instructions at ``url``; a call whose URL cannot be had or read is over."""
        answered = await self.sandbox.ask(webhook(fields["Event"], self.id, method, url, fields), self.account)
        if not answered.accepted and what == "answer" and "fallback" in self.options.urls:
            answered = await self._ask_fallback(fields)
        if not answered.accepted:
            self._end_by_error(URL_CODES[what], f"Error Reaching {what.title()} URL")
            return ()
        try:
            return answer_xml.read(answered.reply)
        except answer_xml.InvalidXml as problem:
            self.sandbox.complaints.append(str(problem))
            self._end_by_error(XML_CODES[what], f"Invalid {what.title()} XML")
            return ()

    def _end_by_error(self, code: int, name: str) -> None:
        self.end(End("completed", "NORMAL_CLEARING", code, name, "Error"))

    async def _ask_fallback(self, fields: Mapping[str, str]) -> Delivery:
        url, method = self.options.urls["fallback"]
        return await self.sandbox.ask(webhook(fields["Event"], self.id, method, url, fields), self.account)

    # --- its life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        if self.direction == "outbound":
            await self._until_over(self._ring())
        if self.end_cause is None:
            fields = self.fields("StartApp")
            await self._obey(await self.ask("answer", *self.options.urls["answer"], fields))
        self.end(OUT_OF_XML)

    async def _until_over(self, work: Awaitable[Any]) -> None:
        """Do ``work``, or as much of it as the call lasts, or until it is given other instructions."""
        step, over = asyncio.ensure_future(work), asyncio.ensure_future(self.over.wait())
        self.step = step
        try:
            await asyncio.wait({step, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.step = None
            over.cancel()
            if not step.done():
                step.cancel()
                await asyncio.wait({step})
        if not step.cancelled():
            step.result()

    async def _ring(self) -> None:
        await asyncio.sleep(self.sandbox.ring_seconds)
        self.live = True
        if "ring" in self.options.urls:
            self.tell("Ring", *self.options.urls["ring"], self.fields("Ring"))
        await asyncio.sleep(self.sandbox.ring_seconds)
        if self.outcome in ENDS:
            self.end(ENDS[self.outcome])
        elif self.outcome is Outcome.NO_ANSWER:
            await asyncio.sleep(self.options.ring_timeout)
            self.end(MISSED)
        elif self.outcome is Outcome.RINGS:
            await asyncio.sleep(min(RINGS_FOR, self.options.ring_timeout))
            if self.options.ring_timeout < RINGS_FOR:
                self.end(MISSED)
        if self.end_cause is None:
            await self._picked_up()

    async def _picked_up(self) -> None:
        self.answer()
        self.far_end.digits += self.options.digits.strip("wW")
        if self.options.machine and self.outcome is Outcome.MACHINE:
            self._machine()
        if self.outcome is Outcome.HANGS_UP:
            self.sandbox.after(HANGS_UP_AFTER, self.end, hung_up("Callee"))
        elif self.outcome in (Outcome.MACHINE, Outcome.FAX) and self.end_cause is None:
            spoken = greeting() + beep() if self.outcome is Outcome.MACHINE else fax()
            self.sandbox.start(self.far_end.say(spoken))

    def _machine(self) -> None:
        """Only a machine is ever told of."""
        if "machine_detection" in self.options.urls:
            fields = self.fields("MachineDetection", Machine="true", IfMachine=self.options.machine)
            self.tell("MachineDetection", *self.options.urls["machine_detection"], fields)
        if self.options.machine == "hangup":
            self.end(End("completed", "NORMAL_CLEARING", 9100, "Machine Detected"))

    async def _obey(self, elements: tuple[Element, ...]) -> None:
        for at, element in enumerate(elements):
            if self.end_cause is None:
                await self._until_over(getattr(self, f"_do_{element.name.lower()}")(element, at))
            if self.next is not None and self.end_cause is None:
                (url, method), self.next = self.next, None
                asked = await self.ask("transfer", url, method, self.fields("Redirect"))
                return await self._obey(asked)
        return None

    async def _do_hangup(self, element: Element, at: int) -> None:
        if self.answered_at or at or element.get("reason") not in ("busy", "rejected"):
            self.answer()
            self.end(hung_up("Answer XML"))
        elif element.get("reason") == "busy":
            self.end(End("busy", "USER_BUSY", 3010, "Busy Line", "Answer XML"))
        else:
            self.end(End("busy", "CALL_REJECTED", 3020, "Rejected", "Answer XML"))

    async def _do_wait(self, element: Element, at: int) -> None:
        self.answer()
        await asyncio.sleep(float(element.get("length", "1")))

    async def _do_preanswer(self, element: Element, at: int) -> None:
        """Media before the answer: the call is neither answered nor ringing for longer than this."""
        for inside in element.inside:
            await asyncio.sleep(float(inside.get("length", "1")))

    async def _do_record(self, element: Element, at: int) -> None:
        self.answer()
        limit = float(element.get("maxLength", "60"))
        method = element.get("callbackMethod", "POST")
        Recording(self, url=element.get("callbackUrl"), method=method, limit=limit, channels=1)

    async def _do_stream(self, element: Element, at: int) -> None:
        self.answer()
        self.stream = stream = MediaStream(self, element)
        try:
            if element.get("keepCallAlive") != "true":
                self.sandbox.start(stream.run())  # type: ignore[arg-type]
                await asyncio.sleep(self.sandbox.ring_seconds)
                return
            there = await stream.run()
        finally:
            self.stream = None
        if stream.dropped and there:
            await self.over.wait()  # nobody hears anything now, and the call goes on

    async def _do_dial(self, element: Element, at: int) -> None:
        target = element.inside[0].text
        self.far_end.transferred_to = target
        outcome, told = outcome_of(target), {"DialALegUUID": self.id, "DialBLegUUID": str(uuid.uuid4())}
        await asyncio.sleep(self.sandbox.ring_seconds)
        if outcome in (Outcome.NO_ANSWER, *ENDS):
            if outcome is Outcome.NO_ANSWER:
                await asyncio.sleep(float(element.get("timeout", "60")))
            missed = {Outcome.NO_ANSWER: "no-answer", Outcome.BUSY: "busy", Outcome.REJECTED: "busy"}
            status = missed.get(outcome, "failed")
        else:
            if url := element.get("callbackUrl"):
                step = {"DialAction": "answer", "DialBLegStatus": "answer", "DialBLegFrom": element.get("callerId"),
                        "DialBLegTo": target.lstrip("+"), "DialBLegPosition": "1", "Event": "DialAnswer"}  # fmt: skip
                fields = {"CallUUID": self.id, **told, **step}
                self.tell("DialAnswer", url, element.get("callbackMethod", "POST"), fields)
            self.answer()
            await self.over.wait()
            return
        if url := element.get("action"):
            fields = self.fields("Redirect", DialStatus=status, DialRingStatus="true", **told)
            then = await self.ask("action", url, element.get("method", "POST"), fields)
            if element.get("redirect", "true") == "true":
                await self._obey(then)
                self.end(OUT_OF_XML)
