"""What the person, machine or network at a dialled number does: see ``anycarrier.testing.sandbox_numbers``."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from anycarrier.audio import pcm16_to_pcmu
from anycarrier.testing.sandbox_numbers import HANGS_UP_AFTER, RINGS_FOR, Outcome, outcome_of
from anycarrier_telnyx.sandbox.errors import Refusal, problem, refuse, throttled

if TYPE_CHECKING:
    from anycarrier_telnyx.sandbox.leg import Leg

RING_TIMEOUT = 30
DETECTED_AFTER = 0.3
"""Seconds from the answer until detection knows who picked up."""
GREETING = 0.8
BEEP = 0.3
STREAM_WAIT = 1.0

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
