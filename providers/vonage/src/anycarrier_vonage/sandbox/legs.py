"""A telephone leg: its statuses, the webhooks that tell of them, and the instructions it follows."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import beep, fax, greeting
from anycarrier.testing.sandbox import Delivery
from anycarrier.testing.sandbox_numbers import HANGS_UP_AFTER, RINGS_FOR, Outcome, outcome_of
from anycarrier_vonage.sandbox.accounts import Application, hashed_part, webhook_token
from anycarrier_vonage.sandbox.media import SocketLeg, recording
from anycarrier_vonage.sandbox.ncco import faults

if TYPE_CHECKING:
    from anycarrier_vonage.sandbox.app import VonageSandbox

RATE = "0.00600000"
TRIED_AGAIN = (429, 503, 504)
DETECTS_AFTER = 0.2
OVER = ("completed", "busy", "cancelled", "unanswered", "timeout", "rejected", "failed")

NOT_TAKEN = {
    Outcome.BUSY: ("busy", None),
    Outcome.REJECTED: ("rejected", "declined"),
    Outcome.NOT_FOUND: ("rejected", "invalid_number"),
    Outcome.NO_ANSWER: ("unanswered", "timeout"),
}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Leg:
    """One leg of a conversation. ``region`` is the path below which alone the API knows it; "" is its own host."""

    def __init__(
        self, sandbox: VonageSandbox, application: Application, direction: str, from_: str, to: str, *,
        asked: Mapping[str, Any], region: str = "", conversation: str = "", parent: Leg | None = None,
    ) -> None:  # fmt: skip
        self.sandbox, self.application, self.direction, self.region = sandbox, application, direction, region
        self.uuid = uuid.uuid4().hex if direction == "inbound" else str(uuid.uuid4())
        self.conversation = conversation or f"CON-{uuid.uuid4()}"
        self.from_, self.to, self.asked, self.parent = from_, to, asked, parent
        self.status = "started"
        self.event_urls: list[str] = list(asked.get("event_url", ()))
        self.answered_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.over = asyncio.Event()
        self.took_over: asyncio.Task[None] | None = None
        self.socket: SocketLeg | None = None
        self.target: Leg | None = None
        self.recordings: list[Mapping[str, Any]] = []
        self.events: asyncio.Queue[Delivery] = parent.events if parent else asyncio.Queue()
        self.far_end = FarEnd(
            self.uuid, shown(from_), shown(to), press=self.press, hang_up=self.hung_up, silent="quiet" in sandbox.quirks
        )
        if parent is None:
            sandbox.start(self.deliver())

    # --- what is told ---------------------------------------------------------------------------------------------

    def told(self) -> dict[str, Any]:
        """The call as GET /v1/calls/{uuid} has it."""
        shown = {
            "_links": {"self": {"href": f"/calls/{self.uuid}"}},
            "uuid": self.uuid,
            "conversation_uuid": self.conversation,
            "status": self.status,
            "direction": self.direction,
            "from": {"type": "phone", "number": self.from_},
            "to": {"type": "phone", "number": self.to},
        }
        return {**shown, **self.charged()} if self.status == "completed" else shown

    def charged(self) -> dict[str, Any]:
        assert self.ended_at is not None
        seconds = round((self.ended_at - (self.answered_at or self.ended_at)).total_seconds())
        began = iso(self.answered_at) if self.answered_at else None
        times = {"start_time": began, "end_time": iso(self.ended_at), "duration": str(seconds)}
        return {**times, "rate": RATE, "price": f"{seconds / 60 * float(RATE):.8f}", "network": "US-FIXED"}

    def tell(self, status: str, **more: Any) -> None:
        said = {
            "headers": {},
            "from": self.from_,
            "to": self.to,
            "uuid": self.uuid,
            "conversation_uuid": self.conversation,
            "status": status,
            "direction": self.direction,
            "timestamp": now(),
        }
        self.send_event(status, {**said, **more})

    def send_event(self, kind: str, body: Mapping[str, Any], urls: list[str] | None = None) -> None:
        hook = self.application.webhook("event_url")
        for url in urls or self.event_urls or [str(hook.get("address") or "")]:
            if url:
                method = "POST" if urls or self.event_urls else hook.get("http_method", "POST")
                self.events.put_nowait(self.sandbox.delivery(self.application, kind, self.uuid, method, url, body))

    async def deliver(self) -> None:
        """Webhooks of the leg, in order; what fails in passing is sent once more."""
        while True:
            delivery = await self.events.get()
            if self.sandbox.quirks & {"duplicate", "reorder"}:
                self.sandbox.webhooks.notify(delivery)
                continue
            sent = await self.sandbox.webhooks.post(delivery)
            if sent.status is None or sent.status in TRIED_AGAIN or sent.status >= 500:
                await self.sandbox.webhooks.post(self.sandbox.sign(sent.again()))

    # --- its life -------------------------------------------------------------------------------------------------

    def progress(self, status: str, **more: Any) -> None:
        if self.status not in OVER:
            self.status = status
            self.tell(status, **more)

    def end(self, status: str, detail: str | None = None, cause: str = "") -> None:
        """The leg is over; a second time nothing happens."""
        if self.status in OVER:
            return
        self.ended_at = datetime.now(UTC)
        self.status = status
        more: dict[str, Any] = {"detail": detail} if detail else {}
        self.tell(status, **(self.charged() if status == "completed" else more))
        self.over.set()
        self.far_end.ended(cause or (f"{status}: {detail}" if detail else status))
        for asked in self.recordings:
            self.tell_recording(asked)
        if self.socket:
            self.socket.leave()
        if self.target:
            self.target.end("completed" if self.target.answered_at else "cancelled")
        if self.parent and self.parent.target is self:
            self.parent.instructions_over()

    def instructions_over(self) -> None:
        """Nothing is left to do: the call ends."""
        self.end("completed" if self.answered_at else "failed", None if self.answered_at else "internal_error")

    def picked_up(self) -> None:
        self.answered_at = datetime.now(UTC)
        self.far_end.answered()
        self.progress("answered", start_time=None, rate=None, network=None)
        if limit := self.asked.get("length_timer"):
            self.sandbox.start(self.limited(float(limit)))

    async def limited(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()
        self.end("completed", cause="length_timer")

    async def hung_up(self) -> None:
        """The telephone is put down."""
        if self.answered_at:
            self.end("completed", cause="hung up")
        elif self.direction == "inbound":
            self.end("cancelled")
        else:
            self.end("rejected", "declined")

    def hang_up(self) -> None:
        """The API ends the leg."""
        over = "completed" if self.answered_at or self.direction == "inbound" else "cancelled"
        self.end(over, cause="hung up by API")

    async def press(self, digit: str) -> None:
        if self.socket:
            self.socket.say({"event": "websocket:dtmf", "digit": digit, "duration": 260})

    # --- outbound -------------------------------------------------------------------------------------------------

    async def place(self, patience: float) -> bool:
        """Ring the callee and do what the number stands for. True when somebody has picked up."""
        outcome = outcome_of(shown(self.to))
        self.tell("started")
        self.progress("ringing")
        if outcome in NOT_TAKEN:
            if outcome is Outcome.NO_ANSWER:
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await self.over.wait()
            self.end(*NOT_TAKEN[outcome])
            return False
        if outcome is Outcome.RINGS:
            await asyncio.sleep(RINGS_FOR)
        if self.over.is_set():
            return False
        self.picked_up()
        self.far_end.digits += str(self.asked.get("to", [{}])[0].get("dtmfAnswer", "")).replace("p", "")
        if outcome in (Outcome.MACHINE, Outcome.FAX):
            self.sandbox.start(self.far_end.say(greeting() + beep() if outcome is Outcome.MACHINE else fax()))
        if outcome is Outcome.HANGS_UP:
            self.sandbox.start(self.leaves_soon())
        return True

    async def leaves_soon(self) -> None:
        await asyncio.sleep(HANGS_UP_AFTER)
        await self.far_end.hang_up()

    async def dialled(self) -> None:
        if await self.place(float(self.asked.get("ringing_timer", 60))):
            self.sandbox.start(self.detect(outcome_of(shown(self.to))))
            await self.follow(self.asked["ncco"])

    async def detect(self, outcome: Outcome) -> None:
        """Who picked up. These events name the call as ``call_uuid``."""
        advanced = self.asked.get("advanced_machine_detection", {})
        behavior = advanced.get("behavior") or self.asked.get("machine_detection")
        if not behavior:
            return
        await asyncio.sleep(DETECTS_AFTER)
        status = "machine" if outcome in (Outcome.MACHINE, Outcome.FAX) else "human"
        said = {"call_uuid": self.uuid, "conversation_uuid": self.conversation, "status": status, "from": self.from_,
                "to": self.to, "timestamp": now()}  # fmt: skip
        self.send_event(status, said)
        if status == "machine" and behavior == "hangup":
            self.end("completed", cause="machine")
        elif status == "machine" and advanced.get("mode", "default") != "detect" and advanced:
            await asyncio.sleep(1.4 if outcome is Outcome.MACHINE else DETECTS_AFTER)
            state = "beep_start" if outcome is Outcome.MACHINE else "beep_timeout"
            self.send_event("machine", {**said, "sub_state": state, "timestamp": now()})

    # --- inbound --------------------------------------------------------------------------------------------------

    async def arrive(self) -> None:
        """Ask the application what to do, twice if need be, then its fallback; without an answer the call ends."""
        self.tell("started")
        self.progress("ringing")
        said = {
            "from": self.from_,
            "to": self.to,
            "uuid": self.uuid,
            "conversation_uuid": self.conversation,
            "endpoint_type": "phone",
            "region_url": f"{self.sandbox.base_url}/{self.region}",
            **{f"SipHeader_{name}": value for name, value in self.far_end.headers.items()},
        }
        for name in ("answer_url", "fallback_answer_url"):
            hook = self.application.webhook(name)
            if not hook.get("address"):
                continue
            more = {} if name == "answer_url" else {"reason": "no answer", "original_request": {}}
            delivery = self.sandbox.delivery(
                self.application, "answer", self.uuid, hook.get("http_method", "GET"), hook["address"], {**said, **more}
            )
            for attempt in (delivery, delivery.again()):
                sent = await self.sandbox.webhooks.post(self.sandbox.sign(attempt))
                if "duplicate" in self.sandbox.quirks and sent.accepted:
                    await self.sandbox.webhooks.post(sent.again())
                if sent.status is not None and sent.status not in TRIED_AGAIN:
                    break
            if sent.accepted:
                await self.told_to(sent.reply)
                return
        self.end("failed", "internal_error")

    async def told_to(self, reply: bytes) -> None:
        try:
            ncco = json.loads(reply or b"null")
        except ValueError:
            ncco = None
        if wrong := faults(ncco):
            said = {"reason": "Syntax error in NCCO. " + "; ".join(wrong), "conversation_uuid": self.conversation,
                    "timestamp": now()}  # fmt: skip
            self.send_event("error", said)
            self.end("failed", "internal_error")
        elif not ncco:
            self.end("completed", cause="rejected")
        elif not self.over.is_set():
            await self.follow(ncco)

    # --- instructions ---------------------------------------------------------------------------------------------

    async def follow(self, ncco: list[dict[str, Any]]) -> None:
        for action in ncco:
            if action["action"] == "record":
                self.recordings.append(action)
                continue
            if action["action"] == "wait":  # whether that answers the call, no document says: here it does not
                with suppress(TimeoutError):
                    async with asyncio.timeout(float(action.get("timeout", 10))):
                        await self.over.wait()
                continue
            endpoint = action["endpoint"][0]
            if endpoint["type"] == "websocket":
                if self.answered_at is None:
                    self.picked_up()
                self.socket = SocketLeg(self, endpoint, action.get("eventUrl"))
                await self.socket.run()
            else:
                await self.bridge(action, endpoint)
            if self.over.is_set() or self.took_over not in (None, asyncio.current_task()):
                return
        self.instructions_over()

    async def bridge(self, action: Mapping[str, Any], endpoint: Mapping[str, Any]) -> None:
        """Somebody else is rung, as a leg with events of its own, and joins the conversation."""
        to = endpoint.get("number") or endpoint["uri"]
        asked = {"event_url": action["eventUrl"]} if action.get("eventUrl") else {}
        self.target = Leg(
            self.sandbox, self.application, "outbound", action.get("from", ""), to, asked=asked, region=self.region,
            conversation=self.conversation, parent=self,
        )  # fmt: skip
        self.sandbox.connect(self.target.far_end)
        self.sandbox.legs[self.target.uuid] = self.target
        self.target.far_end.headers = {
            **{f"X-{name}": value for name, value in endpoint.get("headers", {}).items()},
            **endpoint.get("standardHeaders", {}),
        }
        self.far_end.transferred_to = shown(to)
        if await self.target.place(float(action.get("timeout", 60))):
            if self.answered_at is None:
                self.picked_up()
            await self.target.over.wait()

    def transfer(self, ncco: list[dict[str, Any]]) -> None:
        """The leg moves into a conversation of its own; its socket stays behind in the old one, alone."""
        old, self.conversation = self.conversation, f"CON-{uuid.uuid4()}"
        said = {"type": "transfer", "uuid": self.uuid, "conversation_uuid_from": old, "timestamp": now()}
        self.send_event("transfer", {**said, "conversation_uuid_to": self.conversation})
        if self.socket:
            self.socket.abandoned()
            self.socket = None
        self.took_over = self.sandbox.start(self.follow_in_turn(ncco))

    async def follow_in_turn(self, ncco: list[dict[str, Any]]) -> None:
        self.took_over = asyncio.current_task()
        await self.follow(ncco)

    def tell_recording(self, asked: Mapping[str, Any]) -> None:
        file_id, began = str(uuid.uuid4()), self.answered_at or self.ended_at
        assert began is not None and self.ended_at is not None
        wav = recording(self.far_end, int(asked.get("channels", 1)))
        self.sandbox.files[file_id] = (self.application.id, wav)
        host = f"{self.sandbox.base_url}/{self.region}" if self.region else self.sandbox.base_url
        said = {
            "start_time": iso(began),
            "recording_url": f"{host}/v1/files/{file_id}",
            "size": str(len(wav)),
            "recording_uuid": str(uuid.uuid4()),
            "end_time": iso(self.ended_at),
            "conversation_uuid": self.conversation,
            "timestamp": now(),
        }
        self.send_event("recording", said, asked.get("eventUrl"))


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(number: str) -> str:
    """A number as the rest of the world writes it."""
    return f"+{number}" if number.isdecimal() else number


__all__ = ["Leg", "hashed_part", "iso", "now", "shown", "webhook_token"]
