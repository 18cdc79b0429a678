"""One call leg: its ids, how far it has come, and the webhooks that tell of it.

A leg goes from parked (incoming) or bridging (outgoing) to answered to ended. :func:`callee` simulates who is at the
other end, by the magic numbers of ``anycarrier.testing.sandbox_numbers``.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import uuid
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier.audio import pcm16_to_pcmu
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox_numbers import HANGS_UP_AFTER, RINGS_FOR, Outcome, outcome_of
from anycarrier_telnyx.sandbox.media_stream import MediaStream, stream_format
from anycarrier_telnyx.sandbox.recordings import Recording
from anycarrier_telnyx.sandbox.validation import Refusal, problem, refuse, throttled
from anycarrier_telnyx.sandbox.webhooks import moment

if TYPE_CHECKING:
    from anycarrier_telnyx.sandbox.account import Account
    from anycarrier_telnyx.sandbox.app import TelnyxSandbox


WEBHOOK_SETTINGS = ("webhook_url", "webhook_urls", "webhook_retries_policies")
TIME_LIMIT = 14400
COST_A_MINUTE = 0.002


class Leg:
    """One telephone's part of a call, as the API controls it."""

    def __init__(
        self,
        sandbox: TelnyxSandbox,
        account: Account,
        *,
        incoming: bool,
        from_: str,
        to: str,
        connection_id: str,
        settings: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``headers`` came with an incoming call; those of an outgoing one are in ``settings``."""
        self.sandbox = sandbox
        self.account = account
        self.incoming = incoming
        self.from_ = from_
        self.to = to
        self.connection_id = connection_id
        self.settings: dict[str, Any] = dict(settings or {})
        self.client_state: str | None = self.settings.get("client_state")
        self.call_control_id = f"v3:{secrets.token_urlsafe(36)}"
        self.leg_id = str(uuid.uuid4())
        self.session_id = session_id or str(uuid.uuid4())
        self.started_at = datetime.now(UTC)
        self.answered_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.commands: set[str] = set()
        self.stream: MediaStream | None = None
        self.recordings: list[Recording] = []
        self.peer: Leg | None = None
        """The leg this one is bridged to."""
        self.ringing: Leg | None = None
        """The leg of a transfer that has not answered yet."""
        self.when_answered: Callable[[], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        quiet = "quiet" in sandbox.quirks
        self.far_end = FarEnd(
            self.call_control_id, from_, to, press=self.pressed, hang_up=self.put_down, silent=quiet
        )
        self.custom_headers = [{"name": name, "value": value} for name, value in (headers or {}).items()]
        sent = self.settings.get("custom_headers", []) + self.settings.get("sip_headers", [])
        self.far_end.headers = {header["name"]: header["value"] for header in sent}
        account.legs[self.call_control_id] = self
        sandbox.connect(self.far_end)

    # --- telling --------------------------------------------------------------------------------------------------

    def tell(self, kind: str, **extra: Any) -> None:
        """Report an event to where this leg's events go."""
        application = self.account.applications.get(self.connection_id, {})
        url = self.settings.get("webhook_url") or application.get("webhook_event_url", "")
        url = self.settings.get("webhook_urls", {}).get(kind, url)
        payload = {
            "call_control_id": self.call_control_id,
            "call_leg_id": self.leg_id,
            "call_session_id": self.session_id,
            "connection_id": self.connection_id,
            "client_state": self.client_state,
            "from": self.from_,
            "to": self.to,
            **extra,
        }
        policy = self.settings.get("webhook_retries_policies", {}).get(kind, {})
        self.sandbox.tell(
            self.account,
            kind,
            payload,
            url=url,
            connection_id=self.connection_id,
            call_id=self.call_control_id,
            retries_ms=policy.get("retries_ms"),
        )

    def initiated(self) -> None:
        """Tell that the leg exists."""
        headers = {"custom_headers": self.custom_headers} if self.custom_headers else {}
        self.tell(
            "call.initiated",
            direction="incoming" if self.incoming else "outgoing",
            state="parked" if self.incoming else "bridging",
            start_time=moment(self.started_at),
            caller_id_name=self.from_,
            calling_party_type="pstn",
            connection_codecs="PCMA,PCMU,VP8,H264",
            offered_codecs="PCMU,PCMA",
            from_sip_uri=f"{self.from_}@sandbox.invalid",
            to_sip_uri=f"{self.to}@sandbox.invalid",
            shaken_stir_attestation="A",
            shaken_stir_validated=True,
            **headers,
        )

    def summary(self, *, with_times: bool = True) -> dict[str, Any]:
        """The leg as the API shows it."""
        until = self.ended_at or datetime.now(UTC)
        shown: dict[str, Any] = {
            "record_type": "call",
            "call_control_id": self.call_control_id,
            "call_leg_id": self.leg_id,
            "call_session_id": self.session_id,
            "client_state": self.client_state or "",
            "call_duration": int((until - self.started_at).total_seconds()),
        }
        if with_times:
            shown |= {"is_alive": self.ended_at is None, "start_time": moment(self.started_at)}
            if self.ended_at is not None:
                shown["end_time"] = moment(self.ended_at)
        return shown

    def obey(self, command: Mapping[str, Any]) -> None:
        """Take from a command what holds for everything told from now on."""
        self.client_state = command.get("client_state", self.client_state)
        self.settings.update({name: command[name] for name in WEBHOOK_SETTINGS if name in command})

    # --- living ---------------------------------------------------------------------------------------------------

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that ends with the leg."""
        task = self.sandbox.start(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def answer(self, streaming: Mapping[str, Any]) -> None:
        """The receiver is up; with a ``stream_url`` the audio is connected, with ``record`` it is kept."""
        self.answered_at = datetime.now(UTC)
        self.far_end.answered()
        told = {name: streaming[name] for name in ("stream_url", "stream_track") if name in streaming}
        self.tell(
            "call.answered",
            state="answered",
            start_time=moment(self.started_at),
            codec=self.sandbox.codec,
            sampling_rate=stream_format(self.sandbox.codec).rate,
            calling_party_type="pstn",
            **told,
        )
        self.begin(self._limit())
        if "stream_url" in streaming:
            self.start_stream(streaming)
        if "record" in streaming:
            self.record(streaming.get("record_channels", "dual"), streaming.get("recording_id"))
        if self.when_answered is not None:
            self.when_answered()

    async def _limit(self) -> None:
        await self.sandbox.pause(self.settings.get("time_limit_secs", TIME_LIMIT))
        self.end("time_limit", "unknown", "200")

    def start_stream(self, settings: Mapping[str, Any]) -> None:
        """Connect the audio to a WebSocket."""
        self.stream = MediaStream(self, settings)
        self.sandbox.start(self.stream.run())

    def record(self, channels: str, recording_id: str | None = None) -> Recording:
        """Keep what is said and heard from now on."""
        recording = Recording(self, channels, recording_id)
        self.recordings.append(recording)
        return recording

    async def pressed(self, digit: str) -> None:
        """The far end pressed a key: told on the stream and by webhook, both."""
        if self.answered_at is None or self.ended_at is not None:
            return
        if self.stream is not None:
            self.stream.dtmf(digit)
        self.tell("call.dtmf.received", digit=digit)

    async def put_down(self) -> None:
        """The far end hangs up, gives up ringing, or declines."""
        if self.answered_at is not None:
            self.end("normal_clearing", "caller" if self.incoming else "callee", "200")
        elif self.incoming:
            self.end("originator_cancel", "caller", "487")
        else:
            self.end("call_rejected", "callee", "603")

    def hang_up(self) -> None:
        """Our side hangs up."""
        source = "callee" if self.incoming else "caller"
        if self.answered_at is not None:
            self.end("normal_clearing", source, "200")
        elif self.incoming:
            # The carrier calls the end of a leg that nobody answered normal, too.
            self.end("normal_clearing", source, "unspecified")
        else:
            self.end("originator_cancel", source, "487")

    def _cost(self) -> dict[str, Any]:
        """What the call is charged: an invented rate for each minute begun."""
        ended_at = self.ended_at or datetime.now(UTC)
        minutes = math.ceil((ended_at - self.answered_at).total_seconds() / 60) if self.answered_at else 0
        part = {"billed_duration_secs": 60 * minutes, "cost": f"{COST_A_MINUTE * minutes:.4f}", "currency": "USD"}
        return {
            "status": "success",
            "total_cost": part["cost"],
            "billed_duration_secs": part["billed_duration_secs"],
            "billing_group_id": None,
            "cost_parts": [{**part, "call_part": "call-control", "rate": f"{COST_A_MINUTE:.4f}"}],
            "occurred_at": moment(ended_at),
        }

    def end(self, cause: str, source: str, sip: str) -> None:
        """The leg is over; a leg bridged to it, or ringing for it, goes too."""
        if self.ended_at is not None:
            return
        self.ended_at = datetime.now(UTC)
        self.far_end.ended(cause)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        if self.stream is not None:
            self.stream.stop()
        quality = {"inbound": {"mos": "4.50", "packet_count": "0"}, "outbound": {"packet_count": "0"}}
        self.tell(
            "call.hangup",
            state="hangup",
            hangup_cause=cause,
            hangup_source=source,
            sip_hangup_cause=sip,
            start_time=moment(self.started_at),
            end_time=moment(self.ended_at),
            calling_party_type="pstn",
            call_quality_stats=quality if self.answered_at else None,
        )
        if self.account.applications.get(self.connection_id, {}).get("call_cost_in_webhooks"):
            self.tell("call.cost", **self._cost())
        for recording in self.recordings:
            recording.stop()
        if self.ringing is not None:
            self.ringing.end("originator_cancel", "caller", "487")
        if self.peer is not None and self.peer.settings.get("park_after_unbridge") != "self":
            self.peer.end("normal_clearing", "unknown", "200")


RING_TIMEOUT = 30
DETECTED_AFTER = 0.3
"""Seconds from the answer until detection knows who picked up."""
GREETING = 0.8
BEEP = 0.3
STREAM_WAIT = 10.0

ANSWERED_BY = {  # outcome -> (standard, premium)
    Outcome.MACHINE: ("machine", "machine"),
    Outcome.FAX: ("machine", "fax_detected"),
}


def refused_at_once(to: str) -> Refusal | None:
    """The refusal a magic number earns when it is dialled, None for numbers that can be tried."""
    outcome = outcome_of(to)
    if outcome is Outcome.INVALID_NUMBER:
        return refuse("10002", "The phone number is invalid.", pointer="/to")
    if outcome is Outcome.FORBIDDEN:
        detail = "Dialed number is not included in whitelisted countries D13"
        return refuse("10010", detail, pointer="/to")
    if outcome is Outcome.NO_FUNDS:
        return refuse("20100", "You do not have enough funds to perform this action.")
    if outcome is Outcome.SERVER_ERROR:
        return Refusal(problem("10007", "An unexpected error occurred."))
    if outcome is Outcome.THROTTLED:
        return throttled()
    return None


async def callee(leg: Leg) -> None:
    """Ring, and do what the number stands for."""
    pause = leg.sandbox.pause
    outcome = outcome_of(leg.to)
    patience = leg.settings.get("timeout_secs", RING_TIMEOUT)
    await asyncio.sleep(0)
    if outcome is Outcome.BUSY:
        leg.end("user_busy", "callee", "486")
    elif outcome is Outcome.REJECTED:
        leg.end("call_rejected", "callee", "603")
    elif outcome is Outcome.NOT_FOUND:
        await pause(RINGS_FOR / 2)
        leg.end("not_found", "unknown", "404")
    elif outcome is Outcome.NO_ANSWER:
        await pause(patience)
        retrying = leg.settings.get("retry_on_timeout", True)
        leg.end("timeout" if retrying else "no_answer", "unknown", "487")
    else:
        if outcome is Outcome.RINGS:
            await pause(RINGS_FOR)
        leg.answer(leg.settings)
        if (digits := leg.settings.get("send_digits_on_answer")) is not None:
            leg.far_end.digits += digits.replace("w", "").replace("W", "")
        if outcome is Outcome.HANGS_UP:
            await pause(HANGS_UP_AFTER)
            await leg.far_end.hang_up()
        else:
            await _picked_up(leg, outcome)


async def _picked_up(leg: Leg, outcome: Outcome) -> None:
    detection = leg.settings.get("answering_machine_detection", "disabled")
    if detection != "disabled":
        leg.begin(_detect(leg, outcome, premium=detection == "premium"))
    if outcome is Outcome.MACHINE:
        await _speak(leg, tone(440, GREETING) + tone(1000, BEEP))
        if detection == "premium":
            leg.tell("call.machine.premium.greeting.ended", result="beep_detected")
        elif detection in ("greeting_end", "detect_words", "detect_beep"):
            leg.tell("call.machine.greeting.ended", result="beep_detected")
    elif outcome is Outcome.FAX:
        await _speak(leg, tone(1100, 0.5))


async def _detect(leg: Leg, outcome: Outcome, *, premium: bool) -> None:
    await leg.sandbox.pause(DETECTED_AFTER)
    standard, finer = ANSWERED_BY.get(outcome, ("human", "human_residence"))
    if premium:
        leg.tell("call.machine.premium.detection.ended", result=finer)
    else:
        leg.tell("call.machine.detection.ended", result=standard)


async def _speak(leg: Leg, mulaw: bytes) -> None:
    """Speak into the stream, or, when none was asked for, into the air for as long as it takes."""
    if "stream_url" in leg.settings:
        try:
            await leg.far_end.wait_for("streaming", STREAM_WAIT)
        except TimeoutError:
            return
        await leg.far_end.say(mulaw)
    else:
        await leg.sandbox.pause(len(mulaw) / 8000)


def tone(hertz: float, seconds: float) -> bytes:
    """A sine in mu-law 8 kHz at a quarter of full scale."""
    samples = (round(8000 * math.sin(2 * math.pi * hertz * n / 8000)) for n in range(round(8000 * seconds)))
    return pcm16_to_pcmu(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))
