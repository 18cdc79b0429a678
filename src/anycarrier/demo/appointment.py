"""The demo's agent: a script that books an appointment. Callers word it as they like, or as a grammar allows.

It can be used as an agent of one's own: ``agents.add("desk", handler="anycarrier.demo.appointment:book_appointment",
settings=SETTINGS)``.
"""

from __future__ import annotations

import re

from anycarrier.agent.agent_call import AgentCall

GREETING = "Good morning, this is the practice of {{doctor}}. How can I help you?"

OFFER = (
    "Certainly. We have several times this week. There is tomorrow morning at nine, "
    "or Wednesday afternoon at three, or Friday at half past eleven, or, if none of these suits you, "
    "any morning of next week. Which one would you like?"
)

SORRY = "I am sorry, I did not understand. "

AGAIN = "Which time would you like?"

GRAMMAR = """#JSGF V1.0;
grammar appointments;
public <said> = <wish> | <time> [please] | yes please | no thank you | goodbye;
<wish> = i would like to (book | change | cancel) an appointment;
<time> = tomorrow morning | wednesday afternoon | friday | next week;
"""

TIMES = {
    r"tomorrow": "tomorrow morning at nine",
    r"wednesday|at three|at 3": "Wednesday afternoon at three",
    r"friday|half past eleven|11": "Friday at half past eleven",
    r"next week|monday": "Monday of next week at nine",
}
"""What a caller may say for each time: a regular expression of whole words."""

WISHES = r"appointment|doctor|visit|check ?up|see|come|book"

REPEATS = r"again|repeat|times"

REFUSALS = r"goodbye|bye|no thank|no thanks|never mind"

SETTINGS = {
    "first_message": GREETING,
    "dynamic_variables": {"doctor": "doctor Brown"},
    "silence_timeout_seconds": 20,
}


def said(pattern: str, text: str) -> bool:
    """Whether one of the pattern's words or phrases is in ``text``, whatever its case and punctuation."""
    words = " ".join(re.findall(r"[a-z0-9']+", text.lower()))
    return re.search(rf"\b(?:{pattern})\b", words) is not None


def chosen_time(text: str) -> str | None:
    """The time that the caller asks for, in the agent's words."""
    return next((time for pattern, time in TIMES.items() if said(pattern, text)), None)


async def book_appointment(call: AgentCall) -> None:
    """Talk until the caller has an appointment, or gives up.

    ``call.variables`` then holds ``time``, ``keys`` and, unless a grammar limits what can be said, ``reason``.
    """
    free, offered = call.settings.grammar is None, False
    async for turn in call.turns():
        time = chosen_time(turn.text)
        if time is None and said(REFUSALS, turn.text):
            await call.say("Goodbye.")
            return
        if time is None:
            wanted = said(REPEATS if offered else WISHES, turn.text)
            await call.say(OFFER if wanted else SORRY + (AGAIN if offered else OFFER))
            offered = True
            continue
        if free:
            await call.say(f"{time}. And what is it about?")
            reason = await call.listen(timeout=8)
            call.variables["reason"] = reason.text if reason is not None else ""
        noted = "I have noted that" if free else time
        await call.say(f"{noted}. Please key in your year of birth, and then the pound key.")
        keys = await call.gather(8, timeout=8)
        if len(keys) != 4:
            await call.say(f"That was not a year. {AGAIN}")
            continue
        call.variables.update(time=time, keys=keys)
        await call.say(booked(time))
        return


def booked(time: str) -> str:
    """The agent's last words."""
    return f"Thank you. Your appointment is booked for {time}. Goodbye."
