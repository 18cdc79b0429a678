"""What becomes of a call that our side makes: the number that is called says so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from enum import StrEnum

from anycarrier.testing.far_end_audio import beep, fax, greeting
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, HANGS_UP_AFTER, RINGS_FOR, Outcome, outcome_of
from anycarrier_sip.sandbox.leg import REFUSED, REFUSED_AT_ONCE, Leg, either

HOLDS_FOR = 1.0


class Special(StrEnum):
    """What a callee of SIP may do besides the outcomes that every carrier's sandbox has."""

    FORKED = "forked"
    """Two telephones ring and both answer: the second 200 has another To tag, and is to be hung up."""
    PRACK = "prack"
    """183 which requires 100rel; no answer before its PRACK."""
    LATE_ANSWER = "late_answer"
    """Rings until it is cancelled, and answers in that very moment."""
    MOVED = "moved"
    """302 to another number."""
    EARLY_MEDIA = "early_media"
    """183 with a session description and a second of sound, then the answer."""
    SESSION_TIMER = "session_timer"
    """Answers with a session of 90 s that our side is to refresh; hangs up when it does not."""
    HOLDS = "holds"
    """Answers, puts our side on hold after a second, and comes back after another."""


SPECIALS = {f"+1500555013{digit}": special for digit, special in enumerate(Special)}
"""From +15005550130 on. Besides, +15005559CCC rings and is refused with status CCC, and +15005558CCC with 480 and
``Reason: Q.850;cause=CCC``."""

SESSION_SECONDS = 90


async def live(leg: Leg) -> None:
    """Ring, and answer or refuse."""
    number, outcome = leg.far_end.to, outcome_of(leg.far_end.to)
    if outcome is Outcome.TIMEOUT:
        return
    if outcome in REFUSED_AT_ONCE:
        leg.refuse(REFUSED_AT_ONCE[outcome])
        return
    special = SPECIALS.get(number)
    leg.answers_late = special is Special.LATE_ANSWER
    leg.respond(100)
    await asyncio.sleep(leg.sandbox.ring_seconds)
    if special is not Special.PRACK:
        leg.respond(180)
    if outcome is Outcome.NO_ANSWER:
        return
    await asyncio.sleep(RINGS_FOR if outcome is Outcome.RINGS else leg.sandbox.ring_seconds)
    if asked := re.fullmatch(r"\+1500555([89])(\d{3})", number):
        cause = [("Reason", f"Q.850;cause={int(asked[2])}")] if asked[1] == "8" else []
        leg.refuse(480 if cause else int(asked[2]), *cause)
    elif outcome in REFUSED:
        leg.refuse(REFUSED[outcome])
    elif special is not None:
        await DOES[special](leg)
    else:
        await leg.pick_up()
        if not leg.over.is_set():
            await _after(leg, outcome)


async def _after(leg: Leg, outcome: Outcome) -> None:
    if outcome is Outcome.HANGS_UP:
        await asyncio.sleep(HANGS_UP_AFTER)
        await leg.hang_up()
    elif outcome is Outcome.MACHINE:
        await leg.far_end.say(greeting() + beep())
    elif outcome is Outcome.FAX:
        await leg.far_end.say(fax())
    elif outcome is Outcome.MEDIA_DROP:
        await asyncio.sleep(DROPS_AFTER)
        leg.sound.cut = True


async def _forked(leg: Leg) -> None:
    leg.respond(180, tag="second")
    await leg.pick_up()
    leg.respond(200, body=leg.description(), tag="second")


async def _prack(leg: Leg) -> None:
    leg.respond(183, ("Require", "100rel"), ("RSeq", "7001"))
    await leg.pracked.wait()
    await leg.pick_up()


async def _late_answer(leg: Leg) -> None:
    await leg.canceled.wait()
    await leg.pick_up()


async def _moved(leg: Leg) -> None:
    leg.refuse(302, ("Contact", f"<sip:+12125550199@{leg.sandbox.at}>"))


async def _early_media(leg: Leg) -> None:
    leg.respond(183, body=leg.description())
    leg.play_early()
    await leg.far_end.say(beep() + beep())
    await leg.pick_up()


async def _session_timer(leg: Leg) -> None:
    await leg.pick_up(("Session-Expires", f"{SESSION_SECONDS};refresher=uac"), ("Require", "timer"))
    leg.refreshed.set()
    while leg.refreshed.is_set() and not leg.over.is_set():
        leg.refreshed.clear()
        await either(leg.refreshed, SESSION_SECONDS)
    await leg.hang_up()


async def _holds(leg: Leg) -> None:
    await leg.pick_up()
    await asyncio.sleep(HOLDS_FOR)
    await leg.change("sendonly")
    await asyncio.sleep(HOLDS_FOR)
    await leg.change()


DOES: dict[Special, Callable[[Leg], Awaitable[None]]] = {
    Special.FORKED: _forked, Special.PRACK: _prack, Special.LATE_ANSWER: _late_answer, Special.MOVED: _moved,
    Special.EARLY_MEDIA: _early_media, Special.SESSION_TIMER: _session_timer, Special.HOLDS: _holds,
}  # fmt: skip
