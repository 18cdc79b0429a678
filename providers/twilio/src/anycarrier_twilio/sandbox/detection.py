"""Answering-machine detection: what the sandbox takes for a machine, and when it says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import beep, greeting
from anycarrier.testing.sandbox_numbers import Outcome

if TYPE_CHECKING:
    from anycarrier_twilio.sandbox.leg import Leg

GREETING_WAIT = 3.0
"""Seconds detection waits at most for a greeting to end; a greeting lasts 1.4 s."""


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
    if leg.options.detection_async and leg.options.detection_url:
        params = {
            "CallSid": leg.sid,
            "AccountSid": leg.account.sid,
            "AnsweredBy": verdict,
            "MachineDetectionDuration": str(round((clock() - began) * 1000)),
        }
        leg.sandbox.notify("amd", leg, leg.options.detection_url, params, leg.options.detection_method)
